//! JSON as a tree that keeps what `serde_json::Value` loses: keys that are given twice, and their order.
//! What the keys mean is in `keys`.

use super::hint;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use zeroize::Zeroizing;

/// The most characters of a value that a message repeats.
const SHOWN_MAX: usize = 40;

/// Any JSON value. Text is wiped when it is dropped: it may be a password.
pub(super) enum Value {
    /// null.
    Null,
    /// true or false.
    Bool(bool),
    /// Wide enough for every integer that JSON text gives.
    Integer(i128),
    /// A number that is no integer, or too large for one.
    Float(f64),
    /// A string.
    Text(Zeroizing<String>),
    /// An array; no key takes one.
    Array,
    /// The entries in the order of the file, repetitions included.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// What kind of value it is, for messages that must not show the value itself.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::Array => "an array",
            Value::Object(_) => "an object",
        }
    }
}

/// Displays the value as a message shows it: on one line, and only as much as a reader needs to find it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Value::Bool(b) => write!(f, "{b}"),
            Value::Integer(n) => write!(f, "{n}"),
            // Debug, since Display writes 1e300 with all its digits.
            Value::Float(x) => write!(f, "{x:?}"),
            Value::Text(text) => f.write_str(&quoted(text)),
            Value::Null | Value::Array | Value::Object(_) => f.write_str(self.kind()),
        }
    }
}

/// `text` in quotes, shortened, with everything escaped that could break the line.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Parses the whole of `text`; the error names the line, the column and the likely mistake.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let suffix = format!(" at line {line} column {column}");
        let what = error.to_string().replace(&suffix, "");
        let hint = hint::likely(text, &what, line, column);
        let (line, column) = hint::position(text, line, column);
        format!("line {line}, column {column}: not valid JSON: {what}{hint}")
    })
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(Zeroizing::new(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = items.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_keys_that_are_given_twice() {
        let Ok(Value::Object(entries)) = parse(r#"{"a": 1, "b": [1, {}], "a": null}"#) else {
            panic!("not an object");
        };
        let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "a"]);
    }

    #[test]
    fn a_value_is_shown_short_and_on_one_line() {
        assert_eq!(quoted("a\n\u{7}\"b"), r#""a\n\u{7}\"b""#);
        assert_eq!(quoted(&"é".repeat(40)), format!("\"{}\"", "é".repeat(40)));
        assert_eq!(
            quoted(&"é".repeat(41)),
            format!("\"{}\"...", "é".repeat(40))
        );
        assert_eq!(Value::Float(1e300).to_string(), "1e300");
    }

    #[test]
    fn hostile_nesting_is_an_error() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"{\"a\":".repeat(100_000)).is_err());
    }
}
