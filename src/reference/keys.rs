//! The page of the configuration's keys. What it says of each is in their table, `config::keys`.

use super::page::{Block, Page, Table};
use crate::config::{ConfigKey, KEYS, Section};

const SECTIONS: [(Section, &str); 6] = [
    (Section::Needed, "What you need"),
    (Section::Program, "The program"),
    (Section::Rate, "The rate"),
    (Section::Kcp, "KCP: mostly leave it alone"),
    (Section::Sockets, "Sockets"),
    (Section::Times, "Times"),
];

const INTRODUCTION: [&str; 5] = [
    "The configuration is a JSON object. A key with a dot is written as an object: `kcp.mtu` is `\"kcp\": {\"mtu\": 1280}`. \
     Keys that begin with `//` are comments. An unknown key or a value out of range is an error, and the message says what \
     would be right; `kcptun --check -c FILE` lists every mistake in a file.",
    "A server has `udp_bind` and `connect`. A peer has `udp_connect` and `listen`. One end may have all four: both ends then \
     open sessions over one UDP socket. With `rendezvous_server` an end needs no UDP address. An end with `udp_bind` alone is a \
     rendezvous server.",
    "An address is `host:port` or `[IPv6]:port`. To bind, it may also be `:port`, which means every address of the machine, \
     IPv6 and IPv4.",
    "Methods: on a small CPU without AES instructions keep the default; where the CPU has them, `aes256gcm` costs the least. \
     `xsalsa20poly1305` costs by far the most.",
    "`kcptun help changes` says what a reload does in detail.",
];

const WHO_CONNECTS: [&str; 2] = [
    "The service sees connections from the machine that kcptun runs on, usually from 127.0.0.1. With `tcp.proxy_protocol` it first \
     gets a header that says where each comes from: the address and port that the near end's UDP packets come from, which is its \
     router's, and the address and port that they come to. The header stays as it was when the session began, whatever network \
     the near end moves to. The service has to expect it in every connection from kcptun's machine, and from nobody else: nginx has \
     `proxy_protocol` and `set_real_ip_from` for that, HAProxy `accept-proxy`.",
    "sshd does not read it. To sshd and fail2ban everybody who comes through the tunnel is 127.0.0.1. Put that into fail2ban's \
     `ignoreip`, or one person who mistypes a password locks out all; without the key nobody gets as far as sshd. Or let `connect` be \
     a go-mmproxy in front of sshd, which reads the header and connects from the address in it.",
];

const PACKET_SIZE: [&str; 2] = [
    "Many paths do not carry packets of 1500 bytes and drop them silently. Each end finds what the path to the other carries with \
     padded pings, which any kcptun and kcptun-libev answers: when the first session begins, after the network has changed, and when \
     data stalls. Until an answer has come packets have 1280 bytes. It takes half a second, or two on a path that has become \
     smaller. A path that carries more again is noticed after ten minutes. `kcptun ping` and the statistics show the size.",
    "Data that was on its way when the path became smaller continues in IP fragments. With IPv4 this helps where a router fragments \
     packets; where it only drops what is too long, such a connection is reset after half a minute, and a new one works.",
];

pub(super) fn page() -> Page {
    let mut blocks: Vec<Block> = INTRODUCTION.iter().map(|text| Block::text(text)).collect();
    for (section, title) in SECTIONS {
        let keys = KEYS.iter().filter(|key| key.section == section);
        blocks.push(Block::Heading(title));
        blocks.push(Block::Table(Table {
            head: &["key", "default", "range", "meaning", "on reload"],
            main: 3,
            rows: keys.map(row).collect(),
        }));
    }
    blocks.push(Block::Heading("Who connects to the service"));
    blocks.extend(WHO_CONNECTS.iter().map(|text| Block::text(text)));
    blocks.push(Block::Heading("The size of packets"));
    blocks.extend(PACKET_SIZE.iter().map(|text| Block::text(text)));
    Page {
        name: "keys",
        title: "The keys of the configuration",
        blocks,
    }
}

fn row(key: &ConfigKey) -> Vec<String> {
    let alias = key.alias.map(|alias| format!(" (`{alias}`)"));
    vec![
        format!("`{}`{}", key.name, alias.unwrap_or_default()),
        key.default.to_owned(),
        key.range(),
        sentence(key.meaning),
        key.on_reload().to_owned(),
    ]
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| match text.starts_with('`') {
        true => first.to_string(),
        false => first.to_uppercase().to_string(),
    });
    first.unwrap_or_default() + letters.as_str() + "."
}
