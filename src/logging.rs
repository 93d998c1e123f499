//! The log: which records are written, where to, and how a line looks. What is logged is up to the modules.

mod file;

use crate::config::{Log, User};
use crate::platform::{FACILITY, Syslog, is_journal};
use crate::terminal::{self, Tone};
use env_logger::fmt::Formatter;
use env_logger::{Builder, Target};
use file::LogFile;
use log::{Level, LevelFilter, Record};
use std::io::{self, Write};
use std::sync::OnceLock;

/// The configuration's numbers for levels; 5 is kcptun-libev's "fatal", which `log` does not have.
const LEVELS: [LevelFilter; 7] = [
    LevelFilter::Trace,
    LevelFilter::Debug,
    LevelFilter::Info,
    LevelFilter::Warn,
    LevelFilter::Error,
    LevelFilter::Error,
    LevelFilter::Off,
];

/// The file that is logged to, if it is one.
static FILE: OnceLock<LogFile> = OnceLock::new();

/// The configuration's `loglevel` as changed by this many -v and -s, each of which moves it by one.
pub fn adjusted(loglevel: u8, verbose: u8, silent: u8) -> u8 {
    let number = i32::from(loglevel) - i32::from(verbose) + i32::from(silent);
    number.clamp(0, 6) as u8
}

/// What RUST_LOG asks for, if it does.
fn filters() -> Option<String> {
    let filters = std::env::var("RUST_LOG").ok()?;
    (!filters.trim().is_empty()).then_some(filters)
}

/// Starts logging what `loglevel`, 0 to 6, asks for. RUST_LOG, where it is set, decides instead. Fails if the file
/// cannot be opened, which is done as `user` where root is to become that one. If there is no system log yet, this is reported on standard error, and every line looks for it again.
pub fn init(log: &Log, loglevel: u8, user: Option<&User>) -> io::Result<()> {
    let mut builder = Builder::new();
    let style = match log {
        Log::Stderr if is_journal() => Style::Journal,
        Log::Stderr => Style::Timed {
            coloured: terminal::is_coloured(&io::stderr()),
        },
        Log::Syslog => {
            let (syslog, connected) = Syslog::open();
            if let Err(error) = connected {
                // Whoever starts the program in the foreground can do something about it.
                let _ = writeln!(
                    io::stderr(),
                    "kcptun: log: no system log yet ({error}): nothing is logged until there is one; \"log\": \"/path/of/a/file\" logs to a file"
                );
            }
            builder.target(Target::Pipe(Box::new(syslog)));
            Style::Syslog
        }
        Log::File(path) => {
            let file = LogFile::open(path, user)?;
            let _ = FILE.set(file.clone());
            builder.target(Target::Pipe(Box::new(file)));
            Style::Timed { coloured: false }
        }
    };
    let filters = filters();
    match &filters {
        Some(filters) => builder.parse_filters(filters),
        // What other crates say below a warning is for those who work on them. `set_level` decides about our own.
        None => builder
            .filter_level(LevelFilter::Warn)
            .filter_module(env!("CARGO_CRATE_NAME"), LevelFilter::Trace),
    };
    builder.format(move |line, record| style.write(line, record));
    // Fails only where a test has started logging before.
    let _ = builder.try_init();
    set_level(loglevel);
    Ok(())
}

/// From now on, what `loglevel` asks for is logged. RUST_LOG, where it is set, decides instead.
pub fn set_level(loglevel: u8) {
    if filters().is_none() {
        log::set_max_level(LEVELS[usize::from(loglevel).min(6)]);
    }
}

/// Reopens the log, if it is a file: it may have been moved away. On an error the old file stays in use.
pub fn reopen() -> io::Result<()> {
    FILE.get().map_or(Ok(()), LogFile::reopen)
}

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    /// The time, the level and what is said; the level in colour, if it is for a person's eyes.
    Timed { coloured: bool },
    /// The priority in the journal's way; the journal knows the time (sd-daemon(3)).
    Journal,
    /// The priority and who says it; the system log adds the time.
    Syslog,
}

impl Style {
    fn write(self, line: &mut Formatter, record: &Record) -> io::Result<()> {
        let priority = priority(record.level());
        match self {
            Style::Timed { coloured } => {
                let time = line.timestamp_millis();
                let level = format!("{:<5}", record.level());
                let level = tone(record.level()).paint(&level, coloured);
                write!(line, "{time} {level} ")?;
            }
            Style::Journal => write!(line, "<{priority}>")?,
            Style::Syslog => {
                let pid = std::process::id();
                write!(line, "<{}>kcptun[{pid}]: ", FACILITY | priority)?;
            }
        }
        if record.level() > Level::Info {
            write!(line, "[{}] ", record.target())?;
        }
        writeln!(line, "{}", record.args())
    }
}

fn tone(level: Level) -> Tone {
    match level {
        Level::Error => Tone::Bad,
        Level::Warn => Tone::Doubtful,
        Level::Info => Tone::Good,
        Level::Debug | Level::Trace => Tone::Faint,
    }
}

/// The severity of RFC 5424, table 2.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// The prefix of an error that goes to standard error beside the log: the journal wants a priority and knows the program's
/// name.
pub fn error_prefix() -> String {
    match is_journal() {
        true => format!("<{}>", priority(Level::Error)),
        false => "kcptun: ".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v_and_s_move_the_level_and_stop_at_the_ends() {
        for (loglevel, verbose, silent, expected) in [
            (2, 0, 0, 2),
            (2, 1, 0, 1),
            (2, 255, 0, 0),
            (2, 0, 1, 3),
            (6, 0, 255, 6),
            (6, 1, 0, 5),
            (0, 3, 3, 0),
            (0, 0, 255, 6),
        ] {
            assert_eq!(
                adjusted(loglevel, verbose, silent),
                expected,
                "{loglevel} -v{verbose} -s{silent}"
            );
        }
    }
}
