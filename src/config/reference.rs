//! The reference of the keys, from their table: for a terminal (`kcptun help keys`), as the man page kcptun(5), and as the
//! Markdown page `examples/reference/keys.md`, which a test compares.

use super::key::{Key, Section};
use super::keys::KEYS;
use std::fmt::Write;

/// Columns that text for a terminal takes.
const WIDTH: usize = 78;

const SECTIONS: [(Section, &str); 6] = [
    (Section::Needed, "What you need"),
    (Section::Program, "The program"),
    (Section::Rate, "The rate"),
    (Section::Kcp, "KCP: mostly leave it alone"),
    (Section::Sockets, "Sockets"),
    (Section::Times, "Times"),
];

const INTRODUCTION: [&str; 4] = [
    "The configuration is a JSON object. A key with a dot is written in an object: `kcp.mtu` is \
     `\"kcp\": {\"mtu\": 1280}`. Keys that begin with `//` are comments. An unknown key, or a value \
     out of range, is an error that says what would be right; `kcptun --check -c FILE` names every mistake of a file.",
    "A server has `udp_bind` and `connect`, a peer `udp_connect` and `listen`. An end may have all four: then \
     both open sessions over one UDP socket. An end with `rendezvous_server` needs neither of the two UDP addresses; \
     one with `udp_bind` alone is a rendezvous server.",
    "An address is `host:port`, `[IPv6]:port` or, to bind, `:port`, which is every address of the machine, IPv6 and IPv4.",
    "SIGHUP has the file read again. What a reload takes within limits is said under \"Changes while it runs\" in the README.",
];

/// For a terminal.
pub fn text() -> String {
    let mut out = String::new();
    for paragraph in INTRODUCTION {
        wrap(&mut out, 0, &plain(paragraph));
        out.push('\n');
    }
    for (section, title) in SECTIONS {
        let _ = writeln!(out, "{}\n", title.to_uppercase());
        for key in keys(section) {
            let _ = writeln!(out, "  {}", names(key));
            wrap(&mut out, 6, &plain(&sentence(key.meaning)));
            wrap(&mut out, 6, &facts(key));
            out.push('\n');
        }
    }
    out
}

/// As a page for who reads in a browser.
pub fn markdown() -> String {
    let mut out = String::from(
        "# The keys of the configuration\n\nThis page is made from the program: `kcptun help keys` says the same.\n\n",
    );
    for paragraph in INTRODUCTION {
        let _ = writeln!(out, "{paragraph}\n");
    }
    for (section, title) in SECTIONS {
        let _ = writeln!(
            out,
            "## {title}\n\n| key | default | range | meaning, and when to touch it | on reload |\n|---|---|---|---|---|"
        );
        for key in keys(section) {
            let alias = key.alias.map(|alias| format!(" (`{alias}`)"));
            let _ = writeln!(
                out,
                "| `{}`{} | {} | {} | {} | {} |",
                key.name,
                alias.unwrap_or_default(),
                key.default,
                key.range(),
                key.meaning,
                key.on_reload(),
            );
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

/// As the man page kcptun(5).
pub fn man_page() -> String {
    let mut out = String::from(
        ".TH KCPTUN 5\n.SH NAME\nkcptun \\- configuration of kcptun(1)\n.SH DESCRIPTION\n",
    );
    for paragraph in INTRODUCTION {
        let _ = writeln!(out, "{}\n.PP", escaped(&plain(paragraph)));
    }
    for (section, title) in SECTIONS {
        let _ = writeln!(out, ".SH {}", title.to_uppercase());
        for key in keys(section) {
            let (meaning, facts) = (sentence(key.meaning), facts(key));
            let _ = writeln!(out, ".TP\n.B {}", escaped(&names(key)));
            let _ = writeln!(
                out,
                "{}\n.br\n{}",
                escaped(&plain(&meaning)),
                escaped(&facts)
            );
        }
    }
    out.push_str(".SH SEE ALSO\n.BR kcptun (1)\n");
    out
}

fn keys(section: Section) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

fn names(key: &Key) -> String {
    match key.alias {
        Some(alias) => format!("{}, {alias}", key.name),
        None => key.name.to_owned(),
    }
}

/// Range, default, and what a reload does.
fn facts(key: &Key) -> String {
    let (range, default) = (key.range(), key.default);
    format!("[{range}; default {default}; {}]", key.on_reload())
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| match text.starts_with('`') {
        true => first.to_string(),
        false => first.to_uppercase().to_string(),
    });
    first.unwrap_or_default() + letters.as_str() + "."
}

/// Without the marks around names.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

/// For roff: a backslash, a hyphen that is one, and a line that begins like a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
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

    #[test]
    fn every_key_is_in_every_form() {
        let forms = [text(), markdown(), man_page()];
        for key in KEYS {
            let [text, markdown, man] = &forms;
            assert!(
                text.contains(&format!("\n  {}\n", names(key))),
                "{}",
                key.name
            );
            assert!(
                markdown.contains(&format!("\n| `{}`", key.name)),
                "{}",
                key.name
            );
            assert!(
                man.contains(&format!("\n.B {}\n", escaped(&names(key)))),
                "{}",
                key.name
            );
        }
        assert!(forms[0].lines().all(|line| line.chars().count() <= WIDTH));
    }
}
