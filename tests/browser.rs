//! The page in a real browser: Chromium, where it is installed, told what to do over its debugging pipe. With
//! KCPTUN_SCREENSHOTS=directory it leaves pictures there.

#[path = "e2e/harness.rs"]
mod harness;

use base64::{Engine, engine::general_purpose::STANDARD};
use harness::*;
use serde_json::{Value, json};
use std::fs::{self, File as Pipe};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

/// A browser may start slowly.
const SLOW: Duration = Duration::from_secs(60);

/// A browser with one page. It is killed when this goes.
struct Browser {
    child: Child,
    to: Pipe,
    from: Receiver<Value>,
    session: Option<String>,
    last: u64,
    directory: PathBuf,
    /// What the page has complained of.
    complaints: Vec<String>,
}

impl Browser {
    /// None where there is no Chromium.
    fn start() -> Option<Browser> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let installed = |name: &&str| {
            let version = Command::new(name).arg("--version").output();
            version.is_ok_and(|output| output.status.success())
        };
        let program = names.into_iter().find(installed)?;
        let name = format!("kcptun-browser-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory");
        let pipe = |name: &str| {
            let path = directory.join(name);
            let made = Command::new("mkfifo").arg(&path).status();
            assert!(made.is_ok_and(|status| status.success()));
            path
        };
        let (to, from) = (pipe("to"), pipe("from"));
        let child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<"$TO" 4>"$FROM""#, program])
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", directory.display()))
            .env("TO", &to)
            .env("FROM", &from)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let to = Pipe::options().write(true).open(to).expect("a pipe");
        let mut from = BufReader::new(Pipe::open(from).expect("a pipe"));
        let (sender, messages) = channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while from.read_until(0, &mut message).is_ok_and(|n| n > 0) {
                message.pop();
                let value = serde_json::from_slice(&message).expect("JSON");
                if sender.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Browser {
            child,
            to,
            from: messages,
            session: None,
            last: 0,
            directory,
            complaints: Vec::new(),
        };
        let page = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": page["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", target);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", json!({}));
        browser.call("Runtime.enable", json!({}));
        browser.call("Log.enable", json!({}));
        Some(browser)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let bytes = [message.to_string().as_bytes(), b"\0"].concat();
        self.to.write_all(&bytes).expect("the browser listens");
        loop {
            let answer = self.from.recv_timeout(SLOW).expect("the browser answers");
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            let kind = answer["method"].as_str().unwrap_or_default();
            let error = answer["params"]["entry"]["level"] == "error";
            if kind == "Runtime.exceptionThrown" || error {
                self.complaints.push(answer["params"].to_string());
            }
        }
    }

    /// What an expression of JavaScript gives.
    fn ask(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", params);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    fn wait_for(&mut self, expression: &str) {
        // the page may not be there yet
        let patient =
            format!("(() => {{ try {{ return {expression} }} catch {{ return false }} }})()");
        for _ in 0..300 {
            if self.ask(&patient) == true {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let shown = self.ask("document.body.innerText");
        panic!(
            "never: {expression}\n{}",
            shown.as_str().unwrap_or_default()
        );
    }

    fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
    }

    /// As a screen of this size, light or dark.
    fn screen(&mut self, width: u32, height: u32, theme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    fn picture(&mut self, name: &str) {
        let Ok(directory) = std::env::var("KCPTUN_SCREENSHOTS") else {
            return;
        };
        let shot = self.call(
            "Page.captureScreenshot",
            json!({"captureBeyondViewport": true}),
        );
        let png = STANDARD.decode(shot["data"].as_str().expect("a picture"));
        let path = PathBuf::from(directory).join(format!("{name}.png"));
        fs::write(path, png.expect("base64")).expect("a file");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // its own children may still write
        for _ in 0..20 {
            if fs::remove_dir_all(&self.directory).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Services that begin to read only when this is set.
static READS: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Reads all, but for connections whose first byte is an s: these wait for `READS`.
fn sink(mut stream: TcpStream) {
    let mut bytes = vec![0; 64 * 1024];
    if stream.read_exact(&mut bytes[..1]).is_err() {
        return;
    }
    let stalls = bytes[0] == b's';
    while stalls && !READS.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
    while stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
}

/// A program that sends `piece` bytes each 10 ms until `stop`; the first byte says what it is.
fn program(entry: SocketAddr, kind: u8, piece: usize, stop: &Arc<AtomicBool>) -> Arc<AtomicUsize> {
    let (stop, sent) = (stop.clone(), Arc::new(AtomicUsize::new(0)));
    let count = sent.clone();
    thread::spawn(move || {
        let mut stream = TcpStream::connect(entry).expect("a connection");
        let bytes = vec![kind; piece];
        let short = Some(Duration::from_millis(200));
        stream.set_write_timeout(short).expect("an option");
        while !stop.load(Ordering::Relaxed) {
            if let Ok(n) = stream.write(&bytes) {
                count.fetch_add(n, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_millis(10));
        }
    });
    sent
}

const COLUMN: &str =
    "[...document.querySelectorAll('#rows tr')].map(r => r.children[5].textContent)";

#[test]
fn the_page_shows_what_happens() {
    let Some(mut browser) = Browser::start() else {
        println!(
            "skipped: Chromium is not installed (Debian: chromium), the page is not tried in a browser"
        );
        return;
    };
    let http = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut plan = Plan::to(serve(sink));
    plan.peer.insert("http_listen".into(), http.port().into());
    plan.peer.insert("rate".into(), json!({"up": 16}));
    let tunnel = plan.start();
    let limit = |by: &str| format!("document.querySelector('#limit').classList.contains('{by}')");
    browser.screen(1120, 900, "light");
    browser.open(&format!("http://{http}/"));

    // nothing to carry
    browser.wait_for(&limit("idle"));
    browser.wait_for("document.querySelector('#health').textContent === 'healthy'");
    browser.wait_for("document.querySelector('#sentence').textContent.includes('no sessions')");

    // a program that sends little: 1.6 Mbit/s
    let stop = Arc::new(AtomicBool::new(false));
    let sent = program(tunnel.entry, b'r', 2_000, &stop);
    browser.wait_for(&limit("source"));
    let rate = "parseFloat(document.querySelectorAll('#tiles b')[0].textContent)";
    browser.wait_for(&format!("{rate} > 0.5 && {rate} < 3"));
    browser.wait_for("document.querySelectorAll('#rows tr').length === 1");
    let before = sent.load(Ordering::Relaxed);
    let shown = browser.ask(&format!("{COLUMN}[0]"));
    assert!(
        shown
            .as_str()
            .is_some_and(|s| s.ends_with("kB") || s.ends_with("MB")),
        "{shown}"
    );
    // it goes on by itself
    browser.wait_for(&format!("{COLUMN}[0] !== {shown}"));
    assert!(sent.load(Ordering::Relaxed) > before);
    let line = "document.querySelector('.chart path.a').getAttribute('d')";
    browser.wait_for(&format!("{line}.split('L').length > 3"));

    // beside it one that sends all it can: the operator's limit
    let full = Arc::new(AtomicBool::new(false));
    program(tunnel.entry, b'r', 1 << 20, &full);
    browser.wait_for(&limit("cap"));
    browser.wait_for("document.querySelector('#sentence').textContent.includes('rate.up')");
    browser.wait_for("document.querySelectorAll('#rows tr').length === 2");

    // the table sorts
    let click = "document.querySelectorAll('#heads button')[5].click()";
    let sizes = "sessions.map(s => s.bytes_sent)";
    browser.ask(click);
    let falling = browser.ask(sizes);
    assert_eq!(
        browser.ask("document.querySelectorAll('#heads th')[5].getAttribute('aria-sort')"),
        "descending"
    );
    assert!(falling[0].as_u64() > falling[1].as_u64(), "{falling}");
    let rows = browser
        .ask("[...document.querySelectorAll('#rows tr')].map(r => r.children[0].textContent)");
    assert_eq!(rows, browser.ask("sessions.map(s => s.number)"));
    browser.ask(click);
    let rising = browser.ask(sizes);
    assert!(rising[0].as_u64() < rising[1].as_u64(), "{rising}");

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
    browser.screen(1120, 900, "light");
    full.store(true, Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);

    // a reader that does not read
    let stalled = Arc::new(AtomicBool::new(false));
    program(tunnel.entry, b's', 1 << 20, &stalled);
    browser.wait_for(&limit("reader_there"));
    browser.picture("reader");
    READS.store(true, Ordering::Relaxed);
    stalled.store(true, Ordering::Relaxed);

    // the other end is gone
    let Tunnel { server, peer, .. } = tunnel;
    drop(server);
    let unheard = Arc::new(AtomicBool::new(false));
    program(plan.entry(), b'r', 1 << 10, &unheard);
    browser.wait_for(&limit("silent"));
    browser.wait_for("document.querySelector('#health').textContent === 'not healthy'");
    browser.picture("silent");
    unheard.store(true, Ordering::Relaxed);

    // and now the daemon itself
    assert_eq!(browser.complaints, [""; 0]);
    drop(peer);
    browser.wait_for("document.body.className === 'stale'");
}
