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

pub use options::options;
pub use page::{Block, Page, Table};

/// What there is a page about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// The keys of the configuration.
    Keys,
    /// What may change while it runs.
    Changes,
    /// Statistics, what limits a tunnel, and metrics.
    Statistics,
    /// Coming from another kcptun.
    Migration,
    /// Both ends behind NAT.
    Nat,
    /// What a tunnel protects against.
    Security,
    /// Packages, routers, containers.
    Deploy,
}

impl Topic {
    /// All of them.
    pub const ALL: [Topic; 7] = [
        Topic::Keys,
        Topic::Changes,
        Topic::Statistics,
        Topic::Migration,
        Topic::Nat,
        Topic::Security,
        Topic::Deploy,
    ];

    /// Its page.
    pub fn page(self) -> Page {
        match self {
            Topic::Keys => keys::page(),
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
    let keys = Topic::Keys.page().roff();
    let keys = keys.split_once('\n').map_or("", |(_, rest)| rest);
    let changes = Topic::Changes.page().roff();
    format!("{heading}{keys}{changes}.SH SEE ALSO\n.BR kcptun (1)\n")
}

/// What the man page kcptun(1) has after the options.
pub fn man_page_1_end() -> String {
    let pages = [
        Topic::Statistics,
        Topic::Nat,
        Topic::Security,
        Topic::Migration,
    ];
    let pages = pages.map(|topic| topic.page().roff());
    format!("{}.SH SEE ALSO\n.BR kcptun (5)\n", pages.concat())
}
