//! Every notification lightningd can send, made and checked on real nodes. The
//! scenarios are the library's own: `lab topics --run` plays the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use cln_lab::topics;
use lab_tests::{Cast, Outcome, Suite};

fn main() -> ExitCode {
    scenarios(Suite::new())
        .test("every_topic_has_a_scenario", every_topic)
        .test("the_plugin_has_the_same_table", same_table)
        .test("topics_md_is_up_to_date", document)
        .on(
            &[Cast::Lightningd],
            "lightningd_knows_the_topics_of_the_table_and_no_others",
            known,
        )
        .main()
}

/// One test a scenario, on each kind of node that can play it.
fn scenarios(suite: Suite) -> Suite {
    let casts = |scenario: &topics::Scenario| match scenario.embedded {
        true => &Cast::PURE[..],
        false => &[Cast::Lightningd],
    };
    topics::scenarios()
        .flat_map(|scenario| casts(scenario).iter().map(move |cast| (scenario, *cast)))
        .fold(suite, |suite, (scenario, cast)| {
            let kind = cast.kind_of(0);
            // What cannot even be asked is for the test to tell.
            let skip = wait(scenario.skipped_because(kind)).unwrap_or(None);
            suite.case(scenario.name, cast, skip, move || async move {
                scenario.play(kind).await?;
                Ok(())
            })
        })
}

/// Which tests there are is decided before any runs.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(answer)
}

async fn every_topic() -> Outcome {
    let mut names = BTreeSet::new();
    for scenario in topics::scenarios() {
        ensure!(
            names.insert(scenario.name),
            "two are named {}",
            scenario.name
        );
        for topic in scenario.topics {
            let known = topics::Topic::find(topic).is_some();
            ensure!(
                known || scenario.name == "custom",
                "{topic} of {}",
                scenario.name
            );
        }
    }
    for topic in topics::TOPICS {
        let own = topics::scenarios_of(topic.name).any(|s| s.name.starts_with(topic.name));
        ensure!(own, "no scenario is named after {}", topic.name);
    }
    Ok(())
}

/// The plugin knows topics by itself, since a plugin is to work without the lab.
async fn same_table() -> Outcome {
    let ours = topics::TOPICS
        .iter()
        .map(|topic| (topic.name, (topic.since.0, topic.since.1), topic.tells));
    let theirs = eventlog::topics::TOPICS.iter().map(|topic| {
        let (major, minor) = topic.since;
        (topic.name, (major as u16, minor as u16), topic.tells)
    });
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.collect(), theirs.collect());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        ensure!(ours == theirs, "lab: {ours:?}, eventlog: {theirs:?}");
    }
    ensure!(
        ours.len() == theirs.len(),
        "{} and {}",
        ours.len(),
        theirs.len()
    );
    Ok(())
}

async fn document() -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin/TOPICS.md");
    let written = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let page = topics::markdown();
    let differs = written.lines().zip(page.lines()).position(|(a, b)| a != b);
    ensure!(
        written == page,
        "plugin/TOPICS.md is stale, from line {:?} on: run `make topics`",
        differs.map(|line| line + 1)
    );
    Ok(())
}

async fn known(cast: Cast) -> Outcome {
    let lab = cast.lab(1).start().await?;
    let version = lab.l1().implementation().lightningd().cloned();
    let version = version.context("a lightningd")?;
    let known = topics::known(&lab).await?;
    let table: BTreeSet<String> = topics::TOPICS
        .iter()
        .filter(|topic| topic.since.includes(&version))
        .map(|topic| topic.name.to_owned())
        .collect();
    let unlisted: Vec<&String> = known.difference(&table).collect();
    ensure!(unlisted.is_empty(), "{version} knows more: {unlisted:?}");
    let unknown: Vec<&String> = table.difference(&known).collect();
    ensure!(unknown.is_empty(), "{version} does not know: {unknown:?}");
    Ok(lab.stop().await?)
}
