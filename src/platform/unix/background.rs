//! Going into the background, and the pid file. Whoever starts the program sees what fails at the start: the process that
//! was called waits until the one in the background works or says why it does not.

use super::lock::{self, Taken};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The mode of a pid file: whoever can read it can lock it.
const MODE: u32 = 0o600;

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

/// A file with the number of this process, locked while it runs, and removed when this is dropped. The lock is a record lock,
/// of which the kernel says who has it; it would go with any other opening of the file that this process closes, and is not
/// inherited by a fork.
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Fails, with the end of a sentence, if the file cannot be written or a running process has it. To be called after
    /// `detach`.
    pub fn create(path: &Path) -> Result<PidFile, String> {
        let text = |error: io::Error| error.to_string();
        let path = std::path::absolute(path).map_err(text)?;
        loop {
            let mut file = lock::open(
                &path,
                OpenOptions::new().write(true).create(true).mode(MODE),
            )?;
            match lock::take(&file).map_err(text)? {
                Taken::Mine => (),
                Taken::By(holder) => {
                    return Err(format!("process {holder} is running already and has it"));
                }
                Taken::BySomebody => return Err(lock::OUT_OF_SIGHT.into()),
                Taken::Again => continue,
            }
            // Its last owner may have removed it after it was opened here.
            if is_at(&path, &file) {
                // Whoever can read it could keep the next start from the lock. Another one's file stays as that wants it.
                let _ = file.set_permissions(Permissions::from_mode(MODE));
                file.set_len(0)
                    .and_then(|()| writeln!(file, "{}", std::process::id()))
                    .map_err(text)?;
                return Ok(PidFile { path, file });
            }
        }
    }
}

/// Whether this is the file that the path names, rather than one that has taken its place.
fn is_at(path: &Path, file: &File) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|there| {
        file.metadata()
            .is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
    })
}

impl Drop for PidFile {
    /// A process that has dropped its privileges may not remove it any more, but can empty it.
    fn drop(&mut self) {
        if !is_at(&self.path, &self.file) || std::fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A path in a directory of its own.
    fn place(name: &str) -> PathBuf {
        let name = format!("kcptun-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).expect("a directory");
        directory.join("pid")
    }

    fn clear(path: &Path) {
        fs::remove_dir_all(path.parent().expect("a directory")).expect("removed");
    }

    #[test]
    fn the_pid_file_is_for_its_owner_alone_and_goes_in_the_end() {
        let path = place("pid-file");
        // What a process that was killed leaves behind is no obstacle.
        fs::write(&path, "12345678\n").expect("written");
        let file = PidFile::create(&path).expect("created");
        let number = format!("{}\n", std::process::id());
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
        // To read it here ends the lock, which nothing needs any more.
        let file = PidFile::create(&path).expect("created");
        assert_eq!(fs::read_to_string(&path).expect("read"), number);
        drop(file);
        assert!(!path.exists());
        clear(&path);
    }

    #[test]
    fn what_has_taken_the_place_of_the_pid_file_is_not_removed() {
        let path = place("pid-replaced");
        let file = PidFile::create(&path).expect("created");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "of another\n").expect("written");
        drop(file);
        assert_eq!(fs::read_to_string(&path).expect("read"), "of another\n");
        clear(&path);
    }

    #[test]
    fn a_pid_file_is_a_file_with_one_name() {
        let path = place("pid-planted");
        let other = path.with_extension("other");
        let refused = |why: &str| {
            let error = PidFile::create(&path).map(drop).expect_err(why);
            assert!(error.contains(why), "{error}");
            fs::remove_file(&path).expect("removed");
        };
        fs::write(&other, "precious").expect("written");
        symlink(&other, &path).expect("a link");
        refused("is a symbolic link");
        fs::hard_link(&other, &path).expect("a link");
        refused("has another name");
        mkfifo(&path, Mode::S_IRWXU).expect("a pipe");
        refused("is not a file");
        assert_eq!(fs::read_to_string(&other).expect("read"), "precious");
        clear(&path);
    }
}
