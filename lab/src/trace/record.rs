//! Writes down what a lab does, as it does it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use super::{Entry, FILE, Kind, VERSION};
use crate::error::IoContext;
use crate::lock::lock;
use crate::wait::is_looking;
use crate::{Error, Result};

/// A file of this size, in bytes, takes no more requests, answers and output.
const MOST: u64 = 32 << 20;
/// Starts and ends of processes still fit then.
const RESERVE: u64 = 1 << 20;
/// So many repeated looks are remembered.
const LOOKS: usize = 10_000;

/// How much a lab writes down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tracing {
    /// Nothing.
    Off,
    /// What it does itself, and what is printed. It costs next to nothing.
    #[default]
    On,
    /// That, and lightningd saves each notification and hook as it sends it
    /// (`dev-save-plugin-io`, from v25.09): a file each, without a bound.
    Full,
}

impl Tracing {
    /// The value of `LAB_TRACE`: `off`, `on` or `full`; `default` if it is not set.
    pub(crate) fn from_env(default: Tracing) -> Result<Tracing> {
        match std::env::var("LAB_TRACE").as_deref() {
            Err(_) | Ok("") => Ok(default),
            Ok("off") => Ok(Tracing::Off),
            Ok("on") => Ok(Tracing::On),
            Ok("full") => Ok(Tracing::Full),
            Ok(other) => Err(Error::usage(format!(
                "LAB_TRACE={other}: use off, on or full"
            ))),
        }
    }
}

/// What is appended to a lab's trace, if it has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder(Option<Arc<Mutex<State>>>);

#[derive(Debug)]
struct State {
    file: File,
    /// The file may end within a line.
    torn: bool,
    /// It takes no more.
    full: bool,
    tracing: Tracing,
    /// Entries that could not be written.
    lost: u64,
    /// For ids.
    requests: u64,
    /// What requests were answered on which a wait depends.
    looks: HashMap<u64, u64>,
}

impl Recorder {
    /// Makes the trace of a new lab in this folder, if it is to have one.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(dir: &Path, tracing: Tracing) -> Result<Recorder> {
        if tracing == Tracing::Off {
            return Ok(Recorder::default());
        }
        let path = dir.join(FILE);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600);
        let recorder = Recorder::writing(options.open(&path).doing("create", &path)?, tracing);
        let words: Vec<String> = std::env::args_os()
            .map(|word| crate::quoted(&word.to_string_lossy()))
            .collect();
        let about = json!({"pid": std::process::id(), "version": env!("CARGO_PKG_VERSION")});
        let mut first = Entry::new(Kind::Lab, "lab")
            .text(words.join(" "))
            .json(&about.to_string());
        first.version = Some(VERSION);
        recorder.append(first);
        Ok(recorder)
    }

    /// That of the lab in this folder, which another process holds; none if it records
    /// nothing.
    pub fn join(dir: &Path) -> Recorder {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).open(dir.join(FILE));
        file.map(|file| Recorder::writing(file, Tracing::On))
            .unwrap_or_default()
    }

    fn writing(mut file: File, tracing: Tracing) -> Recorder {
        // The process that was writing may have been killed within a line.
        let mut last = [b'\n'];
        let _ = file
            .seek(SeekFrom::End(-1))
            .and_then(|_| file.read(&mut last));
        Recorder(Some(Arc::new(Mutex::new(State {
            file,
            torn: last != [b'\n'],
            full: false,
            tracing,
            lost: 0,
            requests: 0,
            looks: HashMap::new(),
        }))))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// True if lightningd is to save what it sends.
    pub fn is_full(&self) -> bool {
        let tracing = self.0.as_ref().map(|state| lock(state).tracing);
        tracing == Some(Tracing::Full)
    }

    /// Appends an entry, now. What cannot be written is counted: a lab does not fail for
    /// its trace.
    pub fn append(&self, entry: Entry) {
        if let Some(state) = &self.0 {
            lock(state).append(entry);
        }
    }

    /// A request that is sent now: write down its answer with [`Asked::answered`].
    /// `params` is JSON, and is only made if it is needed.
    pub fn request(&self, to: &str, method: &str, params: impl FnOnce() -> String) -> Asked {
        let mut asked = Asked {
            recorder: self.clone(),
            started: Instant::now(),
            open: self.0.is_some(),
            looks: is_looking(),
            request: Entry::new(Kind::Request, "lab").to(to).name(method),
        };
        let Some(state) = &self.0 else {
            return asked;
        };
        let request = asked.request.clone().json(&params());
        asked.request = request;
        let mut state = lock(state);
        state.requests += 1;
        asked.request.at = now();
        asked.request.id = Some(format!("{}-{}", std::process::id(), state.requests));
        if !asked.looks {
            state.append(asked.request.clone());
        }
        asked
    }
}

impl State {
    /// True unless the last look that asked so was answered so.
    fn is_new(&mut self, request: &Entry, reply: &Entry) -> bool {
        let hash = |entry: &Entry| {
            let mut hasher = DefaultHasher::new();
            let data = entry.data.as_ref().map(|data| data.get());
            (&entry.to, &entry.name, data, &entry.text, entry.cut).hash(&mut hasher);
            hasher.finish()
        };
        if self.looks.len() >= LOOKS {
            self.looks.clear();
        }
        let seen = hash(reply);
        self.looks.insert(hash(request), seen) != Some(seen)
    }

    fn append(&mut self, mut entry: Entry) {
        if entry.at.is_empty() {
            entry.at = now();
        }
        let process = matches!(
            entry.kind,
            Kind::Lab | Kind::Start | Kind::Ready | Kind::End
        );
        let most = if process { MOST + RESERVE } else { MOST };
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        if length >= most {
            if !self.full {
                self.full = true;
                let text = format!("{FILE} has {MOST} bytes: requests are no longer recorded");
                self.write(&Entry::new(Kind::Note, "lab").text(text).bad(true));
            }
            return;
        }
        if self.lost > 0 {
            let text = format!("{} entries could not be written before this", self.lost);
            if !self.write(&Entry::new(Kind::Note, "lab").text(text).bad(true)) {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if !self.write(&entry) {
            self.lost += 1;
        }
    }

    /// Writes a line at once, so that those of several processes do not mix.
    fn write(&mut self, entry: &Entry) -> bool {
        let mut line = Vec::new();
        if self.torn {
            line.push(b'\n');
        }
        let at = if entry.at.is_empty() {
            now()
        } else {
            String::new()
        };
        let written = if at.is_empty() {
            serde_json::to_writer(&mut line, entry)
        } else {
            serde_json::to_writer(
                &mut line,
                &Entry {
                    at,
                    ..entry.clone()
                },
            )
        };
        // `data` may have line ends between its tokens.
        let start = usize::from(self.torn);
        if line[start..].contains(&b'\n') || line.contains(&b'\r') {
            let ends = line[start..].iter_mut();
            ends.filter(|byte| matches!(byte, b'\n' | b'\r'))
                .for_each(|byte| *byte = b' ');
        }
        line.push(b'\n');
        let outcome = written
            .map_err(std::io::Error::from)
            .and_then(|()| self.file.write(&line));
        match outcome {
            Ok(count) => {
                self.torn = count < line.len();
                !self.torn
            }
            Err(error) => {
                if self.lost == 0 {
                    tracing::warn!(%error, "the trace cannot be written");
                }
                false
            }
        }
    }
}

/// A request whose answer is to be written down.
///
/// Dropped without one, it was given up.
#[derive(Debug)]
#[must_use = "its answer is part of the trace"]
pub struct Asked {
    recorder: Recorder,
    started: Instant,
    open: bool,
    /// A wait looks so again and again: written down if something has changed.
    looks: bool,
    request: Entry,
}

impl Asked {
    /// Writes down the answer: a result or an error, as JSON.
    pub fn answered(self, answer: std::result::Result<&str, &str>) {
        self.write(answer.is_err(), |reply| {
            reply.json(answer.unwrap_or_else(|error| error))
        });
    }

    /// The same for an answer from this library.
    pub(crate) fn answer(self, answer: &Result<Value>) {
        self.write(answer.is_err(), |reply| match answer {
            Ok(result) => reply.value(result),
            Err(error) => reply.value(&described(error)),
        });
    }

    fn write(mut self, is_error: bool, with: impl FnOnce(Entry) -> Entry) {
        self.open = false;
        let Some(state) = &self.recorder.0 else {
            return;
        };
        let mut reply = with(self.reply());
        if is_error && self.looks {
            // What a wait does not see yet is no failure.
            reply.text.get_or_insert("not yet".to_owned());
        } else {
            reply.bad = is_error;
        }
        let mut state = lock(state);
        if self.looks {
            if !state.is_new(&self.request, &reply) {
                return;
            }
            state.append(self.request.clone());
        }
        state.append(reply);
    }

    fn reply(&self) -> Entry {
        let lane = self.request.to.clone().unwrap_or_default();
        let mut reply = Entry::new(Kind::Answer, lane)
            .to(self.request.from.clone())
            .name(self.request.name.clone());
        reply.id = self.request.id.clone();
        reply.ms = Some(self.started.elapsed().as_micros() as f64 / 1000.0);
        reply
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.open && !self.looks {
            let reply = self.reply().text("no answer: nobody waits for it any more");
            self.recorder.append(reply);
        }
    }
}

/// An error as lightningd sends it, or its text.
fn described(error: &crate::Error) -> Value {
    match (error.rpc_code(), error.rpc_message()) {
        (Some(code), Some(message)) => json!({"code": code, "message": message}),
        _ => json!({"message": error.to_string()}),
    }
}

fn now() -> String {
    humantime::format_rfc3339_micros(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::{Probe, eventually};

    fn lines(dir: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(dir.join(FILE)).expect("a trace");
        text.lines().map(str::to_owned).collect()
    }

    fn entries(dir: &Path) -> Vec<Entry> {
        let parse = |line: &String| serde_json::from_str(line).expect("an entry");
        lines(dir).iter().map(parse).collect()
    }

    fn state(recorder: &Recorder) -> std::sync::MutexGuard<'_, State> {
        lock(recorder.0.as_ref().expect("it is on"))
    }

    fn start(name: &str) -> Entry {
        Entry::new(Kind::Start, "lab").to(name)
    }

    #[test]
    fn a_request_and_its_answer_are_one_line_each() {
        let dir = tempfile::tempdir().expect("a folder");
        let recorder = Recorder::create(dir.path(), Tracing::On).expect("a trace");
        let mode = dir
            .path()
            .join(FILE)
            .metadata()
            .expect("a file")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let asked = recorder.request("l1", "invoice", || "{\"a\":\n[1.50]}".to_owned());
        // It is there before the answer: that may never come.
        assert_eq!(lines(dir.path()).len(), 2);
        asked.answered(Err(r#"{"code":-1}"#));
        drop(recorder.request("l1", "waitinvoice", || "[]".to_owned()));
        recorder
            .request("l1", "x", || "[]".to_owned())
            .answer(&Err(Error::usage("no such node")));

        let all = entries(dir.path());
        assert_eq!(all[0].version, Some(VERSION));
        let of = |n: usize| all[n].data.as_ref().map(|data| data.get());
        assert_eq!(of(1), Some("{\"a\": [1.50]}"));
        assert_eq!((of(2), all[2].bad), (Some(r#"{"code":-1}"#), true));
        assert_eq!((&all[1].id, &all[2].from), (&all[2].id, &"l1".to_owned()));
        assert!(all[2].ms.is_some() && all[1].at <= all[2].at);
        assert!(
            all[4]
                .text
                .as_ref()
                .is_some_and(|text| text.starts_with("no answer"))
        );
        assert_eq!(of(6), Some(r#"{"message":"no such node"}"#));
    }

    #[test]
    fn long_data_is_cut_and_says_so() {
        let long = format!("[\"{}\"]", "é".repeat(20_000));
        let entry = Entry::new(Kind::Answer, "l1").json(&long);
        assert_eq!((entry.cut, entry.data.is_none()), (Some(40_004), true));
        assert!(
            entry
                .text
                .is_some_and(|text| long.starts_with(&text) && text.len() > 16_000)
        );
    }

    /// Of the looks of a wait: the first, and those that saw something else.
    #[tokio::test]
    async fn looks_are_written_down_if_they_differ() {
        let dir = tempfile::tempdir().expect("a folder");
        let recorder = Recorder::create(dir.path(), Tracing::On).expect("a trace");
        let mut looks = 0;
        eventually("x", Duration::from_secs(10), async || {
            looks += 1;
            let asked = recorder.request("l1", "getinfo", || "{}".to_owned());
            asked.answered(Ok(if looks < 5 { "0" } else { "1" }));
            Ok(if looks == 7 {
                Probe::Ready(())
            } else {
                Probe::NotYet(String::new())
            })
        })
        .await
        .expect("seven looks");
        let kinds: Vec<Kind> = entries(dir.path()).iter().map(|entry| entry.kind).collect();
        use Kind::{Answer, Lab, Request};
        assert_eq!(kinds, [Lab, Request, Answer, Request, Answer]);
        // Not in a wait, each is written down.
        for _ in 0..2 {
            recorder
                .request("l1", "getinfo", || "{}".to_owned())
                .answered(Ok("1"));
        }
        assert_eq!(lines(dir.path()).len(), 9);
    }

    #[test]
    fn a_line_that_was_torn_costs_no_other() {
        let dir = tempfile::tempdir().expect("a folder");
        drop(Recorder::create(dir.path(), Tracing::On).expect("a trace"));
        let mut file = OpenOptions::new()
            .append(true)
            .open(dir.path().join(FILE))
            .expect("open");
        file.write_all(b"{\"at\":\"20").expect("write");
        Recorder::join(dir.path()).append(start("l1"));
        let lines = lines(dir.path());
        assert_eq!(lines.len(), 3);
        assert!(
            serde_json::from_str::<Entry>(&lines[2]).is_ok(),
            "{lines:?}"
        );
    }

    #[test]
    fn what_a_full_disk_cost_is_counted() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let recorder = Recorder::create(dir.path(), Tracing::On).expect("a trace");
        let disk = OpenOptions::new().append(true).open(full).expect("open");
        let file = std::mem::replace(&mut state(&recorder).file, disk);
        recorder.append(start("l1"));
        recorder.append(start("l2"));
        state(&recorder).file = file;
        recorder.append(start("l3"));
        let all = entries(dir.path());
        let text = all[1].text.clone().unwrap_or_default();
        assert_eq!(text, "2 entries could not be written before this");
        assert_eq!((all.len(), all[2].to.as_deref()), (3, Some("l3")));
    }

    #[test]
    fn it_is_bounded() {
        let dir = tempfile::tempdir().expect("a folder");
        let recorder = Recorder::create(dir.path(), Tracing::On).expect("a trace");
        // Without a block on the disk.
        state(&recorder).file.set_len(MOST).expect("set");
        for _ in 0..3 {
            recorder
                .request("l1", "x", || "[]".to_owned())
                .answered(Ok("1"));
        }
        recorder.append(start("l2"));
        let length = || dir.path().join(FILE).metadata().expect("a file").len();
        let full = length();
        let text = std::fs::read_to_string(dir.path().join(FILE)).expect("a trace");
        let rest: Vec<&str> = text
            .trim_start_matches(|c| c != '\0')
            .trim_start_matches('\0')
            .lines()
            .collect();
        assert!(
            rest.len() == 2 && rest[0].contains("no longer recorded") && rest[1].contains("\"l2\""),
            "{rest:?}"
        );
        state(&recorder).file.set_len(MOST + RESERVE).expect("set");
        recorder.append(start("l3"));
        assert_eq!((length(), full < MOST + 1000), (MOST + RESERVE, true));
    }
}
