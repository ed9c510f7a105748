//! `lab topics`

use std::process::ExitCode;

use cln_lab_command::scenarios::{self as topics, Recorded, Report, Scenario};
use cln_topics::{TOPICS, Topic};
use console::{Term, measure_text_width, style};
use serde_json::{Value, json};

use super::spec::Kind;
use super::{out, usage};

#[derive(Debug, clap::Args)]
#[command(
    mut_arg("node", |arg| arg.requires("run")),
    after_help = "\
Examples:
  lab topics                              every notification that lightningd can send
  lab topics connect --json               one of them, to be read by a program
  lab topics --run forward_event          make them on real nodes, and show the messages"
)]
pub struct Args {
    /// Only these topics (or scenarios, by name)
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Play the scenarios on nodes, check what is recorded, and show the messages
    #[arg(long)]
    run: bool,
    #[command(flatten)]
    kind: Kind,
    /// Print one JSON object; with --run, one object a message
    #[arg(long)]
    json: bool,
    /// Print the table as a page in Markdown
    #[arg(long, conflicts_with_all = ["run", "json", "topics"])]
    markdown: bool,
}

/// Exit status 0 if every scenario that was to be played held.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.markdown {
        out::bytes(topics::markdown().as_bytes())?;
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

/// The topics of these names; all of them if there is no name.
fn chosen_topics(names: &[String]) -> anyhow::Result<Vec<&'static Topic>> {
    if names.is_empty() {
        return Ok(TOPICS.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            Topic::find(name).ok_or_else(|| {
                usage(format!(
                    "no topic `{name}`: `lab topics` prints those that there are"
                ))
            })
        })
        .collect()
}

/// The scenarios of these topics, or of these names.
fn chosen_scenarios(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    for name in names {
        let known = topics::scenarios_of(name).next().is_some()
            || topics::scenarios().any(|scenario| scenario.name == name);
        if !known {
            return Err(usage(format!(
                "no topic or scenario `{name}`: `lab topics` prints those that there are"
            )));
        }
    }
    // Those that are for the topic, rather than all that have it on their way.
    let wanted = |scenario: &&Scenario| {
        names.is_empty()
            || names.iter().any(|name| {
                scenario.name == name
                    || (scenario.topics.contains(&name.as_str())
                        && scenario.name.starts_with(name.as_str()))
            })
    };
    Ok(topics::scenarios().filter(wanted).collect())
}

fn scenarios_of(topic: &Topic) -> Vec<&'static str> {
    topics::scenarios_of(topic.name)
        .map(|scenario| scenario.name)
        .collect()
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
    json!({
        "topic": topic.name,
        "since": topic.since.to_string(),
        "sender": topic.sender.to_string(),
        "summary": topic.summary,
        "scenarios": scenarios_of(topic),
        "fields": fields,
    })
}

/// Columns: topic, since, scenarios, fields. The last two take what room there is.
fn print_table(chosen: &[&Topic]) -> std::io::Result<()> {
    const HEADER: [&str; 4] = ["TOPIC", "SINCE", "SCENARIOS", "FIELDS"];
    let widest = |texts: &mut dyn Iterator<Item = String>, header: &str| {
        let widths = texts.map(|text| measure_text_width(&text));
        widths.max().unwrap_or(0).max(header.len())
    };
    let name = widest(&mut chosen.iter().map(|t| t.name.to_owned()), HEADER[0]);
    let since = widest(&mut chosen.iter().map(|t| t.since.to_string()), HEADER[1]);
    let mut names = chosen.iter().flat_map(|t| scenarios_of(t));
    let scenario = widest(&mut names.by_ref().map(str::to_owned), HEADER[2]);
    let before = name + since + scenario + 6;
    let room = match Term::stdout().size_checked() {
        Some((_, columns)) => (columns as usize).saturating_sub(before).max(30),
        None => 60,
    };
    let row = |a: &str, b: &str, c: &str, d: &str| {
        let line = format!("{a:<name$}  {b:<since$}  {c:<scenario$}  {d}");
        line.trim_end().to_owned()
    };
    out::line(style(row(HEADER[0], HEADER[1], HEADER[2], HEADER[3])).bold())?;
    for topic in chosen {
        let fields: Vec<String> = topic.fields.iter().map(ToString::to_string).collect();
        let fields = wrapped(&fields, room);
        let scenarios = scenarios_of(topic);
        let since = topic.since.to_string();
        for n in 0..fields.len().max(scenarios.len()).max(1) {
            let (name, since) = if n == 0 {
                (topic.name, &since[..])
            } else {
                ("", "")
            };
            let scenario = scenarios.get(n).copied().unwrap_or_default();
            let fields = fields.get(n).map(String::as_str).unwrap_or_default();
            out::line(row(name, since, scenario, fields))?;
        }
    }
    out::line("\nname? is not in every payload, (name) only while allow-deprecated-apis is true")
}

/// Words with commas between, in lines of at most so many characters.
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
    let mut failed = 0;
    for scenario in chosen_scenarios(&args.topics)? {
        if !args.json {
            let name = style(scenario.name).bold();
            out::line(format_args!("{name}  {}", scenario.does))?;
        }
        if let Some(reason) = scenario.skipped_because(args.kind.node).await? {
            if !args.json {
                let mark = style("-").yellow();
                out::line(format_args!("{mark} skipped: {reason}\n"))?;
            }
            continue;
        }
        match scenario.play(args.kind.node).await {
            Ok(report) => show(&report, args.json)?,
            Err(error) => {
                failed += 1;
                eprintln!("{} {}: {error}\n", style("✗").red().bold(), scenario.name);
            }
        }
    }
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// The messages of the scenario's topics, each with the node that was told. A
/// person is shown the last ones: a node's start alone has hundreds of `log`.
fn show(report: &Report, as_json: bool) -> std::io::Result<()> {
    const SHOWN: usize = 20;
    let told: Vec<&Recorded> = report.told().collect();
    let before = match as_json {
        true => 0,
        false => told.len().saturating_sub(SHOWN),
    };
    if before > 0 {
        out::line(format_args!("  … {before} before these"))?;
    }
    for recorded in &told[before..] {
        let event = &recorded.event;
        if as_json {
            out::line(json!({
                "scenario": report.scenario,
                "node": recorded.node,
                "topic": event.topic,
                "origin": event.origin,
                "received_at": event.received_at,
                "payload": event.payload,
            }))?;
            continue;
        }
        let node = style(&recorded.node).cyan();
        let topic = style(&event.topic).green();
        out::line(format_args!("  {node} {topic} {}", event.payload))?;
    }
    if as_json {
        return Ok(());
    }
    let compared = match report.compared {
        0 => String::new(),
        n => format!("; {n} messages are what lightningd says it sent, byte for byte"),
    };
    let mark = style("✓").green();
    out::line(format_args!("{mark} as it should be{compared}\n"))
}
