//! Where the log goes, as the key `log` writes it. What is written there is in `logging`.

use std::fmt;
use std::path::{PathBuf, is_separator};
use std::str::FromStr;

/// Where the log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Log {
    /// Standard error.
    Stderr,
    /// The system log.
    Syslog,
    /// This file, which is reopened on SIGHUP.
    File(PathBuf),
}

impl FromStr for Log {
    /// What would be right.
    type Err = &'static str;

    /// A file needs a `/`, so that a mistyped word is not taken for one.
    fn from_str(text: &str) -> Result<Log, &'static str> {
        match text {
            "stderr" => Ok(Log::Stderr),
            "syslog" => Ok(Log::Syslog),
            path if path.contains(is_separator)
                && !path.ends_with(is_separator)
                && !path.contains('\0') =>
            {
                Ok(Log::File(path.into()))
            }
            _ => Err("it must be \"stderr\", \"syslog\" or the path of a file, with a / in it"),
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Log::Stderr => f.write_str("standard error"),
            Log::Syslog => f.write_str("the system log"),
            Log::File(path) => write!(f, "{}", super::display_name(path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_paths() {
        assert_eq!("stderr".parse(), Ok(Log::Stderr));
        assert_eq!("syslog".parse(), Ok(Log::Syslog));
        for path in ["/var/log/kcptun.log", "./kcptun.log"] {
            assert_eq!(path.parse(), Ok(Log::File(path.into())));
        }
        for text in ["", "sylog", "kcptun.log", "/var/log/", "/a\0b"] {
            assert!(text.parse::<Log>().is_err(), "{text:?}");
        }
    }
}
