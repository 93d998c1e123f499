//! Chromium without a window, where it is installed, told what to do over its debugging pipe. With
//! KCPTUN_SCREENSHOTS=directory it leaves pictures there.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::fs::{self, File as Pipe};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

static COUNTER: AtomicUsize = AtomicUsize::new(0);

/// A browser may start slowly.
const SLOW: Duration = Duration::from_secs(60);

/// A browser with one page. It is killed when this goes.
pub struct Browser {
    child: Child,
    to: Pipe,
    from: Receiver<Value>,
    session: Option<String>,
    last: u64,
    directory: PathBuf,
    /// What the page has complained of.
    pub complaints: Vec<String>,
}

impl Browser {
    /// None where there is no Chromium.
    pub fn start() -> Option<Browser> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let installed = |name: &&str| {
            let version = Command::new(name).arg("--version").output();
            version.is_ok_and(|output| output.status.success())
        };
        let program = names.into_iter().find(installed)?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kcptun-browser-{}-{number}", std::process::id());
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
    pub fn ask(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", params);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    pub fn wait_for(&mut self, expression: &str) {
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

    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
    }

    /// As a screen of this size, light or dark.
    pub fn screen(&mut self, width: u32, height: u32, theme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    pub fn picture(&mut self, name: &str) {
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
