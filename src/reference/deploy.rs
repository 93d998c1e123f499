//! The page of the ways to install kcptun and to keep it running.

use super::page::{Block, Page};

const PACKAGE: &str = "cargo install cargo-deb
cargo run --example manpage target/package
cargo deb
sudo apt install ./target/debian/kcptun-rs_*.deb";

const STATIC: &str = "rustup target add x86_64-unknown-linux-musl
cargo build --release --target x86_64-unknown-linux-musl";

const WINDOWS: &str = "kcptun service install -c \"C:\\Program Files\\kcptun\\server.json\"
kcptun service start -c \"C:\\Program Files\\kcptun\\server.json\"";

/// A processor as `build.sh` names it, and the size of the program for it.
const BINARIES: [(&str, &str); 5] = [
    ("mipsel", "1.6 MB"),
    ("mips", "1.6 MB; big-endian"),
    ("armv7", "1.4 MB"),
    ("aarch64", "1.2 MB"),
    ("x86_64", "1.5 MB"),
];

pub(super) fn page() -> Page {
    Page {
        name: "deploy",
        title: "Packages, routers, containers",
        blocks: [services(), elsewhere(), by_hand()]
            .into_iter()
            .flatten()
            .collect(),
    }
}

fn services() -> Vec<Block> {
    vec![
        Block::Heading("systemd"),
        Block::text(
            "The units in `examples/systemd/`, which `kcptun help kcptun-server.service` and `kcptun help kcptun-peer.service` print, too, need systemd 250 or later, and kcptun in `/usr/local/bin` or `/usr/bin`. The service runs as a user that exists only while it runs, and \
                 sees next to nothing of the system. systemd hands it a copy of the configuration, which only root can read; so a change \
                 takes `systemctl restart`, which ends connections, and there is no `systemctl reload`. `systemd-analyze security` rates both \
                 units 1.2 while they run (0 is best; what remains is that they use the network). systemd knows when the sockets are bound \
                 (`Type=notify`) and restarts a program that hangs (`WatchdogSec=`). `systemctl status` shows the number of sessions. A \
                 port below 1024 needs three lines changed, which the unit names.",
        ),
        Block::Heading("Debian package"),
        Block::text(
            "With the units, the examples, man pages, and completions for bash, zsh and fish:",
        ),
        Block::Code(PACKAGE),
        Block::text(
            "The package is called `kcptun-rs`, because Debian's `kcptun` is Go's. Put the configuration in place and enable the unit, as \
                 the README says. An upgrade restarts what runs; a removal stops it.",
        ),
    ]
}

fn elsewhere() -> Vec<Block> {
    vec![
        Block::Heading("OpenWrt"),
        Block::text(
            "Put a static binary for the router's processor at `/usr/bin/kcptun`, `examples/openwrt/kcptun.init` at \
                 `/etc/init.d/kcptun` (mode 755) and `examples/openwrt/kcptun.config` at `/etc/config/kcptun`. In the latter set `enabled '1'`, \
                 `listen` to the router's address in your network and a port, and `udp_connect` and `psk`; or `option file` with the file \
                 that `kcptun init` wrote. Then:",
        ),
        Block::Code("service kcptun enable\nservice kcptun start\nlogread -e kcptun"),
        Block::text(
            "`examples/openwrt/Makefile` makes a package of the three with OpenWrt's SDK. Its first lines say how; nobody has \
                 tried it there.",
        ),
        Block::text(
            "`opkg print-architecture` or `apk --print-arch` tells the processor: what begins with `mipsel_` is mipsel here, `mips_` mips, \
                 `arm_cortex-a` armv7, `aarch64_` aarch64; others were not built. \
                 `examples/openwrt/build.sh` makes the binary, and says what it needs. For each processor it carried 20 MB both ways, on x86-64 as \
                 fast as the usual one, for the others under qemu:",
        ),
        Block::pairs(&["for", "size"], &BINARIES),
        Block::Heading("Docker"),
        Block::text(
            "`examples/docker/Dockerfile` makes an image that holds only the static binary. Its first lines say how.",
        ),
    ]
}

fn by_hand() -> Vec<Block> {
    vec![
        Block::Heading("In the background"),
        Block::Code("kcptun -d -c /etc/kcptun/server.json -u nobody"),
        Block::text(
            "It returns with status 0 once the sockets are bound, or says what is wrong. The log goes to the system's log, or to the file \
                 that `log` names; `pidfile` holds the number of the process, and only its owner and root can read it. SIGHUP opens the log file again after it was moved away, as \
                 logrotate does. Where `user` is set, the log file or its directory has to belong to that user, who opens it (root does only where that user cannot lead it elsewhere, and follows no link), and the configuration has to be readable for it, or \
                 SIGHUP cannot read it again.",
        ),
        Block::Heading("Windows"),
        Block::text(
            "Windows 10 and later, 64 bits. `cargo build --release` makes `kcptun.exe`, on Windows or with mingw elsewhere. In a terminal it \
                 runs until Ctrl-C. As a service, from a terminal of the administrator, with kcptun.exe and the file where only \
                 administrators write:",
        ),
        Block::Code(WINDOWS),
        Block::text(
            "The service is called kcptun and the name of the file. It runs as an account of its own, `NT SERVICE\\kcptun-server`, which \
                 has no password and few rights: LocalSystem may do anything, and LocalService is shared with other services, which could \
                 read the key. `install` lets that account run `kcptun.exe`, read this file, and write `server.log` beside it or the file that \
                 `log` names; it prints the rule that lets packets through the firewall. The service starts in a directory of Windows: \
                 a path in the file has to be a whole one, and `pidfile` is better left out. A log that was moved away is made anew only in \
                 a directory that the account may write to.",
        ),
        Block::text(
            "`kcptun reload -c FILE`, or `sc control kcptun-server paramchange`, stands for SIGHUP. There is no `user`, no `-d`, no \
                 system log and no `reuseport`; `dscp` is a matter of a policy (`New-NetQosPolicy`). In JSON a path is written with `/` or with \
                 `\\\\`. The files that `kcptun init` writes are for their owner, the system and administrators alone, whatever their \
                 directory allows. kcptun was run under wine, whose sockets and services are not quite those of Windows.",
        ),
        Block::Heading("A static binary"),
        Block::text(
            "It runs on any Linux of its architecture, whatever its libc, and in an empty container. It needs the target and, for ring, a \
                 C compiler that knows it (Debian's `musl-tools`):",
        ),
        Block::Code(STATIC),
        Block::text(
            "The program is then `target/x86_64-unknown-linux-musl/release/kcptun`. `--no-default-features` builds without ring, where its \
                 C code does not compile, and seals more slowly. A static binary of 1.5 MB, for x86-64 and for others, is made by \
                 `examples/openwrt/build.sh`; it leaves out what the Rust library has for backtraces.",
        ),
    ]
}
