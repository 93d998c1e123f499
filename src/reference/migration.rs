//! The page for who comes from another kcptun. The keys of Go's are in `config::suggest`.

use super::page::{Block, Page, Table};
use crate::config::GO_KEYS;

const LIBEV: [(&str, &str); 7] = [
    (
        "`kcp.mtu`, `kcp.sndwnd`, `kcp.rcvwnd`",
        "The same, with larger windows by default. They are only bounds: remove yours.",
    ),
    (
        "`kcp.nodelay`, `kcp.interval`, `kcp.resend`, `kcp.flush`",
        "The same. They have no effect with rate control: remove them.",
    ),
    (
        "`kcp.nc` 0",
        "KCP's own congestion control, and no rate control.",
    ),
    (
        "It sends as fast as its window lets it",
        "kcptun finds the path's rate and keeps to it. `\"rate\": {\"control\": \"off\"}` is the old way.",
    ),
    (
        "`loglevel`",
        "As in 2.0. Since 2.1 the scale of kcptun-libev runs the other way; a file with `kcp_bind` or `kcp_connect`, which came with \
         2.1, is read by that scale: 0 nothing, 1 and 2 errors, 3 warnings, 4 and 5 info, 6 debug, 7 and 8 trace. When you write \
         `udp_bind` or `udp_connect` instead, change the number, too.",
    ),
    ("A window of 65536", "Read as 65535."),
    ("`password`", "Makes the same key. `psk` is better."),
];

pub(super) fn page() -> Page {
    let go = GO_KEYS.iter().map(|(theirs, here, note)| {
        let theirs: Vec<String> = theirs.iter().map(|key| format!("`{key}`")).collect();
        let here = match *here {
            "" => "nothing".to_owned(),
            here => format!("`{here}`")
                .replace(" or ", "` or `")
                .replace(" and ", "` and `"),
        };
        vec![theirs.join(", "), here, (*note).to_owned()]
    });
    let go = Table {
        head: &["Go's key", "here", "note"],
        main: 1,
        rows: go.collect(),
    };
    Page {
        name: "migration",
        title: "Coming from another kcptun",
        blocks: vec![
            Block::Heading("From kcptun-libev 2.x"),
            Block::text(
                "Replace either end; the other does not notice. The wire is the same, in every method, with `psk` or `password`, and in \
                 each of the three places of rendezvous mode. Its configuration can be read as it is, including `kcp_bind` and \
                 `kcp_connect`; only `netdev` and `obfs` are refused, since what they ask for is not done. `kcptun --check` says how a \
                 file is read.",
            ),
            Block::pairs(&["kcptun-libev", "here"], &LIBEV),
            Block::text(
                "Expect fewer packets for the same data, a ping that stays short during a download, and no windows to tune. With \
                 kcptun-libev at the other end this holds for the direction in which kcptun sends.",
            ),
            Block::text(
                "A fault of kcptun-libev 2.3.5 as a server: once the client's TCP has shut down its writing half, the rest of the answer \
                 does not arrive, and the connection hangs until its linger time ends. With kcptun at both ends half-closed connections \
                 work.",
            ),
            Block::text(
                "A rendezvous server without a key ignores clients whose service id is so short (below 5 bytes with IPv4, 17 with IPv6) \
                 that the answer would be longer than the question. kcptun's own clients make the question longer.",
            ),
            Block::Heading("From Go's kcptun"),
            Block::text(
                "Another protocol of the same name (xtaci's): replace both ends at once. Its configuration is not read, but \
                 `kcptun --check -c FILE` says for each key of one what takes its place.",
            ),
            Block::Table(go),
        ],
    }
}
