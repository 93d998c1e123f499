//! How text looks on a terminal: colour where there is one and nobody objects, and what fits into its window. What is printed
//! is up to the modules.

use anstyle::{AnsiColor, Style};
use std::io::{self, IsTerminal, Write};

/// What a line is to its reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    /// One among many.
    Plain,
    /// All is well.
    Good,
    /// It may be wrong, or soon right.
    Doubtful,
    /// Something is wrong.
    Bad,
    /// What is to be read first.
    Strong,
    /// For those who look for details.
    Faint,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Plain => Style::new(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Doubtful => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Strong => Style::new().bold(),
            Tone::Faint => Style::new().dimmed(),
        }
    }

    /// The text in this tone, if it is to be coloured.
    pub(crate) fn paint(self, text: &str, coloured: bool) -> String {
        match coloured && self != Tone::Plain {
            true => {
                let style = self.style();
                format!("{style}{text}{style:#}")
            }
            false => text.to_owned(),
        }
    }
}

/// A character in the place of one that a terminal would obey.
pub(crate) fn harmless(c: char) -> char {
    match c.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => c,
    }
}

/// Whether what is written to `stream` is to be coloured: it is a terminal that can, and NO_COLOR is not set
/// (<https://no-color.org/>).
pub(crate) fn is_coloured(stream: &impl IsTerminal) -> bool {
    let can = || {
        let enabled = anstyle_query::windows::enable_ansi_colors();
        enabled.unwrap_or_else(anstyle_query::term_supports_ansi_color)
    };
    stream.is_terminal() && !anstyle_query::no_color() && can()
}

/// Passes on what is written, each whole line in its tone.
pub(crate) struct Painter<'a> {
    out: &'a mut dyn Write,
    tone: fn(&str) -> Tone,
    line: Vec<u8>,
}

impl<'a> Painter<'a> {
    /// Nothing is written yet.
    pub(crate) fn new(out: &'a mut dyn Write, tone: fn(&str) -> Tone) -> Painter<'a> {
        let line = Vec::new();
        Painter { out, tone, line }
    }
}

impl Write for Painter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if let Some(line) = self.line.strip_suffix(b"\n") {
                let line = String::from_utf8_lossy(line);
                let painted = (self.tone)(&line).paint(&line, true);
                self.line.clear();
                writeln!(self.out, "{painted}")?;
            }
        }
        Ok(bytes.len())
    }

    /// An unfinished line is kept.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The columns and lines of the window that standard output is in. None: it is in none.
pub(crate) fn window() -> Option<(usize, usize)> {
    let (terminal_size::Width(columns), terminal_size::Height(lines)) =
        terminal_size::terminal_size()?;
    // a terminal that does not know says 0
    (columns > 0 && lines > 0).then_some((columns.into(), lines.into()))
}

/// Puts the cursor into the corner.
const HOME: &str = "\x1b[H";
/// Erases from the cursor to the end of its line.
const ERASE_LINE: &str = "\x1b[K";
/// Erases from the cursor to the end of the window.
const ERASE_BELOW: &str = "\x1b[J";

/// `text` over what the window shows, without a flicker: sentences are broken at words, lines of a table cut to the window's
/// columns, and lines that do not fit are left out with a last line that says so. `tone`: that of each line. The cursor stays behind the last line, where
/// the shell goes on once the program is interrupted.
pub(crate) fn redraw(
    text: &str,
    (columns, lines): (usize, usize),
    coloured: bool,
    tone: fn(&str) -> Tone,
) -> String {
    // the last line is for the cursor
    let room = lines.saturating_sub(1).max(1);
    // a full line would leave the cursor in a place that differs from terminal to terminal
    let width = columns.saturating_sub(1);
    let fitted: Vec<(String, Tone)> = text
        .lines()
        .flat_map(|line| {
            fit(line, width)
                .into_iter()
                .map(move |part| (part, tone(line)))
        })
        .collect();
    let all = fitted.len();
    let shown = if all > room { room - 1 } else { all };
    let mut out = String::from(HOME);
    let mut put = |line: &str, tone: Tone| {
        let cut: String = line.chars().take(width).collect();
        out.push_str(&tone.paint(&cut, coloured));
        out.push_str(ERASE_LINE);
        out.push_str("\r\n");
    };
    for (line, tone) in fitted.iter().take(shown) {
        put(line, *tone);
    }
    if all > shown {
        let left = all - shown;
        put(
            &format!("... {left} more lines: the window is too small"),
            Tone::Faint,
        );
    }
    out.push_str(ERASE_BELOW);
    out
}

/// A line in lines of at most `width` columns. One of a table, which has gaps between its columns, is cut instead, with a mark.
fn fit(line: &str, width: usize) -> Vec<String> {
    if line.chars().count() <= width {
        return vec![line.to_owned()];
    }
    if line.trim_start().contains("  ") {
        let kept: String = line.chars().take(width.saturating_sub(1)).collect();
        return vec![kept + "…"];
    }
    let mut parts = vec![String::new()];
    for word in line.split(' ') {
        let last = parts.last_mut().expect("never empty");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            parts.push(word.to_owned());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_to_be_coloured_is() {
        assert_eq!(Tone::Bad.paint("no", false), "no");
        assert_eq!(Tone::Plain.paint("so", true), "so");
        assert_eq!(Tone::Good.paint("yes", true), "\x1b[32myes\x1b[0m");
        let file = std::fs::File::open("Cargo.toml").expect("a file");
        assert!(!is_coloured(&file));
    }

    #[test]
    fn whole_lines_are_painted_however_they_are_written() {
        let mut out = Vec::new();
        let tone = |line: &str| match line {
            "bad" => Tone::Bad,
            _ => Tone::Plain,
        };
        let mut painter = Painter::new(&mut out, tone);
        for part in ["so\nb", "ad", "\nbad\n", "rest"] {
            painter.write_all(part.as_bytes()).expect("written");
        }
        let text = String::from_utf8(out).expect("text");
        let bad = Tone::Bad.paint("bad", true);
        assert_eq!(text, format!("so\n{bad}\n{bad}\n"));
    }

    fn drawn(text: &str, window: (usize, usize)) -> Vec<String> {
        let drawn = redraw(text, window, false, |_| Tone::Plain);
        let drawn = drawn.strip_prefix(HOME).expect("from the corner");
        let drawn = drawn.strip_suffix(ERASE_BELOW).expect("to the end");
        let lines = drawn.split_terminator("\r\n");
        let lines = lines.map(|line| line.strip_suffix(ERASE_LINE).expect("erased"));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn what_is_redrawn_fits_the_window() {
        assert_eq!(drawn("one\n\nthree\n", (80, 4)), ["one", "", "three"]);
        assert_eq!(drawn("äbcdef\n", (5, 4)), ["äbcd"]);
        assert_eq!(drawn("a  bcdef\n", (6, 4)), ["a  b…"]);
        assert_eq!(drawn("it goes on\n", (8, 4)), ["it goes", "on"]);
        let cut = drawn("1\n2\n3\n4\n", (80, 4));
        assert_eq!(cut, ["1", "2", "... 2 more lines: the window is too small"]);
        for window in [(1, 1), (1, 2), (0, 0), (3, 3)] {
            let lines = drawn("aaaa\nbbbb\ncccc\n", window);
            assert!(
                lines.len() <= window.1.saturating_sub(1).max(1),
                "{window:?}"
            );
            assert!(
                lines
                    .iter()
                    .all(|line| line.chars().count() < window.0.max(1)),
                "{window:?}"
            );
        }
    }
}
