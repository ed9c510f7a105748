//! The same on running nodes: the scenarios that trigger what the plugin asks for, with the
//! plugin on each node, and its methods.

use std::collections::BTreeSet;
use std::time::Instant;

use cln_lab::{Error, Keep, Lab, NodeKind, NodeSpec, Plugin, Result, corpus, scaled};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::codes;
use super::finding::{Finding, Level, Stage};
use super::plan::Plan;
use super::release::Release;
use super::run::Run;
use super::session::is_failure;
use super::summary::Summary;
use crate::scenarios::{Scenario, scenarios};

/// Plays to the plugin what nodes of this kind send, in scenarios on such nodes. The
/// manifest and `init` are looked at as in [`super::check`].
///
/// # Errors
/// If there is no such node, or the plugin cannot be run.
pub async fn on_node(plan: &Plan, kind: NodeKind) -> Result<Summary> {
    let started = Instant::now();
    let (_, node) = kind.find().await?;
    let version = node.lightningd().map(ToString::to_string);
    let newest = corpus::ALL.last();
    let recorded = version.as_deref().map_or(newest, corpus::of).or(newest);
    let Some(recorded) = recorded else {
        return Err(Error::usage("no release was recorded"));
    };
    let release = Release::read(recorded);
    let mut run = Run::new(plan, &release);
    run.report.release = node.to_string();
    run.report.stages = &Stage::ON_NODE;
    if run.start().await? {
        run.session = None;
        let plugin = plan
            .options
            .iter()
            .fold(Plugin::path(&plan.plugin), |plugin, (name, value)| {
                plugin.option(name, value.as_str().unwrap_or_default())
            });
        run.methods_on(kind, &plugin).await?;
        run.played(Stage::Methods);
        run.scenarios_on(kind, &plugin).await?;
        run.played(Stage::Node);
    }
    run.report.took = started.elapsed();
    Ok(Summary::of(vec![run.report], started.elapsed()))
}

impl Run<'_> {
    /// Calls each method with a parameter that it cannot have.
    async fn methods_on(&mut self, kind: NodeKind, plugin: &Plugin) -> Result<()> {
        let node = NodeSpec::new().kind(kind).plugin(plugin.clone());
        let lab = Lab::builder().keep(Keep::Never).node(node).start().await?;
        let l1 = lab.l1();
        for method in self.manifest.methods.clone() {
            let params = json!({"lab-check-no-such-parameter": 1});
            let call = l1.call::<Value>(&method, &params);
            self.report.sent += 1;
            let answer = tokio::time::timeout(scaled(self.plan.patience), call).await;
            let active = l1.plugin_active(plugin.executable()).await?;
            let (code, came) = match answer {
                Ok(Err(error)) if !active => (&codes::METHOD_DIES, error.to_string()),
                Err(_) => (&codes::METHOD_SILENT, "nothing".to_owned()),
                Ok(_) => continue,
            };
            let subject = format!("method `{method}`");
            let text = format!("{subject}: no answer to a call with a wrong parameter");
            let sent = format!("{method} {params}");
            self.push(Finding::new(code, subject, text).sent(sent).came(came));
            if !active {
                break;
            }
        }
        match lab.stop().await {
            // It is in the findings.
            Err(Error::Gate(_)) if self.report.worst(Stage::Methods).is_some() => Ok(()),
            Err(Error::Gate(lines)) => {
                self.push(
                    Finding::new(&codes::NODE_FAILS, "methods", "on a node with it")
                        .came(lines.join("\n")),
                );
                Ok(())
            }
            other => other,
        }
    }

    /// Plays a scenario for each topic and hook, several at once.
    async fn scenarios_on(&mut self, kind: NodeKind, plugin: &Plugin) -> Result<()> {
        let chosen = self.chosen(kind).await?;
        let jobs = self.plan.jobs.get();
        let played = chosen.into_iter().map(|scenario| async move {
            let bad = scenario.play_beside(kind, plugin, is_failure).await;
            let finding = match bad {
                Ok(lines) if lines.is_empty() => None,
                Ok(lines) => Some(failed(scenario, &lines).level(Level::Warning)),
                Err(Error::Gate(lines)) => Some(failed(scenario, &lines)),
                Err(error @ Error::Died { .. }) => Some(failed(scenario, &[error.to_string()])),
                // As without it: then it is not the plugin.
                Err(error) => scenario.play(kind).await.ok().map(|_| {
                    let text = format!("`{}` is not played to its end", scenario.name);
                    Finding::new(&codes::NODE_DIFFERS, scenario.name, text).came(error.to_string())
                }),
            };
            finding.map(|finding| finding.sent(format!("scenario: {}", scenario.does)))
        });
        let findings: Vec<Option<Finding>> = stream::iter(played).buffered(jobs).collect().await;
        self.report.sent += findings.len();
        findings.into_iter().flatten().for_each(|f| self.push(f));
        Ok(())
    }

    /// The fewest scenarios, about, that trigger every topic and hook of the plugin that
    /// these nodes can.
    async fn chosen(&mut self, kind: NodeKind) -> Result<Vec<&'static Scenario>> {
        let wildcard = self.manifest.subscriptions.iter().any(|topic| topic == "*");
        let wanted = |topic: &str| {
            let subscribed = self.manifest.subscriptions.iter().any(|name| name == topic);
            let asked = self.plan.topics.is_empty() || self.plan.topics.iter().any(|t| t == topic);
            (subscribed || (wildcard && topic != "log")) && asked
        };
        let mut playable = Vec::new();
        for scenario in scenarios() {
            if scenario.skipped_because(kind).await?.is_none() {
                playable.push(scenario);
            }
        }
        let subjects = |scenario: &Scenario| {
            let topics = scenario.topics.iter().filter(|topic| wanted(topic));
            let hooks = scenario.hooks.iter();
            let hooks = hooks.filter(|hook| self.manifest.hooks.iter().any(|name| name == *hook));
            topics.chain(hooks).copied().collect::<BTreeSet<&str>>()
        };
        let mut left: BTreeSet<&str> = playable.iter().flat_map(|s| subjects(s)).collect();
        let mut chosen = Vec::new();
        while !left.is_empty() {
            let gain = |scenario: &&&Scenario| subjects(scenario).intersection(&left).count();
            // Of equal ones the first, which is the simplest.
            let Some(best) = playable.iter().rev().max_by_key(gain) else {
                break;
            };
            left.retain(|subject| !subjects(best).contains(subject));
            chosen.push(*best);
        }
        Ok(chosen)
    }
}

/// Something went wrong on a node, though the scenario came to its end.
fn failed(scenario: &Scenario, lines: &[String]) -> Finding {
    let text = format!("something goes wrong in `{}`", scenario.name);
    Finding::new(&codes::NODE_FAILS, scenario.name, text).came(lines.join("\n"))
}
