//! The stages of one release: start, `getmanifest`, `init`, and what follows.

use std::time::{Duration, Instant};

use cln_lab::corpus::{Kind, Message};
use cln_lab::{Error, Result};
use serde_json::{Map, Value, json};

use super::codes;
use super::finding::{Finding, Level, Report, Stage};
use super::manifest::{self, Manifest};
use super::plan::{Plan, typed};
use super::release::Release;
use super::session::{Session, Trouble, short};

/// How often the plugin is started again after it ended, for a release.
const RESTARTS: usize = 20;

/// The check of one release.
#[derive(Debug)]
pub struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) release: &'a Release,
    pub(super) report: Report,
    pub(super) manifest: Manifest,
    /// `None` once it has ended.
    pub(super) session: Option<Session>,
    /// lightningd would have killed it for good.
    pub(super) over: bool,
    restarts: usize,
    ids: usize,
}

/// Plays everything to the plugin, as this release would.
///
/// # Errors
/// If the plugin cannot be started, or has no such option as was set.
pub async fn check(plan: &Plan, release: &Release) -> Result<Report> {
    let mut run = Run {
        plan,
        release,
        report: Report {
            release: release.version(),
            findings: Vec::new(),
            played: Vec::new(),
            topics: Vec::new(),
            sent: 0,
            unrecorded: Vec::new(),
            start: Duration::ZERO,
        },
        manifest: Manifest::default(),
        session: None,
        over: false,
        restarts: 0,
        ids: 0,
    };
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
    Ok(run.report)
}

impl Run<'_> {
    fn played(&mut self, stage: Stage) {
        if !self.over {
            self.report.played.push(stage);
        }
    }

    /// Adds a finding, unless the same is there. What follows a call that nothing here can
    /// answer proves little: it is a warning then.
    pub(super) fn found(&mut self, mut finding: Finding) {
        let unanswered = match &self.session {
            Some(session) => session.rpc.unanswered(),
            None => return self.push(finding),
        };
        if !unanswered.is_empty() && finding.stage != Stage::Manifest {
            let methods: Vec<&str> = unanswered.iter().map(String::as_str).collect();
            finding.level = Level::Warning;
            finding.text += &format!(
                "; it had called {}, which has no answer here: give one with --rpc FILE",
                methods.join(", ")
            );
        }
        self.push(finding);
    }

    fn push(&mut self, finding: Finding) {
        let known =
            |other: &Finding| other.code == finding.code && other.subject == finding.subject;
        if !self.report.findings.iter().any(known) {
            self.report.findings.push(finding);
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

    fn takes_numbers(&self) -> bool {
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

    /// Starts the plugin, up to its answer to `init`; false if it gets no further.
    async fn start(&mut self) -> Result<bool> {
        let started = Instant::now();
        let mut session = Session::start(self.plan, self.release).await?;
        let request = self.recorded(Kind::Manifest);
        let answer = self.ask(&mut session, "getmanifest", &request).await;
        let manifest = match answer {
            Ok(answer) if answer["result"].is_object() => answer["result"].clone(),
            other => {
                let came = other.map_or_else(|error| short(&error), |answer| answer.to_string());
                self.unanswered(
                    &mut session,
                    &codes::NO_MANIFEST,
                    "getmanifest",
                    &request,
                    came,
                )
                .await;
                return Ok(false);
            }
        };
        self.report
            .findings
            .extend(manifest::findings(&manifest, self.release));
        self.manifest = Manifest::read(&manifest);
        self.played(Stage::Manifest);
        if self.report.worst(Stage::Manifest) == Some(Level::Error) {
            return Ok(false);
        }
        if let Some(why) = self.manifest.disabled.clone() {
            self.found(Finding::new(&codes::DISABLED, "getmanifest", why));
            return Ok(false);
        }
        session.declared.clone_from(&self.manifest.notifications);
        let mut session = match self.early(session).await? {
            Some(session) => session,
            None => self.reach_init().await?,
        };
        let request = self.init_request(&session)?;
        let answer = match self.ask(&mut session, "init", &request).await {
            Ok(answer) => answer,
            Err(error) => {
                let came = short(&error);
                self.unanswered(&mut session, &codes::NO_INIT, "init", &request, came)
                    .await;
                return Ok(false);
            }
        };
        self.report.start = started.elapsed();
        if let Some(why) = answer["result"].get("disable") {
            self.session = Some(session);
            let why = why.as_str().map_or_else(|| why.to_string(), str::to_owned);
            self.found(Finding::new(&codes::DISABLED, "init", why).sent(request));
            self.played(Stage::Init);
            return Ok(false);
        }
        self.session = Some(session);
        if answer.get("error").is_some() {
            let text = "the answer to `init` is an error";
            let finding = Finding::new(&codes::INIT_ERROR, "init", text);
            self.found(finding.sent(request.clone()).came(answer.to_string()));
            // The traceback of the same failure is no other.
            if let Some(session) = &mut self.session {
                session.settle(self.plan.patience).await;
                session.forget_failures();
            }
        }
        self.settled(&codes::NO_INIT, "init", &request).await;
        self.played(Stage::Init);
        Ok(!self.over)
    }

    /// Sends a notification before `init`, where this release does that. `None` if the
    /// plugin did not survive it.
    async fn early(&mut self, mut session: Session) -> Result<Option<Session>> {
        if self.release.since(24, 5) {
            return Ok(Some(session));
        }
        let release = self.release;
        let subscriptions = self.manifest.subscriptions.clone();
        let mut messages = release.notifications(&subscriptions);
        let Some(early) = messages.find(|m| m.name == "warning") else {
            return Ok(Some(session));
        };
        let sent = session.send(&[&early.message]).await;
        session.settle(self.plan.patience).await;
        self.report.sent += 1;
        let troubles = session.troubles().await;
        if sent.is_ok() && troubles.is_empty() {
            return Ok(Some(session));
        }
        self.session = Some(session);
        for trouble in troubles {
            self.trouble(
                trouble,
                &codes::EARLY,
                &codes::EARLY,
                &title(early),
                &early.message,
            );
        }
        Ok(None)
    }

    /// The plugin, started, just before `init`.
    async fn reach_init(&mut self) -> Result<Session> {
        let mut session = Session::start(self.plan, self.release).await?;
        session.declared.clone_from(&self.manifest.notifications);
        let request = self.recorded(Kind::Manifest);
        self.ask(&mut session, "getmanifest", &request).await?;
        Ok(session)
    }

    /// Starts it again if it has ended; false if that does not help, or it is to be left
    /// alone.
    pub(super) async fn revive(&mut self) -> Result<bool> {
        if self.over {
            return Ok(false);
        }
        if self.session.is_some() {
            return Ok(true);
        }
        self.restarts += 1;
        if self.restarts > RESTARTS {
            self.over = true;
            return Ok(false);
        }
        let again = async {
            let mut session = self.reach_init().await?;
            let request = self.init_request(&session)?;
            self.ask(&mut session, "init", &request).await?;
            session.settle(self.plan.patience).await;
            session.troubles().await;
            Ok::<Session, Error>(session)
        };
        self.session = again.await.ok();
        self.over = self.session.is_none();
        Ok(!self.over)
    }

    /// The first recorded message of a kind.
    fn recorded(&self, kind: Kind) -> String {
        let mut messages = self.release.corpus.messages();
        let found = messages.find(|message| message.kind == kind && message.deprecated);
        found.map(|message| message.message).unwrap_or_default()
    }

    /// The recorded `init`, with this plugin's options and folder.
    ///
    /// # Errors
    /// [`Error::Usage`] if an option was set that it lacks, or to what is no value of it.
    fn init_request(&self, session: &Session) -> Result<String> {
        let mut request: Value =
            serde_json::from_str(&self.recorded(Kind::Init)).unwrap_or_default();
        request["params"]["configuration"]["lightning-dir"] = json!(session.plugin.dir());
        request["params"]["configuration"]["startup"] = json!(true);
        request["params"]["options"] = self.options()?;
        if self.takes_numbers() {
            request["id"] = json!(1_000_000);
        }
        Ok(request.to_string())
    }

    /// The values of its options: what was set, else the defaults.
    fn options(&self) -> Result<Value> {
        let declared = &self.manifest.options;
        let name_of = |option: &Value| option["name"].as_str().unwrap_or_default().to_owned();
        if let Some(unknown) = self
            .plan
            .options
            .keys()
            .find(|name| declared.iter().all(|o| name_of(o) != **name))
        {
            let names: Vec<String> = declared.iter().map(name_of).collect();
            let names = names.join(", ");
            return Err(Error::Usage(format!(
                "no option `{unknown}`: the plugin has [{names}]"
            )));
        }
        let mut values = Map::new();
        for option in declared {
            let name = name_of(option);
            let kind = option["type"].as_str().unwrap_or_default();
            let set = match self.plan.options.get(&name).and_then(Value::as_str) {
                Some(text) => Some(typed(&name, text, kind).map_err(Error::Usage)?),
                None => option
                    .get("default")
                    .filter(|value| !value.is_null())
                    .cloned(),
            };
            let Some(value) = set.filter(|value| kind != "flag" || *value == true) else {
                continue;
            };
            let value = if option["multi"] == true {
                json!([value])
            } else {
                value
            };
            values.insert(name, value);
        }
        Ok(Value::Object(values))
    }

    /// Sends a request and waits for the answer, whatever it says.
    async fn ask(&mut self, session: &mut Session, method: &str, request: &str) -> Result<Value> {
        self.report.sent += 1;
        session.send(&[request]).await?;
        let id = serde_json::from_str::<Value>(request).unwrap_or_default()["id"].clone();
        let answer = session.plugin.response(method, &id).await?;
        self.version_of(&answer, method, request);
        Ok(answer)
    }

    /// An answer has to say that it is JSON-RPC.
    fn version_of(&mut self, answer: &Value, method: &str, request: &str) {
        if answer.get("jsonrpc").is_some() || self.release.since(25, 12) {
            return;
        }
        let text = format!("the answer to `{method}` has no \"jsonrpc\"");
        let finding = Finding::new(&codes::NO_VERSION, "jsonrpc", text);
        self.found(finding.sent(request).came(answer.to_string()));
        self.over = true;
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

    /// The finding for a request without an answer: what the plugin did instead.
    async fn unanswered(
        &mut self,
        session: &mut Session,
        code: &'static codes::Code,
        method: &str,
        request: &str,
        came: String,
    ) {
        let troubles = session.troubles().await;
        let mut instead = None;
        for trouble in troubles {
            instead = Some(match trouble {
                Trouble::Noise(text) => {
                    let finding = Finding::new(&codes::NOISE, "stdout", "no message on stdout");
                    self.push(finding.sent(request).came(text));
                    return;
                }
                Trouble::Stray(answer) => format!("an answer with another id: {answer}"),
                Trouble::Died(how) => how,
                Trouble::Failed(text) | Trouble::Malformed(text) => text,
                Trouble::Undeclared(_) => continue,
            });
        }
        let text = format!("`{method}` gets no answer");
        let finding = Finding::new(code, method, text).sent(request);
        self.push(finding.came(instead.unwrap_or(came)));
    }

    /// Waits until the plugin has handled what it was sent, and records what went wrong.
    /// True if all is well.
    pub(super) async fn settled(
        &mut self,
        dies: &'static codes::Code,
        subject: &str,
        sent: &str,
    ) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        session.settle(self.plan.patience).await;
        let troubles = session.troubles().await;
        let well = troubles.is_empty();
        for trouble in troubles {
            self.trouble(trouble, dies, dies, subject, sent);
        }
        well
    }

    /// Records what went wrong: `dies` is the code if the plugin ended, `fails` if only its
    /// handler did.
    pub(super) fn trouble(
        &mut self,
        trouble: Trouble,
        dies: &'static codes::Code,
        fails: &'static codes::Code,
        subject: &str,
        sent: &str,
    ) {
        let ends = trouble.ends();
        let finding = match trouble {
            Trouble::Died(how) => {
                Finding::new(dies, subject, format!("it ended after {subject}")).came(how)
            }
            Trouble::Failed(text) => {
                let first = text.lines().next().unwrap_or_default().to_owned();
                Finding::new(fails, subject, format!("{subject}: {first}")).came(text)
            }
            Trouble::Noise(text) => {
                self.over = true;
                Finding::new(&codes::NOISE, "stdout", "no message on stdout").came(text)
            }
            Trouble::Stray(answer) => {
                let text = format!("an answer that nobody asked for, after {subject}");
                let level = if self.release.since(23, 11) {
                    Level::Warning
                } else {
                    Level::Error
                };
                let finding = Finding::new(&codes::STRAY, "stdout", text).level(level);
                finding.came(answer.to_string())
            }
            Trouble::Malformed(message) => {
                self.over = true;
                let text = "a message that lightningd does not accept";
                Finding::new(&codes::MALFORMED, "stdout", text).came(message)
            }
            Trouble::Undeclared(topic) => {
                let text = format!("it sends `{topic}`, which its manifest does not announce");
                Finding::new(&codes::UNDECLARED, topic, text)
            }
        };
        self.found(finding.sent(sent));
        if ends {
            self.session = None;
        }
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
