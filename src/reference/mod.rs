//! The reference: pages that `kcptun help` prints, that the man pages kcptun(1) and kcptun(5) have, and that
//! `examples/reference/` holds for a browser. As far as the program has a table of something, the page is made from it.
//! How a page looks in each of these places is in `page`.

mod changes;
mod deploy;
mod keys;
mod migration;
mod nat;
mod options;
mod page;
mod security;
mod statistics;
mod unit;

pub use page::{Block, Page, Table};
pub use unit::{UNITS, unit};

use clap::{Command, ValueEnum};

/// What there is a page about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Topic {
    /// The keys of the configuration
    Keys,
    /// The options of the command line, and of its commands
    Options,
    /// What may change while it runs: the configuration, the network, the other end
    Changes,
    /// Statistics, what limits a tunnel, and metrics
    #[value(aliases = ["metrics", "limits"])]
    Statistics,
    /// Coming from kcptun-libev, or from Go's kcptun
    Migration,
    /// Both ends behind NAT
    Nat,
    /// What a tunnel protects against, and what it does not
    Security,
    /// systemd, packages, OpenWrt, containers, static binaries
    Deploy,
}

impl Topic {
    /// All of them.
    pub fn all() -> &'static [Topic] {
        Topic::value_variants()
    }

    /// Its page. `command`: the definition of the command line.
    pub fn page(self, command: &Command) -> Page {
        match self {
            Topic::Keys => keys::page(),
            Topic::Options => options::page(command),
            Topic::Changes => changes::page(),
            Topic::Statistics => statistics::page(),
            Topic::Migration => migration::page(),
            Topic::Nat => nat::page(),
            Topic::Security => security::page(),
            Topic::Deploy => deploy::page(),
        }
    }
}

/// The man page kcptun(5): the configuration and what becomes of it.
pub fn man_page_5() -> String {
    let heading =
        ".TH KCPTUN 5\n.SH NAME\nkcptun \\- configuration of kcptun(1)\n.SH DESCRIPTION\n";
    let keys = keys::page().roff();
    let keys = keys.split_once('\n').map_or("", |(_, rest)| rest);
    let changes = changes::page().roff();
    format!("{heading}{keys}{changes}.SH SEE ALSO\n.BR kcptun (1)\n")
}

/// What the man page kcptun(1) has after the options.
pub fn man_page_1_end() -> String {
    let pages = [
        statistics::page(),
        nat::page(),
        security::page(),
        migration::page(),
    ];
    let pages = pages.map(|page| page.roff());
    format!("{}.SH SEE ALSO\n.BR kcptun (5)\n", pages.concat())
}
