//! Who can read a file: whether its access control list lets everybody on this machine.

use std::fs::File;
use std::os::windows::io::AsRawHandle;
use windows_sys::Win32::Foundation::{GENERIC_ALL, GENERIC_READ, LocalFree};
use windows_sys::Win32::Security::Authorization::{GetSecurityInfo, SE_FILE_OBJECT};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACL, DACL_SECURITY_INFORMATION, GetAce, INHERIT_ONLY_ACE, IsWellKnownSid,
    PSECURITY_DESCRIPTOR, WinAuthenticatedUserSid, WinBuiltinUsersSid, WinWorldSid,
};
use windows_sys::Win32::Storage::FileSystem::FILE_READ_DATA;

/// The groups that everybody belongs to.
const EVERYBODY: [i32; 3] = [WinWorldSid, WinAuthenticatedUserSid, WinBuiltinUsersSid];
/// The type of an entry that allows something (winnt.h, ACCESS_ALLOWED_ACE_TYPE).
const ALLOWS: u8 = 0;

/// Whether everybody on this machine can read a file that holds a secret. False where the system does not say.
pub(crate) fn is_open_to_all(file: &File) -> bool {
    let mut list: *mut ACL = std::ptr::null_mut();
    let mut descriptor: PSECURITY_DESCRIPTOR = std::ptr::null_mut();
    let none = std::ptr::null_mut();
    // SAFETY: the handle is open; both pointers are written before the call returns 0.
    let failed = unsafe {
        GetSecurityInfo(
            file.as_raw_handle(),
            SE_FILE_OBJECT,
            DACL_SECURITY_INFORMATION,
            none,
            none.cast(),
            &mut list,
            none.cast(),
            &mut descriptor,
        )
    };
    if failed != 0 {
        return false;
    }
    // without a list everything is allowed
    // SAFETY: the list is part of the descriptor, which is freed after its last use and by nobody else.
    unsafe {
        let open = list.is_null() || lets_everybody_read(list);
        LocalFree(descriptor);
        open
    }
}

/// # Safety
/// The list must be a valid one.
unsafe fn lets_everybody_read(list: *const ACL) -> bool {
    // SAFETY: the entries up to AceCount are valid; the type of one says what follows its header.
    unsafe {
        (0..(*list).AceCount).any(|number| {
            let mut entry = std::ptr::null_mut();
            if GetAce(list, number.into(), &mut entry) == 0 {
                return false;
            }
            let entry: *mut ACCESS_ALLOWED_ACE = entry.cast();
            let header = (*entry).Header;
            let counts =
                header.AceType == ALLOWS && u32::from(header.AceFlags) & INHERIT_ONLY_ACE == 0;
            let reads = (*entry).Mask & (FILE_READ_DATA | GENERIC_READ | GENERIC_ALL) != 0;
            let who = (&raw mut (*entry).SidStart).cast();
            counts
                && reads
                && EVERYBODY
                    .iter()
                    .any(|group| IsWellKnownSid(who, *group) != 0)
        })
    }
}

/// The command that keeps others from reading the file of this name: its owner keeps everything, and nobody else has
/// anything. The groups are named by numbers, since their names depend on the language.
pub(crate) fn close_to_others(name: &str) -> String {
    format!("icacls \"{name}\" /inheritance:r /grant:r *S-1-3-4:F")
}
