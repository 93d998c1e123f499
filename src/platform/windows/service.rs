//! kcptun as a service of Windows: making and removing it, and what runs when the system starts it. A service is named after
//! its configuration, and runs as an account of its own, with no rights but to read that and to write its log. Such an account
//! (a virtual one) has no password and exists on every Windows since 7. LocalSystem may do anything on the machine; LocalService
//! and NetworkService are shared with other services, which could read the key.

use super::setup::{rule, shell_quoted};
use super::signal::raise;
use crate::platform::{ServiceTask, Signal, State, reason};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use windows_service::service::{
    ServiceAccess, ServiceAction, ServiceActionType, ServiceControl, ServiceControlAccept,
    ServiceErrorControl, ServiceExitCode, ServiceFailureActions, ServiceFailureResetPeriod,
    ServiceInfo, ServiceStartType, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{
    self, ServiceControlHandlerResult, ServiceStatusHandle,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_service::{define_windows_service, service_dispatcher};
use windows_sys::Win32::Foundation::{
    ERROR_FAILED_SERVICE_CONTROLLER_CONNECT, ERROR_SERVICE_ALREADY_RUNNING,
    ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SERVICE_EXISTS, ERROR_SERVICE_NOT_ACTIVE,
};

/// The system has services that a program makes itself.
pub const IS_HERE: bool = true;
/// How long the system waits for a start or an end to go on.
const PENDING: Duration = Duration::from_secs(10);
/// When the system starts a service again that has failed, and when it forgets that it did.
const RESTART_DELAY: Duration = Duration::from_secs(5);
const FAILURE_RESET: Duration = Duration::from_secs(24 * 3600);
/// How often, and at what pace, it is looked whether a service that is to stop has.
const STOP_LOOKS: u32 = 50;
const STOP_LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What the system has started as a service: the configuration, and what is to run with it.
static JOB: OnceLock<(PathBuf, fn(&Path) -> u8)> = OnceLock::new();
/// By what the system is told how the service is.
static STATUS: OnceLock<ServiceStatusHandle> = OnceLock::new();

/// Whether this process is a service.
pub(super) fn is_running() -> bool {
    STATUS.get().is_some()
}

/// The name of the service that runs with a configuration: kcptun-server for server.json.
fn name_of(config: &Path) -> String {
    let stem = config.file_stem().unwrap_or_default().to_string_lossy();
    let word = |c: char| match c {
        '/' | '\\' | '"' | ' ' => '-',
        c => c,
    };
    format!("kcptun-{}", stem.chars().map(word).collect::<String>())
}

/// Does what is asked with the service of a configuration, whose log is this. Returns what to tell the user; fails, with one line.
pub fn manage(task: ServiceTask, config: &Path, log: &Path) -> Result<String, String> {
    let name = name_of(config);
    let wrong = |e: windows_service::Error| format!("service: {name}: {}", told(&e));
    let rights = match task {
        ServiceTask::Install => {
            ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE
        }
        ServiceTask::Uninstall | ServiceTask::Start | ServiceTask::Stop => {
            ServiceManagerAccess::CONNECT
        }
    };
    let manager = ServiceManager::local_computer(None::<&str>, rights).map_err(wrong)?;
    if task == ServiceTask::Install {
        return install(&manager, &name, [config, log])
            .map_err(|e| format!("service: {name}: {e}"));
    }
    let rights = ServiceAccess::QUERY_STATUS
        | match task {
            ServiceTask::Start => ServiceAccess::START,
            ServiceTask::Stop => ServiceAccess::STOP,
            ServiceTask::Install | ServiceTask::Uninstall => {
                ServiceAccess::STOP | ServiceAccess::DELETE
            }
        };
    let service = manager.open_service(&name, rights).map_err(wrong)?;
    let stop = || match service.stop() {
        Err(windows_service::Error::Winapi(e)) if code(&e) == ERROR_SERVICE_NOT_ACTIVE => Ok(()),
        stopped => stopped.map(drop),
    };
    match task {
        ServiceTask::Start => service.start::<&str>(&[]).map_err(wrong)?,
        ServiceTask::Stop => stop().map_err(wrong)?,
        ServiceTask::Install => {}
        ServiceTask::Uninstall => {
            stop().map_err(wrong)?;
            service.delete().map_err(wrong)?;
        }
    }
    if task == ServiceTask::Start {
        return Ok(format!("{name} is started; its log says how it does"));
    }
    let goes_on = |status: ServiceStatus| status.current_state != ServiceState::Stopped;
    let mut looks = 0;
    while service.query_status().is_ok_and(goes_on) {
        looks += 1;
        if looks > STOP_LOOKS {
            return Err(format!(
                "service: {name}: it was told to stop, and has not stopped yet"
            ));
        }
        std::thread::sleep(STOP_LOOK_INTERVAL);
    }
    Ok(match task {
        ServiceTask::Stop => format!("{name} is stopped"),
        _ => format!("{name} is removed"),
    })
}

fn install(manager: &ServiceManager, name: &str, files: [&Path; 2]) -> Result<String, String> {
    let [config, log] = files.map(|file| std::path::absolute(file).map_err(|e| reason(&e)));
    let (config, log) = (config?, log?);
    let program = std::env::current_exe().map_err(|e| reason(&e))?;
    let words = ["service", "run", "-c"].map(OsString::from);
    let account = format!("NT SERVICE\\{name}");
    let info = ServiceInfo {
        name: name.into(),
        display_name: format!("kcptun ({})", config.display()).into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: program.clone(),
        launch_arguments: words.into_iter().chain([config.clone().into()]).collect(),
        dependencies: Vec::new(),
        account_name: Some(account.clone().into()),
        account_password: None,
    };
    let rights = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START;
    let service = manager
        .create_service(&info, rights)
        .map_err(|e| told(&e))?;
    let _ = service.set_description("Carries TCP connections over KCP, a reliable protocol on UDP");
    let again = ServiceAction {
        action_type: ServiceActionType::Restart,
        delay: RESTART_DELAY,
    };
    // a service that ends by itself is noticed without these, too
    let _ = service.update_failure_actions(ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FAILURE_RESET),
        reboot_msg: None,
        command: None,
        actions: Some(vec![again.clone(), again.clone(), again]),
    });
    let _ = super::open_log(&log, None);
    Ok(advice(name, &account, [&program, &config, &log]))
}

/// What to tell the user of a service that was just made, whose account is given access to its files.
fn advice(name: &str, account: &str, [program, config, log]: [&Path; 3]) -> String {
    let mut lines = vec![format!("{name} is installed, and starts with Windows.")];
    let quoted = |file: &Path| shell_quoted(&file.display().to_string());
    // a program in a user's own directory is for that user alone
    for (file, right) in [(program, "RX"), (config, "R"), (log, "M")] {
        if let Err(e) = grant(file, account, right) {
            let file = quoted(file);
            lines.push(format!(
                "its account could not be given access to {file} ({e}): icacls {file} /grant \"{account}:{right}\""
            ));
        }
    }
    // whoever can change one of these decides what the service does
    let directory = program.parent().unwrap_or(program);
    for path in [directory, program, config] {
        if super::is_writable_by_all(path) {
            lines.push(format!(
                "warning: everybody on this machine can change {}: put kcptun.exe and the file where only administrators write, as below {}",
                path.display(),
                r"C:\Program Files"
            ));
        }
    }
    let [program, config, log] = [program, config, log].map(quoted);
    let rule = rule(name, &format!("program={program}"));
    for (what, command) in [
        (
            "start it:           ",
            format!("kcptun service start -c {config}"),
        ),
        ("read its log:       ", format!("type {log}")),
        (
            "change what it does:",
            format!("edit the file, and kcptun reload -c {config}"),
        ),
        ("let packets in, if no rule does yet:", rule),
    ] {
        lines.push(format!("{what} {command}"));
    }
    lines.join("\n")
}

/// Lets an account read a file, or write it.
fn grant(file: &Path, account: &str, right: &str) -> Result<(), String> {
    // by its name alone, one beside kcptun.exe would be run
    let given = std::process::Command::new(super::system_directory()?.join("icacls.exe"))
        .arg(file)
        .args(["/grant", &format!("{account}:{right}")])
        .output()
        .map_err(|e| reason(&e))?;
    match given.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&given.stderr).trim().to_owned()),
    }
}

fn code(error: &io::Error) -> u32 {
    error.raw_os_error().unwrap_or(0) as u32
}

/// What an error of the service manager means, in words for the end of a sentence.
fn told(error: &windows_service::Error) -> String {
    let windows_service::Error::Winapi(error) = error else {
        return error.to_string();
    };
    match code(error) {
        _ if error.kind() == io::ErrorKind::PermissionDenied => {
            "permission denied; run this in a terminal of the administrator".into()
        }
        ERROR_SERVICE_DOES_NOT_EXIST => {
            "no such service; kcptun service install -c FILE makes it".into()
        }
        ERROR_SERVICE_EXISTS => "is installed already".into(),
        ERROR_SERVICE_ALREADY_RUNNING => "runs already".into(),
        _ => reason(error),
    }
}

define_windows_service!(begin, serve);

/// Runs as the service that the system has started with this configuration, until it is stopped. `work` returns the exit
/// status. Fails, with one line, if it was not the system that started this process.
pub fn run(config: &Path, work: fn(&Path) -> u8) -> Result<(), String> {
    let _ = JOB.set((config.into(), work));
    service_dispatcher::start(name_of(config), begin).map_err(|e| match &e {
        windows_service::Error::Winapi(io)
            if code(io) == ERROR_FAILED_SERVICE_CONTROLLER_CONNECT =>
        {
            "service run: only Windows itself runs it; kcptun service start -c FILE asks for that"
                .into()
        }
        _ => format!("service: {}", told(&e)),
    })
}

fn serve(_: Vec<OsString>) {
    let Some((config, work)) = JOB.get() else {
        return;
    };
    let handle = service_control_handler::register(name_of(config), |control| {
        match control {
            ServiceControl::Stop | ServiceControl::Shutdown => raise(Signal::Stop),
            ServiceControl::ParamChange => raise(Signal::Reload),
            ServiceControl::Interrogate => (),
            _ => return ServiceControlHandlerResult::NotImplemented,
        }
        ServiceControlHandlerResult::NoError
    });
    let Ok(handle) = handle else {
        return;
    };
    let _ = STATUS.set(handle);
    let _ = report(ServiceState::StartPending, 0);
    let status = work(config);
    let _ = report(ServiceState::Stopped, status);
}

fn report(state: ServiceState, exit: u8) -> io::Result<()> {
    let Some(handle) = STATUS.get() else {
        return Ok(());
    };
    let pending = matches!(
        state,
        ServiceState::StartPending | ServiceState::StopPending
    );
    let status = ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: match state {
            ServiceState::Running => {
                ServiceControlAccept::STOP
                    | ServiceControlAccept::SHUTDOWN
                    | ServiceControlAccept::PARAM_CHANGE
            }
            _ => ServiceControlAccept::empty(),
        },
        exit_code: match exit {
            0 => ServiceExitCode::NO_ERROR,
            status => ServiceExitCode::ServiceSpecific(status.into()),
        },
        checkpoint: 0,
        wait_hint: if pending { PENDING } else { Duration::ZERO },
        process_id: None,
    };
    handle.set_service_status(status).map_err(io::Error::other)
}

/// The service control manager, where it has started this process.
pub(crate) struct Manager;

impl Manager {
    /// None: this process is no service.
    pub(crate) fn find() -> Option<Manager> {
        is_running().then_some(Manager)
    }

    /// It wants no signs of life.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        None
    }

    /// Tells it.
    pub(crate) fn tell(&self, state: State) -> io::Result<()> {
        match state {
            State::Ready => report(ServiceState::Running, 0),
            State::Stopping => report(ServiceState::StopPending, 0),
            State::Reloading | State::Status(_) | State::Watchdog => Ok(()),
        }
    }
}
