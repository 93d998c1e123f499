//! The page of what may change while the program runs: its configuration, its network, the other end. Which keys a reload takes
//! is in `config::keys`.

use super::page::{Block, Page};
use crate::config::KEYS;

/// Keys that a reload takes within limits, and these limits.
const WITHIN_LIMITS: [(&str, &str); 3] = [
    (
        "`connect`",
        "For new connections. It cannot be added or removed.",
    ),
    (
        "`tcp.sndbuf`, `tcp.rcvbuf`",
        "For new connections. A buffer cannot be given back to the system (0).",
    ),
    (
        "`psk`, `password`, `method`",
        "The old key is still accepted for `timeout` seconds, and the new one is used towards an end once that has used it. So change both ends \
         within that time, in any order, and no connection breaks. The method can only change to one with nonces of the same size: \
         between `chacha20poly1305_ietf` and `aes256gcm`, or between the other two. A tunnel with a key cannot become one without, \
         nor the other way round.",
    ),
];

const AROUND: [(&str, &str); 10] = [
    (
        "The near end gets another address",
        "It notices within half a second while there is traffic, within 5 s with idle connections, within 25 s without any, and goes \
         on from a new port. With `udp_bind` the port stays.",
    ),
    (
        "The near end's network becomes IPv6 only, or IPv4 only",
        "Where `udp_connect` is a name with addresses of both kinds, and `udp_bind` does not name an address, it goes on at an \
         address that there is a route to.",
    ),
    (
        "The router's mapping changes",
        "A transfer that stalls makes the near end ask within a second. Sessions follow its new port.",
    ),
    (
        "A firewall or NAT closes the way there, and the way back stays open",
        "It is noticed within some seconds, because nothing is answered. The near end goes on from another port. With `udp_bind`, \
         or without a key, it stays, and the log and `/healthy` say so.",
    ),
    (
        "The machine sleeps",
        "Sessions go on if it wakes within `timeout`, and end otherwise.",
    ),
    (
        "The far end's name gets another address",
        "While the far end is silent the name is resolved again after 1, 2, 4 s and so on, up to a minute. Sessions go on if the same \
         process answers there.",
    ),
    (
        "The far end's name cannot be resolved, or its network is not up yet",
        "kcptun waits. A new address, route or connection has the name resolved at once. Connections made meanwhile wait up to 10 s.",
    ),
    (
        "The path is dead for less than `timeout`",
        "Sessions go on, with the first byte within a second of its return; without a key within 10 s where nothing had arrived \
         from the far end yet.",
    ),
    (
        "The other end is stopped",
        "It says so: its connections are reset at once, and the near end's log and `/healthy` tell it.",
    ),
    (
        "The other end is killed, or loses power",
        "The near end notices the silence within 10 s where `http_listen` is set or a connection waits, and otherwise within \
         `keepalive` and some seconds. Once the other end runs again, its old connections are reset as soon as anything is sent on \
         them, and new ones work at once.",
    ),
];

pub(super) fn page() -> Page {
    let live = KEYS.iter().filter(|key| key.is_live());
    let live: Vec<String> = live.map(|key| format!("`{}`", key.name)).collect();
    Page {
        name: "changes",
        title: "Changes while it runs",
        blocks: vec![
            Block::Heading("Changes of the configuration"),
            Block::text(
                "SIGHUP (`kill -HUP`, or `kcptun reload -c FILE` where there is a `pidfile`, and on Windows) has the configuration read again, unless kcptun runs as a systemd service, whose copy stays as it is. \
                 The log has a line for each key that changed. A file with an error changes nothing, and the log says what is wrong \
                 with it. Where `user` is set, that user must be able to read the file.",
            ),
            Block::Text(format!(
                "These keys take effect at once, those of `tcp` for new connections: {}.",
                live.join(", ")
            )),
            Block::text("These take effect within limits:"),
            Block::pairs(&["keys", "what happens"], &WITHIN_LIMITS),
            Block::text("All others stay as they are until a restart, and a warning names them."),
            Block::Heading("Changes around it"),
            Block::text(
                "Sessions follow a new address only with a key: without one, anybody could take them over.",
            ),
            Block::pairs(&["what changes", "what happens"], &AROUND),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_that_a_reload_takes_within_limits_is_explained() {
        let explained: Vec<&str> = WITHIN_LIMITS
            .iter()
            .flat_map(|(keys, _)| keys.split(", "))
            .map(|key| key.trim_matches('`'))
            .collect();
        let within: Vec<&str> = KEYS
            .iter()
            .filter(|key| key.on_reload().contains("limits"))
            .map(|key| key.name)
            .collect();
        assert_eq!(explained.len(), within.len(), "{within:?}");
        assert!(
            within.iter().all(|key| explained.contains(key)),
            "{within:?}"
        );
    }
}
