//! A browser without a window, driven through chromedriver: pages are opened, clicked, typed to and looked at as people do.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use ureq::Agent;

use crate::{
    privileges::remark,
    running::{Running, limit},
};

/// Time between two looks at a page.
const PAUSE: Duration = Duration::from_millis(50);
/// The key of an element's id in answers (W3C WebDriver, 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// For [`Browser::faint`].
const FAINT: &str = "
    function numbers(colour) { return colour.match(/[\\d.]+/g).map(Number); }
    function light(colour) {
      var parts = numbers(colour).slice(0, 3).map(function (part) {
        part /= 255;
        return part <= 0.03928 ? part / 12.92 : Math.pow((part + 0.055) / 1.055, 2.4);
      });
      return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    }
    function behind(element) {
      for (; element; element = element.parentElement) {
        var colour = getComputedStyle(element).backgroundColor, alpha = numbers(colour)[3];
        if (alpha === undefined || alpha === 1) { return colour; }
      }
      return 'rgb(255, 255, 255)';
    }
    return Array.from(document.body.querySelectorAll('*')).filter(function (element) {
      var own = Array.from(element.childNodes).some(function (node) { return node.nodeType === 3 && node.data.trim() !== ''; });
      if (!own || element.closest('svg, script') || element.getClientRects().length === 0) { return false; }
      var style = getComputedStyle(element), both = [light(style.color), light(behind(element))].sort();
      return (Math.max(both[0], both[1]) + 0.05) / (Math.min(both[0], both[1]) + 0.05) < 4.5 || style.opacity !== '1';
    }).map(function (element) { return element.outerHTML.slice(0, 200); });";

/// For [`Browser::wide`].
const WIDE: &str =
    "return [document.documentElement].concat(Array.from(document.querySelectorAll('.wide, pre')))
    .filter(function (element) { return element.scrollWidth > element.clientWidth; })
    .map(function (element) { return [element.tagName, element.scrollWidth, element.clientWidth]; });";

/// Keys that have no character (W3C WebDriver, 17.4.2).
pub mod keys {
    #![allow(missing_docs, reason = "the names are those of the keys")]
    pub const ENTER: char = '\u{e007}';
    pub const ESCAPE: char = '\u{e00c}';
    pub const TAB: char = '\u{e004}';
    pub const DOWN: char = '\u{e015}';
    pub const RIGHT: char = '\u{e014}';
    pub const UP: char = '\u{e013}';
}

/// A Chromium of its own, which ends with the value.
#[derive(Debug)]
pub struct Browser {
    agent: Agent,
    /// The address of the session.
    session: String,
    /// Only kept: ends with the value.
    _driver: Running,
    /// Profiles and what else both programs leave behind.
    _directory: tempfile::TempDir,
}

/// An element of the page that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element(String);

impl Browser {
    /// Starts one; `None`, with a remark, where there is no Chromium or no chromedriver.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        for program in ["chromium", "chromedriver"] {
            let said = Command::new(program).arg("--version").output();
            if !said.is_ok_and(|output| output.status.success()) {
                remark(&format!("skipped: needs {program}"));
                return None;
            }
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("chromedriver");
        let mut driver = Running::spawn(command.arg("--port=0").env("TMPDIR", directory.path()));
        let line = driver.line_with("started successfully on port ");
        let port = line.rsplit(' ').next().map(|port| port.trim_end_matches('.')).expect("a port");
        let config = Agent::config_builder().timeout_global(Some(limit())).http_status_as_error(false);
        let agent: Agent = config.build().into();
        let session = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { agent, session, _driver: driver, _directory: directory };
        // As root, and in containers without user namespaces and with a small /dev/shm.
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let started = browser.post(
            "",
            &json!({"capabilities": {"alwaysMatch": {
                "browserName": "chrome",
                "unhandledPromptBehavior": "ignore",
                "goog:loggingPrefs": {"browser": "ALL"},
                "goog:chromeOptions": {"args": arguments},
            }}}),
        );
        let id = started["sessionId"].as_str().expect("the id of a session");
        browser.session = format!("{}/{id}", browser.session);
        Some(browser)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.agent.post(format!("{}{path}", self.session)).send(body.to_string());
        Self::value(path, answer)
    }

    fn get(&self, path: &str) -> Value {
        Self::value(path, self.agent.get(format!("{}{path}", self.session)).call())
    }

    fn value(path: &str, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Value {
        let mut answer = answer.unwrap_or_else(|error| panic!("chromedriver{path}: {error}"));
        let body = answer.body_mut().read_to_string().expect("an answer");
        let mut body: Value = serde_json::from_str(&body).expect("an answer in JSON");
        let value = body["value"].take();
        assert!(answer.status().is_success(), "chromedriver{path}: {}: {}", value["error"], value["message"]);
        value
    }

    /// Opens a file, at a fragment such as `#q=NAME`, or ``.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn open(&self, file: &Path, fragment: &str) {
        // The same page at another fragment would not be loaded again.
        self.post("/url", &json!({"url": "about:blank"}));
        self.post("/url", &json!({"url": format!("file://{}{fragment}", file.display())}));
    }

    /// What a script returns: the body of a function.
    ///
    /// # Panics
    /// If it throws.
    #[must_use]
    pub fn script(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({"script": body, "args": []}))
    }

    /// Waits until what a script returns `is_it`, and returns that.
    ///
    /// # Panics
    /// If that does not happen within [`limit`].
    pub fn script_when(&self, body: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + limit();
        loop {
            let value = self.script(body);
            if is_it(&value) {
                return value;
            }
            assert!(Instant::now() < end, "{body}: {value}");
            std::thread::sleep(PAUSE);
        }
    }

    /// The elements that a CSS selector names, in the order of the document.
    ///
    /// # Panics
    /// If it is no selector.
    #[must_use]
    pub fn all(&self, selector: &str) -> Vec<Element> {
        let found = self.post("/elements", &json!({"using": "css selector", "value": selector}));
        let id = |of: &Value| Element(of[ELEMENT].as_str().expect("an element").to_owned());
        found.as_array().expect("elements").iter().map(id).collect()
    }

    /// The only element that a CSS selector names.
    ///
    /// # Panics
    /// If there is none, or several.
    #[must_use]
    pub fn one(&self, selector: &str) -> Element {
        let mut all = self.all(selector);
        assert_eq!(all.len(), 1, "{selector}");
        all.remove(0)
    }

    /// Clicks on the middle of an element.
    ///
    /// # Panics
    /// If something else is there.
    pub fn click(&self, element: &Element) {
        self.post(&format!("/element/{}/click", element.0), &json!({}));
    }

    /// The name that assistive technology gives an element, as Chromium computes it.
    ///
    /// # Panics
    /// If it is no longer there.
    #[must_use]
    pub fn label(&self, element: &Element) -> String {
        self.get(&format!("/element/{}/computedlabel", element.0)).as_str().unwrap_or_default().to_owned()
    }

    /// The role of an element, as Chromium computes it.
    ///
    /// # Panics
    /// If it is no longer there.
    #[must_use]
    pub fn role(&self, element: &Element) -> String {
        self.get(&format!("/element/{}/computedrole", element.0)).as_str().unwrap_or_default().to_owned()
    }

    /// Presses keys, one after another, wherever the focus is.
    ///
    /// # Panics
    /// If they cannot be typed.
    pub fn press(&self, text: &str) {
        let actions: Vec<Value> = text
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|what| json!({"type": what, "value": key.to_string()})))
            .collect();
        let keyboard = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.post("/actions", &keyboard);
    }

    /// Answers the question that the page asks (`window.prompt`).
    ///
    /// # Panics
    /// If it asks none.
    pub fn answer(&self, text: &str) {
        self.post("/alert/text", &json!({"text": text}));
        self.post("/alert/accept", &json!({}));
    }

    /// Elements of a page whose text has too little contrast to what is behind it (WCAG 2.1, 1.4.3), or that are partly
    /// transparent. Charts are left out: their text has halos.
    ///
    /// # Panics
    /// If no page is open.
    #[must_use]
    pub fn faint(&self) -> Value {
        self.script(FAINT)
    }

    /// What is wider on a page than there is room for.
    ///
    /// # Panics
    /// If no page is open.
    #[must_use]
    pub fn wide(&self) -> Value {
        self.script(WIDE)
    }

    fn command(&self, name: &str, parameters: &Value) {
        self.post("/goog/cdp/execute", &json!({"cmd": name, "params": parameters}));
    }

    /// Makes the window as wide and high, in CSS pixels: a phone's if it is narrow.
    ///
    /// # Panics
    /// If that does not work.
    pub fn resize(&self, (width, height): (u32, u32)) {
        let mobile = width < 500;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.command("Emulation.setDeviceMetricsOverride", &size);
        self.script_when("return innerWidth", |now| now.as_u64() >= Some(width.into()));
    }

    /// Prefers `dark` or `light` colours.
    ///
    /// # Panics
    /// If that does not work.
    pub fn prefer(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.command("Emulation.setEmulatedMedia", &features);
    }

    /// What has come to the console since the last call: errors, warnings, and what pages wrote.
    ///
    /// # Panics
    /// If there is no log.
    #[must_use]
    pub fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"}));
        entries.as_array().expect("a log").iter().map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session.
        let _ = self.agent.delete(&self.session).call();
    }
}
