//! The page of security: what a tunnel protects against, and what it does not.

use super::page::{Block, Page};

pub(super) fn page() -> Page {
    Page {
        name: "security",
        title: "Security",
        blocks: vec![
            Block::Heading("With a key"),
            Block::text(
                "Every packet is encrypted and authenticated. A packet that does not open, or whose nonce is among at least the last million, \
                 is dropped without an answer: to a scanner without the key the port is silent. Whoever has the key can open connections \
                 to `connect`, and to nothing else. There are no users and there is no second factor.",
            ),
            Block::text(
                "There is no forward secrecy. Whoever records the packets and later gets the key can read them all. Use ssh or TLS inside.",
            ),
            Block::text(
                "`password` goes through Argon2id with only 8 KiB of memory, for compatibility with kcptun-libev. A password that a person can \
                 remember can be guessed from one recorded packet. Use `psk`.",
            ),
            Block::text(
                "The sizes and times of packets are visible, and so is the fact that there is a tunnel. Padding of at most 15 bytes hides \
                 little.",
            ),
            Block::text(
                "Keys are never logged. They stay in the process's memory until it ends. Keep the configuration readable by its user only.",
            ),
            Block::Heading("Recorded packets"),
            Block::text(
                "The replay filter is in memory. After a restart, or after some million packets, a recorded packet is not recognized as a copy. \
                 A recorded dial still opens nothing: the server connects to the service only for an address that has answered a ping of \
                 its own, with a value that only this ping carried. A client pings when it starts, unless `keepalive` is 0, so its first \
                 connection does not wait for that. What was sent before its answer is refused, where senders count their packets \
                 (`chacha20poly1305_ietf`, `aes256gcm`).",
            ),
            Block::text(
                "What remains: with the other two methods, or with packets of a client that has itself been restarted since, an attacker who \
                 can send from the client's address can repeat a dial with the data in it. ssh and TLS do not care. A service that acts on \
                 a single packet might.",
            ),
            Block::text(
                "An attacker who can hold packets back and send them on from another address is taken for the other end's new address, as long \
                 as he passes on the pings, too. He learns nothing. He can stop the tunnel, which he could before.",
            ),
            Block::Heading("Without a key"),
            Block::text(
                "Packets are open: anybody can read them, forge them and use the tunnel. A warning says so at each start. An address that has \
                 not answered a ping opens nothing, and is sent no more bytes than arrived in its name. In the name of one that has \
                 answered, anybody can open a connection to `connect` and have its answer sent there, up to 256 KB; then whoever is there has to \
                 answer another ping (there is no such bound with `rate.control` off). One address can have three quarters of all sessions at \
                 most.",
            ),
            Block::Heading("A rendezvous server"),
            Block::text(
                "It registers a server only when that has answered from where it seems to be, and forgets it after `timeout`. It holds at most \
                 4096 services, and 64 of one address. It tells each end at most the two addresses of the other, and a server no more than \
                 four times a second. Without a key anybody can take over a `service_id`, and no answer is longer than its question. With a \
                 key, whoever has it can.",
            ),
        ],
    }
}
