//! One release: its stages, in order, and the requests in them.

use std::time::{Duration, Instant};

use cln_lab::corpus::Message;
use cln_lab::{Error, Result};
use serde_json::{Value, json};

use super::finding::{Finding, Report, Stage};
use super::manifest::Manifest;
use super::plan::Plan;
use super::release::Release;
use super::session::Session;

/// How long every release of lightningd waits for `getmanifest` and `init`, at least.
const STARTUP: Duration = Duration::from_secs(60);

/// The check of one release.
#[derive(Debug)]
pub struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) release: &'a Release,
    pub(super) report: Report,
    pub(super) manifest: Manifest,
    /// `None` once it has ended.
    pub(super) session: Option<Session>,
    /// What went wrong when all topics came at once.
    pub(super) together: Option<Finding>,
    /// lightningd would have killed it for good.
    pub(super) over: bool,
    pub(super) restarts: usize,
    ids: usize,
}

/// Plays everything to the plugin, as this release would.
///
/// # Errors
/// If the plugin cannot be started, or has no such option as was set.
pub async fn check(plan: &Plan, release: &Release) -> Result<Report> {
    let started = Instant::now();
    let mut run = Run::new(plan, release);
    if run.start().await? {
        run.methods().await?;
        run.played(Stage::Methods);
        run.hooks().await?;
        run.played(Stage::Hooks);
        run.topics().await?;
        run.played(Stage::Topics);
        run.stream().await?;
        run.played(Stage::Stream);
        run.end().await?;
        run.played(Stage::End);
    }
    run.report.took = started.elapsed();
    Ok(run.report)
}

impl<'a> Run<'a> {
    /// Nothing is played yet.
    pub(super) fn new(plan: &'a Plan, release: &'a Release) -> Run<'a> {
        Run {
            plan,
            release,
            report: Report {
                release: release.version().to_owned(),
                stages: &Stage::RECORDED,
                findings: Vec::new(),
                played: Vec::new(),
                subjects: Vec::new(),
                sent: 0,
                unrecorded: Vec::new(),
                start: Duration::ZERO,
                took: Duration::ZERO,
            },
            manifest: Manifest::default(),
            session: None,
            together: None,
            over: false,
            restarts: 0,
            ids: 0,
        }
    }

    pub(super) fn played(&mut self, stage: Stage) {
        if !self.over {
            self.report.played.push(stage);
        }
    }

    /// The next id, as lightningd's: a string; until v25.05 a number for a plugin that does
    /// not say that it takes strings.
    pub(super) fn id(&mut self, method: &str) -> Value {
        self.ids += 1;
        if self.takes_numbers() {
            return json!(1_000_000 + self.ids);
        }
        json!(format!("lab/cln:{method}#{}", self.ids))
    }

    pub(super) fn takes_numbers(&self) -> bool {
        !self.manifest.strings && !self.release.since(25, 5)
    }

    /// A recorded request, with an id that this plugin takes.
    pub(super) fn request(&mut self, message: &Message) -> String {
        if !self.takes_numbers() {
            return message.message.clone();
        }
        let mut request = message.json();
        request["id"] = self.id(&message.name);
        request.to_string()
    }

    /// Sends a request and waits for the answer, whatever it says.
    pub(super) async fn ask(
        &mut self,
        session: &mut Session,
        method: &str,
        request: &str,
    ) -> Result<Value> {
        self.report.sent += 1;
        session.rpc.forget();
        session.send(&[request]).await?;
        let id = serde_json::from_str::<Value>(request).unwrap_or_default()["id"].clone();
        // At its start a plugin has the time that lightningd gives, as long as it works.
        let started = Instant::now();
        let starts = matches!(method, "getmanifest" | "init");
        let answer = loop {
            match session.plugin.response(method, &id).await {
                Err(Error::TimedOut { .. })
                    if starts
                        && started.elapsed() < STARTUP
                        && !session.plugin.idle(Duration::ZERO).await => {}
                answer => break answer?,
            }
        };
        self.version_of(&answer, method, request);
        Ok(answer)
    }

    /// Sends a request to the running plugin and waits for the answer.
    pub(super) async fn call(&mut self, method: &str, request: &str) -> Result<Value> {
        let Some(mut session) = self.session.take() else {
            return Err(Error::Usage(format!("{method}: the plugin has ended")));
        };
        let answer = self.ask(&mut session, method, request).await;
        self.session = Some(session);
        answer
    }
}

/// `connect (in)`: what a message is called in findings.
pub(super) fn title(message: &Message) -> String {
    let mut title = format!("`{}`", message.name);
    if !message.form.is_empty() {
        title += &format!(" ({})", message.form);
    }
    title
}
