//! The picture of the measurements: for each path a bar a program, its download and the ping beside it. Text in, text out.

use std::fmt::Write;

/// Heights and widths, pixels.
const BAR: usize = 9;
const GAP: usize = 10;
const TOP: usize = 78;
const LABELS: usize = 275;
const PANEL: usize = 250;
const BETWEEN: usize = 60;
const WIDTH: usize = LABELS + 2 * PANEL + 2 * BETWEEN;
/// The longest ping that has its place, ms; a longer bar is cut off there.
const PING_MAX: f64 = 500.0;

/// A program, as the table and the picture name it, and its colour.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("TCP bbr", "plain TCP (bbr)", "#9aa5b1"),
    ("Go kcptun", "Go's kcptun", "#e0b25c"),
    ("**kcptun**", "kcptun", "#2563a8"),
];

/// What was measured of one program on one path.
struct Row {
    program: String,
    /// Share of what the path can carry, percent.
    down: f64,
    /// Median round trip beside a download, ms.
    ping: f64,
}

struct Group {
    path: String,
    rows: Vec<Row>,
}

/// The number that a cell begins with.
fn number(cell: &str) -> f64 {
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let end = cell.find(|c| !digits(c)).unwrap_or(cell.len());
    cell[..end].parse().unwrap_or(0.0)
}

/// Reads the first table: path, program, down, up, sent per byte, ping, ping under load, and more.
fn groups(markdown: &str) -> Vec<Group> {
    let lines = markdown.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    let mut groups: Vec<Group> = Vec::new();
    for line in rows {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [path, program, down, _, _, _, load, ..] = cells[..] else {
            continue;
        };
        if !path.is_empty() {
            let (path, rows) = (path.to_owned(), Vec::new());
            groups.push(Group { path, rows });
        }
        let row = Row {
            program: program.to_owned(),
            down: number(down),
            ping: number(load),
        };
        if let Some(group) = groups.last_mut() {
            group.rows.push(row);
        }
    }
    groups
}

fn bar(out: &mut String, x: usize, y: usize, share: f64, color: &str, label: &str) {
    let width = (share.clamp(0.0, 1.0) * PANEL as f64).round() as usize;
    let _ = writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BAR}\" fill=\"{color}\"/>\
         <text x=\"{}\" y=\"{}\" font-size=\"9\">{label}</text>",
        x + width + 4,
        y + BAR - 1,
    );
}

/// The picture, from a page with the table.
pub fn svg(markdown: &str) -> String {
    let groups = groups(markdown);
    let bars: usize = groups.iter().map(|group| group.rows.len()).sum();
    let height = TOP + bars * BAR + groups.len() * GAP + 10;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (i, (_, name, color)) in PROGRAMS.iter().enumerate() {
        let x = 10 + i * 150;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"12\" width=\"12\" height=\"12\" fill=\"{color}\"/><text x=\"{}\" y=\"22\">{name}</text>",
            x + 18
        );
    }
    let second = LABELS + PANEL + BETWEEN;
    let _ = writeln!(
        out,
        "<text x=\"{LABELS}\" y=\"50\" font-weight=\"bold\">Download</text>\
         <text x=\"{LABELS}\" y=\"65\" font-size=\"10\">share of what the path can carry, %</text>\n\
         <text x=\"{second}\" y=\"50\" font-weight=\"bold\">Ping during the download</text>\
         <text x=\"{second}\" y=\"65\" font-size=\"10\">median round trip, ms</text>"
    );
    let mut y = TOP;
    for group in &groups {
        let middle = y + group.rows.len() * BAR / 2 + 4;
        let _ = writeln!(
            out,
            "<text x=\"10\" y=\"{middle}\" font-size=\"11\">{}</text>",
            group.path
        );
        for row in &group.rows {
            let program = PROGRAMS.iter().find(|(name, ..)| *name == row.program);
            let color = program.map_or("#222", |(.., color)| color);
            bar(
                &mut out,
                LABELS,
                y,
                row.down / 100.0,
                color,
                &format!("{}", row.down),
            );
            bar(
                &mut out,
                second,
                y,
                row.ping / PING_MAX,
                color,
                &format!("{}", row.ping),
            );
            y += BAR;
        }
        y += GAP;
    }
    out + "</svg>\n"
}
