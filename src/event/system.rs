//! What the operating system is asked for that no safe crate offers: more files, fewer privileges, larger buffers.
//! All the `unsafe` of the event loop is here.

use super::report::reason;
use crate::config::User;
use socket2::Socket;
use std::ffi::CString;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd;

/// Raises the number of files that this process may open (RLIMIT_NOFILE) to its hard limit, and returns it.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = file_limit()?;
    limit.rlim_cur = limit.rlim_max;
    set_file_limit(&limit)?;
    // Not everywhere it is a u64.
    #[allow(clippy::unnecessary_cast)]
    Ok(limit.rlim_cur as u64)
}

fn file_limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live rlimit, which the call fills.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    Ok(limit)
}

fn set_file_limit(limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: the pointer is to a live rlimit, which the call only reads.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) })
}

/// What `force_buffer` sets; None where the system has no such option.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub const RCVBUFFORCE: Option<libc::c_int> = Some(libc::SO_RCVBUFFORCE);
#[cfg(any(target_os = "linux", target_os = "android"))]
pub const SNDBUFFORCE: Option<libc::c_int> = Some(libc::SO_SNDBUFFORCE);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub const RCVBUFFORCE: Option<libc::c_int> = None;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub const SNDBUFFORCE: Option<libc::c_int> = None;

/// Sets the size in bytes of a socket's buffer (SO_RCVBUFFORCE, SO_SNDBUFFORCE) beyond the system's limit for everyone,
/// which takes CAP_NET_ADMIN.
pub fn force_buffer(socket: &Socket, option: Option<libc::c_int>, size: usize) -> io::Result<()> {
    let option = option.ok_or(io::ErrorKind::Unsupported)?;
    let size = libc::c_int::try_from(size).map_err(io::Error::other)?;
    set_option(socket, libc::SOL_SOCKET, option, size)
}

/// Sets an option of a socket that is a number.
pub fn set_option(
    socket: &Socket,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is a live c_int and the length is its length; the call only reads it.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length,
        )
    })
}

/// Gives memory that was freed back to the system, where the allocator keeps it otherwise.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_memory_back() {
    // SAFETY: the call takes no pointers, and changes nothing but what is free.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_memory_back() {}

/// A user and group to run as.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    /// None for a number that has no name: it is a member of its group only.
    name: Option<CString>,
    uid: libc::uid_t,
    gid: libc::gid_t,
}

/// Becomes a user and group (names or numbers) for good. Fails with the reason, as the end of a sentence, if there is
/// no such user or group, if the system does not allow it, or if it could be undone.
pub fn drop_privileges(user: &User) -> Result<(), String> {
    let to = identity(user)?;
    // SAFETY: these calls take no pointers and cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    if uid != 0 && (uid, gid) == (to.uid, to.gid) {
        return Ok(());
    }
    switch(&to).map_err(|e| format!("cannot become this user: {}", reason(&e)))?;
    verify(&to)
}

/// The order matters: after the user is changed the groups cannot be.
fn switch(to: &Identity) -> io::Result<()> {
    match &to.name {
        // Not everywhere the group is a gid_t. SAFETY: the name is a string that ends in NUL and lives during the call.
        Some(name) => check(unsafe { libc::initgroups(name.as_ptr(), to.gid as _) })?,
        // SAFETY: one group is read from a live gid_t.
        None => check(unsafe { libc::setgroups(1, &to.gid) })?,
    }
    become_identity(to)
}

/// Makes sure that the identity is the new one, and that root cannot be had back.
fn verify(to: &Identity) -> Result<(), String> {
    let is_new = has_identity(to).map_err(|e| reason(&e))?;
    // SAFETY: the call takes no pointers. It is meant to fail.
    let regained = to.uid != 0 && unsafe { libc::setuid(0) } == 0;
    if !is_new || regained {
        return Err("privileges could be regained after they were dropped".into());
    }
    Ok(())
}

cfg_if::cfg_if! {
    if #[cfg(any(target_vendor = "apple", target_os = "netbsd"))] {
        /// For root these calls change the saved identity, too.
        fn become_identity(to: &Identity) -> io::Result<()> {
            // SAFETY: these calls take no pointers.
            check(unsafe { libc::setgid(to.gid) })?;
            // SAFETY: as above.
            check(unsafe { libc::setuid(to.uid) })
        }

        /// Whether real and effective identity are this one; the saved one cannot be asked for.
        fn has_identity(to: &Identity) -> io::Result<bool> {
            // SAFETY: these calls take no pointers and cannot fail.
            let (uids, gids) = unsafe {
                ([libc::getuid(), libc::geteuid()], [libc::getgid(), libc::getegid()])
            };
            Ok(uids == [to.uid; 2] && gids == [to.gid; 2])
        }
    } else {
        fn become_identity(to: &Identity) -> io::Result<()> {
            // SAFETY: these calls take no pointers; libc applies them to every thread.
            check(unsafe { libc::setresgid(to.gid, to.gid, to.gid) })?;
            // SAFETY: as above.
            check(unsafe { libc::setresuid(to.uid, to.uid, to.uid) })
        }

        /// Whether real, effective and saved identity are this one.
        fn has_identity(to: &Identity) -> io::Result<bool> {
            let (mut uids, mut gids) = ([0; 3], [0; 3]);
            let [real, effective, saved] = &mut uids;
            // SAFETY: three pointers to live, distinct uid_t, which the call fills.
            check(unsafe { libc::getresuid(real, effective, saved) })?;
            let [real, effective, saved] = &mut gids;
            // SAFETY: three pointers to live, distinct gid_t, which the call fills.
            check(unsafe { libc::getresgid(real, effective, saved) })?;
            Ok(uids == [to.uid; 3] && gids == [to.gid; 3])
        }
    }
}

fn identity(User { user, group }: &User) -> Result<Identity, String> {
    let found = find_user(user)?;
    let gid = match (group, &found) {
        (Some(group), _) => find_group(group)?,
        (None, Some(found)) => found.gid,
        (None, None) if user.parse::<libc::uid_t>().is_ok() => {
            return Err("a number that has no name needs a group".into());
        }
        (None, None) => return Err(format!("no such user: {user}")),
    };
    match (found, user.parse()) {
        (Some(found), _) => Ok(Identity { gid, ..found }),
        (None, Ok(uid)) => Ok(Identity {
            name: None,
            uid,
            gid,
        }),
        (None, Err(_)) => Err(format!("no such user: {user}")),
    }
}

/// Looks a user up by name or, if it is one, by number.
fn find_user(user: &str) -> Result<Option<Identity>, String> {
    let key = CString::new(user).map_err(|_| format!("no such user: {user:?}"))?;
    look_up(
        |record: *mut libc::passwd, buffer: &mut [libc::c_char], found| {
            // SAFETY: every pointer is to live memory of the type and length that the call is told of; the key ends in NUL.
            unsafe {
                match user.parse() {
                    Ok(uid) => {
                        libc::getpwuid_r(uid, record, buffer.as_mut_ptr(), buffer.len(), found)
                    }
                    Err(_) => libc::getpwnam_r(
                        key.as_ptr(),
                        record,
                        buffer.as_mut_ptr(),
                        buffer.len(),
                        found,
                    ),
                }
            }
        },
        |record| Identity {
            // SAFETY: the system filled the record, so its name is a string that ends in NUL, in the buffer still held.
            name: Some(unsafe { std::ffi::CStr::from_ptr(record.pw_name) }.to_owned()),
            uid: record.pw_uid,
            gid: record.pw_gid,
        },
    )
    .map_err(|e| format!("cannot look up user {user}: {}", reason(&e)))
}

/// The number of a group, which may be a number already.
fn find_group(group: &str) -> Result<libc::gid_t, String> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let key = CString::new(group).map_err(|_| format!("no such group: {group:?}"))?;
    let gid = look_up(
        |record: *mut libc::group, buffer: &mut [libc::c_char], found| {
            // SAFETY: every pointer is to live memory of the type and length that the call is told of; the key ends in NUL.
            unsafe {
                libc::getgrnam_r(
                    key.as_ptr(),
                    record,
                    buffer.as_mut_ptr(),
                    buffer.len(),
                    found,
                )
            }
        },
        |record| record.gr_gid,
    )
    .map_err(|e| format!("cannot look up group {group}: {}", reason(&e)))?;
    gid.ok_or_else(|| format!("no such group: {group}"))
}

/// Calls one of libc's `get..._r` with a buffer that grows until the record fits, and reads what it found.
fn look_up<R, T>(
    call: impl Fn(*mut R, &mut [libc::c_char], *mut *mut R) -> libc::c_int,
    read: impl Fn(&R) -> T,
) -> io::Result<Option<T>> {
    let mut buffer = vec![0; 1024];
    loop {
        let mut record = MaybeUninit::<R>::uninit();
        let mut found = std::ptr::null_mut();
        match call(record.as_mut_ptr(), &mut buffer, &mut found) {
            0 if found.is_null() => return Ok(None),
            // SAFETY: success and a pointer that is not null mean that it is `record`, now filled.
            0 => return Ok(Some(read(unsafe { &*found }))),
            libc::ERANGE if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 2, 0),
            libc::EINTR => (),
            // Some systems say so instead of finding nothing.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_limit_is_raised() {
        let before = file_limit().expect("limits");
        let lower = libc::rlimit {
            rlim_cur: before.rlim_max - 1,
            ..before
        };
        set_file_limit(&lower).expect("lower");
        let limit = raise_file_limit().expect("limit");
        assert_eq!(file_limit().expect("limits").rlim_cur, before.rlim_max);
        #[allow(clippy::unnecessary_cast)]
        let hard = before.rlim_max as u64;
        assert_eq!(limit, hard);
    }

    #[test]
    fn users_and_groups_by_name_and_number() {
        let identity = |spec: &str| identity(&spec.parse().expect(spec));
        let root = identity("root").expect("root");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(identity("0:0").expect("by number"), root);
        let stranger = identity("54321:54322").expect("numbers need no names");
        assert_eq!(
            (stranger.name, stranger.uid, stranger.gid),
            (None, 54321, 54322)
        );
    }

    #[test]
    fn what_is_no_user_is_an_error() {
        for (spec, message) in [
            ("no-such-user-here", "no such user: no-such-user-here"),
            ("54321", "needs a group"),
            (
                "root:no-such-group-here",
                "no such group: no-such-group-here",
            ),
        ] {
            let error = identity(&spec.parse().expect(spec)).expect_err(spec);
            assert!(error.contains(message), "{spec:?}: {error}");
        }
        let odd = User {
            user: "ro\0ot".into(),
            group: None,
        };
        let error = identity(&odd).expect_err("a NUL");
        assert!(error.contains("no such user"), "{error}");
    }
}
