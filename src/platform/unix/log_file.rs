//! Opening the log. Where another user is to be become, that user opens it: its directory may be that user's, who must not lead
//! root elsewhere by a link.

use super::privileges::as_user;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat, geteuid};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The bit of a directory's mode by which only its owner, and that of a file in it, can remove the file.
const STICKY: u32 = 0o1000;
/// Has a call go by the effective ids. Android's goes by the real ones, root's, so that everything there seems replaceable.
#[cfg(not(target_os = "android"))]
const BY_EFFECTIVE_IDS: AtFlags = AtFlags::AT_EACCESS;
#[cfg(target_os = "android")]
const BY_EFFECTIVE_IDS: AtFlags = AtFlags::empty();
/// Without O_NONBLOCK the opening of a pipe that nobody reads would wait; files and terminals ignore it.
const FLAGS: libc::c_int = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Opens a file to append to, or creates it. `user`: the user, and the group, that this process is to become, if any. While it
/// is root still, that user opens the file; where that user may not, root does, unless that user could have led it there.
pub(crate) fn open_log(path: &Path, user: Option<(&str, Option<&str>)>) -> io::Result<File> {
    let open = || appending(FLAGS).create(true).open(path);
    let Some((user, group)) = user.filter(|_| geteuid().is_root()) else {
        return open();
    };
    let directory = path.parent().unwrap_or(path).canonicalize()?;
    let attempt = || (open(), replaceable(&directory));
    match as_user(user, group, attempt).map_err(io::Error::other)? {
        (Err(error), replaceable) if error.kind() == ErrorKind::PermissionDenied => {
            let whole = directory.join(path.file_name().unwrap_or_default());
            open_as_root(&whole, replaceable)
                .map_err(|e| io::Error::other(format!("{user} is not allowed to, and root: {e}")))
        }
        (result, _) => result,
    }
}

fn appending(flags: libc::c_int) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o640).custom_flags(flags);
    options
}

/// What a user can put something else in the place of.
#[derive(Clone, Copy, Debug)]
struct Replaceable {
    /// A file in the directory.
    file: bool,
    /// The directory itself, or one above it.
    directory: bool,
}

/// What the user in effect can replace of a file's directory, whose path leads over no link.
fn replaceable(directory: &Path) -> Replaceable {
    let user = geteuid().as_raw();
    let data = |path: &Path| path.symlink_metadata().ok();
    let writes = |path: &Path, data: &Metadata| {
        let asked = faccessat(AT_FDCWD, path, AccessFlags::W_OK, BY_EFFECTIVE_IDS);
        data.uid() == user || asked.is_ok()
    };
    let removes = |path: &Path| {
        let above = path.parent()?;
        let (data, inside) = (data(above)?, data(path)?);
        let keeps = data.mode() & STICKY != 0 && data.uid() != user && inside.uid() != user;
        Some(writes(above, &data) && !keeps)
    };
    Replaceable {
        file: data(directory).is_some_and(|data| writes(directory, &data)),
        // what that user cannot even look at is out of reach
        directory: directory.ancestors().filter_map(removes).any(|is| is),
    }
}

/// Opens the log as root. In a directory where the user may write only a file of root's is taken, which is there already and
/// has no name elsewhere: that user can have made none such.
fn open_as_root(path: &Path, replaceable: Replaceable) -> io::Result<File> {
    if replaceable.directory {
        return Err(io::Error::other("that user can replace its directory"));
    }
    let file = appending(FLAGS | libc::O_NOFOLLOW)
        .create(!replaceable.file)
        .open(path)?;
    let data = file.metadata()?;
    let is_roots = data.is_file() && data.nlink() == 1 && data.uid() == 0;
    if replaceable.file && !is_roots {
        return Err(io::Error::other("it is not a file of root's with one name"));
    }
    Ok(file)
}
