//! Writes the man pages and the completions for bash, zsh and fish into a directory, from the definition of the command
//! line and of the configuration's keys, so that they cannot say anything else than the program does; and the page
//! `keys.md`, which is to be copied to `examples/reference/`.
//!
//!     cargo run --example manpage target/package

use clap_complete::{Shell, generate_to};
use kcptun::config::reference;
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
    clap_mangen::generate_to(command, directory)?;
    std::fs::write(directory.join("kcptun.5"), reference::man_page())?;
    std::fs::write(directory.join("keys.md"), reference::markdown())
}
