//! Every notification lightningd can send, made and checked on real nodes. The
//! scenarios are the library's own: `lab topics --run` plays the same.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, ensure};
use cln_lab::Version;
use cln_lab::corpus::{self, Kind};
use cln_lab_command::scenarios::{self, Scenario};
use cln_topics::{HOOKS, TOPICS, Topic, hooks_of};
use lab_tests::{Kinds, Outcome, Suite, block_on};

pub fn tests(suite: Suite) -> Suite {
    played(suite)
        .test("every_topic_has_a_scenario", every_topic)
        .test("topics_md_is_up_to_date", document)
        .test("changes_md_is_up_to_date", changes)
        .test("the_corpus_has_every_topic_and_hook", whole_corpus)
        .on(
            &[Kinds::Lightningd],
            "lightningd_knows_exactly_the_topics_of_the_table",
            known,
        )
}

/// One test a scenario, on each kind of node that can play it.
fn played(suite: Suite) -> Suite {
    let combinations = |scenario: &Scenario| {
        if scenario.embedded {
            &Kinds::PURE[..]
        } else {
            &[Kinds::Lightningd]
        }
    };
    scenarios::scenarios()
        .flat_map(|scenario| {
            combinations(scenario)
                .iter()
                .map(move |kinds| (scenario, *kinds))
        })
        .fold(suite, |suite, (scenario, kinds)| {
            let kind = kinds.kind_of(0);
            // If it cannot be asked, the test itself fails and says why.
            let skip =
                block_on(async { Ok(scenario.skipped_because(kind).await?) }).unwrap_or(None);
            suite.case(scenario.name, kinds, skip, move || async move {
                let recording = scenario.play(kind).await?;
                let version = kind.find().await?.1.lightningd().map(Version::to_string);
                if let Some(corpus) = version.as_deref().and_then(corpus::of) {
                    scenarios::check(corpus, &recording.messages)?;
                }
                Ok(())
            })
        })
}

async fn every_topic() -> Outcome {
    let mut names = BTreeSet::new();
    for scenario in scenarios::scenarios() {
        ensure!(
            names.insert(scenario.name),
            "two are named {}",
            scenario.name
        );
        for topic in scenario.topics {
            let known = Topic::find(topic).is_some();
            ensure!(
                known || scenario.name == "custom",
                "{topic} of {}",
                scenario.name
            );
        }
    }
    for hook in HOOKS {
        let mut scenarios = scenarios::scenarios();
        let own = scenarios.any(|scenario| scenario.hooks.contains(&hook.name));
        ensure!(own, "no scenario calls {}", hook.name);
    }
    for topic in TOPICS {
        let own = scenarios::scenarios_of(topic.name).any(|s| s.name.starts_with(topic.name));
        ensure!(own, "no scenario is named after {}", topic.name);
    }
    Ok(())
}

async fn document() -> Outcome {
    up_to_date("plugin/TOPICS.md", &scenarios::markdown())
}

async fn changes() -> Outcome {
    up_to_date("lab/corpus/CHANGES.md", &scenarios::changes())
}

fn up_to_date(file: &str, page: &str) -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let written = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let differs = written.lines().zip(page.lines()).position(|(a, b)| a != b);
    ensure!(
        written == page,
        "{file} is stale, from line {:?} on: run `make topics`",
        differs.map(|line| line + 1)
    );
    Ok(())
}

/// Each release's file has what the tables say that the release has.
async fn whole_corpus() -> Outcome {
    let mut missing = Vec::new();
    for corpus in corpus::ALL {
        let version: Version = corpus.version().parse().map_err(anyhow::Error::msg)?;
        let topics = TOPICS
            .iter()
            .filter(|topic| topic.is_sent_by(version.release()));
        let topics = topics.map(|topic| (Kind::Notification, topic.name));
        let hooks = hooks_of(version.release()).map(|hook| (Kind::Hook, hook.name));
        for (kind, name) in topics.chain(hooks) {
            if corpus.find(kind, name).next().is_none() {
                missing.push(format!("{} {kind} {name}", corpus.version()));
            }
        }
    }
    ensure!(missing.is_empty(), "{missing:#?}");
    Ok(())
}

async fn known(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let version = lab.l1().implementation().lightningd().cloned();
    let version = version.context("a lightningd")?;
    let known = scenarios::known(&lab).await?;
    let table: BTreeSet<String> = TOPICS
        .iter()
        .filter(|topic| topic.is_sent_by(version.release()))
        .map(|topic| topic.name.to_owned())
        .collect();
    let unlisted: Vec<&String> = known.difference(&table).collect();
    ensure!(unlisted.is_empty(), "{version} knows more: {unlisted:?}");
    let unknown: Vec<&String> = table.difference(&known).collect();
    ensure!(unknown.is_empty(), "{version} does not know: {unknown:?}");
    Ok(lab.stop().await?)
}
