//! A log in a file that can be reopened, for programs that move logs away.

use crate::config::User;
use crate::platform::open_log;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Writes at the end of a file. Copies share the file.
#[derive(Clone)]
pub(super) struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl LogFile {
    /// Opens or creates the file, as `user` if root is to become that one. A relative path is one from the directory that is
    /// current now.
    pub(super) fn open(path: &Path, user: Option<&User>) -> io::Result<LogFile> {
        let path = std::path::absolute(path)?;
        let user = user.map(|user| (user.user.as_str(), user.group.as_deref()));
        let file = Arc::new(Mutex::new(open_log(&path, user)?));
        Ok(LogFile { path, file })
    }

    /// Opens the path again as whoever this process is by now, which may be another file by now. On an error the old file stays.
    pub(super) fn reopen(&self) -> io::Result<()> {
        *self.lock() = open_log(&self.path, None)?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn after_a_file_was_moved_the_next_lines_are_in_a_new_one() {
        let dir = std::env::temp_dir().join(format!("kcptun-log-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let (path, moved) = (dir.join("log"), dir.join("log.1"));
        let mut log = LogFile::open(&path, None).expect("opened");
        log.write_all(b"1\n").expect("written");
        fs::rename(&path, &moved).expect("moved");
        log.write_all(b"2\n").expect("written");
        log.clone().reopen().expect("opened anew");
        log.write_all(b"3\n").expect("written");
        let read = |path| fs::read_to_string(path).expect("a file");
        assert_eq!((read(&moved), read(&path)), ("1\n2\n".into(), "3\n".into()));
        fs::remove_dir_all(&dir).expect("removed");
        assert!(log.reopen().is_err());
        log.write_all(b"4\n").expect("the old file is there");
    }
}
