//! A page of the reference, and its three forms: text for a terminal, roff for a man page, Markdown for a browser. What the
//! pages say is elsewhere.

use std::fmt::Write;

/// Columns that text for a terminal takes at most.
const WIDTH: usize = 78;

/// A page. Names of keys, values and commands stand in backquotes, in all of its text.
pub struct Page {
    /// Its name as a topic of `kcptun help`, and as a file.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it says, in order.
    pub blocks: Vec<Block>,
}

/// A part of a page.
pub enum Block {
    /// A heading.
    Heading(&'static str),
    /// A paragraph.
    Text(String),
    /// Lines that are shown as they stand.
    Code(&'static str),
    /// A table.
    Table(Table),
}

/// A table. A terminal and a man page show it as a list: the first cell of a row is the term, `main` its explanation, and the
/// other cells follow in brackets.
pub struct Table {
    /// The columns' names.
    pub head: &'static [&'static str],
    /// The column that explains the first.
    pub main: usize,
    /// As many cells a row as there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Block {
    /// A paragraph.
    pub fn text(text: &str) -> Block {
        Block::Text(text.to_owned())
    }

    /// A table of two columns.
    pub fn pairs(head: &'static [&'static str; 2], rows: &[(&str, &str)]) -> Block {
        let row = |(term, text): &(&str, &str)| vec![(*term).to_owned(), (*text).to_owned()];
        Block::Table(Table {
            head,
            main: 1,
            rows: rows.iter().map(row).collect(),
        })
    }
}

impl Table {
    /// What a list says of a row after its term: the explanation, and the other cells that are not empty.
    fn explained(&self, row: &[String]) -> [String; 2] {
        let cell = |at: usize| row.get(at).map_or("", String::as_str);
        let others = self.head.iter().enumerate();
        let others = others.filter(|(at, _)| *at != 0 && *at != self.main && !cell(*at).is_empty());
        let others: Vec<String> = others
            .map(|(at, name)| format!("{name}: {}", cell(at)))
            .collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!("[{}]", others.join("; ")),
        };
        [cell(self.main).to_owned(), others]
    }
}

impl Page {
    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for block in &self.blocks {
            match block {
                Block::Heading(heading) => {
                    let _ = writeln!(out, "{}\n", heading.to_uppercase());
                }
                Block::Text(text) => {
                    wrap(&mut out, 0, &plain(text));
                    out.push('\n');
                }
                Block::Code(lines) => {
                    for line in lines.lines() {
                        let _ = writeln!(out, "    {line}");
                    }
                    out.push('\n');
                }
                Block::Table(table) => list(&mut out, table),
            }
        }
        out
    }

    /// For a browser.
    pub fn markdown(&self) -> String {
        let (title, name) = (self.title, self.name);
        let mut out = format!(
            "# {title}\n\nThe program makes this page; `kcptun help {name}` prints the same.\n\n"
        );
        for block in &self.blocks {
            let _ = match block {
                Block::Heading(heading) => writeln!(out, "## {heading}\n"),
                Block::Text(text) => writeln!(out, "{text}\n"),
                Block::Code(lines) => {
                    let language = if lines.starts_with('{') { "json" } else { "sh" };
                    writeln!(out, "```{language}\n{lines}\n```\n")
                }
                Block::Table(table) => writeln!(out, "{}", grid(table)),
            };
        }
        out.truncate(out.trim_end().len());
        out + "\n"
    }

    /// As sections of a man page, without its heading.
    pub fn roff(&self) -> String {
        let mut out = String::new();
        if !matches!(self.blocks.first(), Some(Block::Heading(_))) {
            let _ = writeln!(out, ".SH {}", self.title.to_uppercase());
        }
        for block in &self.blocks {
            let _ = match block {
                Block::Heading(heading) => writeln!(out, ".SH {}", heading.to_uppercase()),
                Block::Text(text) => writeln!(out, "{}\n.PP", escaped(&plain(text))),
                Block::Code(lines) => writeln!(out, ".nf\n.RS\n{}\n.RE\n.fi\n.PP", escaped(lines)),
                Block::Table(table) => {
                    for row in &table.rows {
                        let [text, others] = table.explained(row).map(|t| escaped(&plain(&t)));
                        let _ = writeln!(out, ".TP\n.B {}\n{text}", escaped(&plain(&row[0])));
                        if !others.is_empty() {
                            let _ = writeln!(out, ".br\n{others}");
                        }
                    }
                    writeln!(out, ".PP")
                }
            };
        }
        out
    }
}

fn list(out: &mut String, table: &Table) {
    for row in &table.rows {
        wrap(out, 2, &plain(&row[0]));
        for text in table.explained(row) {
            if !text.is_empty() {
                wrap(out, 6, &plain(&text));
            }
        }
        out.push('\n');
    }
}

fn grid(table: &Table) -> String {
    let head = table.head.join(" | ");
    let mut out = format!("| {head} |\n|{}\n", "---|".repeat(table.head.len()));
    for row in &table.rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out
}

/// Without the marks around names.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

/// For roff: a backslash, a hyphen that is one, and lines that begin like a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let line = |line: &str| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Adds `text` in lines that begin with so many spaces.
fn wrap(out: &mut String, indent: usize, text: &str) {
    let mut used = 0;
    for word in text.split_whitespace() {
        if used > 0 && used + 1 + word.chars().count() > WIDTH {
            out.push('\n');
            used = 0;
        }
        if used == 0 {
            out.extend(std::iter::repeat_n(' ', indent));
            used = indent;
        } else {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += word.chars().count();
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            name: "test",
            title: "A test",
            blocks: vec![
                Block::text("A `key` is -5."),
                Block::Table(Table {
                    head: &["key", "default", "meaning"],
                    main: 2,
                    rows: vec![
                        vec!["`a`".into(), "1".into(), "first".into()],
                        vec!["`b`".into(), String::new(), ".second".into()],
                    ],
                }),
            ],
        }
    }

    #[test]
    fn a_table_is_a_list_in_a_terminal() {
        let text = "A key is -5.\n\n  a\n      first\n      [default: 1]\n\n  b\n      .second\n\n";
        assert_eq!(page().text(), text);
    }

    #[test]
    fn a_man_page_escapes_what_roff_would_read() {
        let roff = page().roff();
        assert!(roff.starts_with(".SH A TEST\nA key is \\-5.\n"), "{roff}");
        assert!(roff.contains(".TP\n.B b\n\\&.second\n"), "{roff}");
    }

    #[test]
    fn a_page_is_a_table_in_a_browser() {
        let markdown = page().markdown();
        assert!(
            markdown.ends_with(
                "| key | default | meaning |\n|---|---|---|\n| `a` | 1 | first |\n| `b` |  | .second |\n"
            ),
            "{markdown}"
        );
    }
}
