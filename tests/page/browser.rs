//! A headless Chromium, spoken to through two pipes: its DevTools protocol, one JSON text after the
//! other, each ended by NUL.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A browser that says nothing for so long has failed. It is no measure of anything.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Starts it without a network of its own: no updates, no reports, no proxies.
const OPTIONS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
];

/// A running browser. Dropping it ends it.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    last_id: u64,
    /// What pages complained about, and every address that was asked for.
    pub errors: Vec<String>,
    pub loads: Vec<String>,
    _profile: TempDir,
}

/// How a page is looked at.
#[derive(Clone, Copy)]
pub struct View {
    pub width: u32,
    pub scheme: &'static str,
    pub media: &'static str,
}

/// One open page.
pub struct Tab {
    session: String,
}

/// Where Chromium is, if it is.
pub fn chromium() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).map(|folder| folder.join("chromium")).find(|it| it.is_file())
}

impl Browser {
    /// Starts `program` with a profile of its own.
    pub fn start(program: PathBuf) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut folder = OsString::from("--user-data-dir=");
        folder.push(profile.path());
        // Chromium reads commands from descriptor 3 and writes to 4.
        let pipes = "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null";
        let mut child = Command::new("sh")
            .args(["-c", pipes, "sh"])
            .arg(program)
            .args(OPTIONS)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    break;
                }
            }
        });
        let (errors, loads) = (Vec::new(), Vec::new());
        Self { child, input, messages, last_id: 0, errors, loads, _profile: profile }
    }

    /// Calls a method, of a tab or of the whole, and returns its result.
    pub fn call(&mut self, tab: Option<&Tab>, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(tab) = tab {
            message["sessionId"] = json!(tab.session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let reply = self.messages.recv_timeout(SILENCE_MAX).expect("the browser answers");
            if reply["id"] == self.last_id {
                assert!(reply["error"].is_null(), "{method}: {}", reply["error"]);
                return reply["result"].clone();
            }
            self.notice(&reply);
        }
    }

    /// Writes down what an event says of errors and loads.
    fn notice(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded" => {
                self.errors.push(params.to_string());
            }
            "Network.requestWillBeSent" => {
                self.loads.push(params["request"]["url"].as_str().unwrap().to_owned());
            }
            _ => {}
        }
    }

    /// Opens an address and waits until it is loaded and its scripts have run.
    pub fn open(&mut self, address: &str, view: View) -> Tab {
        let target = self.call(None, "Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.call(None, "Target.attachToTarget", attach);
        let tab = Tab { session: session["sessionId"].as_str().unwrap().to_owned() };
        for domain in ["Runtime.enable", "Log.enable", "Network.enable", "Page.enable"] {
            self.call(Some(&tab), domain, json!({}));
        }
        self.look(&tab, view);
        self.call(Some(&tab), "Page.navigate", json!({ "url": address }));
        let loaded = "new Promise(done => document.readyState === 'complete' ? done(true) \
                      : addEventListener('load', () => done(true)))";
        assert_eq!(self.evaluate(&tab, loaded), json!(true));
        tab
    }

    /// Sets width, colours and medium.
    pub fn look(&mut self, tab: &Tab, view: View) {
        let is_phone = view.width < 500;
        let size = json!({
            "width": view.width, "height": 800, "deviceScaleFactor": 1, "mobile": is_phone
        });
        self.call(Some(tab), "Emulation.setDeviceMetricsOverride", size);
        let features = json!([{ "name": "prefers-color-scheme", "value": view.scheme }]);
        let media = json!({ "media": view.media, "features": features });
        self.call(Some(tab), "Emulation.setEmulatedMedia", media);
    }

    /// The value of an expression, awaited.
    pub fn evaluate(&mut self, tab: &Tab, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let result = self.call(Some(tab), "Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// The whole page as PNG, in base64.
    pub fn screenshot(&mut self, tab: &Tab) -> String {
        let size = "[document.documentElement.clientWidth, document.documentElement.scrollHeight]";
        let size = self.evaluate(tab, size);
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let params = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let image = self.call(Some(tab), "Page.captureScreenshot", params);
        image["data"].as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.input.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        // Its pipe closes when all of its processes are gone; then nothing writes to the profile.
        while self.messages.recv_timeout(Duration::from_secs(10)).is_ok() {}
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
