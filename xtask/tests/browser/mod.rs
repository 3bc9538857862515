//! A real browser without a window. It is controlled with the DevTools protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>) over a pair of pipes: messages are JSON, each ended by a zero byte.
//!
//! It is built from a distribution's packages like the emulators, and needs no root, no network and no software of this
//! machine.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nestmatrix_images::{Emulator, Product, Recipe};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/chromium-amd64.toml");
const PROGRAM: &str = "chromium-headless-shell";
/// Longest wait for an answer or an event.
const ANSWER: Duration = Duration::from_secs(120);

/// A browser with one page.
pub struct Browser {
    process: Child,
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    /// Messages that arrived during the wait for another one.
    events: VecDeque<Value>,
    calls: u64,
    session: Option<String>,
    _folder: TempDir,
}

impl Browser {
    /// Starts it, with a window of this size.
    pub fn start(width: u32, height: u32) -> Self {
        let recipe = Recipe::load(Path::new(RECIPE)).unwrap();
        let emulator = Emulator::new(crate::common::images::image(&recipe, Product::Emulator)).unwrap();
        let folder = tempfile::Builder::new().prefix("nest.").tempdir_in("/tmp").unwrap();
        let program = set_up(&emulator, folder.path());
        // The browser uses the file descriptors 3 and 4; a shell opens them.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 0</dev/null 1>/dev/null"#]).arg(&program);
        // Its sandbox needs rights that containers don't have, or a user other than root. The pages are the tests' own.
        command.args([
            "--no-sandbox",
            "--no-zygote",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]);
        command.args(["--disable-breakpad", "--disable-background-networking", "--remote-debugging-pipe"]);
        command.arg(format!("--browser-subprocess-path={}", program.display()));
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        command.env("FONTCONFIG_FILE", folder.path().join("fonts.conf")).env("HOME", folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut process = command.spawn().unwrap();
        let (to, out) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        let (sender, from) = channel();
        std::thread::spawn(move || {
            for message in out.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let events = VecDeque::new();
        let mut browser = Self { process, to, from, events, calls: 0, session: None, _folder: folder };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.resize(width, height);
        browser
    }

    /// Resizes the window.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Tells pages that the user prefers a dark, or a light, design.
    pub fn dark(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// Opens the file, and waits until it is loaded.
    pub fn open(&mut self, file: &Path) {
        self.open_url(&format!("file://{}", file.display()));
    }

    /// Opens a page by its address.
    pub fn open_url(&mut self, url: &str) {
        // A page that differs only in its fragment would not be loaded again.
        for url in ["about:blank", url] {
            self.events.clear();
            self.call("Page.navigate", json!({ "url": url }));
            self.wait_for("Page.loadEventFired");
        }
    }

    /// The value of an expression of JavaScript; a promise is awaited.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let arguments = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", arguments);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Presses a key, as the keyboard does.
    pub fn press(&mut self, key: &str) {
        let text = match key {
            "Enter" => "\r",
            key if key.chars().count() == 1 => key,
            _ => "",
        };
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            _ => 0,
        };
        let down = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
        let event = |kind: &str| json!({ "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", event(down));
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code }),
        );
        self.settle();
    }

    /// Types text at the cursor.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
        self.settle();
    }

    /// Clicks on the middle of the first element that the selector finds, as the mouse does.
    pub fn click(&mut self, selector: &str) {
        let expression = format!(
            "(() => {{ const element = document.querySelector({}); element.scrollIntoView({{ block: 'center' }});
             const at = element.getBoundingClientRect(); return [at.x + at.width / 2, at.y + at.height / 2] }})()",
            json!(selector)
        );
        let at = self.evaluate(&expression);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
        self.settle();
    }

    /// Waits until the page shows the result.
    fn settle(&mut self) {
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))");
    }

    /// Everything that the page has reported since it was opened: exceptions, entries of the console and dialogs.
    pub fn complaints(&mut self) -> Vec<Value> {
        self.settle();
        let kinds = [
            "Runtime.exceptionThrown",
            "Runtime.consoleAPICalled",
            "Log.entryAdded",
            "Page.javascriptDialogOpening",
        ];
        self.events
            .iter()
            .filter(|event| kinds.iter().any(|kind| event["method"] == *kind))
            .cloned()
            .collect()
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.as_mut().unwrap().write_all(&bytes).unwrap();
        let id = self.calls;
        let mut answer = self.next_until(method, |message| message["id"] == id);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].take()
    }

    fn wait_for(&mut self, event: &str) {
        if !self.events.iter().any(|seen| seen["method"] == event) {
            let seen = self.next_until(event, |message| message["method"] == event);
            self.events.push_back(seen);
        }
    }

    fn next_until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + ANSWER;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let message = self.from.recv_timeout(left).unwrap_or_else(|e| panic!("no answer to {what}: {e}"));
            if wanted(&message) {
                return message;
            }
            self.events.push_back(message);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when its pipe does; its group, with its other processes, is killed too.
        drop(self.to.take());
        let _ = killpg(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

/// Lays out in `folder` the files that the browser expects next to its program, and returns the program to start.
///
/// The browser assumes that the started file is its own program: it looks for its data next to that file, and starts it again
/// for its other processes. The started file is the loader, so a copy of the loader is next to the data.
fn set_up(emulator: &Emulator, folder: &Path) -> std::path::PathBuf {
    let (loader, arguments) = emulator.command(PROGRAM);
    let own_loader = folder.join("ld.so");
    fs::copy(loader, &own_loader).unwrap();
    for entry in fs::read_dir(emulator.data()).unwrap() {
        let path = entry.unwrap().path();
        symlink(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let words: Vec<String> = std::iter::once(own_loader.into_os_string())
        .chain(arguments)
        .map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''")))
        .collect();
    let program = folder.join(PROGRAM);
    fs::write(&program, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "))).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let family = |kind: &str, name: &str| {
        format!("<alias><family>{kind}</family><prefer><family>{name}</family></prefer></alias>")
    };
    let fonts = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig><dir>{}</dir><cachedir>{}</cachedir>{}{}</fontconfig>",
        emulator.data().display(),
        folder.join("fonts").display(),
        family("sans-serif", "DejaVu Sans"),
        family("monospace", "DejaVu Sans Mono"),
    );
    fs::write(folder.join("fonts.conf"), fonts).unwrap();
    program
}
