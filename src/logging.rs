//! The log: which records are written, and how a line looks. What is logged is up to the modules.

use env_logger::Builder;
use log::{Level, LevelFilter};
use std::io::Write;

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

/// The configuration's `loglevel` after so many -v and -s, each of which moves it by one.
pub fn adjusted(loglevel: u8, verbose: u8, silent: u8) -> u8 {
    let number = i32::from(loglevel) - i32::from(verbose) + i32::from(silent);
    number.clamp(0, 6) as u8
}

/// Starts logging to standard error what `loglevel`, 0 to 6, asks for. RUST_LOG, where it is set, decides instead.
pub fn init(loglevel: u8) {
    let level = LEVELS[usize::from(loglevel).min(6)];
    let mut builder = Builder::new();
    match std::env::var("RUST_LOG") {
        Ok(filters) if !filters.trim().is_empty() => builder.parse_filters(&filters),
        // What other crates say below a warning is for those who work on them.
        _ => builder
            .filter_level(level.min(LevelFilter::Warn))
            .filter_module(env!("CARGO_CRATE_NAME"), level),
    };
    builder.format(|line, record| {
        let time = line.timestamp_millis();
        match record.level() {
            level @ (Level::Debug | Level::Trace) => {
                writeln!(
                    line,
                    "{time} {level:<5} [{}] {}",
                    record.target(),
                    record.args()
                )
            }
            level => writeln!(line, "{time} {level:<5} {}", record.args()),
        }
    });
    // Fails only where a test has started logging before.
    let _ = builder.try_init();
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
