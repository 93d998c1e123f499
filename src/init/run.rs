//! The disk and the terminal for `kcptun init`: it asks, reads a server's file, writes what is made, and looks for what this
//! machine has.

use super::next::{self, Here};
use super::plan::{Draft, Plan};
use super::{Request, files};
use crate::config::{Config, DEFAULT_METHOD, Ports, Role, SHIPPED_PASSWORD};
use crate::crypto::{Key, Method};
use crate::event::place::{self, Place};
use crate::platform::{
    create_directory_for_keys, create_private, elsewhere, reason, scp_path, setup, shell_quoted,
};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The files' names.
const SERVER_FILE: &str = "server.json";
const PEER_FILE: &str = "peer.json";
/// The most peers' files in one directory.
const PEER_FILES_MAX: u32 = 1000;

/// Why there are no files: one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// What was asked for is wrong, or incomplete.
    Input(String),
    /// The disk, or a file that is in the way.
    Disk(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Input(line) | Failure::Disk(line) => f.write_str(line),
        }
    }
}

/// Makes the files, asking on the terminal for what the request leaves open. Returns what to do next, for people.
///
/// # Errors
/// [`Failure`]; then no file was written.
pub fn run(request: &Request) -> Result<String, Failure> {
    let directory = request.directory.as_deref().unwrap_or(Path::new(""));
    match &request.peer {
        None => new_tunnel(request, directory),
        Some(file) => one_more_peer(request, file, directory),
    }
}

fn new_tunnel(request: &Request, directory: &Path) -> Result<String, Failure> {
    let [server, peer] = [SERVER_FILE, PEER_FILE].map(|name| directory.join(name));
    let draft = given(Draft::default(), request)?;
    // before anything is asked
    for path in [&server, &peer] {
        if path.symlink_metadata().is_ok() {
            return Err(Failure::Disk(in_the_way(path)));
        }
    }
    let plan = complete(draft)?;
    let key = Key::generate();
    let texts = [
        (&server, files::server(&plan, SERVER_FILE, &key)),
        (&peer, files::peer(&plan, PEER_FILE, (DEFAULT_METHOD, &key))),
    ];
    let warnings = checked(&texts)?;
    make_directory(directory)?;
    write(&server, &texts[0].1)?;
    if let Err(failure) = write(&peer, &texts[1].1) {
        // half a tunnel would be in the way of the next attempt
        let _ = fs::remove_file(&server);
        return Err(failure);
    }
    let here = look_around(&plan, [&server, &peer], warnings);
    Ok(next::new_tunnel(&plan, &here))
}

fn one_more_peer(request: &Request, file: &Path, directory: &Path) -> Result<String, Failure> {
    if request.connect.is_some() {
        let line = "--connect belongs to a new tunnel; with --peer, the server's file has it";
        return Err(Failure::Input(line.into()));
    }
    let config = Config::load(file).map_err(|error| Failure::Input(error.to_string()))?;
    let wrong = |what: &str| Failure::Input(format!("{}: {what}", file.display()));
    let (draft, method, key) = of_server(&config).map_err(wrong)?;
    let mut draft = given(draft, request)?;
    let other = other_peer(file, &key);
    let like = other.and_then(|(name, other)| {
        draft.offer_listen(other.listen);
        draft.take_server(other.udp_connect).then_some(name)
    });
    let plan = complete(draft)?;
    let peer = free_name(directory)?;
    let name = peer.file_name().unwrap_or_default().to_string_lossy();
    let text = files::peer(&plan, &name, (method, &key));
    let mut warnings = checked(&[(&peer, text.clone())])?;
    warnings.extend(unbound(&plan, &config, file));
    make_directory(directory)?;
    write(&peer, &text)?;
    let here = look_around(&plan, [file, &peer], warnings);
    Ok(next::one_more_peer(&plan, &here, like.as_deref()))
}

/// The file of a peer with this key beside the server's, and its name. The first one speaks for all.
fn other_peer(server: &Path, key: &Key) -> Option<(String, Config)> {
    let directory = server.parent().unwrap_or(Path::new(""));
    let there = peer_files().filter_map(|name| {
        let path = directory.join(&name);
        path.is_file().then_some((name, path))
    });
    let mut read = there.filter_map(|(name, path)| Some((name, Config::load(&path).ok()?)));
    read.find(|(_, peer)| {
        let is_its = peer.seal.as_ref().is_some_and(|seal| seal.key == *key);
        is_its && peer.role() == Role::Peer
    })
}

/// The warning of ports at which a server does not receive: a router may pass them on to others.
fn unbound(plan: &Plan, server: &Config, file: &Path) -> Option<String> {
    let bound = &server.udp_bind.as_ref()?.ports;
    let named = &plan.server.at.ports;
    let others = Ports::of(named.iter().filter(|port| !bound.contains(*port)))?;
    Some(format!(
        "UDP {} of udp_connect: not in udp_bind of {}, which has {bound}; right only where a router passes packets on",
        others.named(),
        file.display()
    ))
}

/// What another peer of a server is made from.
///
/// # Errors
/// Says why there can be no other peer.
fn of_server(config: &Config) -> Result<(Draft, Method, Key), &'static str> {
    let (Some(bind), Some(connect)) = (&config.udp_bind, &config.connect) else {
        return Err(match config.role() {
            Role::Server => {
                "has no udp_bind: its peers find it by rendezvous_server, and copies of one peer's file will do for all of them"
            }
            _ => "is not a server's file, which has udp_bind and connect",
        });
    };
    let Some(seal) = &config.seal else {
        return Err(
            "has no key for another peer to share; write a psk, which kcptun --genpsk makes",
        );
    };
    if seal.key == Key::from_password(SHIPPED_PASSWORD) {
        return Err(
            "has the password that kcptun is shipped with, which everybody knows; write a psk instead, which kcptun --genpsk makes",
        );
    }
    let draft = Draft::of_server(bind.ports.clone(), connect.clone());
    Ok((draft, seal.method, seal.key.clone()))
}

/// With what the command line gives.
fn given(mut draft: Draft, request: &Request) -> Result<Draft, Failure> {
    let given = [&request.server, &request.connect, &request.listen];
    let [server, connect, listen] = given.map(Option::as_deref);
    let taken = draft.take(server, connect, listen);
    taken.map(|()| draft).map_err(Failure::Input)
}

/// The plan; on a terminal, what is missing is asked for.
fn complete(mut draft: Draft) -> Result<Plan, Failure> {
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !asks {
        draft.take_known();
    } else if !draft.missing().is_empty() {
        draft.offer(place::own_address().map(|ip| ip.to_string()));
        let asked = draft.ask(&mut io::stdin().lock(), &mut io::stderr().lock());
        asked.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                Failure::Input("init: no answer; nothing was written".into())
            }
            _ => Failure::Input(format!("init: {error}")),
        })?;
    }
    draft
        .plan()
        .map_err(|missing| Failure::Input(format!("init: {missing}")))
}

/// The warnings of files that are to be written. What would not be a configuration is not written at all.
fn checked(texts: &[(&PathBuf, Zeroizing<String>)]) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    for (path, text) in texts {
        let config = Config::parse(&path.display().to_string(), text);
        let config = config.map_err(|error| Failure::Input(error.to_string()))?;
        warnings.extend(config.warnings);
    }
    Ok(warnings)
}

fn in_the_way(path: &Path) -> String {
    let server = path.with_file_name(SERVER_FILE).display().to_string();
    format!(
        "{} is there already, and no file is overwritten; --directory DIR writes into another directory, and kcptun init --peer {} \
         makes a file for one more machine",
        path.display(),
        shell_quoted(&server)
    )
}

/// The names of peers' files in their order.
fn peer_files() -> impl Iterator<Item = String> {
    let numbered = (2..=PEER_FILES_MAX).map(|number| format!("peer-{number}.json"));
    std::iter::once(PEER_FILE.to_owned()).chain(numbered)
}

/// The first name of a peer's file that is free.
fn free_name(directory: &Path) -> Result<PathBuf, Failure> {
    let mut paths = peer_files().map(|name| directory.join(name));
    let free = paths.find(|path| path.symlink_metadata().is_err());
    free.ok_or_else(|| Failure::Disk("too many peers' files in this directory".into()))
}

fn make_directory(directory: &Path) -> Result<(), Failure> {
    if directory.as_os_str().is_empty() {
        return Ok(());
    }
    let made = create_directory_for_keys(directory);
    made.map_err(|error| Failure::Disk(not_written(directory, &error)))
}

fn not_written(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    format!(
        "{path}: {}; --directory DIR writes into another directory",
        reason(error)
    )
}

/// Writes a new file that only its user may read, from the first byte on.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let fails = |error: io::Error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::Disk(in_the_way(path)),
        _ => Failure::Disk(not_written(path, &error)),
    };
    let mut file = create_private(path).map_err(fails)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    // Windows removes no open file
    drop(file);
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        fails(error)
    })
}

fn look_around(plan: &Plan, [server, peer]: [&Path; 2], warnings: Vec<String>) -> Here {
    let ports = plan.server.at.ports.to_string();
    let whole = std::path::absolute(peer);
    Here {
        server: match plan.server.is_this_machine() {
            true => Place::Here,
            false => place::of(&plan.server.at.first()),
        },
        setup: setup(&ports),
        elsewhere: elsewhere(&ports),
        server_file: server.display().to_string(),
        peer_file: peer.display().to_string(),
        peer_path: scp_path(&whole.unwrap_or_else(|_| peer.into())),
        warnings,
    }
}
