//! The lock on a pid file, and how that is opened: the kernel says who holds it, whatever the file says.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Why there is no number of a holder, as the end of a sentence.
pub(super) const OUT_OF_SIGHT: &str =
    "a process has it that cannot be seen from here: in another container, or on another machine";

/// Who has a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// This process, from now on.
    Mine,
    /// The process of this number.
    By(i32),
    /// A process whose number the kernel does not know here.
    BySomebody,
    /// Nobody any more: it was let go of meanwhile.
    Again,
}

/// Opens a pid file to read and by these options. Fails, with the end of a sentence, if it is not a file with one name: whoever may
/// write to its directory must not lead this process elsewhere by a link, nor hold it up by a pipe.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> Result<File, String> {
    let file = options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|e| match path.is_symlink() {
            true => "is a symbolic link, which is not followed".into(),
            false => e.to_string(),
        })?;
    let data = file.metadata().map_err(|e| e.to_string())?;
    match (data.is_file(), data.nlink()) {
        (false, _) => Err("is not a file".into()),
        (true, 2..) => Err("has another name (a hard link)".into()),
        (true, _) => Ok(file),
    }
}

/// Locks a file for this process, which must have no other opening of it. It has to be open for writing.
pub(super) fn take(file: &File) -> io::Result<Taken> {
    match fcntl(file, FcntlArg::F_SETLK(&whole())) {
        Ok(_) => Ok(Taken::Mine),
        Err(Errno::EACCES | Errno::EAGAIN) => Ok(holder(file)?),
        Err(e) => Err(e.into()),
    }
}

/// Who keeps this process from locking a file: never `Mine`.
pub(super) fn holder(file: &File) -> nix::Result<Taken> {
    let mut lock = whole();
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok(match lock.l_pid {
        _ if lock.l_type == libc::F_UNLCK as libc::c_short => Taken::Again,
        // 0 and what is below it would be groups of processes
        pid @ 1.. => Taken::By(pid),
        _ => Taken::BySomebody,
    })
}

/// A lock for one process alone, on all of a file.
fn whole() -> libc::flock {
    // SAFETY: it is plain numbers, for which 0 is a value; some systems have more of them, which cannot be named here.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}
