//! The command line: its options, and one line that says what is wrong with it. What is then done is in `main`.

use crate::config::{DEFAULT_METHOD, User, method_names};
use crate::crypto::Method;
use crate::init;
use crate::platform::{self, ServiceTask};
use crate::reference::{Topic, UNITS, unit};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// What the user asks for.
#[derive(Debug)]
pub enum Command {
    /// Print this text: help, the version, or the reference.
    Print(String),
    /// Nothing: say in a few lines what there is.
    Overview,
    /// Print a new key.
    Genpsk,
    /// Print the names of the methods.
    ListMethods,
    /// Say what the program would do with the configuration.
    Check(Options),
    /// Run with the configuration until a signal to stop.
    Run(Options),
    /// Make the files of a new tunnel, or of one more peer.
    Init(init::Request),
    /// Show the statistics of a running daemon.
    Stats {
        /// The daemon's configuration.
        file: PathBuf,
        /// Whether to repeat it every second.
        watch: bool,
    },
    /// Have a running daemon read its configuration again.
    Reload {
        /// The daemon's configuration.
        file: PathBuf,
    },
    /// Do something with the service that runs with a configuration.
    Service {
        /// What.
        task: ServiceTask,
        /// The service's configuration.
        file: PathBuf,
    },
    /// Run as the service that the system has started.
    Serve(Options),
    /// Ping the other end.
    Ping {
        /// The configuration of this end.
        file: PathBuf,
        /// The number of pings; None: without end.
        count: Option<u64>,
        /// The time from one ping to the next.
        interval: Duration,
    },
}

/// What the command line adds to a configuration.
#[derive(Debug)]
pub struct Options {
    /// The configuration.
    pub file: PathBuf,
    /// How often -v was given: each raises the log by a level.
    pub verbose: u8,
    /// How often -s was given: each lowers the log by a level.
    pub silent: u8,
    /// The user to become, instead of the configuration's.
    pub user: Option<User>,
    /// Whether to go into the background.
    pub daemonize: bool,
}

impl Options {
    /// A configuration as it is.
    pub fn of(file: PathBuf) -> Options {
        Options {
            file,
            verbose: 0,
            silent: 0,
            user: None,
            daemonize: false,
        }
    }
}

/// What the help ends with.
const EXAMPLES: &str = "\
Examples:
  kcptun init                    make a tunnel: a key and both files, and what to do with them
  kcptun --check -c server.json  check a configuration and say what it would do
  kcptun -c server.json          run one end here, and on the other machine:
  kcptun -c peer.json
  kcptun stats -c peer.json      show what the tunnel does and what limits it
  kcptun ping -c peer.json       does the other end answer, and if not, why?
  kcptun help keys               what can be configured; also help options, changes,
                                 statistics, migration, nat, security, deploy

If RUST_LOG is set, it decides what is logged: RUST_LOG=debug kcptun -c peer.json";

/// What there is, for who gives no argument.
pub const OVERVIEW: &str = concat!(
    "kcptun ",
    env!("CARGO_PKG_VERSION"),
    " carries TCP connections over a long or lossy path as encrypted UDP packets.

  kcptun init                    make a tunnel: it asks three questions, and says what to do
  kcptun -c server.json          run one end, and on the other machine the other: -c peer.json
  kcptun --check -c server.json  is this configuration right, and what would it do?
  kcptun ping -c peer.json       does the other end answer, and if not, why?
  kcptun stats -c peer.json      what the tunnel does, and what limits it
  kcptun --genpsk                make a key
  kcptun help                    all options, and pages about keys, nat, security and more
"
);

/// The subcommands.
#[derive(Subcommand)]
enum Task {
    /// Make a key and the files of a tunnel, server.json and peer.json, and say what to do with them; it asks for what is missing
    Init {
        /// The server's name or address, with its UDP port if not 27290
        #[arg(value_name = "[USER@]HOST[:PORT]")]
        server: Option<String>,

        /// The TCP service, as the server reaches it; a port alone is one of the server itself
        #[arg(long, value_name = "[HOST:]PORT")]
        connect: Option<String>,

        /// Where programs connect to, at the other machine; a port alone is for programs of that machine
        #[arg(long, value_name = "[HOST:]PORT")]
        listen: Option<String>,

        /// Make the file of one more peer of the server with this configuration
        #[arg(long, value_name = "FILE")]
        peer: Option<PathBuf>,

        /// Write into this directory instead of the current one
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Show what a running tunnel does; its configuration needs http_listen
    Stats {
        /// The configuration of the daemon
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,

        /// Repeat every second until interrupted
        #[arg(short, long)]
        watch: bool,
    },
    /// Have a running kcptun read its configuration again
    Reload {
        /// The configuration that it runs with
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run a configuration as a service of Windows, from its start to its end
    #[command(hide = !platform::service::IS_HERE)]
    Service {
        /// What to do with the service
        action: Action,

        /// The configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Ping the other end and say why it does not answer; the exit status is 0 if it does, 1 if not
    Ping {
        /// The configuration of this end
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,

        /// Stop after this many pings
        #[arg(short = 'n', long, value_name = "COUNT", value_parser = count)]
        count: Option<u64>,

        /// The time from one ping to the next
        #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
        interval: Duration,
    },
    /// Print this help, that of a command, a page of the reference, or a unit for systemd
    Help {
        /// What to explain
        #[arg(value_parser = subjects())]
        topic: Option<Subject>,
    },
}

/// The subcommands that have a help of their own.
const TASKS: [&str; 4] = ["init", "stats", "ping", "reload"];

/// What `kcptun help` explains.
#[derive(Clone)]
enum Subject {
    /// A page of the reference.
    Page(Topic),
    /// A subcommand of this name.
    Task(String),
    /// Not explained but printed: the text of a unit for systemd.
    Unit(&'static str),
}

fn subjects() -> impl TypedValueParser<Value = Subject> {
    let topics = Topic::all().iter().filter_map(ValueEnum::to_possible_value);
    let units = UNITS.map(|(name, _)| name);
    let others = TASKS.into_iter().chain(units).map(PossibleValue::new);
    PossibleValuesParser::new(topics.chain(others)).map(
        |name| match <Topic as ValueEnum>::from_str(&name, false) {
            Ok(topic) => Subject::Page(topic),
            Err(_) => match unit(&name) {
                Some(unit) => Subject::Unit(unit),
                None => Subject::Task(name),
            },
        },
    )
}

/// What can be done with a service.
#[derive(Clone, Copy, ValueEnum)]
enum Action {
    /// Have Windows run it from now on, at every start
    Install,
    /// Stop it and have Windows forget it
    Uninstall,
    /// Start it
    Start,
    /// Stop it
    Stop,
    #[value(hide = true)]
    Run,
}

impl Action {
    fn command(self, file: PathBuf) -> Command {
        let task = match self {
            Action::Install => ServiceTask::Install,
            Action::Uninstall => ServiceTask::Uninstall,
            Action::Start => ServiceTask::Start,
            Action::Stop => ServiceTask::Stop,
            Action::Run => return Command::Serve(Options::of(file)),
        };
        Command::Service { task, file }
    }
}

/// The shortest and the longest time from one ping to the next, seconds. More pings would disturb what they measure.
const INTERVALS: RangeInclusive<f64> = 0.2..=3600.0;

fn count(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "it must be a number, 1 or more".into())
}

fn interval(text: &str) -> Result<Duration, String> {
    let (least, most) = (INTERVALS.start(), INTERVALS.end());
    text.parse()
        .ok()
        .filter(|seconds| INTERVALS.contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("it must be {least} to {most} seconds"))
}

#[derive(Parser)]
#[command(name = "kcptun", version, about, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,

    /// Run with this configuration until SIGTERM or SIGINT
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Check the configuration, say what the program would do, and exit
    #[arg(long)]
    check: bool,

    /// Print a new key for METHOD in base64 and exit
    #[arg(long, value_name = "METHOD", num_args = 0..=1)]
    genpsk: Option<Option<String>>,

    /// Print the methods that seal packets, the default first, and exit
    #[arg(long)]
    list_methods: bool,

    /// Log more; can be repeated
    #[arg(short, action = ArgAction::Count)]
    verbose: u8,

    /// Log less; can be repeated
    #[arg(short, action = ArgAction::Count)]
    silent: u8,

    /// Drop privileges to this user and group once the sockets are bound
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<User>,

    /// Go into the background once the sockets are bound, and log to the system log
    #[arg(short, long)]
    daemonize: bool,
}

/// The definition of the command line, for the man page and for shell completions.
pub fn command() -> clap::Command {
    let mut command = Arguments::command();
    command.build();
    command
}

/// Parses a command line, whose first word is the program's name. The error is one line.
pub fn parse<I>(words: I) -> Result<Command, String>
where
    I: IntoIterator<Item = OsString>,
{
    let words: Vec<OsString> = words.into_iter().collect();
    if words.len() < 2 {
        return Ok(Command::Overview);
    }
    match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments.into_command(),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(Command::Print(error.to_string()))
            }
            _ => Err(one_line(&error)),
        },
    }
}

impl Arguments {
    fn into_command(self) -> Result<Command, String> {
        if let Some(task) = self.task {
            return Ok(task.into());
        }
        let asked = [self.genpsk.is_some(), self.list_methods, self.check];
        if asked.into_iter().filter(|asked| *asked).count() > 1 {
            return Err("--genpsk, --list-methods and --check exclude each other".into());
        }
        let alone = self.genpsk.is_some() || self.list_methods;
        if alone && (self.config.is_some() || self.user.is_some() || self.daemonize) {
            return Err("--genpsk and --list-methods take no other option".into());
        }
        if self.list_methods {
            return Ok(Command::ListMethods);
        }
        if let Some(method) = self.genpsk {
            return genpsk(method.as_deref());
        }
        let Some(file) = self.config else {
            return Err(if self.check {
                "--check needs a configuration: kcptun --check -c FILE".into()
            } else {
                "needs a configuration: kcptun -c FILE; see kcptun --help".into()
            });
        };
        let options = Options {
            file,
            verbose: self.verbose,
            silent: self.silent,
            user: self.user,
            daemonize: self.daemonize,
        };
        Ok(if self.check {
            Command::Check(options)
        } else {
            Command::Run(options)
        })
    }
}

impl From<Task> for Command {
    fn from(task: Task) -> Command {
        match task {
            Task::Init {
                server,
                connect,
                listen,
                peer,
                directory,
            } => Command::Init(init::Request {
                server,
                connect,
                listen,
                peer,
                directory,
            }),
            Task::Stats { config, watch } => Command::Stats {
                file: config,
                watch,
            },
            Task::Reload { config } => Command::Reload { file: config },
            Task::Service { action, config } => action.command(config),
            Task::Ping {
                config,
                count,
                interval,
            } => Command::Ping {
                file: config,
                count,
                interval,
            },
            Task::Help { topic: None } => {
                Command::Print(Arguments::command().render_help().to_string())
            }
            Task::Help {
                topic: Some(Subject::Page(topic)),
            } => Command::Print(topic.page(&command()).text()),
            Task::Help {
                topic: Some(Subject::Task(name)),
            } => Command::Print(help_of(&name)),
            Task::Help {
                topic: Some(Subject::Unit(text)),
            } => Command::Print(text.into()),
        }
    }
}

/// The help of a subcommand.
fn help_of(name: &str) -> String {
    let mut command = command();
    let task = command.find_subcommand_mut(name);
    task.map_or_else(String::new, |task| task.render_help().to_string())
}

/// Every method takes the same keys, but whoever names one wants to know whether it exists.
fn genpsk(method: Option<&str>) -> Result<Command, String> {
    match method.map(str::parse::<Method>) {
        None | Some(Ok(_)) => Ok(Command::Genpsk),
        Some(Err(_)) => Err(format!(
            "--genpsk: {:?} is not a method; it must be one of {}",
            method.unwrap_or_default(),
            method_names()
        )),
    }
}

/// The names of the methods, the default one first.
pub fn methods() -> impl Iterator<Item = &'static str> {
    let others = Method::ALL
        .into_iter()
        .filter(|method| *method != DEFAULT_METHOD);
    std::iter::once(DEFAULT_METHOD)
        .chain(others)
        .map(Method::name)
}

/// The part of clap's message that says what is wrong, without the usage and the tips that follow.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line: String = line
        .strip_prefix("error: ")
        .unwrap_or(line)
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    if let Some(word) = error.get(ContextKind::InvalidSubcommand) {
        return format!(
            "unexpected argument '{word}' found; is it the configuration? kcptun -c {word}"
        );
    }
    if let Some(missing) = missing(error) {
        return missing;
    }
    let file = error
        .get(ContextKind::InvalidArg)
        .map(|word| word.to_string())
        .filter(|word| !word.starts_with('-'));
    match (error.kind(), file) {
        (ErrorKind::UnknownArgument, Some(file)) => {
            format!("{line}; is it the configuration? kcptun -c {file}")
        }
        (ErrorKind::InvalidValue, _) if !known_values(error).is_empty() => {
            format!("{line}; it must be one of {}", known_values(error))
        }
        _ => format!("{line}; see kcptun --help"),
    }
}

/// The values that would be right, where they are a list.
fn known_values(error: &clap::Error) -> String {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => values.join(", "),
        _ => String::new(),
    }
}

/// The message for a subcommand without its configuration, which clap names in further lines only.
fn missing(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::MissingRequiredArgument {
        return None;
    }
    let usage = error.get(ContextKind::Usage)?.to_string();
    let definition = command();
    let task = definition
        .get_subcommands()
        .find(|task| usage.split_whitespace().any(|word| word == task.get_name()))?;
    let config = task.get_arguments().find(|a| a.get_id() == "config")?;
    let (name, help) = (task.get_name(), config.get_help()?.to_string());
    let (first, rest) = help.split_at_checked(1)?;
    let help = first.to_lowercase() + rest;
    Some(format!(
        "{name}: -c FILE is missing: {help}; see kcptun {name} --help"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Command, String> {
        parse(
            ["kcptun"]
                .into_iter()
                .chain(words.split_whitespace())
                .map(OsString::from),
        )
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn good_command_lines() {
        let Ok(Command::Run(options)) = parse_words("-c a.json -vv -s -v -d -u nobody:nogroup")
        else {
            panic!("does not run");
        };
        assert_eq!(
            (options.file.to_str(), options.verbose, options.silent),
            (Some("a.json"), 3, 1)
        );
        assert_eq!(
            options.user.map(|user| user.to_string()).as_deref(),
            Some("nobody:nogroup")
        );
        assert!(options.daemonize);
        assert!(matches!(
            parse_words("--config a --check"),
            Ok(Command::Check(_))
        ));
        assert!(matches!(parse_words("--genpsk"), Ok(Command::Genpsk)));
        assert!(matches!(
            parse_words("stats -c a.json"),
            Ok(Command::Stats { watch: false, .. })
        ));
        assert!(matches!(
            parse_words("stats --watch -c a.json"),
            Ok(Command::Stats { watch: true, .. })
        ));
        assert!(matches!(
            parse_words("ping -c a.json"),
            Ok(Command::Ping { count: None, interval, .. }) if interval == Duration::from_secs(1)
        ));
        assert!(matches!(
            parse_words("ping -c a.json -n 3 -i 0.2"),
            Ok(Command::Ping { count: Some(3), interval, .. }) if interval == Duration::from_millis(200)
        ));
        assert!(matches!(
            parse_words("--genpsk aes256gcm"),
            Ok(Command::Genpsk)
        ));
        assert!(matches!(
            parse_words("--list-methods"),
            Ok(Command::ListMethods)
        ));
        assert!(matches!(parse_words(""), Ok(Command::Overview)));
        assert_eq!(OVERVIEW.lines().count(), 9);
        for task in TASKS {
            let begins = |text: &str| text.contains(&format!("Usage: kcptun {task} "));
            let Ok(Command::Print(help)) = parse_words(&format!("help {task}")) else {
                panic!("no help");
            };
            assert!(begins(&help), "{help}");
        }
        for help in ["-h", "--help", "--version", "-V"] {
            assert!(
                matches!(parse_words(help), Ok(Command::Print(text)) if text.starts_with(if help.ends_with(['h', 'p']) { "Carries" } else { "kcptun " }))
            );
        }
    }

    /// Wrong command lines and their messages.
    const WRONG: [(&str, &str); 17] = [
        (
            "help pong",
            "invalid value 'pong' for '[TOPIC]'; it must be one of keys, options, changes, statistics, migration, nat, security, \
                 deploy, init, stats, ping, reload, kcptun-server.service, kcptun-peer.service",
        ),
        (
            "-v",
            "needs a configuration: kcptun -c FILE; see kcptun --help",
        ),
        (
            "--check",
            "--check needs a configuration: kcptun --check -c FILE",
        ),
        (
            "server.json",
            "unexpected argument 'server.json' found; is it the configuration? kcptun -c server.json",
        ),
        (
            "--cehck",
            "unexpected argument '--cehck' found; see kcptun --help",
        ),
        (
            "-c",
            "a value is required for '--config <FILE>' but none was supplied; see kcptun --help",
        ),
        (
            "-c a -c b",
            "the argument '--config <FILE>' cannot be used multiple times; see kcptun --help",
        ),
        (
            "-c a -u a:b:c",
            "invalid value 'a:b:c' for '--user <USER[:GROUP]>': it must be USER or USER:GROUP; see kcptun --help",
        ),
        (
            "stats",
            "stats: -c FILE is missing: the configuration of the daemon; see kcptun stats --help",
        ),
        (
            "ping -n 3",
            "ping: -c FILE is missing: the configuration of this end; see kcptun ping --help",
        ),
        (
            "ping -c a -i 0.1",
            "invalid value '0.1' for '--interval <SECONDS>': it must be 0.2 to 3600 seconds; see kcptun --help",
        ),
        (
            "ping -c a -i NaN",
            "invalid value 'NaN' for '--interval <SECONDS>': it must be 0.2 to 3600 seconds; see kcptun --help",
        ),
        (
            "ping -c a -n 0",
            "invalid value '0' for '--count <COUNT>': it must be a number, 1 or more; see kcptun --help",
        ),
        (
            "--genpsk rot13",
            "--genpsk: \"rot13\" is not a method; it must be one of chacha20poly1305_ietf, \
                 xchacha20poly1305_ietf, xsalsa20poly1305, aes256gcm",
        ),
        (
            "--genpsk --check",
            "--genpsk, --list-methods and --check exclude each other",
        ),
        (
            "--list-methods -d",
            "--genpsk and --list-methods take no other option",
        ),
        (
            "--list-methods -c a",
            "--genpsk and --list-methods take no other option",
        ),
    ];

    #[test]
    fn bad_command_lines_have_one_line_messages() {
        for (words, message) in WRONG {
            assert_eq!(
                parse_words(words).err().as_deref(),
                Some(message),
                "{words}"
            );
        }
    }

    #[test]
    fn the_default_method_is_listed_first() {
        let listed: Vec<&str> = methods().collect();
        assert_eq!(listed[0], "chacha20poly1305_ietf");
        assert_eq!(listed.len(), Method::ALL.len());
    }
}
