//! Going into the background, and the pid file. Whoever starts the program sees what fails at the start: the process that
//! was called waits until the one in the background works or says why it does not.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The start of the program, which somebody may wait for.
#[derive(Default)]
pub struct Starting {
    waiting: Option<UnixStream>,
}

/// Goes on in a process in the background, of a session of its own. The process that called this waits for what
/// `Starting` is told, and exits. To be called before there is a thread.
pub fn detach() -> io::Result<Starting> {
    let (reader, writer) = UnixStream::pair()?;
    // A safe fork is in no crate. SAFETY: there is one thread only, so the child's memory is whole: no lock in it is held
    // by a thread that it lacks.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => (),
        _ => {
            drop(writer);
            std::process::exit(wait(reader));
        }
    }
    setsid()?;
    Ok(Starting {
        waiting: Some(writer),
    })
}

/// The exit status that the child asks for. The child says itself what is wrong, unless it has no time to.
fn wait(mut reader: UnixStream) -> i32 {
    let mut status = [0];
    match reader.read_exact(&mut status) {
        Ok(()) => status[0].into(),
        Err(_) => {
            let _ = writeln!(
                io::stderr(),
                "kcptun: the process in the background ended before it was ready"
            );
            1
        }
    }
}

impl Starting {
    /// The program works: lets go of the terminal and the current directory, and tells whoever waits.
    ///
    /// Fails if nobody waits any more: whoever interrupted the start does not want the daemon.
    pub fn done(&mut self) -> io::Result<()> {
        let Some(mut waiting) = self.waiting.take() else {
            return Ok(());
        };
        std::env::set_current_dir("/")?;
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        waiting.write_all(&[0])
    }

    /// The program cannot work: has whoever waits exit with this status.
    pub fn failed(&mut self, status: u8) {
        if let Some(mut waiting) = self.waiting.take() {
            let _ = waiting.write_all(&[status]);
        }
    }
}

/// A file with the number of this process, locked while it runs, and removed when this is dropped.
pub struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

impl PidFile {
    /// Fails, with the end of a sentence, if the file cannot be written or a running process has it.
    pub fn create(path: &Path) -> Result<PidFile, String> {
        let text = |error: io::Error| error.to_string();
        let path = std::path::absolute(path).map_err(text)?;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)
                .map_err(text)?;
            let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((file, Errno::EWOULDBLOCK)) => return Err(owner(file)),
                Err((_, e)) => return Err(text(e.into())),
            };
            // Its last owner may have removed it after it was opened here.
            let still = std::fs::metadata(&path).is_ok_and(|there| {
                file.metadata()
                    .is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
            });
            if still {
                file.set_len(0)
                    .and_then(|()| writeln!(file, "{}", std::process::id()))
                    .map_err(text)?;
                return Ok(PidFile { path, file });
            }
        }
    }
}

fn owner(file: File) -> String {
    let mut number = String::new();
    let _ = file.take(20).read_to_string(&mut number);
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    format!("process {digits} is running already and has it")
}

impl Drop for PidFile {
    /// A process that has dropped its privileges may not remove it any more, but can empty it.
    fn drop(&mut self) {
        if std::fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn one_process_at_a_time_has_the_pid_file() {
        let path = std::env::temp_dir().join(format!("kcptun-{}.pid", std::process::id()));
        // What a process that was killed leaves behind is no obstacle.
        fs::write(&path, "12345678\n").expect("written");
        let file = PidFile::create(&path).expect("created");
        let number = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&path).expect("read"), number);
        let error = PidFile::create(&path).map(drop).expect_err("is locked");
        assert!(
            error.contains(number.trim()) && error.contains("is running already"),
            "{error}"
        );
        drop(file);
        assert!(!path.exists());
    }
}
