//! The program: reads the command line and the configuration, and hands over to the library.

use kcptun::cli::{self, Command, Options};
use kcptun::config::{Config, ConfigError, Log};
use kcptun::crypto::Key;
use kcptun::event::stats::{self, StatsError};
use kcptun::init::{self, Failure};
use kcptun::platform::{self, PidFile, ServiceTask, Starting, detach};
use kcptun::{event, logging};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Exit status where the program cannot run.
const CANNOT_RUN: u8 = 1;
/// Exit status for a wrong command line or configuration.
const WRONG_INPUT: u8 = 2;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Overview) => {
            let _ = io::stderr().write_all(cli::OVERVIEW.as_bytes());
            ExitCode::from(WRONG_INPUT)
        }
        Ok(Command::Genpsk) => genpsk(),
        Ok(Command::ListMethods) => print(
            &cli::methods()
                .map(|name| format!("{name}\n"))
                .collect::<String>(),
        ),
        Ok(Command::Check(options)) => check(options),
        Ok(Command::Run(options)) => run(options),
        Ok(Command::Init(request)) => match init::run(&request) {
            Ok(text) => print(&text),
            Err(error @ Failure::Input(_)) => fail(WRONG_INPUT, &error.to_string()),
            Err(error @ Failure::Disk(_)) => fail(CANNOT_RUN, &error.to_string()),
        },
        Ok(Command::Stats { file, watch }) => match stats::run(&file, watch) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error @ StatsError::Configuration(_)) => fail(WRONG_INPUT, &error.to_string()),
            Err(error) => fail(CANNOT_RUN, &error.to_string()),
        },
        Ok(Command::Reload { file }) => reload(&file),
        Ok(Command::Service { task, file }) => service(task, &file),
        Ok(Command::Serve(options)) => match platform::service::run(&options.file, serve) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(CANNOT_RUN, &error),
        },
        Ok(Command::Ping {
            file,
            count,
            interval,
        }) => ping(&file, count, interval),
        Err(message) => fail(WRONG_INPUT, &message),
    }
}

/// Status 0 if the other end answers.
fn ping(file: &Path, count: Option<u64>, interval: Duration) -> ExitCode {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => return fail(WRONG_INPUT, &error.to_string()),
    };
    let Some(options) = event::ping::Options::new(&config, count, interval) else {
        let file = file.display();
        return fail(
            WRONG_INPUT,
            &format!(
                "{file}: has no udp_connect or rendezvous_server to ping: ping from the end that has one"
            ),
        );
    };
    match event::ping::run(options, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(CANNOT_RUN),
        Err(error) => fail(CANNOT_RUN, &error.to_string()),
    }
}

fn reload(file: &Path) -> ExitCode {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => return fail(WRONG_INPUT, &error.to_string()),
    };
    match platform::request_reload(file, config.pidfile.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(CANNOT_RUN, &error),
    }
}

/// A configuration that is wrong is found here rather than by a service that cannot start.
fn service(task: ServiceTask, file: &Path) -> ExitCode {
    let mut log = platform::log_of_service(file);
    if matches!(task, ServiceTask::Install | ServiceTask::Start) {
        let config = match load_service(file) {
            Ok(config) => config,
            Err(error) => return fail(WRONG_INPUT, &error.to_string()),
        };
        for warning in &config.warnings {
            let _ = writeln!(io::stderr(), "warning: {warning}");
        }
        if let Some(Log::File(path)) = config.log {
            log = path;
        }
    }
    match platform::service::manage(task, file, &log) {
        Ok(text) => print(&format!("{text}\n")),
        Err(error) => fail(CANNOT_RUN, &error),
    }
}

/// A service has no terminal: it logs to a file.
fn load_service(file: &Path) -> Result<Config, ConfigError> {
    let mut config = Config::load(file)?;
    if matches!(config.log, None | Some(Log::Stderr)) {
        config.log = Some(Log::File(platform::log_of_service(file)));
    }
    Ok(config)
}

/// Runs as a service until it is stopped. Returns the exit status.
fn serve(file: &Path) -> u8 {
    let Ok(config) = load_service(file) else {
        return WRONG_INPUT;
    };
    let options = Options::of(file.into());
    let read = move || load_service(&options.file);
    match work(&config, file, Box::new(read), &mut Starting::default()) {
        Ok(()) => 0,
        Err(error) => {
            log::error!("{error}");
            CANNOT_RUN
        }
    }
}

fn genpsk() -> ExitCode {
    let key = zeroize::Zeroizing::new(Key::generate().to_base64() + "\n");
    print(&key)
}

fn load(options: &Options) -> Result<Config, ConfigError> {
    let mut config = Config::load(&options.file)?;
    config.loglevel = logging::adjusted(config.loglevel, options.verbose, options.silent);
    if let Some(user) = &options.user {
        config.user = Some(user.clone());
    }
    if options.daemonize {
        match config.log {
            None => config.log = Some(Log::Syslog),
            Some(Log::Stderr) => {
                let file = options.file.display();
                return Err(ConfigError::from(format!(
                    "{file}: log: \"stderr\" leads nowhere in the background; with -d it must be \"syslog\" or the path of a file"
                )));
            }
            Some(_) => (),
        }
    }
    Ok(config)
}

fn check(options: Options) -> ExitCode {
    match load(&options) {
        Ok(config) => {
            let warnings: String = config
                .warnings
                .iter()
                .map(|warning| format!("warning:   {warning}\n"))
                .collect();
            print(&format!("{}{warnings}", config.describe()))
        }
        Err(error) => {
            for line in error.lines() {
                fail(WRONG_INPUT, line);
            }
            for warning in error.warnings() {
                fail(WRONG_INPUT, &format!("warning: {warning}"));
            }
            ExitCode::from(WRONG_INPUT)
        }
    }
}

fn run(mut options: Options) -> ExitCode {
    let config = match load(&options) {
        Ok(config) => config,
        Err(error) => return fail(WRONG_INPUT, &error.to_string()),
    };
    let mut starting = Starting::default();
    if options.daemonize {
        // The current directory will be another one.
        options.file = std::path::absolute(&options.file).unwrap_or(options.file);
        starting = match detach() {
            Ok(starting) => starting,
            Err(error) => return fail(CANNOT_RUN, &format!("-d: {error}")),
        };
    }
    let file = options.file.clone();
    let read = Box::new(move || load(&options));
    match work(&config, &file, read, &mut starting) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(config.log, None | Some(Log::Stderr)) {
                log::error!("{error}");
            }
            let status = fail(CANNOT_RUN, &error);
            starting.failed(CANNOT_RUN);
            status
        }
    }
}

/// Reads the configuration again.
type Read = Box<dyn Fn() -> Result<Config, ConfigError>>;

/// Runs until a signal to stop. `file`: where the configuration is. The error is one line.
fn work(config: &Config, file: &Path, read: Read, starting: &mut Starting) -> Result<(), String> {
    let stderr = Log::Stderr;
    let log = config.log.as_ref().unwrap_or(&stderr);
    logging::init(log, config.loglevel, config.user.as_ref())
        .map_err(|error| format!("log: cannot write to {log}: {error}"))?;
    log::info!("{}", config.headline());
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    // Before the pid file says where to ask for a reload.
    if let Err(error) = platform::hear_reload(file) {
        log::warn!("kcptun reload will not work: {error}");
    }
    let _pidfile = match &config.pidfile {
        Some(path) => {
            let file = PidFile::create(path);
            Some(file.map_err(|error| format!("pidfile: {}: {error}", path.display()))?)
        }
        None => None,
    };
    let mut work = event::Options::from(config);
    work.reread = Some(event::Reread {
        present: config.clone(),
        read: Box::new(move || read().map_err(|error| error.to_string())),
    });
    let ready = || starting.done();
    event::run(work, ready).map_err(|error| error.to_string())
}

/// Prints to standard output. `print!` would panic where the reader is gone, as in `kcptun --help | head -1`.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(CANNOT_RUN),
        Err(error) => fail(CANNOT_RUN, &format!("standard output: {error}")),
    }
}

/// Errors go to standard error whatever the log's level: whoever started the program must see them.
fn fail(status: u8, message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{}{message}", logging::error_prefix());
    ExitCode::from(status)
}
