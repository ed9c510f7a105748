//! The hooks that the plugin registered, each form of their calls.

use cln_lab::{Error, Result};

use super::finding::{Finding, Stage};
use super::run::{Run, title};
use super::session::short;
use super::{answers, codes};

impl Run<'_> {
    /// Plays each hook, one call at a time.
    pub(super) async fn hooks(&mut self) -> Result<()> {
        for hook in self.manifest.hooks.clone() {
            let messages: Vec<_> = self.release.hooks(&hook).cloned().collect();
            if messages.is_empty() {
                self.report.unrecorded.push(hook.clone());
            }
            self.report.subjects.push((Stage::Hooks, hook.clone()));
            for message in messages {
                if !self.revive().await? {
                    return Ok(());
                }
                let (subject, sent) = (title(&message), self.request(&message));
                let sent = &sent;
                let finding = match self.call(&hook, sent).await {
                    Ok(answer) => match answer.get("result") {
                        None => {
                            let text = format!("{subject} is answered with an error");
                            let finding = Finding::new(&codes::HOOK_ERROR, subject.clone(), text);
                            Some(finding.came(answer.to_string()))
                        }
                        Some(result) => {
                            let refused = answers::refused(&hook, result, self.release);
                            refused.map(|(level, why)| {
                                let text = format!("{subject}: {why}");
                                Finding::new(&codes::HOOK_ANSWER, subject.clone(), text)
                                    .level(level)
                                    .came(answer.to_string())
                            })
                        }
                    },
                    Err(error @ Error::TimedOut { .. }) => {
                        let text = format!("{subject} is not answered");
                        let finding = Finding::new(&codes::HOOK_SILENT, subject.clone(), text);
                        Some(finding.came(short(&error)))
                    }
                    // What it did instead shows below.
                    Err(_) => None,
                };
                let failed = finding.is_some();
                let silent = finding
                    .as_ref()
                    .is_some_and(|f| f.code == &codes::HOOK_SILENT);
                if let Some(finding) = finding {
                    self.found(finding.sent(sent));
                    // What a handler wrote before it answered so is part of this.
                    if let Some(session) = &mut self.session {
                        session.settle(self.plan.patience).await;
                        session.forget_failures();
                    }
                }
                let fails = (&codes::HOOK_DIES, &codes::HOOK_FAILS);
                let well = self.settled(fails, &subject, sent).await;
                // It may answer nothing any more: the next hook is not to blame.
                if silent {
                    self.session = None;
                }
                if failed || !well {
                    // Its other forms would only fail in the same way.
                    break;
                }
            }
        }
        Ok(())
    }
}
