//! What the event loop asks of the operating system for the whole process: more open files, and memory to be given back.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Raises the number of files that this process may open (RLIMIT_NOFILE) to its hard limit, and returns it; `u64::MAX` where
/// there is none.
pub(super) fn raise_file_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Gives freed memory back to the system, where the allocator would keep it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn give_memory_back() {
    // No crate but libc has this call. SAFETY: it takes no pointers and changes nothing but what is free.
    unsafe { libc::malloc_trim(0) };
}

/// Gives freed memory back to the system: here the allocator does so by itself.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn give_memory_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_limit_is_raised() {
        let before = getrlimit(Resource::Nofile);
        let lower = Rlimit {
            current: before.maximum.map(|most| most - 1).or(Some(1024)),
            ..before
        };
        setrlimit(Resource::Nofile, lower).expect("lower");
        let limit = raise_file_limit().expect("limit");
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
        assert_eq!(limit, before.maximum.unwrap_or(u64::MAX));
    }
}
