//! `kcptun reload`: SIGHUP for the process whose number is in the `pidfile`.

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The most of a pid file that is read, bytes.
const NUMBER_MAX: u64 = 20;

/// Has the process that runs with this configuration read it again. `pidfile`: the file that the configuration names for the
/// process's number. Fails, with one line.
pub fn request_reload(_config: &Path, pidfile: Option<&Path>) -> Result<(), String> {
    let Some(path) = pidfile else {
        return Err(
            "reload: the configuration has no pidfile that would name the process; send it SIGHUP: kill -HUP NUMBER, or pkill -HUP kcptun for all"
                .into(),
        );
    };
    let name = path.display();
    let file = File::open(path).map_err(|e| format!("reload: pidfile {name}: {e}"))?;
    let mut file = match Flock::lock(file, FlockArg::LockSharedNonblock) {
        // whoever runs has it locked; what it holds is the number of a process that is gone
        Ok(_) => return Err(format!("reload: pidfile {name}: no kcptun runs with it")),
        Err((file, _)) => file,
    };
    let mut text = String::new();
    let number = Read::by_ref(&mut file)
        .take(NUMBER_MAX)
        .read_to_string(&mut text)
        .ok()
        .and_then(|_| text.trim().parse().ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("reload: pidfile {name}: does not hold the number of a process"))?;
    kill(Pid::from_raw(number), Signal::SIGHUP)
        .map_err(|e| format!("reload: process {number}: {}", e.desc().to_lowercase()))
}
