//! The plugin's methods, called with parameters that they cannot have; `setconfig`.

use cln_lab::{Error, Result};
use serde_json::{Value, json};

use super::codes;
use super::finding::{Finding, Level};
use super::run::Run;
use super::session::{Trouble, short};

impl Run<'_> {
    /// Calls every method at once, so that each is answered while others are pending.
    pub(super) async fn methods(&mut self) -> Result<()> {
        let mut calls: Vec<(String, Value, String)> = Vec::new();
        for method in self.manifest.methods.clone() {
            let id = self.id(&method);
            let params = json!({"lab-check-no-such-parameter": 1});
            let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
            calls.push((method, id, request.to_string()));
        }
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let requests: Vec<&String> = calls.iter().map(|call| &call.2).collect();
        // What keeps it from reading shows below.
        let _ = session.send(&requests).await;
        self.report.sent += calls.len();
        let mut lost = Vec::new();
        for (method, id, request) in &calls {
            if let Err(error) = session.plugin.response(method, id).await {
                lost.push((method, request, error));
            }
        }
        // One that comes later is no stray.
        let ids: Vec<&Value> = calls.iter().map(|call| &call.1).collect();
        session.plugin.forget(&ids);
        let silent = !lost.is_empty();
        for (method, request, error) in lost {
            self.lost_call(method, request, &error, calls.len()).await;
        }
        if let Some(session) = &mut self.session {
            // An error with a traceback in the log is an answer.
            session.settle(self.plan.patience).await;
            let troubles = session.troubles().await;
            for trouble in troubles {
                if !matches!(trouble, Trouble::Failed(_)) {
                    let code = &codes::METHOD_DIES;
                    self.trouble(trouble, code, code, "the calls of its methods", "");
                }
            }
        }
        // It may answer nothing any more: what comes next is not to blame.
        if silent {
            self.session = None;
        }
        self.setconfig().await
    }

    async fn lost_call(&mut self, method: &str, request: &str, error: &Error, calls: usize) {
        let subject = format!("method `{method}`");
        let Some(session) = &mut self.session else {
            return;
        };
        let mut failed = None;
        for trouble in session.troubles().await {
            match trouble {
                Trouble::Failed(text) => failed = Some(text),
                // Which of the calls it was cannot be known if they were several.
                Trouble::Died(_) if calls > 1 => {
                    let code = &codes::METHOD_DIES;
                    self.trouble(trouble, code, code, "calls of its methods", request);
                }
                other => {
                    let code = &codes::METHOD_DIES;
                    self.trouble(other, code, code, &subject, request);
                }
            }
        }
        if self.session.is_none() || self.over {
            return;
        }
        let (code, came) = match failed {
            Some(text) => (&codes::METHOD_DIES, text),
            None => (&codes::METHOD_SILENT, short(error)),
        };
        let text = format!("{subject}: no answer to a call with a wrong parameter");
        self.found(Finding::new(code, subject, text).sent(request).came(came));
    }

    /// Sets each dynamic option to the value that it has.
    async fn setconfig(&mut self) -> Result<()> {
        if !self.release.since(23, 8) {
            return Ok(());
        }
        for option in self.manifest.options.clone() {
            let name = option["name"].as_str().unwrap_or_default();
            let value = option.get("default").filter(|value| !value.is_null());
            // A `multi` one ends lightningd before it is sent, until v26.06.
            let skipped = option["dynamic"] != true || option["multi"] == true;
            let Some(value) = value.filter(|_| !skipped) else {
                continue;
            };
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let id = self.id("setconfig");
            let params = json!({"config": name, "val": value});
            let request =
                json!({"jsonrpc": "2.0", "id": id, "method": "setconfig", "params": params});
            let request = request.to_string();
            if !self.revive().await? {
                return Ok(());
            }
            let answer = self.call("setconfig", &request).await;
            let subject = format!("option `{name}`");
            let came = match answer {
                Ok(answer) if answer.get("error").is_none() => None,
                Ok(answer) => Some((Level::Warning, answer.to_string())),
                Err(error) => Some((Level::Error, short(&error))),
            };
            let silent = matches!(came, Some((Level::Error, _)));
            if let Some((level, came)) = came {
                let text = format!("setconfig of `{name}` to its own default fails");
                let finding = Finding::new(&codes::SETCONFIG, subject.clone(), text);
                self.found(finding.level(level).sent(&request).came(came));
                if let Some(session) = &mut self.session
                    && session.plugin.gone().await.is_some()
                {
                    self.ended();
                }
            }
            let code = &codes::SETCONFIG;
            self.settled((code, code), &subject, &request).await;
            if silent {
                self.session = None;
            }
        }
        Ok(())
    }
}
