//! Chromium without a window, driven over its DevTools protocol: messages of JSON, each with a zero after it, through two pipes.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// `$CHROMIUM`, or what systems call it; none where there is none.
///
/// # Panics
/// Where there is none and `$MILENAS_BROWSER` says that there must be.
pub fn chromium() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Some(path.into());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&folders)
        .flat_map(|f| names.map(|name| f.join(name)))
        .find(|path| path.exists());
    assert!(
        found.is_some() || std::env::var_os("MILENAS_BROWSER").is_none(),
        "no Chromium on the PATH or in $CHROMIUM, and $MILENAS_BROWSER asks for one"
    );
    found
}

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    sent: u64,
    /// Events received so far.
    events: Vec<Value>,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts it with an empty profile.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(program: &Path) -> Browser {
        let folder = tempfile::tempdir().expect("a folder");
        let [commands, answers] = ["commands", "answers"].map(|name| folder.path().join(name));
        let made = Command::new("mkfifo").args([&commands, &answers]).status();
        assert!(made.expect("mkfifo is there").success());
        // It reads from descriptor 3 and writes to 4.
        let child = Command::new("sh")
            .args(["-c", "in=$1 out=$2; shift 2; exec \"$@\" 3<\"$in\" 4>\"$out\"", "sh"])
            .args([&commands, &answers])
            .arg(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--remote-debugging-pipe", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let to = OpenOptions::new().write(true).open(commands).expect("it reads commands");
        let from = BufReader::new(File::open(answers).expect("it writes answers"));
        let (session, events) = (None, Vec::new());
        let mut browser = Browser { child, to, from, session, sent: 0, events, _folder: folder };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.ask("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(String::from);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    fn next(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).expect("it can be read from");
        assert_eq!(bytes.pop(), Some(0), "the browser is gone");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// Sends a command and returns its answer; events that arrive before it are kept.
    ///
    /// # Panics
    /// Panics if the browser refuses the command.
    #[track_caller]
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("it can be written to");
        loop {
            let mut answer = self.next();
            if answer["id"] == self.sent {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.events.push(answer);
        }
    }

    /// Opens a file and waits until it is loaded. Returns its console messages, and the
    /// addresses that it requested, except its own and `data:` URLs.
    pub fn open(&mut self, page: &Path) -> (Vec<String>, Vec<String>) {
        self.events.clear();
        let own = format!("file://{}", page.display());
        self.ask("Page.navigate", json!({ "url": own }));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.next();
            self.events.push(event);
        }
        // Late events arrive before the answer to this.
        self.value("document.readyState");
        let of = |methods: &[&str]| {
            let methods: Vec<_> = methods.iter().map(|method| json!(method)).collect();
            self.events.iter().filter(move |event| methods.contains(&event["method"])).collect::<Vec<_>>()
        };
        let console = of(&["Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"]);
        let asked = of(&["Network.requestWillBeSent"])
            .into_iter()
            .filter_map(|event| event["params"]["request"]["url"].as_str().map(String::from))
            .filter(|url| *url != own && !url.starts_with("data:"));
        (console.into_iter().map(|event| event["params"].to_string()).collect(), asked.collect())
    }

    /// The value of an expression in the page.
    ///
    /// # Panics
    /// When it throws.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.ask("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Sets the size of the window, in pixels.
    pub fn resize(&mut self, width: usize, height: usize) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.ask("Emulation.setDeviceMetricsOverride", size);
    }

    /// Shows it on `"screen"` or in `"print"`, to someone who prefers `"light"` or `"dark"`.
    pub fn show(&mut self, media: &str, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", json!({ "media": media, "features": features }));
    }

    /// Presses a key, by its name and number.
    pub fn press(&mut self, key: &str, code: u32) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event =
                json!({ "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code });
            self.ask("Input.dispatchKeyEvent", event);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
