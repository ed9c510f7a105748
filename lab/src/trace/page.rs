//! A trace as a page: one file, which needs nothing but a browser.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Entry, Kind, Trace, VERSION};
use crate::Result;
use crate::process::files::write_private;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// A page that shows a trace: a diagram of who sent what to whom, each message as it was
/// sent, and a summary.
#[derive(Debug)]
pub struct Page<'a> {
    title: String,
    trace: &'a Trace,
    failure: Option<String>,
    steps: Vec<Step>,
}

/// Something that was done, and what had to hold then.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// What was done.
    pub title: String,
    /// When it began, RFC 3339 in UTC.
    pub at: Option<String>,
    /// Whether it went as it should.
    pub ok: bool,
    /// What went wrong, if it is no check.
    pub text: Option<String>,
    /// Lines that were recorded because of it.
    pub recorded: Vec<String>,
    /// What had to hold.
    pub checks: Vec<Check>,
}

/// Something that had to hold.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What had to hold.
    pub what: String,
    /// Whether it did.
    pub ok: bool,
    /// What was seen instead, if it did not.
    pub seen: Option<String>,
}

impl<'a> Page<'a> {
    /// A page of this trace.
    pub fn new(title: &str, trace: &'a Trace) -> Page<'a> {
        Page {
            title: title.to_owned(),
            trace,
            failure: None,
            steps: Vec::new(),
        }
    }

    /// Shows on top why it failed.
    #[must_use]
    pub fn failure(mut self, why: impl Into<String>) -> Page<'a> {
        self.failure = Some(why.into());
        self
    }

    /// Shows on top what was done.
    #[must_use]
    pub fn steps(mut self, steps: Vec<Step>) -> Page<'a> {
        self.steps = steps;
        self
    }

    /// Writes it, readable by its owner only: it has what was sent, secrets as well.
    ///
    /// # Errors
    /// If it cannot be written; what is at `path` stays.
    pub fn write(&self, path: &Path) -> Result<()> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        write_private(&path, &self.html())
    }

    /// Its text.
    pub fn html(&self) -> String {
        // Only scripts that have it run: those of this page.
        let words = [(); 2].map(|()| getrandom::u64().unwrap_or_default());
        let nonce = format!("{:016x}{:016x}", words[0], words[1]);
        let title = self
            .title
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;");
        let (data, version) = (in_script(&self.data()), VERSION.to_string());
        let mut html = String::with_capacity(data.len() + 64 * 1024);
        // In one pass: what is put in is not looked through.
        for piece in TEMPLATE.split("{{") {
            let (name, rest) = piece.split_once("}}").unwrap_or(("", piece));
            html.push_str(match name {
                "title" => &title,
                "nonce" => &nonce,
                "version" => &version,
                "style" => STYLE.trim_end(),
                "script" => SCRIPT.trim_end(),
                "data" => &data,
                _ => "",
            });
            html.push_str(rest);
        }
        html
    }

    fn data(&self) -> String {
        let lanes = self.trace.lanes();
        let places: HashMap<&str, usize> = lanes
            .iter()
            .enumerate()
            .map(|(n, lane)| (lane.as_str(), n))
            .collect();
        let mut kinds: Vec<Kind> = Vec::new();
        let mut entries = Vec::new();
        for entry in &self.trace.entries {
            let known = kinds.iter().position(|kind| *kind == entry.kind);
            let kind = known.unwrap_or_else(|| {
                kinds.push(entry.kind);
                kinds.len() - 1
            });
            if !entries.is_empty() {
                entries.push(b',');
            }
            // As few bytes as can be: there may be fifty thousand.
            let _ = entries.write_all(row(entry, kind, &places).as_bytes());
        }
        let about = json!({
            "version": VERSION,
            "failure": self.failure,
            "steps": self.steps,
            "facts": self.facts(),
            "notes": self.trace.notes,
            "lanes": lanes,
            "kinds": kinds,
        });
        let about = about.to_string();
        let entries = String::from_utf8(entries).unwrap_or_default();
        format!(
            "{},\"entries\":[{entries}]}}",
            about.strip_suffix('}').unwrap_or_default()
        )
    }

    /// What ran, and how it was started.
    fn facts(&self) -> Vec<(String, String)> {
        let mut facts: Vec<(String, String)> = Vec::new();
        for entry in &self.trace.entries {
            let text = entry.text.clone().unwrap_or_default();
            let fact = match entry.kind {
                Kind::Lab => ("run by".to_owned(), text),
                Kind::Start if entry.from == "lab" => {
                    let daemon = entry.to.clone().unwrap_or_default();
                    (daemon, format!("{}: {text}", entry.name))
                }
                _ => continue,
            };
            if !facts.contains(&fact) {
                facts.push(fact);
            }
        }
        facts
    }
}

/// An entry's members by place, without those at the end that are empty.
fn row(entry: &Entry, kind: usize, places: &HashMap<&str, usize>) -> String {
    let place = |lane: &String| places.get(lane.as_str()).copied();
    let mut row = vec![
        json!(entry.at),
        json!(kind),
        json!(place(&entry.from)),
        json!(entry.to.as_ref().and_then(place)),
        json!(Some(&entry.name).filter(|name| !name.is_empty())),
        json!(entry.text),
        // As text: the spelling stays, and nothing is parsed that is not looked at.
        json!(entry.data.as_ref().map(|data| data.get())),
        json!(entry.id),
        json!(entry.ms),
        json!(entry.bad.then_some(1)),
        json!(entry.cut),
    ];
    while row.last() == Some(&Value::Null) {
        row.pop();
    }
    Value::Array(row).to_string()
}

/// JSON that stays data in a script element: nothing in it can end the element, or start
/// a comment.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str =
        "</script><script>alert(1)</script><!-- \u{2028}\u{2029} ]]> \" ' \\ {{script}} &lt;";

    fn page(html: &str) -> Value {
        let (_, rest) = html.split_once("id=\"data\">").expect("data");
        let (data, _) = rest.split_once("</script>").expect("an end");
        assert!(!data.contains(['<', '\u{2028}', '\u{2029}']), "{data}");
        serde_json::from_str(data).expect("JSON")
    }

    #[test]
    fn hostile_contents_stay_contents() {
        let mut entry = Entry::new(Kind::Request, HOSTILE)
            .to("l1")
            .name(HOSTILE)
            .text(HOSTILE)
            .json(&json!({ HOSTILE: [1.5, HOSTILE] }).to_string());
        entry.at = "2026-01-01T00:00:00Z".to_owned();
        let trace = Trace {
            entries: vec![entry],
            notes: vec![HOSTILE.to_owned()],
            ..Trace::default()
        };
        let step = Step {
            title: HOSTILE.to_owned(),
            at: None,
            ok: false,
            text: None,
            recorded: vec![HOSTILE.to_owned()],
            checks: Vec::new(),
        };
        let html = Page::new(HOSTILE, &trace)
            .failure(HOSTILE)
            .steps(vec![step])
            .html();
        // The page's own, and no other.
        assert_eq!(
            (
                html.matches("<script").count(),
                html.matches("</script").count()
            ),
            (2, 2)
        );
        assert!(!html.contains("<!--"), "a comment");
        let data = page(&html);
        assert_eq!(data["entries"][0][4], HOSTILE);
        assert_eq!(
            (&data["failure"], &data["notes"][0]),
            (&json!(HOSTILE), &json!(HOSTILE))
        );
        let sent: Value =
            serde_json::from_str(data["entries"][0][6].as_str().expect("text")).expect("JSON");
        assert_eq!(sent[HOSTILE][1], HOSTILE);
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let html = Page::new("x", &Trace::default()).html();
        for loads in [
            "http:",
            "https:",
            "src=",
            "url(",
            "@import",
            "import(",
            "fetch(",
            "innerHTML",
        ] {
            assert!(!html.contains(loads), "{loads}");
        }
        assert!(html.contains("default-src 'none'"));
        assert_eq!(page(&html)["entries"], json!([]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_stays_what_it_is(text in ".{0,40}") {
            let mut entry = Entry::new(Kind::Log, "l1").text(text.as_str());
            entry.at = "2026-01-01T00:00:00Z".to_owned();
            let trace = Trace { entries: vec![entry], ..Trace::default() };
            let html = Page::new(&text, &trace).html();
            proptest::prop_assert_eq!(&page(&html)["entries"][0][5], &json!(text));
        }
    }
}
