//! The pid file; and the background, which Windows has only as a service.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use windows_sys::Win32::Foundation::ERROR_SHARING_VIOLATION;
use windows_sys::Win32::Storage::FileSystem::FILE_SHARE_READ;

/// The start of the program. Nobody waits for it.
#[derive(Default)]
pub struct Starting;

/// Fails: there is no background.
pub fn detach() -> io::Result<Starting> {
    Err(io::Error::other(
        "Windows runs no program in the background; kcptun service install -c FILE, and service start, do what it is for",
    ))
}

impl Starting {
    /// The program works.
    pub fn done(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The program cannot work.
    pub fn failed(&mut self, _: u8) {}
}

/// A file with the number of this process, which nobody else can write while it runs, and removed when this is dropped.
pub struct PidFile {
    path: PathBuf,
    file: Option<File>,
}

impl PidFile {
    /// Fails, with the end of a sentence, if the file cannot be written or a running process has it.
    pub fn create(path: &Path) -> Result<PidFile, String> {
        let path = std::path::absolute(path).map_err(|error| error.to_string())?;
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .share_mode(FILE_SHARE_READ)
            .open(&path);
        let mut file = match opened {
            Ok(file) => file,
            Err(e) if e.raw_os_error() == Some(ERROR_SHARING_VIOLATION as i32) => {
                return Err(owner(&path));
            }
            Err(e) => return Err(super::super::reason(&e)),
        };
        writeln!(file, "{}", std::process::id()).map_err(|error| error.to_string())?;
        let file = Some(file);
        Ok(PidFile { path, file })
    }
}

fn owner(path: &Path) -> String {
    let mut number = String::new();
    let _ = File::open(path).map(|file| file.take(20).read_to_string(&mut number));
    let number = number.trim();
    format!("process {number} is running already and has it")
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // an open file cannot be removed
        self.file = None;
        let _ = std::fs::remove_file(&self.path);
    }
}
