//! The page in a real browser: Chromium, where it is installed. What a tunnel over an emulated line is limited by is
//! judged there in real time; in virtual time it is in `tests/tunnel/limits.rs`.

mod chromium;
#[path = "../harness/mod.rs"]
mod harness;
mod line;

use chromium::Browser;
use harness::*;
use line::{Line, Shape};
use serde_json::json;
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// What programs and the service do: send or read all that they can; a little each 10 ms; or nothing.
const ALL: u8 = b'a';
const LITTLE: u8 = b'l';
const NOTHING: u8 = b'n';
/// 1.6 Mbit/s, each 10 ms.
const A_LITTLE: usize = 2_000;

/// The first byte of a connection says how the service reads, the second how it sends.
fn service(mut stream: TcpStream) {
    let mut orders = [0; 2];
    if stream.read_exact(&mut orders).is_err() {
        return;
    }
    let [reads, sends] = orders;
    let mut bytes = vec![0; 64 * 1024];
    if reads == NOTHING {
        // little is enough to fill it
        let small = SockRef::from(&stream).set_recv_buffer_size(16 * 1024);
        small.expect("an option");
        // until the other end has gone
        while stream.peek(&mut bytes[..1]).is_ok_and(|n| n > 0) {
            thread::sleep(Duration::from_millis(20));
        }
        return;
    }
    if sends == LITTLE {
        let mut stream = stream.try_clone().expect("a copy");
        thread::spawn(move || {
            while stream.write_all(&[0; A_LITTLE]).is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        });
    }
    while stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
}

/// A program at the tunnel's entry. It ends when this goes.
struct Program {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
}

impl Program {
    /// It sends as `sends` says to a service that does what `orders` say, and reads all.
    fn start(entry: SocketAddr, sends: u8, orders: [u8; 2]) -> Program {
        let program = Program {
            stop: Arc::default(),
            sent: Arc::default(),
        };
        let (stop, sent) = (program.stop.clone(), program.sent.clone());
        let mut stream = TcpStream::connect(entry).expect("a connection");
        stream.write_all(&orders).expect("sent");
        let brief = Some(Duration::from_millis(200));
        stream.set_write_timeout(brief).expect("an option");
        let mut back = stream.try_clone().expect("a copy");
        thread::spawn(move || std::io::copy(&mut back, &mut std::io::sink()));
        let piece = match sends {
            ALL => 1 << 20,
            LITTLE => A_LITTLE,
            _ => 0,
        };
        thread::spawn(move || {
            let bytes = vec![0; piece];
            while !stop.load(Ordering::Relaxed) {
                if let Ok(n) = stream.write(&bytes) {
                    sent.fetch_add(n, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(10));
            }
            // this ends the copy's thread, too
            let _ = stream.shutdown(Shutdown::Both);
        });
        program
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The page names this limit, in two looks one after the other, and its sentence has `words`.
fn settles_on(browser: &mut Browser, by: &str, words: &str) {
    let named = format!(
        "document.querySelector('#limit').classList.contains('{by}') \
         && document.querySelector('#sentence').textContent.includes('{words}')"
    );
    for _ in 0..10 {
        browser.wait_for(&named);
        let look = browser.ask("last");
        browser.wait_for(&format!("last > {look}"));
        if browser.ask(&named) == true {
            return;
        }
    }
    panic!("{by} is named now and then only");
}

/// None, with a line that says so, where there is no browser.
fn browser() -> Option<Browser> {
    let browser = Browser::start();
    if browser.is_none() {
        skipped("Chromium is not installed (Debian: chromium), the page is not tried in a browser");
    }
    browser
}

const SENT: &str = "[...document.querySelectorAll('#rows tr')].map(r => r.children[5].textContent)";
const NUMBERS: &str =
    "[...document.querySelectorAll('#rows tr')].map(r => r.children[0].textContent)";

#[test]
fn a_transfer_in_progress_a_table_that_sorts_and_an_end_that_is_silent() {
    let Some(mut browser) = browser() else { return };
    let http = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut plan = Plan::to(serve(service));
    plan.peer.insert("http_listen".into(), http.port().into());
    plan.peer.insert("rate".into(), json!({"up": 16}));
    let tunnel = plan.start();
    browser.screen(1120, 900, "light");
    browser.open(&format!("http://{http}/"));
    browser.wait_for("document.querySelector('#health').textContent === 'healthy'");
    browser.wait_for("document.querySelector('#sentence').textContent.includes('no sessions')");

    let little = Program::start(tunnel.entry, LITTLE, [ALL, NOTHING]);
    browser.wait_for("document.querySelectorAll('#rows tr').length === 1");
    let rate = "parseFloat(document.querySelectorAll('#tiles b')[0].textContent)";
    browser.wait_for(&format!("{rate} > 0.5 && {rate} < 3"));
    let before = little.sent();
    let shown = browser.ask(&format!("{SENT}[0]"));
    let unit = |s: &str| s.ends_with("kB") || s.ends_with("MB");
    assert!(shown.as_str().is_some_and(unit), "{shown}");
    // it goes on by itself
    browser.wait_for(&format!("{SENT}[0] !== {shown}"));
    assert!(little.sent() > before);
    let line = "document.querySelector('.chart path.a').getAttribute('d')";
    browser.wait_for(&format!("{line}.split('L').length > 3"));

    // beside it one that sends all it can: the operator's limit
    let _much = Program::start(tunnel.entry, ALL, [ALL, NOTHING]);
    settles_on(&mut browser, "cap", "your own limit holds it: rate.up");
    browser.wait_for("document.querySelectorAll('#rows tr').length === 2");
    browser.wait_for("Math.abs(sessions[0].bytes_sent - sessions[1].bytes_sent) > 2e6");

    let click = "document.querySelectorAll('#heads button')[5].click()";
    let sizes = "sessions.map(s => s.bytes_sent)";
    browser.ask(click);
    let falling = browser.ask(sizes);
    assert_eq!(
        browser.ask("document.querySelectorAll('#heads th')[5].getAttribute('aria-sort')"),
        "descending"
    );
    assert!(falling[0].as_u64() > falling[1].as_u64(), "{falling}");
    let rows = browser.ask(NUMBERS);
    assert_eq!(rows, browser.ask("sessions.map(s => s.number)"));
    browser.ask(click);
    let rising = browser.ask(sizes);
    assert!(rising[0].as_u64() < rising[1].as_u64(), "{rising}");
    // and stays so
    let look = browser.ask("last");
    browser.wait_for(&format!("last > {look}"));
    let now = browser.ask(NUMBERS);
    assert_eq!((&now[0], &now[1]), (&rows[1], &rows[0]));

    for (name, width, theme) in [
        ("light", 1120, "light"),
        ("dark", 1120, "dark"),
        ("phone", 390, "light"),
        ("phone-dark", 390, "dark"),
    ] {
        browser.screen(width, 844, theme);
        // nothing sticks out to the side, and the ground follows the theme
        assert_eq!(
            browser.ask("document.documentElement.scrollWidth <= innerWidth"),
            true,
            "{name}"
        );
        let ground = browser.ask("getComputedStyle(document.body).backgroundColor");
        assert_eq!(ground == "rgb(14, 18, 23)", theme == "dark", "{ground}");
        browser.picture(name);
    }

    let Tunnel { server, peer, .. } = tunnel;
    drop((server, little));
    settles_on(&mut browser, "silent", "The other end does not answer");
    browser.wait_for("document.querySelector('#health').textContent === 'not healthy'");
    browser.picture("silent");
    assert_eq!(browser.complaints, [""; 0]);
    drop(peer);
    browser.wait_for("document.body.className === 'stale'");
}

#[test]
fn the_limit_is_named_in_whatever_situation() {
    let Some(mut browser) = browser() else { return };
    let http = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut plan = Plan::to(serve(service));
    let line = Line::to(
        plan.udp(),
        Shape {
            rate: 2e6,
            delay: Duration::from_millis(10),
            queue: Duration::from_millis(100),
            loss: 0.0,
        },
    );
    plan.peer
        .insert("udp_connect".into(), line.at.to_string().into());
    plan.peer.insert("http_listen".into(), http.port().into());
    // few packets fill it, and on this line they are many
    plan.server.insert("kcp".into(), json!({"rcvwnd": 256}));
    let tunnel = plan.start();
    let entry = tunnel.entry;
    browser.screen(1120, 900, "light");
    browser.open(&format!("http://{http}/"));

    settles_on(&mut browser, "idle", "Nothing to carry");

    let slow_service = Program::start(entry, NOTHING, [ALL, LITTLE]);
    let words = "the service at the other end limits it: the tunnel would carry more";
    settles_on(&mut browser, "source", words);
    drop(slow_service);

    let upload = Program::start(entry, ALL, [ALL, NOTHING]);
    settles_on(&mut browser, "line", "the line limits it: it carries about");
    browser.picture("line");

    line.change(|shape| shape.loss = 0.25);
    let words = "of the packets are lost on the way";
    settles_on(&mut browser, "loss", words);
    browser.picture("loss");
    line.change(|shape| shape.loss = 0.0);
    drop(upload);

    // its window closes
    let _unread = Program::start(entry, ALL, [NOTHING, NOTHING]);
    let words = "the service at the other end limits it: it takes data more slowly";
    settles_on(&mut browser, "reader_there", words);
    browser.picture("reader");

    assert_eq!(browser.complaints, [""; 0]);
}
