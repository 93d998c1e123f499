//! Writes the man pages, the completions for bash, zsh and fish, and the pages of the reference into a directory, from the
//! definitions of the command line, the keys and the metrics, so that they cannot say anything else than the program does:
//!
//!     cargo run --example manpage target/package
//!
//! The pages `*.md` are to be copied to `examples/reference/`; a test compares them.

use clap_complete::{Shell, generate_to};
use kcptun::reference::{Topic, man_page_1_end, man_page_5};
use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("needs a directory: cargo run --example manpage target/package");
        std::process::exit(2);
    };
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    let mut command = kcptun::cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "kcptun", directory)?;
    }
    for topic in Topic::all() {
        let page = topic.page(&command);
        fs::write(directory.join(format!("{}.md", page.name)), page.markdown())?;
    }
    // One page for the program, and one for each of its subcommands.
    clap_mangen::generate_to(command, directory)?;
    let page_1 = directory.join("kcptun.1");
    fs::write(&page_1, fs::read_to_string(&page_1)? + &man_page_1_end())?;
    fs::write(directory.join("kcptun.5"), man_page_5())
}
