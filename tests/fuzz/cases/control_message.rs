//! A session-0 packet: what is read from it is what it says, to the byte, and nothing is read from less.

use kcptun::message::{Control, Meeting};

pub fn run(bytes: &[u8]) {
    let (control, meeting) = (Control::read(bytes), Meeting::read(bytes));
    assert!(control.is_none() || meeting.is_none());
    if let Some(control) = control {
        let wire = control.to_wire();
        assert!(bytes.starts_with(&wire), "{control:?}");
        assert!((0..wire.len()).all(|cut| Control::read(&bytes[..cut]).is_none()));
    }
    if let Some(meeting) = meeting {
        let wire = meeting.to_wire();
        assert!(bytes.starts_with(&wire), "{meeting:?}");
        assert!((0..wire.len()).all(|cut| Meeting::read(&bytes[..cut]).is_none()));
        assert_eq!(Meeting::read(&wire), Some(meeting));
    }
}
