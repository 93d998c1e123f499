//! `kcptun reload`: SIGHUP for the process that has the `pidfile` locked.

use super::lock::{self, Taken};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::path::Path;

/// Has the process that runs with this configuration read it again. `pidfile`: the file that it has
/// locked. Fails, with one line.
pub fn request_reload(_config: &Path, pidfile: Option<&Path>) -> Result<(), String> {
    let Some(path) = pidfile else {
        return Err(
            "reload: the configuration has no pidfile that would name the process; send it SIGHUP: kill -HUP NUMBER, or pkill -HUP kcptun for all"
                .into(),
        );
    };
    let wrong = |why: &str| format!("reload: pidfile {}: {why}", path.display());
    let file = lock::open(path, &mut OpenOptions::new()).map_err(|e| wrong(&e))?;
    // What the file says may be of a process that is gone, or of whoever wrote it.
    let number = match lock::holder(&file).map_err(|e| wrong(e.desc()))? {
        Taken::By(number) => number,
        Taken::BySomebody => return Err(wrong(lock::OUT_OF_SIGHT)),
        Taken::Mine | Taken::Again => return Err(wrong("no kcptun runs with it")),
    };
    kill(Pid::from_raw(number), Signal::SIGHUP)
        .map_err(|e| format!("reload: process {number}: {}", e.desc().to_lowercase()))
}
