//! The likely mistake where a configuration is not JSON: those that people make by hand. Nothing of the text is repeated,
//! since it may hold a key.

/// Words for the end of a message, or none. `what` and the position, whose line and column count from 1, the latter in bytes,
/// are those of `serde_json`.
pub(super) fn likely(text: &str, what: &str, line: usize, column: usize) -> String {
    let at = offset(text, line, column);
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let next = after.chars().next();
    let hint = match what {
        _ if is_comment(next) || line_begins_a_comment(before, after) => {
            "write a comment as a key that begins with //: \"// why\": \"text\"".into()
        }
        "trailing comma" => format!("remove the comma {}", place(before, line)),
        "expected `,` or `}`" | "expected `,` or `]`" => between(before, next, line),
        "expected `:`" => "a colon belongs between a key and its value".into(),
        "key must be a string" | "expected value" => value(what, next),
        _ if what.starts_with("control character") => {
            "text ends on the line that it begins on: a closing quote is missing".into()
        }
        _ if what.starts_with("EOF while parsing a string") => "a closing quote is missing".into(),
        _ if what.starts_with("EOF") => {
            "the file ends too soon: a closing bracket is missing".into()
        }
        _ => return String::new(),
    };
    format!("; {hint}")
}

/// The line and column to name: `serde_json` reports an error at the end of a line as column 0 of the next one.
pub(super) fn position(text: &str, line: usize, column: usize) -> (usize, usize) {
    match (line, column) {
        (2.., 0) => (line - 1, text.lines().nth(line - 2).map_or(0, str::len) + 1),
        other => other,
    }
}

/// Bytes before the position.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let lines = text.split_inclusive('\n').take(line.saturating_sub(1));
    lines.map(str::len).sum::<usize>() + column.saturating_sub(1)
}

fn is_comment(next: Option<char>) -> bool {
    matches!(next, Some('/' | '#'))
}

fn line_begins_a_comment(before: &str, after: &str) -> bool {
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before[start..].trim_start();
    let line = if line.is_empty() { after } else { line };
    ["//", "/*", "#"].iter().any(|mark| line.starts_with(mark))
}

/// Where the text before the error ends.
fn place(before: &str, line: usize) -> String {
    let end = before.trim_end();
    match before[end.len()..].matches('\n').count() {
        0 => "before it".into(),
        lines => format!("at the end of line {}", line.saturating_sub(lines)),
    }
}

/// The hint where something other than a comma or a bracket follows a value.
fn between(before: &str, next: Option<char>, line: usize) -> String {
    match next {
        Some(';') => "entries are separated by commas".into(),
        _ if before.ends_with(char::is_whitespace) => {
            format!("a comma is missing {}", place(before, line))
        }
        _ => "there is a quote or a comma too few, or too many, on this line".into(),
    }
}

fn value(what: &str, next: Option<char>) -> String {
    match next {
        Some(',') => "there is a comma too many".into(),
        Some('\'' | '“' | '”' | '„' | '‘' | '’') => {
            "quotes are plain double ones: \"text\"".into()
        }
        _ if what == "expected value" => {
            "text must be in quotes, and true and false in lower case".into()
        }
        _ => "a key must be in quotes: \"key\"".into(),
    }
}
