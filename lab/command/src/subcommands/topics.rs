//! `lab topics`

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use cln_lab_command::scenarios::{
    Recording, Scenario, changes, markdown, scenarios, scenarios_of, write,
};
use cln_topics::{TOPICS, Topic};
use console::{Term, measure_text_width, style};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::spec::Kind;
use super::{out, usage};

#[derive(Debug, clap::Args)]
#[command(
    mut_arg("node", |arg| arg.requires("run")),
    after_help = "\
Examples:
  lab topics                              every notification that lightningd can send
  lab topics connect --json               one of them, for programs
  lab topics --run forward_event          trigger one on real nodes, and show the messages"
)]
pub struct Args {
    /// Only these topics (or scenarios, by name)
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Play the scenarios on nodes, check what they record, and show the messages
    #[arg(long)]
    run: bool,
    /// How many scenarios are played at once
    #[arg(short, long, value_name = "N", default_value = "1", requires = "run")]
    jobs: NonZeroUsize,
    #[command(flatten)]
    kind: Kind,
    /// Print one JSON object; with --run, one object a message
    #[arg(long)]
    json: bool,
    /// With --run: write what lightningd sent into the corpus of its release in this folder
    #[arg(long, value_name = "DIR", requires = "run")]
    capture: Option<PathBuf>,
    /// Print the table as a page in Markdown
    #[arg(long, conflicts_with_all = ["run", "json", "topics"])]
    markdown: bool,
    /// Print what changed from release to release as a page in Markdown
    #[arg(long, conflicts_with_all = ["run", "json", "topics", "markdown"])]
    changes: bool,
}

/// Exit status 0 if no scenario failed.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.markdown {
        out::bytes(markdown().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.changes {
        out::bytes(changes().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.run {
        return play(&args).await;
    }
    let chosen = chosen_topics(&args.topics)?;
    if args.json {
        let topics: Vec<Value> = chosen.iter().map(|topic| as_json(topic)).collect();
        out::line(format_args!("{:#}", json!({"topics": topics})))?;
    } else {
        print_table(&chosen)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The topics of these names; all if there are none.
fn chosen_topics(names: &[String]) -> anyhow::Result<Vec<&'static Topic>> {
    if names.is_empty() {
        return Ok(TOPICS.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            Topic::find(name)
                .ok_or_else(|| usage(format!("no topic `{name}`: `lab topics` lists them")))
        })
        .collect()
}

/// The scenarios of these topics, or of these names.
fn chosen_scenarios(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    for name in names {
        let known = scenarios_of(name).next().is_some()
            || scenarios().any(|scenario| scenario.name == name);
        if !known {
            return Err(usage(format!(
                "no topic or scenario `{name}`: `lab topics` lists them"
            )));
        }
    }
    // Of a topic's scenarios only those named after it: others merely trigger it, too.
    let wanted = |scenario: &&Scenario| {
        names.is_empty()
            || names.iter().any(|name| {
                scenario.name == name
                    || (scenario.topics.contains(&name.as_str())
                        && scenario.name.starts_with(name.as_str()))
            })
    };
    Ok(scenarios().filter(wanted).collect())
}

fn scenario_names(topic: &Topic) -> impl Iterator<Item = &'static str> {
    scenarios_of(topic.name).map(|scenario| scenario.name)
}

fn as_json(topic: &Topic) -> Value {
    let fields: Vec<Value> = topic
        .fields
        .iter()
        .map(|field| {
            let presence = format!("{:?}", field.presence).to_lowercase();
            json!({"name": field.name, "presence": presence})
        })
        .collect();
    let mut json = json!({
        "topic": topic.name,
        "since": topic.since.to_string(),
        "sender": topic.sender.to_string(),
        "summary": topic.summary,
        "scenarios": scenario_names(topic).collect::<Vec<_>>(),
        "fields": fields,
    });
    if let Some(until) = topic.until {
        json["until"] = until.to_string().into();
    }
    json
}

/// Columns: topic, since, fields, and below the fields the scenarios. The last column
/// takes the room that is left.
fn print_table(chosen: &[&Topic]) -> anyhow::Result<()> {
    const HEADER: [&str; 3] = [
        "TOPIC",
        "SINCE",
        "FIELDS, and the scenarios that trigger it",
    ];
    let widest = |header: &str, texts: &mut dyn Iterator<Item = String>| {
        let widths = texts.map(|text| measure_text_width(&text));
        widths.max().unwrap_or(0).max(header.len())
    };
    let name = widest(HEADER[0], &mut chosen.iter().map(|t| t.name.to_owned()));
    let since = widest(HEADER[1], &mut chosen.iter().map(|t| t.since.to_string()));
    let columns = Term::stdout()
        .size_checked()
        .map_or(100, |(_, columns)| columns);
    let room = usize::from(columns)
        .saturating_sub(name + since + 4)
        .max(30);
    let row = |a: &str, b: &str, c: &str| {
        format!("{a:<name$}  {b:<since$}  {c}")
            .trim_end()
            .to_owned()
    };
    out::line(style(row(HEADER[0], HEADER[1], HEADER[2])).bold())?;
    for topic in chosen {
        let fields: Vec<String> = topic.fields.iter().map(ToString::to_string).collect();
        let scenarios: Vec<String> = scenario_names(topic).map(str::to_owned).collect();
        let mut lines = wrapped(&fields, room);
        let scenarios = wrapped(&scenarios, room - 2);
        lines.extend(scenarios.iter().enumerate().map(|(n, line)| {
            let mark = if n == 0 { '>' } else { ' ' };
            format!("{mark} {line}")
        }));
        let since = topic.since.to_string();
        let mut first = (topic.name, &since[..]);
        for line in &lines {
            out::line(row(first.0, first.1, line))?;
            first = ("", "");
        }
    }
    out::line(
        "\nname? is not in every payload, (name) only while allow-deprecated-apis is true;\n\
         > scenarios, which `lab topics --run NAME` plays",
    )
}

/// Words separated by commas, in lines of at most `width` characters.
fn wrapped(words: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (n, word) in words.iter().enumerate() {
        let comma = if n + 1 < words.len() { "," } else { "" };
        match lines.last_mut() {
            Some(line) if line.len() + word.len() + 2 <= width => {
                line.push(' ');
                line.push_str(word);
                line.push_str(comma);
            }
            _ => lines.push(format!("{word}{comma}")),
        }
    }
    lines
}

async fn play(args: &Args) -> anyhow::Result<ExitCode> {
    let node = args.kind.node()?;
    let mut failed = false;
    let version = node.find().await?.1.lightningd().cloned();
    if args.capture.is_some() && version.is_none() {
        return Err(usage(
            "--capture: the corpus is what lightningd sends, not the embedded node",
        ));
    }
    let played = chosen_scenarios(&args.topics)?.into_iter();
    // People see what is played, unless it is several at once.
    let one_by_one = args.json || args.jobs.get() == 1;
    let played = played.map(|scenario| async move {
        if one_by_one && !args.json {
            // If nobody reads any more, the messages will say so.
            let _ = title(scenario);
        }
        match scenario.skipped_because(node).await {
            Ok(None) => (scenario, Ok(scenario.play(node).await)),
            Ok(Some(reason)) => (scenario, Err(reason)),
            Err(error) => (scenario, Ok(Err(error))),
        }
    });
    let mut played = std::pin::pin!(stream::iter(played).buffered(args.jobs.get()));
    while let Some((scenario, played)) = played.next().await {
        if !one_by_one {
            title(scenario)?;
        }
        match played {
            Err(reason) if args.json => drop(reason),
            Err(reason) => {
                let mark = style("-").yellow();
                out::line(format_args!("{mark} skipped: {reason}\n"))?;
            }
            Ok(Ok(recording)) => {
                if let (Some(folder), Some(version)) = (&args.capture, &version) {
                    write(folder, version, scenario, &recording.messages)?;
                }
                show(scenario, &recording, args.json)?;
            }
            Ok(Err(error)) => {
                failed = true;
                let mark = style("✗").red().bold().for_stderr();
                out::note(format_args!("{mark} {}: {error}\n", scenario.name));
            }
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// Prints what a scenario does.
fn title(scenario: &Scenario) -> anyhow::Result<()> {
    let name = style(scenario.name).bold();
    out::line(format_args!("{name}  {}", scenario.does))
}

/// Prints the messages, each with its node. People are shown only the last ones: a
/// node's start alone logs hundreds of lines.
fn show(scenario: &Scenario, recording: &Recording, as_json: bool) -> anyhow::Result<()> {
    const SHOWN: usize = 20;
    if as_json {
        return recording.events.iter().try_for_each(|(node, event)| {
            out::line(json!({
                "scenario": scenario.name,
                "node": node,
                "topic": event.topic,
                "origin": event.origin,
                "received_at": event.received_at,
                "payload": event.payload,
            }))
        });
    }
    let before = recording.events.len().saturating_sub(SHOWN);
    if before > 0 {
        out::line(format_args!("  … {before} before these"))?;
    }
    for (node, event) in &recording.events[before..] {
        let topic = style(&event.topic).green();
        out::line(format_args!(
            "  {} {topic} {}",
            style(node).cyan(),
            event.payload
        ))?;
    }
    let compared = match recording.compared {
        0 => String::new(),
        n => format!("; {n} messages are, byte for byte, what lightningd sent"),
    };
    let mark = style("✓").green();
    out::line(format_args!("{mark} every check holds{compared}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_no_longer_sent_has_its_end() {
        let topic = Topic::find("connect").expect("a topic");
        let until = Some(cln_topics::Release(25, 9));
        assert_eq!(as_json(&Topic { until, ..*topic })["until"], "v25.09");
        assert_eq!(as_json(topic).get("until"), None);
    }
}
