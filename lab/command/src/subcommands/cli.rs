//! `lab cli`: requests to a node, as with lightning-cli.

use std::process::ExitCode;

use anyhow::Context;
use cln_lab::{MessageReader, Node};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::UnixStream;

use super::json_text::Json;
use super::target::{Target, node};
use super::{advice, out, usage};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab cli l1 getinfo
  lab cli l1 invoice 0.001btc inv pizza
  lab cli l1 -k invoice amount_msat=1000 label=x description='two words'
  lab cli l1 plugin start $PWD/my-plugin.py
  lab cli l1 listpeers | jq -r '.peers[].id'

Parameters are taken as lightning-cli takes them: numbers, true, false, null, {…}, […] and \"…\" are
JSON, everything else is a string; if the first has a = in it, all are KEY=VALUE. Put `--` before
parameters that start with a dash. The answer goes to standard output; so does an error from
the node, with exit status 1.")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// The node: l1, or 1 for short
    node: String,
    /// The method; `help` lists them
    method: String,
    /// Its parameters
    #[arg(allow_negative_numbers = true, value_name = "PARAMETER")]
    params: Vec<String>,
    /// Parameters are KEY=VALUE
    #[arg(short, long, conflicts_with = "order")]
    keywords: bool,
    /// Parameters are in order, even if there is a = in the first
    #[arg(short, long)]
    order: bool,
    /// Print the answer as the node sent it
    #[arg(short = 'R', long, group = "layout")]
    raw: bool,
    /// Print the answer as indented JSON, even for `help`
    #[arg(short = 'J', long, group = "layout")]
    json: bool,
    /// Print the answer as lines of KEY=VALUE
    #[arg(short = 'F', long, group = "layout")]
    flat: bool,
    /// Print the answer for people
    #[arg(short = 'H', long, group = "layout")]
    human_readable: bool,
    /// Have the node return only those members that are in this JSON template
    #[arg(short = 'l', long, value_name = "JSON")]
    filter: Option<String>,
    /// Show the node's messages from this level on while the method runs
    #[arg(short = 'N', long, value_name = "LEVEL", default_value = "info")]
    notifications: Level,
}

/// Levels of messages, from all to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Trace,
    #[value(alias = "io")]
    #[serde(alias = "io")]
    Io,
    Debug,
    Info,
    Unusual,
    Broken,
    None,
}

/// How to print an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Pretty,
    Raw,
    Flat,
    Human,
    /// The list of methods.
    Help,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lab = args.target.lab().await?;
    let node = node(&lab, &args.node)?;
    let input = match (args.keywords, args.order) {
        (true, _) => Input::Keywords,
        (_, true) => Input::Ordered,
        _ => Input::guess(&args.params),
    };
    let request = Request {
        method: &args.method,
        params: params(input, &args.params)?,
        filter: args.filter.as_deref().map(filter).transpose()?,
    };
    let asked = request.send(node, args.notifications);
    let (answer, notes) = advice::during(node, &request, asked).await?;
    let explicit = [
        (args.raw, Layout::Raw),
        (args.json, Layout::Pretty),
        (args.flat, Layout::Flat),
        (args.human_readable, Layout::Human),
    ];
    let explicit = explicit.into_iter().find(|(set, _)| *set);
    let explicit = explicit.map(|(_, layout)| layout);
    let listing = args.method == "help" && args.params.is_empty();
    let code = match answer {
        Ok(result) => {
            out::bytes(shown(&result, explicit, listing).as_bytes())?;
            ExitCode::SUCCESS
        }
        Err(error) if explicit == Some(Layout::Raw) => {
            out::line(error.get())?;
            ExitCode::FAILURE
        }
        Err(error) => {
            out::line(Json::of(&error).pretty())?;
            ExitCode::FAILURE
        }
    };
    notes.iter().for_each(out::note);
    Ok(code)
}

/// The answer as text, in the layout asked for, else in the one that fits it.
fn shown(result: &RawValue, explicit: Option<Layout>, listing: bool) -> String {
    const HINT: &str = "format-hint";
    let mut json = Json::of(result);
    let layout = match explicit {
        Some(layout) => layout,
        None if listing => Layout::Help,
        None if json.get(HINT).and_then(Json::text) == Some("simple") => Layout::Human,
        None => Layout::Pretty,
    };
    // The hint is for us, unless a layout was asked for that shows everything.
    if (explicit.is_none() || layout == Layout::Human)
        && let Json::Object(members) = &mut json
    {
        members.retain(|(key, _)| key.trim_matches('"') != HINT);
    }
    match layout {
        Layout::Pretty => json.pretty() + "\n",
        Layout::Raw => format!("{}\n", result.get()),
        Layout::Flat => json.flat(),
        Layout::Human => json.human(),
        Layout::Help => help(&json),
    }
}

/// Every method's usage, by category, those for developers last.
fn help(json: &Json<'_>) -> String {
    let mut entries: Vec<(bool, &str, &str)> = Vec::new();
    if let Some(Json::Array(items)) = json.get("help") {
        for item in items {
            let text = |key| item.get(key).and_then(Json::text).unwrap_or_default();
            let category = text("category");
            entries.push((category == "developer", category, text("command")));
        }
    }
    entries.sort_unstable();
    let mut out = String::new();
    for (_, _, usage) in entries {
        out.push_str(&Json::Leaf(usage).human());
        out.push('\n');
    }
    out.push_str("---\nrun `lab cli NODE help METHOD` for more on one of them\n");
    out
}

/// How parameters are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Keywords,
    Ordered,
}

impl Input {
    fn guess(params: &[String]) -> Input {
        match params.first() {
            Some(first) if first.contains('=') => Input::Keywords,
            _ => Input::Ordered,
        }
    }
}

/// The parameters as JSON: an object or an array.
fn params(input: Input, params: &[String]) -> anyhow::Result<String> {
    let mut parts = Vec::new();
    for param in params {
        parts.push(match input {
            Input::Ordered => value(param)?,
            Input::Keywords => {
                let Some((key, given)) = param.split_once('=') else {
                    return Err(usage(format!("`{param}` is not KEY=VALUE")));
                };
                format!("{}:{}", serde_json::to_string(key)?, value(given)?)
            }
        });
    }
    let all = parts.join(",");
    Ok(match input {
        Input::Ordered => format!("[{all}]"),
        Input::Keywords => format!("{{{all}}}"),
    })
}

/// One parameter as JSON.
fn value(param: &str) -> anyhow::Result<String> {
    let between = |open, close| param.starts_with(open) && param.ends_with(close);
    let composed = between('{', '}') || between('[', ']') || (param.len() > 1 && between('"', '"'));
    if composed {
        return match serde_json::from_str::<&RawValue>(param) {
            Ok(raw) => Ok(raw.get().to_owned()),
            Err(error) => Err(usage(format!(
                "parameter `{param}` looks like JSON, but: {error}"
            ))),
        };
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // `007` may well be hexadecimal; `127.0.0.1` is not a number.
    let number = match param.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(param),
    };
    let literal = matches!(param, "true" | "false" | "null")
        || (number && serde_json::from_str::<&RawValue>(param).is_ok());
    Ok(if literal {
        param.to_owned()
    } else {
        serde_json::to_string(param)?
    })
}

fn filter(text: &str) -> anyhow::Result<String> {
    serde_json::from_str::<&RawValue>(text)
        .map(|raw| raw.get().to_owned())
        .map_err(|error| usage(format!("--filter `{text}`: {error}")))
}

/// A request, its parts JSON already.
pub struct Request<'a> {
    pub method: &'a str,
    pub params: String,
    pub filter: Option<String>,
}

/// What the node sends: an answer, or a message before it.
#[derive(Debug, Deserialize)]
struct Received<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Request<'_> {
    /// The node's answer as it spells it: a result or an error.
    ///
    /// # Errors
    /// If the node cannot be reached, or does not speak JSON-RPC.
    async fn send(
        &self,
        node: &Node,
        level: Level,
    ) -> anyhow::Result<Result<Box<RawValue>, Box<RawValue>>> {
        let asked = node.asked(self.method, || self.params.clone());
        let answer = self.exchange(node, level).await;
        match &answer {
            Ok(Ok(result)) => asked.answered(Ok(result.get())),
            Ok(Err(error)) => asked.answered(Err(error.get())),
            Err(error) => {
                let error = serde_json::json!({"message": format!("{error:#}")});
                asked.answered(Err(&error.to_string()));
            }
        }
        answer
    }

    async fn exchange(
        &self,
        node: &Node,
        level: Level,
    ) -> anyhow::Result<Result<Box<RawValue>, Box<RawValue>>> {
        let mut stream = UnixStream::connect(node.rpc_path()).await.with_context(|| {
            format!(
                "{0} does not answer on {1}: start it with `lab start {0}`, or see `lab logs {0}`",
                node.name(),
                node.rpc_path().display()
            )
        })?;
        let pid = std::process::id();
        let (from, mut to) = stream.split();
        let mut messages = MessageReader::new(from);
        if level != Level::None {
            // Answered before the request is sent: v24.11 to v25.05 read that first.
            let id = format!("\"cli:notifications#{pid}\"");
            let enable = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"notifications","params":{{"enable":true}}}}"#
            );
            to.write_all(enable.as_bytes()).await?;
            let _ = self.answer(node, &mut messages, &id, level).await?;
        }
        let id = serde_json::to_string(&format!("cli:{}#{pid}", self.method))?;
        let method = serde_json::to_string(self.method)?;
        let filter = match &self.filter {
            Some(filter) => format!(r#""filter":{filter},"#),
            None => String::new(),
        };
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":{method},{filter}"params":{}}}"#,
            self.params
        );
        to.write_all(text.as_bytes()).await?;
        self.answer(node, &mut messages, &id, level).await
    }

    /// The answer to the request of this id; prints the messages before it.
    async fn answer<R: AsyncRead + Unpin>(
        &self,
        node: &Node,
        messages: &mut MessageReader<R>,
        id: &str,
        level: Level,
    ) -> anyhow::Result<Result<Box<RawValue>, Box<RawValue>>> {
        loop {
            let message = messages.next::<Box<RawValue>>();
            let message = node.unless_stopped(self.method, message).await?;
            let message = message
                .with_context(|| format!("{}: waiting for its answer", node.name()))?
                .with_context(|| format!("{} closed the connection", node.name()))?;
            let received: Received<'_> =
                serde_json::from_str(message.get()).with_context(|| {
                    let start: String = message.get().chars().take(200).collect();
                    format!("{}: `{start}` is no answer of JSON-RPC", node.name())
                })?;
            if received.method == Some("message")
                && let Some(params) = received.params
            {
                show(params, level)?;
            }
            if received.id.is_none_or(|got| got.get() != id) {
                continue;
            }
            return match (received.error, received.result) {
                (Some(error), _) if error.get() != "null" => Ok(Err(error.to_owned())),
                (_, Some(result)) => Ok(Ok(result.to_owned())),
                _ => anyhow::bail!(
                    "{}: an answer with neither result nor error: {}",
                    node.name(),
                    message.get()
                ),
            };
        }
    }
}

/// Prints a message that came before the answer.
fn show(params: &RawValue, level: Level) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Message {
        level: Level,
        message: String,
    }
    if let Ok(message) = serde_json::from_str::<Message>(params.get())
        && message.level >= level
    {
        out::line(format_args!("# {}", message.message))?;
    }
    Ok(())
}

/// Calls a method of a node; the answer, in the node's own spelling.
pub async fn call(node: &Node, method: &str, params: String) -> anyhow::Result<Box<RawValue>> {
    let request = Request {
        method,
        params,
        filter: None,
    };
    match request.send(node, Level::None).await? {
        Ok(result) => Ok(result),
        Err(error) => {
            let error: serde_json::Value = serde_json::from_str(error.get())?;
            Err(cln_lab::Error::Rpc {
                node: node.name().to_owned(),
                method: method.to_owned(),
                code: error["code"].as_i64().and_then(|code| code.try_into().ok()),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
                data: None,
                help: String::new(),
            }
            .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_as_lightning_cli_takes_them() {
        for (param, json) in [
            ("1000", "1000"),
            ("1.5", "1.5"),
            ("0", "0"),
            ("007", "\"007\""),
            ("127.0.0.1", "\"127.0.0.1\""),
            ("-1", "\"-1\""),
            ("1.", "\"1.\""),
            ("1000sat", "\"1000sat\""),
            ("true", "true"),
            ("null", "null"),
            ("", "\"\""),
            ("\"", "\"\\\"\""),
            ("\"x y\"", "\"x y\""),
            ("two words", "\"two words\""),
            ("[\"a\", 1]", "[\"a\", 1]"),
            ("{\"a\": {}}", "{\"a\": {}}"),
            ("é\n", "\"é\\n\""),
        ] {
            assert_eq!(value(param).expect(param), json, "{param}");
        }
        for wrong in ["{a}", "[1,]", "\"a\"b\""] {
            assert!(value(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keywords_are_guessed_from_the_first() {
        let strings = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let words = strings(&["a=1", "b=x=y"]);
        assert_eq!(Input::guess(&words), Input::Keywords);
        assert_eq!(
            params(Input::Keywords, &words).expect("keys"),
            r#"{"a":1,"b":"x=y"}"#
        );
        assert_eq!(
            params(Input::Ordered, &words).expect("values"),
            r#"["a=1","b=x=y"]"#
        );
        assert!(params(Input::Keywords, &strings(&["a=1", "b"])).is_err());
    }
}
