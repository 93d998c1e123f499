//! The user that the daemon becomes after it has bound its sockets, as `-u` and the key `user` write it. Whether the user
//! exists is not checked here, but when it is needed.

use std::fmt;
use std::str::FromStr;

/// A user and, unless it is the user's own, a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// The user's name or number.
    pub user: String,
    /// The group's name or number. None: the user's own.
    pub group: Option<String>,
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<User, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control())
        };
        if !is_name(user) || !group.is_none_or(is_name) {
            return Err("it must be USER or USER:GROUP".into());
        }
        Ok(User {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group
            .iter()
            .try_for_each(|group| write!(f, ":{group}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_user_and_group() {
        for text in ["nobody", "nobody:nogroup", "1000", "1000:1000"] {
            assert_eq!(
                text.parse::<User>().map(|user| user.to_string()),
                Ok(text.into())
            );
        }
        for text in ["", ":", ":group", "user:", "a:b:c", "a b", "a\nb"] {
            assert!(text.parse::<User>().is_err(), "{text:?}");
        }
    }
}
