//! A check on a node: the plugin started on l1 with a tee, what it writes and logs.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use cln_lab::{Error, Event, Follower, Lab, Log, Plugin, Probe, eventually};
use serde_json::Value;

use super::bench::process_of;
use super::exam::{Exam, Outcome, Stop, missed};
use super::verdict::Miss;
use crate::wire::{Sender, Tee, Wire};

/// How long what was caused may take to arrive, before the factor.
const ARRIVAL: Duration = Duration::from_secs(3);
/// How long `plugin start` may take, before the factor: an interpreter that loads a
/// library needs seconds on a busy machine.
const START: Duration = Duration::from_secs(10);
/// The file in the node's network folder to which plugins write.
pub(super) const FILE: &str = "myplugin.txt";

/// A plugin that runs on l1.
pub(super) struct Running {
    pub tee: Tee,
    wire: Wire,
    log: Log,
    lines: Follower,
    /// Lines that were read and not taken yet.
    unread: VecDeque<String>,
    /// What was sent to it.
    sent: Vec<Value>,
    pub manifest: Value,
}

impl Exam {
    /// Starts the plugin on l1, with these options, l1 and l2 not connected, the file
    /// not there.
    pub async fn start(&mut self, options: &[(&str, &str)]) -> Outcome<Running> {
        // What lightningd runs is the tee, which can always be.
        self.must_be_executable()?;
        let tee = self.bench.tee(&self.program).await?;
        let bench = std::rc::Rc::clone(&self.bench);
        let lab = bench.lab().await?;
        let l1 = lab.l1();
        let file = l1.network_dir().join(FILE);
        let _ = std::fs::remove_file(&file);
        let mut plugin = Plugin::path(&tee.executable);
        for (name, value) in options {
            plugin = plugin.option(*name, value);
        }
        let named = options.iter().find(|(name, _)| *name == "events-file");
        let lines = named.map_or(file, |(_, path)| PathBuf::from(path));
        let log = l1.log().from_now()?;
        let watch = l1.watch_start(&tee.executable)?;
        self.doing("`plugin start` on l1");
        let started = tokio::time::timeout(cln_lab::scaled(START), l1.plugin_start(&plugin));
        let started = started.await;
        let mut running = Running {
            wire: Wire::open(&tee.record),
            lines: Follower::new(lines),
            tee,
            log,
            unread: VecDeque::new(),
            sent: Vec::new(),
            manifest: Value::Null,
        };
        match started {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return self.refused(&mut running, &error),
            Err(_) => {
                self.look(&mut running)?;
                let process = process_of(&running.tee.record);
                self.bench.clear(&running.tee.executable, process).await?;
                return missed(
                    self.done(),
                    "answers to getmanifest and init",
                    watch.waiting(),
                );
            }
        }
        self.look(&mut running)?;
        if let [warning, ..] = &watch.warnings()[..] {
            return missed(self.done(), "topics that there are", warning);
        }
        self.held("`plugin start` on l1: it is up");
        Ok(running)
    }

    /// lightningd did not take the plugin.
    fn refused<T>(&mut self, running: &mut Running, error: &Error) -> Outcome<T> {
        let Error::Rpc {
            code,
            message,
            help,
            ..
        } = error
        else {
            return Err(Stop::Broken(Error::usage(error.to_string())));
        };
        let _ = self.look(running);
        Err(Stop::Missed(Box::new(Miss {
            done: self.done(),
            expected: "it to be up, both requests answered".to_owned(),
            came: format!("error {}: {message}", code.unwrap_or_default()),
            help: help.clone(),
        })))
    }

    /// Reads what has passed; a mistake that lightningd accepts in silence ends the check.
    pub fn look(&mut self, running: &mut Running) -> Outcome {
        let mut mistake = None;
        for passed in running.wire.pending()? {
            if passed.from == Sender::Tee {
                continue;
            }
            let message = passed.json();
            if passed.from == Sender::Lightningd {
                running.sent.push(message.clone());
            }
            if passed.from == Sender::Plugin && message["result"]["rpcmethods"].is_array() {
                running.manifest = message["result"].clone();
            }
            if let Some(why) = &passed.mistake {
                mistake.get_or_insert((why.clone(), passed.text().to_owned()));
            }
            self.said(passed.from, passed.text(), passed.mistake.clone());
        }
        match mistake {
            None => Ok(()),
            Some((why, text)) => missed(self.done(), why, text),
        }
    }

    /// Waits for the next line that the plugin writes, which must be of this topic.
    pub async fn line(&mut self, running: &mut Running, topic: &str) -> Outcome<Event> {
        let expected = format!(
            "a line `{topic} notification: …` in {}",
            running.lines.path().display()
        );
        let text = self.next_line(running, &expected).await?;
        self.parsed(&text, topic)
    }

    /// Waits for the next line that the plugin writes, of whatever topic.
    pub async fn any_line(&mut self, running: &mut Running, expected: &str) -> Outcome<Event> {
        let text = self.next_line(running, expected).await?;
        match Event::parse(&text) {
            Ok(event) => Ok(event),
            Err(_) => missed(self.done(), expected, format!("the line `{text}`")),
        }
    }

    /// The event of this line, which must be of this topic.
    pub fn parsed(&mut self, text: &str, topic: &str) -> Outcome<Event> {
        // Not every text that `Event` takes for a payload, an id alone say.
        let json = text
            .split_once(" notification: ")
            .map_or("", |parts| parts.1);
        let is_object = serde_json::from_str::<serde_json::Map<String, Value>>(json).is_ok();
        match Event::parse(text) {
            Ok(event) if event.topic == topic && is_object => Ok(event),
            _ => missed(
                self.done(),
                format!("the line `{topic} notification: {{…}}`"),
                format!("the line `{text}`"),
            ),
        }
    }

    async fn next_line(&mut self, running: &mut Running, expected: &str) -> Outcome<String> {
        let process = process_of(&running.tee.record);
        let found = eventually(expected, ARRIVAL, async || {
            // In this order: what was written before the end is found.
            let ended = process.is_some_and(|pid| !cln_lab::is_alive(pid));
            running.unread.extend(running.lines.lines()?);
            if let Some(line) = running.unread.pop_front() {
                return Ok(Probe::Ready(Some(line)));
            }
            Ok(if ended {
                Probe::Ready(None)
            } else {
                Probe::NotYet("no line".to_owned())
            })
        })
        .await;
        self.look(running)?;
        match found {
            Ok(Some(line)) => Ok(line),
            Ok(None) => self.died(running, expected),
            Err(_) => missed(self.done(), expected, "no such line"),
        }
    }

    /// The plugin has ended though nobody asked for it.
    pub fn died<T>(&mut self, running: &mut Running, expected: &str) -> Outcome<T> {
        let killed = running.log.lines_with("Killing plugin")?;
        let came = killed.last().map_or("the plugin ended".to_owned(), |line| {
            let reason = line
                .split_once("Killing plugin: ")
                .map_or("", |(_, why)| why);
            format!("the plugin ended: {reason}")
        });
        let output = self.stderr();
        Err(Stop::Missed(Box::new(Miss {
            done: self.done(),
            expected: expected.to_owned(),
            came,
            help: if output.is_empty() {
                String::new()
            } else {
                format!("its stderr:\n  {}", output.join("\n  "))
            },
        })))
    }

    /// Waits for a line of this plugin in l1's log.
    pub async fn logged(&mut self, running: &mut Running, text: &str) -> Outcome {
        let name = running.tee.executable.file_name().unwrap_or_default();
        let ours = format!("plugin-{}: ", name.to_string_lossy());
        let process = process_of(&running.tee.record);
        let mut last = String::from("no line of it");
        let found = eventually(text, ARRIVAL, async || {
            let ended = process.is_some_and(|pid| !cln_lab::is_alive(pid));
            let lines = running.log.lines_with(&ours)?;
            if lines.iter().any(|line| line.contains(text)) {
                return Ok(Probe::Ready(true));
            }
            if let Some(line) = lines.last() {
                line.clone_into(&mut last);
            }
            Ok(if ended {
                Probe::Ready(false)
            } else {
                Probe::NotYet(last.clone())
            })
        })
        .await;
        self.look(running)?;
        let expected = format!("`{text}` in l1's log, from {ours}");
        match found {
            Ok(true) => Ok(()),
            Ok(false) => self.died(running, &expected),
            Err(_) => missed(self.done(), expected, last),
        }
    }

    /// Waits for this process to end.
    pub async fn gone(&mut self, process: Option<u32>) -> Outcome {
        let ended = eventually("its end", ARRIVAL, async || {
            Ok(if process.is_some_and(cln_lab::is_alive) {
                Probe::NotYet("it still runs".to_owned())
            } else {
                Probe::Ready(())
            })
        });
        match ended.await {
            Ok(()) => Ok(()),
            Err(_) => missed(self.done(), "the end of its process", "it still runs"),
        }
    }

    /// Connects l1 to l2.
    pub async fn connect(&mut self, lab: &Lab) -> Outcome {
        self.doing("l1 connected to l2");
        Ok(lab.l1().connect(lab.l2()).await.map(drop)?)
    }

    /// Ends that connection.
    pub async fn disconnect(&mut self, lab: &Lab) -> Outcome {
        self.doing("l1 disconnected from l2");
        Ok(lab.l1().disconnect(lab.l2()).await?)
    }
}
