//! The program: reads the command line and the configuration, and hands over to the library.

use kcptun::cli::{self, Command, Options};
use kcptun::config::{Config, ConfigError};
use kcptun::crypto::Key;
use kcptun::stats_command::{self, StatsError};
use kcptun::{event, logging};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Exit status where the program cannot run.
const CANNOT_RUN: u8 = 1;
/// Exit status for a wrong command line or configuration.
const WRONG_INPUT: u8 = 2;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Genpsk) => genpsk(),
        Ok(Command::ListMethods) => print(
            &cli::methods()
                .map(|name| format!("{name}\n"))
                .collect::<String>(),
        ),
        Ok(Command::Check(options)) => check(options),
        Ok(Command::Run(options)) => run(options),
        Ok(Command::Stats { file, watch }) => match stats_command::run(&file, watch) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error @ StatsError::Configuration(_)) => fail(WRONG_INPUT, &error.to_string()),
            Err(error) => fail(CANNOT_RUN, &error.to_string()),
        },
        Err(message) => fail(WRONG_INPUT, &message),
    }
}

fn genpsk() -> ExitCode {
    let key = zeroize::Zeroizing::new(Key::generate().to_base64() + "\n");
    print(&key)
}

fn load(options: &Options) -> Result<Config, ConfigError> {
    let mut config = Config::load(&options.file)?;
    config.loglevel = logging::adjusted(config.loglevel, options.verbose, options.silent);
    if let Some(user) = &options.user {
        config.user = Some(user.clone());
    }
    Ok(config)
}

fn check(options: Options) -> ExitCode {
    match load(&options) {
        Ok(config) => {
            let warnings: String = config
                .warnings
                .iter()
                .map(|warning| format!("warning:   {warning}\n"))
                .collect();
            print(&format!("{}{warnings}", config.describe()))
        }
        Err(error) => fail(WRONG_INPUT, &error.to_string()),
    }
}

fn run(options: Options) -> ExitCode {
    let config = match load(&options) {
        Ok(config) => config,
        Err(error) => return fail(WRONG_INPUT, &error.to_string()),
    };
    logging::init(config.loglevel);
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    match event::run((&config).into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(CANNOT_RUN, &error.to_string()),
    }
}

/// Prints to standard output. `print!` would panic where the reader is gone, as in `kcptun --help | head -1`.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(CANNOT_RUN),
        Err(error) => fail(CANNOT_RUN, &format!("standard output: {error}")),
    }
}

/// Errors go to standard error whatever the log's level: whoever started the program must see them.
fn fail(status: u8, message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "kcptun: {message}");
    ExitCode::from(status)
}
