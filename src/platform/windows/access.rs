//! Who can read or change a file: making one that only its owner can, and whether the access control list of one that
//! is there lets everybody on this machine.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle};
use std::path::Path;
use windows_sys::Win32::Foundation::{
    GENERIC_ALL, GENERIC_READ, GENERIC_WRITE, INVALID_HANDLE_VALUE, LocalFree,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetNamedSecurityInfoW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT,
};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACL, DACL_SECURITY_INFORMATION, GetAce, INHERIT_ONLY_ACE, IsWellKnownSid,
    OBJECT_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES,
    WinAuthenticatedUserSid, WinBuiltinUsersSid, WinWorldSid,
};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateFileW, FILE_APPEND_DATA, FILE_ATTRIBUTE_NORMAL, FILE_READ_DATA,
    FILE_WRITE_DATA,
};

/// The access to a file with a secret, in the security descriptor definition language: nothing is inherited from the directory
/// (P), and everything is allowed (FA) to its owner (OW), to the system (SY) and to administrators (BA), who could take it anyway.
const OWNERS_ALONE: &str = "D:P(A;;FA;;;OW)(A;;FA;;;SY)(A;;FA;;;BA)";

/// The rights that let somebody read a file.
const READS: u32 = FILE_READ_DATA | GENERIC_READ | GENERIC_ALL;
/// Those that let him change it, or what is in a directory.
const WRITES: u32 = FILE_WRITE_DATA | FILE_APPEND_DATA | GENERIC_WRITE | GENERIC_ALL;

/// The groups that everybody belongs to.
const EVERYBODY: [i32; 3] = [WinWorldSid, WinAuthenticatedUserSid, WinBuiltinUsersSid];
/// The type of an entry that allows something (winnt.h, ACCESS_ALLOWED_ACE_TYPE).
const ALLOWS: u8 = 0;

/// Text as the system takes it, with NUL at its end.
fn wide(text: &OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

/// A security descriptor that the system has made.
struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    /// Reads one in the security descriptor definition language.
    fn parse(text: &str) -> io::Result<Descriptor> {
        let text = wide(text.as_ref());
        let mut descriptor: PSECURITY_DESCRIPTOR = std::ptr::null_mut();
        // SAFETY: the text ends in NUL and lives during the call, which writes the pointer where it does not return 0.
        let parsed = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &mut descriptor,
                std::ptr::null_mut(),
            )
        };
        match parsed {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(Descriptor(descriptor)),
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it was allocated by the call that made it, and nobody else frees it.
        unsafe { LocalFree(self.0) };
    }
}

/// Creates a file that only its owner can read, besides who administers this machine: from its first byte on, whatever the
/// directory lets others do. Fails if there is one already. Nobody else opens it while it is written.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let descriptor = Descriptor::parse(OWNERS_ALONE)?;
    let attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor.0,
        bInheritHandle: 0,
    };
    let path = std::path::absolute(path)?;
    let name = wide(path.as_os_str());
    // SAFETY: the name ends in NUL; it, the attributes and the descriptor live during the call.
    let handle = unsafe {
        CreateFileW(
            name.as_ptr(),
            GENERIC_WRITE,
            0,
            &attributes,
            CREATE_NEW,
            FILE_ATTRIBUTE_NORMAL,
            std::ptr::null_mut(),
        )
    };
    match handle {
        INVALID_HANDLE_VALUE => Err(io::Error::last_os_error()),
        // SAFETY: it was just opened, and belongs to nobody else.
        handle => Ok(unsafe { File::from_raw_handle(handle) }),
    }
}

/// Whether everybody on this machine can read a file that holds a secret. False where the system does not say.
pub(crate) fn is_open_to_all(file: &File) -> bool {
    let (handle, none) = (file.as_raw_handle(), std::ptr::null_mut());
    let kind = SE_FILE_OBJECT;
    AccessList::asked(|what, list, descriptor| {
        // SAFETY: the handle is open; both pointers may be written.
        unsafe {
            GetSecurityInfo(
                handle,
                kind,
                what,
                none,
                none.cast(),
                list,
                none.cast(),
                descriptor,
            )
        }
    })
    .is_some_and(|list| list.lets_everybody(READS))
}

/// Whether everybody on this machine can change a file, or what is in a directory. False where the system does not say.
pub(super) fn is_writable_by_all(path: &Path) -> bool {
    let (name, none) = (wide(path.as_os_str()), std::ptr::null_mut());
    let (name, kind) = (name.as_ptr(), SE_FILE_OBJECT);
    AccessList::asked(|what, list, descriptor| {
        // SAFETY: the name ends in NUL and lives during the call; both pointers may be written.
        unsafe {
            GetNamedSecurityInfoW(
                name,
                kind,
                what,
                none,
                none.cast(),
                list,
                none.cast(),
                descriptor,
            )
        }
    })
    .is_some_and(|list| list.lets_everybody(WRITES))
}

/// Who may do what: a list, which is part of the descriptor.
struct AccessList {
    list: *const ACL,
    _descriptor: Descriptor,
}

impl AccessList {
    /// The one that `ask` writes with its descriptor, unless it returns an error's number. It is told what to ask for.
    fn asked(
        ask: impl FnOnce(OBJECT_SECURITY_INFORMATION, *mut *mut ACL, *mut PSECURITY_DESCRIPTOR) -> u32,
    ) -> Option<AccessList> {
        let mut list = std::ptr::null_mut();
        let mut descriptor: PSECURITY_DESCRIPTOR = std::ptr::null_mut();
        let error = ask(DACL_SECURITY_INFORMATION, &mut list, &mut descriptor);
        (error == 0).then(|| AccessList {
            list,
            _descriptor: Descriptor(descriptor),
        })
    }

    /// Whether everybody may do one of these things; without a list everything is allowed.
    fn lets_everybody(&self, rights: u32) -> bool {
        let list = self.list;
        if list.is_null() {
            return true;
        }
        // SAFETY: the list lives as long as its descriptor; the entries up to AceCount are valid; the type of one says what
        // follows its header.
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
                let allows = (*entry).Mask & rights != 0;
                let who = (&raw mut (*entry).SidStart).cast();
                counts
                    && allows
                    && EVERYBODY
                        .iter()
                        .any(|group| IsWellKnownSid(who, *group) != 0)
            })
        }
    }
}

/// The command that keeps others from reading the file of this name: nothing is inherited any more, and its owner, the system
/// and administrators have it alone, besides accounts that were named one by one, such as a service's. Groups are written as
/// numbers, since their names depend on the language.
pub(crate) fn close_to_others(name: &str) -> String {
    format!(
        "icacls \"{name}\" /inheritance:r /grant:r *S-1-3-4:F *S-1-5-18:F *S-1-5-32-544:F /remove:g *S-1-1-0 *S-1-5-11 *S-1-5-32-545"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_private_file_is_its_owners_alone_and_is_never_overwritten() {
        let name = format!("kcptun-private-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = create_private(&path).expect("a file");
        file.write_all(b"a key").expect("written");
        drop(file);
        let file = File::open(&path).expect("its owner opens it");
        assert!(!is_open_to_all(&file));
        assert!(!is_writable_by_all(&path));
        let again = create_private(&path).expect_err("it is there");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        std::fs::remove_file(&path).expect("removed");
    }
}
