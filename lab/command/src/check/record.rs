//! What went wrong, as findings in the report.

use std::path::Path;

use serde_json::Value;

use super::codes;
use super::finding::{Finding, Level, Stage};
use super::run::Run;
use super::session::{Session, Trouble, headline};

impl Run<'_> {
    /// Adds a finding, unless the same is there.
    pub(super) fn found(&mut self, finding: Finding) {
        let finding = self.doubted(finding);
        self.push(finding);
    }

    /// What follows a call of the node proves little if it had no answer, or one about
    /// another node than the message: a warning.
    pub(super) fn doubted(&self, mut finding: Finding) -> Finding {
        let Some(session) = &self.session else {
            return finding;
        };
        let mut asked = session.rpc.unanswered();
        // Nobody answers for the channels and payments of a message.
        if finding.stage != Stage::Methods {
            asked.extend(session.rpc.asked());
        }
        if !asked.is_empty() && finding.stage != Stage::Manifest {
            let methods: Vec<&str> = asked.iter().map(String::as_str).collect();
            finding.level = Level::Warning;
            finding.doubtful = true;
            finding.text += &format!(
                "; before that it called {}, and what it got is not from the node that sent \
                 this: give answers with --rpc FILE",
                methods.join(", ")
            );
        }
        finding
    }

    pub(super) fn push(&mut self, finding: Finding) {
        let known =
            |other: &Finding| other.code == finding.code && other.subject == finding.subject;
        if !self.report.findings.iter().any(known) {
            self.report.findings.push(finding);
        }
    }

    /// An answer has to say that it is JSON-RPC.
    pub(super) fn version_of(&mut self, answer: &Value, method: &str, request: &str) {
        if answer.get("jsonrpc").is_some() {
            return;
        }
        let text = format!("the answer to `{method}` has no \"jsonrpc\"");
        let mut finding = Finding::new(&codes::NO_VERSION, "jsonrpc", text);
        finding.stage = match method {
            "getmanifest" => Stage::Manifest,
            "init" => Stage::Init,
            _ => Stage::Methods,
        };
        self.found(finding.sent(request).came(answer.to_string()));
        self.over = true;
    }

    /// The finding for a request without an answer: what the plugin did instead.
    pub(super) async fn unanswered(
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
        let came = instead.unwrap_or(came);
        let mut text = format!("`{method}` gets no answer");
        if let Some(hint) = environment(&self.plan.plugin, &came) {
            text += &hint;
        }
        let finding = Finding::new(code, method, text).sent(request);
        self.push(finding.came(came));
    }

    /// Waits until the plugin has handled what it was sent, and records what went wrong, as
    /// [`Run::trouble`] does. True if all is well.
    pub(super) async fn settled(
        &mut self,
        (dies, fails): (&'static codes::Code, &'static codes::Code),
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
            self.trouble(trouble, dies, fails, subject, sent);
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
                let (what, advice) = (headline(&text), arguments(&text));
                let mut finding =
                    Finding::new(fails, subject, format!("{subject}: {what}{advice}"));
                // Whatever is in the message, it is never handled.
                if fails.is_of_handlers() && !advice.is_empty() {
                    finding.level = Level::Error;
                }
                finding.came(text)
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
            self.ended();
        }
    }

    /// The plugin is gone. If it had called what has no answer here, it would most likely end
    /// again, whatever it is sent.
    pub(super) fn ended(&mut self) {
        let session = self.session.take();
        self.over |= session.is_some_and(|session| !session.rpc.unanswered().is_empty());
    }
}

/// What to do about the arguments of a handler in Python.
fn arguments(came: &str) -> &'static str {
    if came.contains("unexpected keyword argument") {
        "; take `**kwargs` as well, since releases add members"
    } else if came.contains("missing a required argument") {
        "; give that argument a default, since it has another name or place in this release"
    } else {
        ""
    }
}

/// What to do about a Python module that is missing, where the plugin has an environment of
/// its own beside it.
fn environment(plugin: &Path, came: &str) -> Option<String> {
    let programs = plugin.parent()?.join(".venv/bin");
    (came.contains("ModuleNotFoundError") && programs.is_dir()).then(|| {
        let programs = programs.display();
        format!(": a module is missing; run it with PATH={programs}:$PATH")
    })
}
