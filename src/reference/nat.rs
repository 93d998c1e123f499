//! The page of tunnels whose ends are both behind NAT.

use super::page::{Block, Page};

const RENDEZVOUS: &str = r#"{
    "udp_bind": ":27290",
    "psk": "YOUR KEY"
}"#;

const SERVER: &str = r#"{
    "rendezvous_server": "vps.example.net:27290",
    "service_id": "home-ssh",
    "connect": "127.0.0.1:22",
    "psk": "YOUR KEY"
}"#;

const PEER: &str = r#"{
    "rendezvous_server": "vps.example.net:27290",
    "service_id": "home-ssh",
    "listen": "127.0.0.1:2222",
    "psk": "YOUR KEY"
}"#;

pub(super) fn page() -> Page {
    Page {
        name: "nat",
        title: "Both ends behind NAT",
        blocks: vec![
            Block::text(
                "If no port can be opened at the server, a third machine with a public address brings both ends together. After that they \
                 talk to each other directly. Choose a name, here `home-ssh`, and use it at both ends; the key is the same at all three.",
            ),
            Block::text(
                "On the machine with the public address, `rendezvous.json`. It carries no data, and it can serve many pairs. Open its UDP \
                 port.",
            ),
            Block::Code(RENDEZVOUS),
            Block::text("At the service, `server.json`:"),
            Block::Code(SERVER),
            Block::text("At the client, `peer.json`:"),
            Block::Code(PEER),
            Block::text(
                "It works when the client's log says `the server is at ...`. TCP connections that come earlier wait some seconds for it and \
                 are then reset. A server whose address has changed registers again within 25 s, and a client whose server has gone \
                 silent asks again.",
            ),
            Block::text(
                "It does not work where both NATs use another port for every target (symmetric NATs), as many mobile networks do. One such \
                 end is no obstacle if the other end's NAT accepts packets from every port of an address that it has sent to.",
            ),
            Block::text(
                "Without a third machine, if both NATs keep the port or forward it: give both ends `udp_bind` and, as `udp_connect`, the \
                 other's public address. Each sends until it is answered, which opens its own NAT.",
            ),
        ],
    }
}
