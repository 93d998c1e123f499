//! What stands for signals: Ctrl-C and the end of a console, of the session or of the machine, a service's controls, and the
//! event by which `kcptun reload` has a process read its configuration again. Each comes on a thread of its own, which wakes
//! the loop by a datagram on loopback.

use crate::platform::Signal;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use std::io;
use std::net::{Ipv4Addr, UdpSocket as StdUdpSocket};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use windows_sys::Win32::Foundation::{ERROR_ALREADY_EXISTS, WAIT_OBJECT_0};
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Threading::{
    CreateEventW, EVENT_MODIFY_STATE, INFINITE, OpenEventW, SetEvent, WaitForSingleObject,
};

/// How long the end of a console waits for the farewell: the process is ended when its handler returns.
const FAREWELL_MAX: Duration = Duration::from_secs(4);

static STOP: AtomicBool = AtomicBool::new(false);
static RELOAD: AtomicBool = AtomicBool::new(false);
/// What wakes the loop, while there is one.
static BELL: Mutex<Option<StdUdpSocket>> = Mutex::new(None);

/// Notes what is asked for, and wakes the loop. May be called from every thread.
pub(super) fn raise(signal: Signal) {
    // the flag first: whoever is woken finds it set
    match signal {
        Signal::Stop => STOP.store(true, Ordering::Release),
        Signal::Reload => RELOAD.store(true, Ordering::Release),
    }
    let bell = BELL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bell) = &*bell {
        let _ = bell.send(&[0]);
    }
}

/// Runs on a thread that the system makes for it.
unsafe extern "system" fn on_console(event: u32) -> i32 {
    // a service is told by its controls, and goes on while its user leaves
    if matches!(event, CTRL_LOGOFF_EVENT | CTRL_SHUTDOWN_EVENT) && super::service::is_running() {
        return 1;
    }
    raise(Signal::Stop);
    if !matches!(event, CTRL_C_EVENT | CTRL_BREAK_EVENT) {
        std::thread::sleep(FAREWELL_MAX);
    }
    1
}

/// The requests that the program handles, until this is dropped. There is one of these at a time.
pub(crate) struct Signals {
    bell: UdpSocket,
    /// Whether there may be something to take: to ask the socket costs a call.
    noted: bool,
}

impl Signals {
    /// Takes the requests over; `token` becomes readable when one has come.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Signals> {
        let pair = [(); 2].map(|()| StdUdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
        let [here, there] = pair;
        let (here, there) = (here?, there?);
        here.connect(there.local_addr()?)?;
        there.connect(here.local_addr()?)?;
        here.set_nonblocking(true)?;
        there.set_nonblocking(true)?;
        let mut bell = UdpSocket::from_std(here);
        registry.register(&mut bell, token, Interest::READABLE)?;
        *BELL.lock().unwrap_or_else(PoisonError::into_inner) = Some(there);
        // SAFETY: the handler touches nothing but statics.
        if unsafe { SetConsoleCtrlHandler(Some(on_console), 1) } == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Signals { bell, noted: true })
    }

    /// Notes that the poll said something of the token.
    pub(crate) fn note(&mut self) {
        self.noted = true;
    }

    /// The next request that has come and was noted. Repetitions of one before it is taken count once.
    pub(crate) fn take(&mut self) -> Option<Signal> {
        if !self.noted {
            return None;
        }
        // the socket first: a request between the two steps wakes the loop once in vain, rather than not at all
        while self.bell.recv(&mut [0; 64]).is_ok() {}
        if STOP.swap(false, Ordering::AcqRel) {
            return Some(Signal::Stop);
        }
        self.noted = RELOAD.swap(false, Ordering::AcqRel);
        self.noted.then_some(Signal::Reload)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { SetConsoleCtrlHandler(Some(on_console), 0) };
        *BELL.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The name of the event that stands for SIGHUP, for the process that runs with this configuration.
fn event_name(config: &Path) -> Vec<u16> {
    let path = std::path::absolute(config).unwrap_or_else(|_| config.into());
    let path = std::fs::canonicalize(&path).unwrap_or(path);
    // FNV-1a, 64 bits: a name may hold no backslash, and not every length
    let text = path.to_string_lossy().to_lowercase();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let name = format!("Global\\kcptun-reload-{hash:016x}\0");
    name.encode_utf16().collect()
}

/// From now on `request_reload` with this configuration reaches this process.
pub fn hear_reload(config: &Path) -> io::Result<()> {
    let name = event_name(config);
    // SAFETY: the name ends in NUL and lives during the call.
    let event = unsafe { CreateEventW(std::ptr::null(), 0, 0, name.as_ptr()) };
    if event.is_null() {
        return Err(io::Error::last_os_error());
    }
    let found = io::Error::last_os_error();
    // SAFETY: it was just opened, and belongs to nobody else.
    let event = unsafe { OwnedHandle::from_raw_handle(event) };
    // whoever made it first decides who may signal
    if found.raw_os_error() == Some(ERROR_ALREADY_EXISTS as i32) {
        return Err(io::Error::other("another process has its event"));
    }
    std::thread::Builder::new()
        .name("reload".into())
        .spawn(move || {
            // SAFETY: the handle is open as long as this thread has it.
            while unsafe { WaitForSingleObject(event.as_raw_handle(), INFINITE) } == WAIT_OBJECT_0 {
                raise(Signal::Reload);
            }
        })
        .map(drop)
}

/// Has the process that runs with this configuration read it again. Fails, with one line.
pub fn request_reload(config: &Path, _: Option<&Path>) -> Result<(), String> {
    let name = event_name(config);
    // SAFETY: the name ends in NUL and lives during the call.
    let event = unsafe { OpenEventW(EVENT_MODIFY_STATE, 0, name.as_ptr()) };
    if event.is_null() {
        let error = io::Error::last_os_error();
        let config = config.display();
        return Err(match error.kind() {
            io::ErrorKind::NotFound => format!("reload: no kcptun runs with {config}"),
            io::ErrorKind::PermissionDenied => {
                format!(
                    "reload: the kcptun that runs with {config} belongs to another user: do it as administrator"
                )
            }
            _ => format!("reload: {}", super::super::reason(&error)),
        });
    }
    // SAFETY: it was just opened, and belongs to nobody else.
    let event = unsafe { OwnedHandle::from_raw_handle(event) };
    // SAFETY: the handle is open.
    match unsafe { SetEvent(event.as_raw_handle()) } {
        0 => Err(format!("reload: {}", io::Error::last_os_error())),
        _ => Ok(()),
    }
}
