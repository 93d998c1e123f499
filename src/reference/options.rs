//! The page of the command line's options, from their definition.

use super::page::{Block, Page, Table};
use clap::{Arg, Command};

const VARIABLES: [(&str, &str); 2] = [
    (
        "`RUST_LOG`",
        "What is logged, whatever `loglevel`, `-v` and `-s` say: `error`, `warn`, `info`, `debug` or `trace`, for all or for modules: \
         `RUST_LOG=kcptun::tunnel=debug,warn kcptun -c peer.json`.",
    ),
    (
        "`NO_COLOR`",
        "If it is set and not empty, nothing is coloured. Otherwise the log, `ping` and `stats` are on a terminal.",
    ),
];

/// The page for a definition of the command line.
pub(super) fn page(command: &Command) -> Page {
    let mut blocks = Vec::new();
    let tasks = command.get_subcommands();
    for (command, title) in std::iter::once((command, "kcptun".to_owned()))
        .chain(tasks.map(|task| (task, format!("kcptun {}", task.get_name()))))
    {
        let about = command.get_about().map(ToString::to_string);
        blocks.push(Block::Text(format!(
            "`{title}`: {}.",
            about.unwrap_or_default()
        )));
        // each has it, and it says nothing of its own
        let options = command.get_arguments().filter(|o| o.get_id() != "help");
        blocks.push(Block::Table(Table {
            head: &["option", "meaning"],
            main: 1,
            rows: options.map(row).collect(),
        }));
    }
    blocks.push(Block::Heading("The environment"));
    blocks.push(Block::pairs(&["variable", "meaning"], &VARIABLES));
    Page {
        name: "options",
        title: "The command line",
        blocks,
    }
}

fn row(option: &Arg) -> Vec<String> {
    let short = option.get_short().map(|letter| format!("`-{letter}`"));
    let long = option.get_long().map(|name| format!("`--{name}`"));
    let names: Vec<String> = [short, long].into_iter().flatten().collect();
    let takes = option.get_action().takes_values();
    let values = option.get_value_names().filter(|_| takes);
    let value = values.and_then(|names| names.first());
    let value = value.map_or(String::new(), |value| match names.is_empty() {
        true => format!("`{value}`"),
        false => format!(" {value}"),
    });
    let help = option.get_help().map(ToString::to_string);
    let default = option.get_default_values().first().filter(|_| takes);
    let default = default.map_or(String::new(), |default| {
        format!(" (default {})", default.to_string_lossy())
    });
    let choices = option.get_possible_values();
    let choices: Vec<String> = choices
        .iter()
        .filter(|_| takes)
        .map(|choice| format!("`{}`", choice.get_name()))
        .collect();
    let choices = match choices.is_empty() {
        true => String::new(),
        false => format!(": {}", choices.join(", ")),
    };
    vec![
        names.join(", ") + &value,
        help.unwrap_or_default() + &choices + &default,
    ]
}
