//! Becoming another user, for good or for one call. libc's calls are used, through `nix`, because they change every thread of the process;
//! the system's own change one thread only.

use crate::platform::reason;
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User as Account, getegid, geteuid, setegid, seteuid, setuid};
use std::ffi::CString;
use std::io;

/// A user and group to run as.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    /// None for a number without a name: such a user is a member of its group only.
    name: Option<CString>,
    uid: Uid,
    gid: Gid,
}

/// Becomes a user and group (names or numbers) for good; without a group, the user's own. Fails with the reason, as the end of a sentence, if there is
/// no such user or group, if the system does not allow it, or if it could be undone.
pub(crate) fn drop_privileges(user: &str, group: Option<&str>) -> Result<(), String> {
    let to = identity(user, group)?;
    let (uid, gid) = (geteuid(), getegid());
    if !uid.is_root() && (uid, gid) == (to.uid, to.gid) {
        return Ok(());
    }
    switch(&to).map_err(|e| format!("cannot become this user: {}", reason(&e.into())))?;
    verify(&to)
}

/// Has root do something as a user and group: with their effective ids, and the groups that `drop_privileges` would join. Fails
/// with the reason, as the end of a sentence, likewise, or if root cannot be become again.
pub(super) fn as_user<T>(
    user: &str,
    group: Option<&str>,
    work: impl FnOnce() -> T,
) -> Result<T, String> {
    let cannot = |what: &str, e: Errno| format!("cannot become {what}: {}", reason(&e.into()));
    let to = identity(user, group)?;
    let (uid, gid) = (geteuid(), getegid());
    let before = groups::present().map_err(|e| cannot("this user", e))?;
    let became = join(&to)
        .and_then(|()| setegid(to.gid))
        .and_then(|()| seteuid(to.uid));
    let result = became.map(|()| work());
    // also after one step of the three
    seteuid(uid)
        .and_then(|()| setegid(gid))
        .and_then(|()| groups::set(&before))
        .map_err(|e| cannot("root again", e))?;
    result.map_err(|e| cannot("this user", e))
}

/// The order matters: the groups cannot be changed once the user is.
fn switch(to: &Identity) -> nix::Result<()> {
    join(to)?;
    ids::set(to.uid, to.gid)
}

/// Joins the groups, and leaves all others.
fn join(to: &Identity) -> nix::Result<()> {
    match &to.name {
        Some(name) => groups::all_of(name, to.gid),
        None => groups::set(&[to.gid]),
    }
}

/// Makes sure that the new identity is in effect and that root cannot be regained.
fn verify(to: &Identity) -> Result<(), String> {
    let is_new = ids::are(to.uid, to.gid).map_err(|e| reason(&e.into()))?;
    // This call is meant to fail.
    let regained = !to.uid.is_root() && setuid(Uid::from_raw(0)).is_ok();
    if !is_new || regained {
        return Err("privileges could be regained after they were dropped".into());
    }
    Ok(())
}

cfg_if::cfg_if! {
    if #[cfg(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "openbsd"
    ))] {
        mod ids {
            use nix::unistd::{Gid, Uid, getresgid, getresuid, setresgid, setresuid};

            /// Sets the real, the effective and the saved ids.
            pub(super) fn set(uid: Uid, gid: Gid) -> nix::Result<()> {
                setresgid(gid, gid, gid)?;
                setresuid(uid, uid, uid)
            }

            /// Whether the real, the effective and the saved ids are these.
            pub(super) fn are(uid: Uid, gid: Gid) -> nix::Result<bool> {
                let (users, groups) = (getresuid()?, getresgid()?);
                let users = [users.real, users.effective, users.saved];
                let groups = [groups.real, groups.effective, groups.saved];
                Ok(users == [uid; 3] && groups == [gid; 3])
            }
        }
    } else {
        mod ids {
            use nix::unistd::{Gid, Uid, getegid, geteuid, getgid, getuid, setgid, setuid};

            /// Sets the real and the effective ids; for root these calls change the saved ones, too.
            pub(super) fn set(uid: Uid, gid: Gid) -> nix::Result<()> {
                setgid(gid)?;
                setuid(uid)
            }

            /// Whether the real and the effective ids are these; the saved ones cannot be asked for.
            pub(super) fn are(uid: Uid, gid: Gid) -> nix::Result<bool> {
                Ok([getuid(), geteuid()] == [uid; 2] && [getgid(), getegid()] == [gid; 2])
            }
        }
    }
}

#[cfg(not(target_vendor = "apple"))]
mod groups {
    use nix::unistd::{Gid, getgroups, initgroups, setgroups};
    use std::ffi::CStr;

    /// The groups beside the process's own.
    pub(super) fn present() -> nix::Result<Vec<Gid>> {
        getgroups()
    }

    /// Joins every group that the user of this name is a member of, and `gid`.
    pub(super) fn all_of(name: &CStr, gid: Gid) -> nix::Result<()> {
        initgroups(name, gid)
    }

    /// Joins these groups, and leaves all others.
    pub(super) fn set(groups: &[Gid]) -> nix::Result<()> {
        setgroups(groups)
    }
}

/// `nix` leaves these calls out on macOS, where its directory service may know of more groups than they can set.
#[cfg(target_vendor = "apple")]
mod groups {
    use nix::errno::Errno;
    use nix::unistd::Gid;
    use std::ffi::CStr;

    /// NGROUPS_MAX: the most groups that the kernel holds of a process.
    const GROUPS_MAX: usize = 16;

    /// Joins every group that the user of this name is a member of, and `gid`.
    pub(super) fn all_of(name: &CStr, gid: Gid) -> nix::Result<()> {
        // SAFETY: the name ends in NUL and lives during the call. macOS takes the group as an int.
        Errno::result(unsafe { libc::initgroups(name.as_ptr(), gid.as_raw() as libc::c_int) })
            .map(drop)
    }

    /// Joins these groups, and leaves all others.
    pub(super) fn set(groups: &[Gid]) -> nix::Result<()> {
        let groups: Vec<libc::gid_t> = groups.iter().map(|gid| gid.as_raw()).collect();
        // SAFETY: as many groups are read as there are.
        Errno::result(unsafe { libc::setgroups(groups.len() as libc::c_int, groups.as_ptr()) })
            .map(drop)
    }

    /// The groups beside the process's own.
    pub(super) fn present() -> nix::Result<Vec<Gid>> {
        let mut groups: [libc::gid_t; GROUPS_MAX] = [0; GROUPS_MAX];
        // SAFETY: no more groups are written than there is room for.
        let found = unsafe { libc::getgroups(GROUPS_MAX as libc::c_int, groups.as_mut_ptr()) };
        let found = Errno::result(found)? as usize;
        Ok(groups[..found].iter().copied().map(Gid::from_raw).collect())
    }
}

fn identity(user: &str, group: Option<&str>) -> Result<Identity, String> {
    let found = find_user(user)?;
    let gid = match (group, &found) {
        (Some(group), _) => find_group(group)?,
        (None, Some(found)) => found.gid,
        (None, None) if user.parse::<u32>().is_ok() => {
            return Err("a number without a name needs a group".into());
        }
        (None, None) => return Err(format!("no such user: {user}")),
    };
    match (found, user.parse()) {
        (Some(found), _) => Ok(Identity { gid, ..found }),
        (None, Ok(uid)) => Ok(Identity {
            name: None,
            uid: Uid::from_raw(uid),
            gid,
        }),
        (None, Err(_)) => Err(format!("no such user: {user}")),
    }
}

/// Looks up a user by name or, if it is one, by number.
fn find_user(user: &str) -> Result<Option<Identity>, String> {
    let find = || match user.parse() {
        Ok(uid) => Account::from_uid(Uid::from_raw(uid)),
        Err(_) => Account::from_name(user),
    };
    if user.contains('\0') {
        return Err(format!("no such user: {user:?}"));
    }
    let account =
        look_up(find).map_err(|e| format!("cannot look up user {user}: {}", reason(&e)))?;
    let identity = account.map(|account| Identity {
        name: CString::new(account.name).ok(),
        uid: account.uid,
        gid: account.gid,
    });
    Ok(identity)
}

/// The number of a group, which may be a number already.
fn find_group(group: &str) -> Result<Gid, String> {
    if let Ok(gid) = group.parse() {
        return Ok(Gid::from_raw(gid));
    }
    if group.contains('\0') {
        return Err(format!("no such group: {group:?}"));
    }
    let found = look_up(|| Group::from_name(group))
        .map_err(|e| format!("cannot look up group {group}: {}", reason(&e)))?;
    let found = found.ok_or_else(|| format!("no such group: {group}"))?;
    Ok(found.gid)
}

/// What `find` finds. Some systems report an error where there is nothing to find.
fn look_up<T>(find: impl Fn() -> nix::Result<Option<T>>) -> io::Result<Option<T>> {
    loop {
        match find() {
            Err(Errno::EINTR) => (),
            Err(Errno::ENOENT | Errno::ESRCH) => return Ok(None),
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_by_name_and_number() {
        let root = identity("root", None).expect("root");
        assert_eq!((root.uid.as_raw(), root.gid.as_raw()), (0, 0));
        assert_eq!(identity("0", Some("0")).expect("by number"), root);
        let stranger = identity("54321", Some("54322")).expect("numbers need no names");
        assert_eq!(
            (stranger.name, stranger.uid.as_raw(), stranger.gid.as_raw()),
            (None, 54321, 54322)
        );
    }

    #[test]
    fn what_is_no_user_is_an_error() {
        for (user, group, message) in [
            ("no-such-user-here", None, "no such user: no-such-user-here"),
            ("54321", None, "needs a group"),
            (
                "root",
                Some("no-such-group-here"),
                "no such group: no-such-group-here",
            ),
            ("ro\0ot", None, "no such user"),
        ] {
            let error = identity(user, group).expect_err(user);
            assert!(error.contains(message), "{user:?}: {error}");
        }
    }
}
