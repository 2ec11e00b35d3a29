//! Pages and pictures of a traced session, read and used in Chromium, where that is installed.

use std::{collections::BTreeMap, path::PathBuf};

use memtrace_tests::{
    CSource,
    browser::{Browser, keys},
    can_trace, compile, fixture, memtrace, run_tool,
    saved::shown,
    shared_directory,
};
use serde_json::Value;

/// A function's name that must not be taken for markup, and is wider than a phone.
const HOSTILE: &str = "<img/src=x/onerror=document.title='taken'>\"&amp;]]></script><!--_and_so_on_for_more_than_one_line_of_a_phone";

/// A session in a file, and what it is shown as.
struct Session {
    _directory: tempfile::TempDir,
    page: PathBuf,
    picture: PathBuf,
    json: Value,
}

/// Compiles the program, one function of which has the name.
fn service(directory: &tempfile::TempDir) -> PathBuf {
    let named = CSource { file: "page.c", options: &["-c", "-O1", "-DNAMED"] };
    let named = compile(directory.path(), "named.o", named);
    let options = ["-O1", "-g", named.to_str().expect("a path in UTF-8")];
    let program = compile(directory.path(), "service", CSource { file: "page.c", options: &options });
    let renamed = format!("keep_named={HOSTILE}");
    run_tool("objcopy", &["--redefine-sym", &renamed, program.to_str().expect("a path in UTF-8")]);
    program
}

impl Session {
    fn new() -> Self {
        let directory = shared_directory();
        let program = service(&directory);
        let [saved, page, picture] =
            ["session.mt", "page.html", "picture.svg"].map(|name| directory.path().join(name));
        let file = saved.to_str().expect("a path in UTF-8");
        let mut target = fixture::start_path(&program, &[]);
        let pid = target.pid().to_string();
        let options = ["-i", "1s", "-n", "6", "--max-overhead", "off", "--save", file];
        let finished = memtrace([&["attach", &pid][..], &options].concat());
        assert_eq!(finished.status, 0, "{}", finished.stderr);
        target.close_stdin();
        assert_eq!(target.finish().status, 0);
        for (format, path) in [("html", &page), ("svg", &picture)] {
            let path = path.to_str().expect("a path in UTF-8");
            assert_eq!(shown(&saved, &["-f", format, "-O", path]), "");
        }
        let json = serde_json::from_str(&shown(&saved, &["-f", "json", "-T", "0"])).expect("JSON");
        Self { _directory: directory, page, picture, json }
    }

    fn stacks(&self) -> impl Iterator<Item = &Value> {
        self.json["stacks"].as_array().expect("stacks").iter()
    }

    /// Bytes and blocks of the stacks with a function whose name contains this.
    fn held(&self, name: &str) -> (u64, u64) {
        let has = |frame: &Value| frame["function"].as_str().is_some_and(|function| function.contains(name));
        self.stacks()
            .filter(|stack| stack["frames"].as_array().expect("frames").iter().any(has))
            .fold((0, 0), |(bytes, blocks), stack| {
                (bytes + number(&stack["bytes"]), blocks + number(&stack["blocks"]))
            })
    }

    fn total(&self) -> u64 {
        number(&self.json["outstanding"]["bytes"])
    }
}

fn number(of: &Value) -> u64 {
    of.as_u64().unwrap_or_else(|| panic!("not a number: {of}"))
}

fn text(of: &Value) -> &str {
    of.as_str().unwrap_or_else(|| panic!("not a text: {of}"))
}

/// The share that a sentence ends in: `…, 45.6 %`.
fn share(sentence: &str) -> f64 {
    let number = sentence.trim_end_matches(" %").rsplit(' ').next();
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no share: {sentence}"))
}

fn assert_share(sentence: &str, part: u64, all: u64) {
    let expected = part as f64 / all as f64 * 100.0;
    assert!((share(sentence) - expected).abs() < 0.051, "{sentence}, not {expected} %");
}

/// A number as pages write it: `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// What can be read on a page: the name of each frame, and its share of the width of the graph.
const FRAMES: &str = "var full = document.getElementById('flame').clientWidth; \
    return Array.from(document.querySelectorAll('#flame button')).map(function (button) { return { \
    label: button.getAttribute('aria-label'), hit: button.classList.contains('hit'), \
    share: button.getBoundingClientRect().width / full }; });";

/// Where the focus is.
const FOCUS: &str = "var at = document.activeElement; return { tag: at.tagName.toLowerCase(), id: at.id, \
    frame: at.closest('#flame, #frames') !== null, seen: getComputedStyle(at).outlineStyle !== 'none', \
    label: at.getAttribute('aria-label') || (at.querySelector('title') || {}).textContent || '' };";

/// The selector of a frame of a page by the beginning of its label.
fn frame(name: &str) -> String {
    format!("#flame button[aria-label^=\"{name}:\"]")
}

#[test]
fn pages_have_the_figures_of_json() {
    if !can_trace() {
        return;
    }
    let Some(browser) = Browser::start() else { return };
    let session = Session::new();
    browser.open(&session.page, "");
    let data = browser.script("return JSON.parse(document.getElementById('data').textContent)");
    let outstanding = &session.json["outstanding"];
    assert!(number(&outstanding["bytes"]) > 100_000, "{outstanding}");
    assert_eq!([&data["bytes"][0], &data["blocks"][0]], [&outstanding["bytes"], &outstanding["blocks"]]);
    // Below the root are the verdicts.
    let column = |name: &str| data[name].as_array().expect("a column").iter().map(number).collect::<Vec<_>>();
    let (parents, labels, bytes) = (column("parents"), column("labels"), column("bytes"));
    let by_verdict: BTreeMap<&str, u64> = (1..parents.len())
        .filter(|&place| parents[place] == 0)
        .map(|place| (text(&data["names"][labels[place] as usize]), bytes[place]))
        .collect();
    let mut expected = BTreeMap::new();
    for stack in session.stacks() {
        *expected.entry(text(&stack["verdict"]).replace('_', " ")).or_insert(0) += number(&stack["bytes"]);
    }
    assert_eq!(by_verdict, expected.iter().map(|(kind, bytes)| (kind.as_str(), *bytes)).collect());
    // The table has the stacks in the order of the JSON.
    let cells = browser.script(
        "return Array.from(document.querySelectorAll('#stacks ~ .wide tr.head')).filter(function (row) { \
         return row.querySelector('td.n').textContent.indexOf('mapped') < 0; }).map(function (row) { return [row.querySelector('th').textContent, row.querySelectorAll('td.n')[1].textContent]; })",
    );
    let blocks: Vec<String> = session.stacks().map(|stack| grouped(number(&stack["blocks"]))).collect();
    let cells = cells.as_array().expect("rows");
    assert!(cells.iter().any(|cell| text(&cell[0]) == HOSTILE), "{cells:?}");
    let of_table: Vec<&str> =
        cells.iter().map(|cell| text(&cell[1]).split(char::is_whitespace).next().unwrap_or("")).collect();
    assert_eq!(of_table, blocks);
    // Names are text.
    assert_eq!(browser.script("return document.querySelectorAll('img').length"), 0);
    assert!(text(&browser.script("return document.title")).starts_with("memtrace: service (pid "));
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn pages_zoom_and_search() {
    if !can_trace() {
        return;
    }
    let Some(browser) = Browser::start() else { return };
    let session = Session::new();
    browser.open(&session.page, "");
    let drawn = |name: &str| {
        let frames = browser.script(FRAMES);
        let frames = frames.as_array().expect("frames").clone();
        let found = frames.into_iter().find(|frame| text(&frame["label"]).starts_with(&format!("{name}:")));
        found.map(|frame| frame["share"].as_f64().expect("a share"))
    };
    let is_all = |share: Option<f64>| share.is_some_and(|share| (share - 1.0).abs() < 0.01);
    let (bytes, blocks) = session.held("log_append");
    let share = drawn("log_append").expect("a frame");
    assert!((share - bytes as f64 / session.total() as f64).abs() < 0.01, "{share}, {bytes}");
    browser.click(&browser.one(&frame("log_append")));
    assert!(is_all(drawn("log_append")) && is_all(drawn("all")) && drawn("refill_cache").is_none());
    browser.click(&browser.one("#reset"));
    assert!(!is_all(drawn("log_append")) && drawn("refill_cache").is_some());

    browser.click(&browser.one("#search"));
    browser.press("LOG_app");
    let about = "return document.getElementById('about').textContent";
    let matched = browser.script(about);
    let sentence = text(&matched);
    assert!(sentence.starts_with("Matched: 1 frame, "), "{sentence}");
    assert!(sentence.contains(&format!(" in {} blocks, ", grouped(blocks))), "{sentence}");
    assert_share(sentence, bytes, session.total());
    for frame in browser.script(FRAMES).as_array().expect("frames") {
        let is_one = text(&frame["label"]).starts_with("log_append:");
        assert_eq!(frame["hit"], is_one, "{frame}");
    }
    browser.open(&session.page, "#q=log%5Fappend");
    assert_eq!(browser.script(about), matched);
    // A link that was cut off.
    browser.open(&session.page, "#q=%E2%8");
    assert!(text(&browser.script(about)).starts_with("Matched: 0 frames, "));
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn pages_are_for_everyone() {
    if !can_trace() {
        return;
    }
    let Some(browser) = Browser::start() else { return };
    let session = Session::new();
    browser.open(&session.page, "");
    let headings = browser.script(
        "return Array.from(document.querySelectorAll('h1, h2, h3, h4, h5, h6')).map(function (of) { return +of.tagName[1]; })",
    );
    let levels: Vec<u64> = headings.as_array().expect("headings").iter().map(number).collect();
    assert!(levels.len() > 4 && levels[0] == 1, "{levels:?}");
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1, "{levels:?}");
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
    let tables = browser.script(
        "return Array.from(document.querySelectorAll('table')).map(function (table) { return table.caption !== null && \
         Array.from(table.tHead.rows[0].cells).every(function (cell) { return cell.tagName === 'TH' && cell.scope === 'col'; }) && \
         Array.from(table.querySelectorAll('tbody tr:not(.more)')).every(function (row) { return row.querySelector('th[scope=row]'); }); })",
    );
    assert_eq!(tables, serde_json::json!([true]), "stacks and mappings");
    let mapped = browser.script("return document.querySelectorAll('#stacks ~ .wide tr.head').length");
    assert!(number(&mapped) > session.stacks().count() as u64, "{mapped}: those that map are among them");
    let named = browser.all("button, input, select, summary, a, [tabindex], svg[role=img], table");
    assert!(named.len() > 20, "{named:?}");
    for element in &named {
        assert_ne!(browser.label(element), "", "a {} without a name", browser.role(element));
    }
    let repeated = browser.script(
        "var ids = Array.from(document.querySelectorAll('[id]')).map(function (element) { return element.id; }); \
         return ids.filter(function (id, place) { return ids.indexOf(id) !== place; })",
    );
    assert_eq!(repeated, serde_json::json!([]));

    let _ = browser.script("document.querySelectorAll('details').forEach(function (of) { of.open = true; })");
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        let back = browser.script("return getComputedStyle(document.body).backgroundColor");
        assert_eq!(back == "rgb(255, 255, 255)", scheme == "light", "{back}");
        assert_eq!(browser.faint(), serde_json::json!([]), "{scheme}");
        // Callers of a zoomed frame too.
        browser.click(&browser.one(&frame("log_append")));
        assert_eq!(browser.faint(), serde_json::json!([]), "{scheme}, zoomed");
        browser.click(&browser.one("#reset"));
    }
    for width in [1280, 800, 360] {
        browser.resize((width, 800));
        assert_eq!(browser.wide(), serde_json::json!([]), "{width}");
        // However the table is laid out.
        for (selector, role) in
            [("table", "table"), ("tr.head", "row"), ("tr.head th", "rowheader"), ("tr.head td", "cell")]
        {
            assert_eq!(browser.role(&browser.all(selector)[0]), role, "{selector}, {width}");
        }
    }
    assert_eq!(browser.console(), [""; 0]);
}

/// Their text is that of a terminal.
#[test]
fn pages_of_scans_fit_on_phones() {
    if !can_trace() {
        return;
    }
    let Some(browser) = Browser::start() else { return };
    let directory = shared_directory();
    let mut target = fixture::start_path(service(&directory), &[]);
    let page = directory.path().join("scan.html");
    let pid = target.pid().to_string();
    let finished = memtrace(["scan", &pid, "-f", "html", "-O", page.to_str().expect("a path in UTF-8")]);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    target.close_stdin();
    assert_eq!(target.finish().status, 0);
    browser.open(&page, "");
    assert!(!browser.all("pre").is_empty());
    for width in [1280, 360] {
        browser.resize((width, 800));
        assert_eq!(browser.wide(), serde_json::json!([]), "{width}");
    }
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn pages_can_be_used_without_a_mouse() {
    if !can_trace() {
        return;
    }
    let Some(browser) = Browser::start() else { return };
    let session = Session::new();
    browser.open(&session.page, "");
    let tab = || {
        browser.press(&keys::TAB.to_string());
        browser.script(FOCUS)
    };
    let mut stops: Vec<Value> = Vec::new();
    loop {
        let stop = tab();
        if stop["tag"] == "body" || stops.len() == 200 {
            break;
        }
        assert_eq!(stop["seen"], true, "{stop}");
        stops.push(stop);
    }
    let count = |is: &dyn Fn(&&Value) -> bool| stops.iter().filter(is).count();
    for id in ["search", "part", "unit"] {
        assert_eq!(count(&|stop| stop["id"] == id), 1, "{id}: {stops:?}");
    }
    assert_eq!(count(&|stop| stop["frame"] == true), 1, "{stops:?}");
    let summaries = browser.all("summary").len();
    assert!(summaries > 4 && count(&|stop| stop["tag"] == "summary") == summaries, "{stops:?}");

    while tab()["frame"] != true {}
    let press = |key: char| {
        browser.press(&key.to_string());
        text(&browser.script(FOCUS)["label"]).split(':').next().unwrap_or_default().to_owned()
    };
    let first = press(keys::DOWN);
    assert_ne!(first, "all");
    let second = press(keys::RIGHT);
    assert!(second != first && second != "all", "{second}");
    assert_eq!(press(keys::ENTER), second);
    let widths = browser.script(FRAMES);
    let is_all = |frame: &&Value| frame["share"].as_f64() > Some(0.99);
    assert!(
        widths
            .as_array()
            .expect("frames")
            .iter()
            .filter(is_all)
            .any(|frame| text(&frame["label"]).starts_with(&second)),
        "{widths}"
    );
    assert_eq!(press(keys::UP), "all");
    assert_eq!(press(keys::ESCAPE), "all");
    assert_eq!(press(keys::DOWN), first);
    assert_eq!(browser.console(), [""; 0]);
}

/// The frames of a picture that can be seen.
const DRAWN: &str = "return Array.from(document.querySelectorAll('#frames > g')).filter(function (group) { \
    return group.style.display !== 'none'; }).map(function (group) { return { name: group.getAttribute('data-n'), \
    value: group.getAttribute('data-v'), hit: group.classList.contains('hit'), \
    share: group.querySelector('rect').getBBox().width / 1200 }; });";

#[test]
fn pictures_zoom_and_search() {
    if !can_trace() {
        return;
    }
    let Some(browser) = Browser::start() else { return };
    let session = Session::new();
    browser.open(&session.picture, "");
    let drawn = || browser.script(DRAWN).as_array().expect("frames").clone();
    let of = |name: &str| drawn().into_iter().find(|frame| frame["name"] == name);
    let share = |name: &str| of(name).map(|frame| frame["share"].as_f64().expect("a share"));
    assert_eq!(of("all").expect("the root")["value"], session.total().to_string());
    assert!(of(HOSTILE).is_some());
    let (bytes, _) = session.held("log_append");
    assert_eq!(of("log_append").expect("a frame")["value"], bytes.to_string());

    let log = browser.one("#frames > g[data-n=log_append]");
    assert!(browser.role(&log) == "button" && browser.label(&log).starts_with("log_append: "));
    browser.click(&log);
    assert!(share("log_append") > Some(0.99) && share("refill_cache").is_none());
    browser.click(&browser.one("#reset"));
    assert!(share("log_append") < Some(0.99) && share("refill_cache").is_some());

    browser.click(&browser.one("#search"));
    browser.answer("LOG_app");
    let matched = browser.script("return document.getElementById('matched').textContent");
    assert!(text(&matched).starts_with("matched: 1 frame, "), "{matched}");
    assert_share(text(&matched), bytes, session.total());
    assert!(drawn().iter().all(|frame| (frame["hit"] == true) == (frame["name"] == "log_append")));
    browser.press(&keys::ESCAPE.to_string());
    assert!(drawn().iter().all(|frame| frame["hit"] == false));

    browser.open(&session.picture, "");
    let mut stops = Vec::new();
    while stops.last().is_none_or(|stop: &Value| stop["frame"] != true) {
        assert!(stops.len() < 5, "{stops:?}");
        browser.press(&keys::TAB.to_string());
        stops.push(browser.script(FOCUS));
    }
    assert!(stops.iter().any(|stop| stop["id"] == "search"), "{stops:?}");
    browser.press(&keys::UP.to_string());
    browser.press(&keys::ENTER.to_string());
    assert_ne!(browser.script("return document.getElementById('reset').style.display"), "none");
    browser.press(&keys::ESCAPE.to_string());
    assert!(share("log_append") < Some(0.99));
    browser.open(&session.picture, "#s=%E2%8");
    assert_eq!(
        text(&browser.script("return document.getElementById('matched').textContent")),
        "matched: 0 frames, 0.0 %"
    );
    assert_eq!(browser.console(), [""; 0]);
}
