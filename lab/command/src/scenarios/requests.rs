//! What else lightningd sends to a plugin: `getmanifest`, `init`, calls of its methods,
//! `setconfig`; and what the node answers to a plugin.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::checks::{holds, text, unexpected};
use super::fixture::Fixture;
use super::plugins::{WEATHER, start_weather};
use super::scenario::Scenario;
use super::witness;
use cln_lab::corpus::Kind;
use cln_lab::{CHANNEL_SAT, IoContext, MessageReader, Node, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "plugin_calls",
        &[],
        1,
        "a client of l1 calls a method of a plugin, which then is stopped and started again",
        |fixture| Box::pin(calls(fixture)),
    ),
    Scenario::new(
        "plugin_custom",
        &[],
        1,
        "a plugin on l1 sends its own topic, to which another has subscribed by name",
        |fixture| Box::pin(custom(fixture)),
    ),
    Scenario::new(
        "plugin_setconfig",
        &[],
        1,
        "a client of l1 changes an option of a plugin while it runs",
        |fixture| Box::pin(setconfig(fixture)),
    )
    .since(23, 8),
    Scenario::new(
        "plugin_init_proxy",
        &[],
        1,
        "l1 starts with a proxy, which `init` names",
        |fixture| Box::pin(proxy(fixture)),
    )
    .options(&[("proxy", Some("127.0.0.1:9050"))]),
    Scenario::new(
        "deprecated_apis_off",
        &[],
        3,
        "without deprecated APIs l1 pays l3 through l2, and closes the channel",
        |fixture| Box::pin(deprecated_off(fixture)),
    )
    .options(&[("allow-deprecated-apis", Some("false"))]),
    Scenario::new(
        "answers",
        &[],
        2,
        "l1, which has a channel, answers the methods that plugins call first",
        |fixture| Box::pin(answers(fixture)),
    ),
];

async fn calls(fixture: &Fixture) -> Result<()> {
    let l1 = fixture.lab().l1();
    let both = [json!({"first": "a b", "second": 2}), json!(["a b", 2])];
    for params in &both {
        let answer: Value = l1.call(witness::NAME, params).await?;
        holds(answer["params"] == *params, || answer.to_string())?;
    }
    let heard = fixture.calls(l1, witness::NAME)?;
    holds(heard == both, || format!("{heard:?}"))?;

    l1.plugin_stop(witness::NAME).await?;
    l1.plugin_start(&fixture.witness()?.plugin()).await?;
    let inits = fixture.calls(l1, "init")?;
    let startup: Vec<&Value> = inits
        .iter()
        .map(|init| &init["configuration"]["startup"])
        .collect();
    holds(startup == [&json!(true), &json!(false)], || {
        format!("{inits:?}")
    })
}

async fn custom(fixture: &Fixture) -> Result<()> {
    let l1 = fixture.lab().l1();
    start_weather(fixture, l1).await?;
    l1.call::<Value>(WEATHER, json!({})).await?;
    let sent = json!({"sky": "blue", "degrees": 21.5});
    let is_sent = |params: &Value| params.get("payload").unwrap_or(params) == &sent;
    fixture
        .hook_where(l1, WEATHER, "with what was sent", is_sent)
        .await
        .map(drop)
}

async fn setconfig(fixture: &Fixture) -> Result<()> {
    let l1 = fixture.lab().l1();
    let params = json!({"config": format!("{}-dynamic", witness::NAME), "val": "after"});
    l1.call::<Value>("setconfig", &params).await?;
    let heard = fixture.calls(l1, "setconfig")?;
    holds(heard == [params], || format!("{heard:?}"))
}

async fn proxy(fixture: &Fixture) -> Result<()> {
    let l1 = fixture.lab().l1();
    let inits = fixture.calls(l1, "init")?;
    let [init] = &inits[..] else {
        return holds(false, || format!("expected one: {inits:?}"));
    };
    holds(init["configuration"]["proxy"]["port"] == 9050, || {
        init.to_string()
    })
}

async fn deprecated_off(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let l3 = fixture.lab().node("l3")?;
    let channels = fixture.lab().line_graph().await?;
    let invoice = l3.invoice("1000sat", "inv", "pizza").await?;
    let hop = |(node, n, msat, delay): (&Node, usize, u64, u32)| {
        json!({
            "id": node.id(), "channel": channels[n].short_channel_id, "amount_msat": msat,
            "delay": delay,
        })
    };
    let params = json!({
        "route": [hop((l2, 0, 1_010_000, 60)), hop((l3, 1, 1_000_000, 9))],
        "payment_hash": invoice.payment_hash,
        "payment_secret": invoice.payment_secret,
        "bolt11": invoice.bolt11,
    });
    l1.wait_block().await?;
    l1.call::<Value>("sendpay", params).await?;
    let over = json!({"payment_hash": invoice.payment_hash});
    l1.call::<Value>("waitsendpay", over).await?;
    for (node, topic) in [
        (l1, "sendpay_success"),
        (l2, "channel_opened"),
        (l3, "invoice_payment"),
        (l3, "coin_movement"),
    ] {
        fixture.first(node, topic).await?;
    }
    l1.close(l2).await?;
    let open = json!({"id": l3.id(), "force": true});
    l2.call::<Value>("disconnect", open).await?;
    fixture.first(l2, "disconnect").await?;
    let onchain = |payload: &Value| payload["new_state"] == "ONCHAIN";
    fixture
        .first_where(l1, "channel_state_changed", "to ONCHAIN", onchain)
        .await
        .map(drop)
}

/// Sends a request to a node's socket; what it answers, byte for byte.
pub(super) async fn call_raw(node: &Node, method: &str, params: Value) -> Result<String> {
    let path = node.rpc_path();
    let mut stream = UnixStream::connect(&path)
        .await
        .doing("connect to", &path)?;
    let id = format!("plugin:{method}#1");
    let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let request = format!("{request}\n\n");
    stream
        .write_all(request.as_bytes())
        .await
        .doing("write", &path)?;
    let mut answers = MessageReader::new(stream);
    let answer = answers.next::<Box<RawValue>>().await.doing("read", &path)?;
    let answer = answer.ok_or_else(|| unexpected(node.name(), format!("`{method}`: no answer")))?;
    Ok(answer.get().to_owned())
}

async fn answers(fixture: &Fixture) -> Result<()> {
    const METHODS: [&str; 9] = [
        "getinfo",
        "listconfigs",
        "help",
        "listfunds",
        "listpeers",
        "listpeerchannels",
        "listnodes",
        "listchannels",
        "listinvoices",
    ];
    const UNKNOWN: &str = "no-such-method";
    let (l1, l2) = fixture.pair();
    l1.open_channel(l2, CHANNEL_SAT).await?;
    l1.invoice("1sat", "inv", "pizza").await?;
    for method in METHODS.into_iter().chain([UNKNOWN]) {
        let text = call_raw(l1, method, json!({})).await?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        // The answer to an unknown method is an error, always of this code.
        let refused = answer["error"]["code"] == -32601;
        let expected = if method == UNKNOWN {
            refused
        } else {
            answer["result"].is_object()
        };
        holds(expected, || text.clone())?;
        fixture.keep(Kind::Answer, method, text);
    }
    let mut command = tokio::process::Command::new(l1.program());
    let folder = fixture.lab().dir().join("help");
    std::fs::create_dir_all(&folder).doing("create folder", &folder)?;
    command
        .args(["--help", "--network=regtest"])
        .arg(format!("--lightning-dir={}", folder.display()));
    let output = command.output().await.doing("run", l1.program())?;
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    holds(help.contains("--alias"), || help.clone())?;
    fixture.keep(Kind::Help, "lightningd --help", help);
    let info: Value = l1.call("getinfo", json!({})).await?;
    text(&info, "version").map(drop)
}
