//! What an error of the system means, in words.

use std::io;

/// What `error` means, in words for the end of a sentence.
pub(crate) fn reason(error: &io::Error) -> String {
    if let Some(text) = error.raw_os_error().and_then(super::system::words) {
        return text.into();
    }
    let mut text = error.to_string();
    if let Some(at) = text.find(" (os error") {
        text.truncate(at);
    }
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    let text = text.trim_end_matches('.');
    // where it has no description
    let text = text.replace("OS Error", "error");
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "unknown error".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn reasons_end_a_sentence() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let taken = TcpListener::bind(listener.local_addr().expect("address"));
        assert_eq!(reason(&taken.expect_err("taken")), "the port is taken");
        let denied = io::ErrorKind::PermissionDenied.into();
        assert_eq!(reason(&denied), "permission denied");
        let lookup =
            io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(reason(&lookup), "name or service not known");
        let sentence = io::Error::other("The system cannot find the file.");
        assert_eq!(reason(&sentence), "the system cannot find the file");
    }
}
