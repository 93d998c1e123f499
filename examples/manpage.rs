//! Writes the man page and the completions for bash, zsh and fish into a directory, from the definition of the command
//! line, so that they cannot say anything else than the program does.
//!
//!     cargo run --example manpage target/package

use clap_complete::{Shell, generate_to};
use std::path::Path;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("needs a directory: cargo run --example manpage target/package");
        std::process::exit(2);
    };
    let directory = Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    let mut command = kcptun::cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "kcptun", directory)?;
    }
    // One page for the program, and one for each of its subcommands.
    clap_mangen::generate_to(command, directory)
}
