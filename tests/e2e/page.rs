//! The page of a trace, in a browser.

use std::path::Path;

use anyhow::{Context, ensure};
use cln_lab::trace::{Entry, MOST, Page, Trace};
use lab_tests::browser::{self, Browser};
use lab_tests::sandbox::Sandbox;
use lab_tests::{Kinds, Outcome, Suite, older_than};
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    let no_axe = std::env::var_os("AXE").is_none();
    suite
        .unless(browser::missing())
        .scenario_alone("it_shows_the_workshop", workshop)
        .test("hostile_contents_are_shown_and_do_nothing", hostile)
        .test("fifty_thousand_messages_of_twenty_nodes_stay_quick", many)
        .test("it_is_used_by_keyboard_alone", keyboard)
        .test("filters_leave_what_was_asked_for", filters)
        .test("it_prints_and_is_dark_if_asked", print_and_dark)
        .unless(browser::missing().or(no_axe.then(|| "AXE does not name axe.min.js".to_owned())))
        .test("axe_finds_nothing", axe)
}

fn entry(value: Value) -> anyhow::Result<Entry> {
    Ok(serde_json::from_value(value)?)
}

/// A small trace: two requests with their answers, a second apart; the last one failed.
fn small() -> anyhow::Result<Trace> {
    let at = |second: u32| format!("2026-01-01T00:00:{second:02}.000001Z");
    let entries = [
        json!({"at": at(0), "kind": "lab", "from": "lab", "text": "lab up"}),
        json!({"at": at(0), "kind": "start", "from": "lab", "to": "l1", "name": "lightningd v1", "text": "lightningd --x"}),
        json!({"at": at(1), "kind": "request", "from": "lab", "to": "l1", "name": "getinfo", "id": "1", "data": {"a": [1.50, 12345678901234567890u64, null]}}),
        json!({"at": at(1), "kind": "answer", "from": "l1", "to": "lab", "name": "getinfo", "id": "1", "ms": 0.5, "data": {}}),
        json!({"at": at(1), "kind": "notification", "from": "l1", "to": "l1/p", "name": "connect", "data": {"id": "02"}}),
        json!({"at": at(9), "kind": "request", "from": "lab", "to": "l2", "name": "pay", "id": "2", "data": []}),
        json!({"at": at(9), "kind": "answer", "from": "l2", "to": "lab", "name": "pay", "id": "2", "bad": true, "data": {"message": "no route"}}),
        json!({"at": at(9), "kind": "stderr", "from": "l2", "text": "Traceback\n  File"}),
    ];
    Ok(Trace {
        entries: entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        nodes: vec!["l1".to_owned(), "l2".to_owned()],
        ..Trace::default()
    })
}

/// Opens a page of this trace, which must load without a complaint.
fn open(trace: &Trace) -> anyhow::Result<Browser> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("page.html");
    Page::new("a <b>small</b> lab", trace).write(&path)?;
    open_file(&path)
}

fn open_file(path: &Path) -> anyhow::Result<Browser> {
    let mut browser = Browser::start()?;
    browser.open(path)?;
    ensure!(browser.eval("document.documentElement.dataset.ready")? == "yes");
    Ok(browser)
}

fn quiet(browser: &mut Browser) -> Outcome {
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

/// Chooses every row in turn, from the first; the texts of what is shown of each.
const ALL: &str = r#"(() => {
  const chart = document.getElementById("chart");
  const press = (key) => chart.dispatchEvent(new KeyboardEvent("keydown", {key}));
  const shown = [];
  press("Home");
  for (let last = null; ;) {
    const row = document.querySelector('[aria-selected="true"]');
    if (!row || row.id === last) return shown;
    last = row.id;
    shown.push([...row.children].map((cell) => cell.textContent));
    press("ArrowDown");
  }
})()"#;

/// Its steps are those of the workshop, its messages in the order of time, and it is
/// small.
async fn workshop(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let path = sandbox.path("report.html");
    let file = path.to_str().context("UTF-8")?;
    let report = sandbox.json(&[
        "workshop",
        "--json",
        "--node",
        kinds.name(),
        "--report",
        file,
    ])?;
    ensure!(report["ok"] == true, "{report:#}");
    let size = path.metadata()?.len();
    ensure!(size < 1_000_000, "{size} bytes");
    let mut browser = open_file(&path)?;
    let steps =
        browser.eval("[...document.querySelectorAll('.step')].map((step) => step.textContent)")?;
    let played = report["steps"].as_array().context("steps")?;
    let titles = played.iter().map(|step| {
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        format!("{}. {}: {}", step["number"], text("name"), text("command"))
    });
    ensure!(steps == json!(titles.collect::<Vec<_>>()), "{steps:#}");
    let checks: usize = played
        .iter()
        .map(|step| step["checks"].as_array().map_or(0, Vec::len))
        .sum();
    ensure!(browser.eval("document.querySelectorAll('.checks .ok').length")? == checks);
    let all = browser.eval(ALL)?;
    let rows = all.as_array().context("rows")?;
    // A line of a log comes at the end of its millisecond.
    let time = |row: &Value| format!("{}Z", row[0].as_str().unwrap_or_default());
    let times: Vec<String> = rows.iter().map(time).collect();
    ensure!(rows.len() > 100, "{} rows", rows.len());
    ensure!(times.is_sorted(), "{times:?}");
    // What the plugins were sent: as their tees recorded it, and as lightningd saved it.
    let mut sent = vec!["connect", "disconnect", "getmanifest"];
    if kinds == Kinds::Lightningd && older_than((25, 9)).is_none() {
        sent.push("invoice_creation");
    }
    for what in sent {
        ensure!(rows.iter().any(|row| row[1] == what), "no {what}");
    }
    let recorded = browser.eval("document.getElementById('summary').textContent")?;
    ensure!(
        recorded
            .as_str()
            .is_some_and(|text| text.contains("recorded: invoice_creation"))
    );
    // A step leads to its first message.
    let chosen = "document.getElementById('details').querySelector('h2').textContent";
    browser.eval("[...document.querySelectorAll('.step')].find((s) => s.textContent.includes('connect 1 2')).click()")?;
    browser.eval(chosen)?.as_str().context("a heading")?;
    quiet(&mut browser)
}

async fn hostile() -> Outcome {
    let text = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1> \u{2028} ' \" {{data}}";
    let mut trace = small()?;
    trace.entries.push(entry(json!({
        "at": "2026-01-01T00:00:10Z", "kind": "request", "from": text, "to": text, "name": text,
        "text": text, "id": text, "data": {text: [text]},
    }))?);
    trace.notes.push(text.to_owned());
    let mut browser = open(&trace)?;
    browser.eval("document.getElementById('chart').focus()")?;
    browser.press(&["End"])?;
    let shown = browser.eval("document.getElementById('details').textContent")?;
    let shown = shown.as_str().context("text")?;
    ensure!(
        shown.matches("window.pwned=1</script>").count() >= 6,
        "{shown}"
    );
    ensure!(browser.eval("document.title")? == "a <b>small</b> lab");
    ensure!(browser.eval("window.pwned === undefined && document.images.length === 0")? == true);
    quiet(&mut browser)
}

/// How long it takes is printed; what is asserted is that only what one sees is there.
async fn many() -> Outcome {
    let mut trace = Trace::default();
    for n in 0..MOST {
        let node = format!("l{}", n % 20 + 1);
        let (from, to, kind) = if n % 2 == 0 {
            ("lab", node.as_str(), "request")
        } else {
            (node.as_str(), "lab", "answer")
        };
        let at = format!(
            "2026-01-01T00:{:02}:{:02}.{:06}Z",
            n / 6000 % 60,
            n / 100 % 60,
            n % 100 * 10_000
        );
        trace.entries.push(entry(json!({
            "at": at, "kind": kind, "from": from, "to": to, "name": "listpeers", "id": (n / 2).to_string(),
            "data": {"peers": [{"id": "02".repeat(33), "connected": true, "num": n}]},
        }))?);
    }
    trace.nodes = (1..=20).map(|n| format!("l{n}")).collect();
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("page.html");
    Page::new("many", &trace).write(&path)?;
    let mut browser = open_file(&path)?;
    let paint = browser.eval(
        "performance.getEntriesByName('first-contentful-paint').map((p) => p.startTime)[0] ?? null",
    )?;
    let ready =
        browser.eval("performance.timing.domComplete - performance.timing.navigationStart")?;
    let timed = |act: &str| {
        format!(
            "(() => {{ const from = performance.now(); {act}; return performance.now() - from; }})()"
        )
    };
    let search = browser.eval(&timed("const t = document.getElementById('bad'); t.checked = true; t.dispatchEvent(new Event('change')); t.checked = false; t.dispatchEvent(new Event('change'))"))?;
    let end = browser.eval(&timed("document.getElementById('chart').dispatchEvent(new KeyboardEvent('keydown', {key: 'End'}))"))?;
    println!(
        "{} bytes, {MOST} messages, 20 nodes: first paint {paint} ms, complete {ready} ms, two filters {search} ms, to the end {end} ms",
        path.metadata()?.len()
    );
    ensure!(browser.eval("document.querySelectorAll('.row').length < 200")? == true);
    let last = MOST - 1;
    ensure!(
        browser.eval("document.querySelector('[aria-selected=\"true\"]').id")?
            == format!("e{last}")
    );
    let visible = "(() => { const r = document.querySelector('[aria-selected=\"true\"]').getBoundingClientRect(); const c = document.getElementById('chart').getBoundingClientRect(); return r.top >= c.top && r.bottom <= c.bottom; })()";
    ensure!(browser.eval(visible)? == true);
    ensure!(browser.eval("document.querySelectorAll('#head .lane').length")? == 21);
    quiet(&mut browser)
}

async fn keyboard() -> Outcome {
    let mut browser = open(&small()?)?;
    // With the keys alone: Tab until the messages have the focus.
    for _ in 0..20 {
        if browser.eval("document.activeElement.id")? == "chart" {
            break;
        }
        browser.press(&["Tab"])?;
    }
    ensure!(browser.eval("document.activeElement.id")? == "chart");
    let active = "(document.getElementById(document.getElementById('chart').getAttribute('aria-activedescendant')) || {}).id";
    for (keys, row) in [
        (&["ArrowDown", "ArrowDown", "ArrowDown"][..], "e2"),
        (&["p"], "e3"),
        (&["p"], "e2"),
        (&["e"], "e6"),
        (&["End"], "e7"),
        (&["ArrowUp"], "e6"),
        (&["Home"], "e0"),
        (&["PageDown"], "e7"),
    ] {
        browser.press(keys)?;
        ensure!(
            browser.eval(active)? == row,
            "{keys:?}: {}",
            browser.eval(active)?
        );
    }
    browser.press(&["Home", "ArrowDown", "ArrowDown", "Enter"])?;
    ensure!(browser.eval("document.activeElement.id")? == "details");
    // Numbers as they were spelled.
    let json = browser.eval("document.querySelector('#details pre').textContent")?;
    ensure!(
        json == "{\n  \"a\": [\n    1.5,\n    12345678901234567890,\n    null\n  ]\n}",
        "{json}"
    );
    browser.press(&["Escape"])?;
    ensure!(browser.eval("document.activeElement.id")? == "chart");
    browser.press(&["/"])?;
    ensure!(browser.eval("document.activeElement.id")? == "text");
    // What assistive technology reads.
    let tree = browser.ask("Accessibility.getFullAXTree", json!({}))?;
    let nodes = tree["nodes"].as_array().context("nodes")?;
    let role = |node: &Value| {
        node["role"]["value"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    for needs in [
        "button",
        "searchbox",
        "checkbox",
        "grid",
        "region",
        "combobox",
    ] {
        for node in nodes
            .iter()
            .filter(|node| role(node) == needs && node["ignored"] == false)
        {
            ensure!(
                node["name"]["value"]
                    .as_str()
                    .is_some_and(|name| !name.is_empty()),
                "{node}"
            );
        }
    }
    for there in [
        "grid",
        "row",
        "gridcell",
        "columnheader",
        "search",
        "heading",
    ] {
        ensure!(nodes.iter().any(|node| role(node) == there), "no {there}");
    }
    quiet(&mut browser)
}

async fn filters() -> Outcome {
    let mut browser = open(&small()?)?;
    let set = |id: &str, value: &str| {
        format!(
            "(async () => {{ const i = document.getElementById('{id}'); i.value = '{value}'; i.dispatchEvent(new Event('input')); await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame); }})()"
        )
    };
    let ids = "[...document.querySelectorAll('.row[id]')].map((row) => row.id)";
    let gaps = "[...document.querySelectorAll('.row.gap')].map((row) => row.textContent)";
    ensure!(
        browser.eval(gaps)? == json!(["… 1.00 s …", "… 8.00 s …"]),
        "{}",
        browser.eval(gaps)?
    );
    for (id, value, left) in [
        ("text", "no ROUTE", json!(["e6"])),
        ("text", "traceback", json!(["e7"])),
        (
            "text",
            "",
            json!(["e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7"]),
        ),
        ("topic", "connect", json!(["e4"])),
        (
            "topic",
            "",
            json!(["e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7"]),
        ),
    ] {
        browser.eval(&set(id, value))?;
        ensure!(
            browser.eval(ids)? == left,
            "{id} {value}: {}",
            browser.eval(ids)?
        );
    }
    let choose = |of: &str, name: &str| {
        format!(
            "[...document.querySelectorAll('#{of} label')].find((l) => l.textContent.trim() === '{name}').querySelector('input').click()"
        )
    };
    browser.eval(&choose("lanes", "l2"))?;
    ensure!(browser.eval(ids)? == json!(["e0", "e1", "e2", "e3", "e4"]));
    browser.eval(&choose("kinds", "answer"))?;
    ensure!(browser.eval(ids)? == json!(["e0", "e1", "e2", "e4"]));
    ensure!(browser.eval("document.getElementById('count').textContent")? == "4 of 8 entries");
    browser.eval("document.getElementById('bad').click()")?;
    ensure!(browser.eval(ids)? == json!([]));
    quiet(&mut browser)
}

async fn print_and_dark() -> Outcome {
    let mut trace = small()?;
    for n in 0..200 {
        trace.entries.push(entry(json!({"at": format!("2026-01-01T00:00:10.{n:06}Z"), "kind": "log", "from": "l1", "name": "info", "text": "a line"}))?);
    }
    let mut browser = open(&trace)?;
    let back = "getComputedStyle(document.documentElement).backgroundColor";
    let light = browser.eval(back)?;
    let features = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.ask("Emulation.setEmulatedMedia", features)?;
    browser.eval("document.getElementById('theme').click()")?;
    ensure!(browser.eval(back)? != light);
    let pdf = browser.ask("Page.printToPDF", json!({"printBackground": true}))?;
    let data = pdf["data"].as_str().context("a document")?;
    ensure!(data.starts_with("JVBERi"), "no PDF");
    // All rows, though one sees but some of them.
    let rows = browser.eval("(() => { window.dispatchEvent(new Event('beforeprint')); const n = document.querySelectorAll('.row[id]').length; window.dispatchEvent(new Event('afterprint')); return [n, document.querySelectorAll('.row[id]').length]; })()")?;
    ensure!(
        rows[0] == 208 && rows[1].as_u64().is_some_and(|n| n < 100),
        "{rows}"
    );
    quiet(&mut browser)
}

/// axe-core, light and dark.
async fn axe() -> Outcome {
    let axe = std::fs::read_to_string(std::env::var("AXE")?)?;
    let mut browser = open(&small()?)?;
    browser.eval(&axe)?;
    for _ in 0..2 {
        browser.eval("document.getElementById('chart').focus()")?;
        browser.press(&["e"])?;
        let found = browser.eval("axe.run().then((result) => result.violations.map((v) => [v.impact, v.id, v.nodes.map((n) => n.html)]))")?;
        ensure!(found == json!([]), "{found:#}");
        browser.eval("document.getElementById('theme').click()")?;
    }
    Ok(())
}
