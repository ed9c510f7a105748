//! From the plugin's start to its answer to `init`.

use std::time::{Duration, Instant};

use cln_lab::corpus::Kind;
use cln_lab::{Error, Result};
use serde_json::{Map, Value, json};

use super::codes;
use super::finding::{Finding, Level, Stage};
use super::manifest::{self, Manifest};
use super::plan::typed;
use super::run::{Run, title};
use super::session::{Session, short};

/// How often the plugin is started again after it ended, for a release.
const RESTARTS: usize = 20;

/// For how long it is looked at after what it asked for at `init`.
const MOMENT: Duration = Duration::from_millis(300);

impl Run<'_> {
    /// Starts the plugin, up to its answer to `init`; false if it gets no further.
    pub(super) async fn start(&mut self) -> Result<bool> {
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
        let fails = (&codes::NO_INIT, &codes::INIT_FAILS);
        let mut well = self.settled(fails, "init", &request).await;
        // What it asked the node for may end it a moment later: no message is to blame then.
        if well
            && let Some(session) = &mut self.session
            && !session.rpc.asked().is_empty()
            && !session.stays(MOMENT).await
        {
            well = self.settled(fails, "init", &request).await;
        }
        self.played(Stage::Init);
        Ok(!self.over && (well || self.session.is_some()))
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
}
