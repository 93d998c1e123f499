//! The page of security: what a tunnel protects against, and what it does not.

use super::page::{Block, Page};

pub(super) fn page() -> Page {
    Page {
        name: "security",
        title: "Security",
        blocks: [sealed(), fresh_keys(), recorded(), open(), rendezvous()]
            .into_iter()
            .flatten()
            .collect(),
    }
}

fn sealed() -> Vec<Block> {
    vec![
        Block::Heading("With a key"),
        Block::text(
            "Every packet is encrypted and authenticated. A packet that does not open, or whose nonce is among at least the last million, \
                 is dropped without an answer: to a scanner without the key the port is silent. Whoever has the key can open connections \
                 to `connect`, and to nothing else. There are no users and there is no second factor.",
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
            "Keys are never logged. The key stays in the process's memory until it ends. Keep the configuration readable by its user only.",
        ),
    ]
}

fn fresh_keys() -> Vec<Block> {
    vec![
        Block::Heading("Keys that are forgotten"),
        Block::text(
            "In what follows, a greeting is a ping that carries one end's part of new keys, and the pong that carries the other's is its \
                 answer. A dial is the packet that begins a connection and has the server connect to the service. A challenge is a ping \
                 with a random value, which only who receives at that address can answer.",
        ),
        Block::text(
            "Two kcptuns that have a key agree on fresh keys while they ping each other, before the first connection and without a round \
                 trip of their own: X25519 with the key mixed in, which is Noise's pattern NNpsk0. The keys belong to the two processes, go along \
                 when an address changes, are renewed after two minutes or 4 GiB, are wiped from memory ten seconds after others are in use, and end after three minutes in any case.",
        ),
        Block::text(
            "What is promised: whoever records all packets and gets the key later can read what was sent before the first answer to a \
                 greeting, and nothing of what came after. That is the first round trip of a client that opens a connection at once. Who can \
                 also send, hold back, repeat or change packets, and has no key, cannot bring two processes that have fresh keys back to the key \
                 alone: from each other they take nothing under it but greetings.",
        ),
        Block::text(
            "What is not: an attacker who cuts out every greeting keeps `\"auto\"` from fresh keys, and then the key seals, as it does \
                 with kcptun-libev at the other end, or a rendezvous server. The log at info says so, and so do the statistics for each path. \
                 With `\"forward_secrecy\": \"require\"` no connection is carried then. A client that has had fresh keys once never does without \
                 until it is restarted. If its server is replaced by a kcptun-libev, restart the client. And somebody on the way who has the key at \
                 the time can pose as either end.",
        ),
        Block::text(
            "A greeting that was recorded and is sent again after a restart costs some arithmetic, and nothing else. Answers are \
                 limited to 4 a second for an address and 100 for all, about a hundredth of a processor; an address that has answered a \
                 challenge is answered beyond that, twice a second.",
        ),
    ]
}

fn recorded() -> Vec<Block> {
    vec![
        Block::Heading("Recorded packets"),
        Block::text(
            "The replay filter is in memory. After a restart, or after some million packets, a recorded packet under the key is not \
                 recognized as a copy. A recorded dial still opens nothing: the server connects to the service only for an address that \
                 has answered a ping of its own, with a value that only this ping carried, or has used fresh keys. A client pings when it \
                 starts, unless `keepalive` is 0, so its first connection does not wait for that. What was sent before its greeting, or its \
                 answer, is refused. A kcptun answers such a ping with a greeting, until it has fresh keys, and then it does not.",
        ),
        Block::text(
            "What remains is for a client without fresh keys, such as kcptun-libev: an attacker who can send from its address can repeat a \
                 dial with the data in it, if that was recorded before the client was restarted or has random nonces. ssh and TLS do not \
                 care. A service that acts on a single packet might.",
        ),
        Block::text(
            "An attacker on the way can also hold a dial back while its client repeats it. Fresh keys end after 3 minutes, and the number \
                 of an ended session is remembered for 6, so that such a dial opens nothing. Without fresh keys a dial is refused that another \
                 packet of its client has overtaken by 40 s. He who can cut off such a client for longer than `time_wait` can have a dial of \
                 it taken twice: the service is connected to again, with the data that is in the packet, and the client's program may read \
                 the second answer behind the first. ssh and TLS notice that; a protocol that only counts on TCP does not.",
        ),
        Block::text(
            "An attacker who can hold packets back and send them on from another address is taken for the other end's new address, as long \
                 as he passes on the pings, too. He learns nothing. He can stop the tunnel, which he could before.",
        ),
    ]
}

fn open() -> Vec<Block> {
    vec![
        Block::Heading("Without a key"),
        Block::text(
            "Packets are open: anybody can read them, forge them and use the tunnel. A warning says so at each start. An address that has \
                 not answered a ping opens nothing, and is sent no more bytes than arrived in its name. In the name of one that has \
                 answered, anybody can open a connection to `connect` and have its answer sent there, up to 256 KB; then whoever is there has to \
                 answer another ping (there is no such bound with `rate.control` off). One address can have three quarters of all sessions at \
                 most.",
        ),
    ]
}

fn rendezvous() -> Vec<Block> {
    vec![
        Block::Heading("A rendezvous server"),
        Block::text(
            "It registers a server only when that has answered from where it seems to be, and forgets it after `timeout`. It holds at most \
                 4096 services, and 64 of one address. It tells each end at most the two addresses of the other, and a server no more than \
                 four times a second. Without a key anybody can take over a `service_id`, and no answer is longer than its question. With a \
                 key, whoever has it can.",
        ),
    ]
}
