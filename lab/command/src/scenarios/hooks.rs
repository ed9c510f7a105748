//! Hooks, each called by lightningd with what it has for a plugin.

use std::time::Duration;

use serde_json::{Value, json};

use super::checks::{holds, text, unexpected};
use super::fixture::Fixture;
use super::messages::announced;
use super::requests::call_raw;
use super::scenario::Scenario;
use cln_lab::{CHANNEL_SAT, IoContext, Node, OpenChannel, Probe, Result, eventually, msat};

const ONION_MESSAGES: &[&str] = &["onion_message_recv", "onion_message_recv_secret"];

const DUAL_FUND: &[(&str, Option<&str>)] = &[("experimental-dual-fund", None)];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "hook_peer_connected",
        &[],
        2,
        "l1 connects to l2; the hook is called on both",
        |fixture| Box::pin(peer_connected(fixture)),
    )
    .hooks(&["peer_connected"]),
    Scenario::new(
        "hook_custommsg",
        &[],
        2,
        "l1 sends l2 a message of a type that lightningd does not know",
        |fixture| Box::pin(custommsg(fixture)),
    )
    .hooks(&["custommsg"]),
    Scenario::new(
        "hook_openchannel",
        &[],
        2,
        "l1 opens a channel to l2 with a balance for l2, and asks for one whose balance it \
         wants on an address of its own",
        |fixture| Box::pin(openchannel(fixture)),
    )
    .hooks(&["openchannel"]),
    Scenario::new(
        "hook_htlc_accepted",
        &[],
        3,
        "l1 pays an invoice from l3 through l2",
        |fixture| Box::pin(payment(fixture)),
    )
    .hooks(&["htlc_accepted", "invoice_payment", "commitment_revocation"]),
    Scenario::new(
        "hook_onion_message",
        &[],
        2,
        "l1 asks l2 for an invoice for an offer, and l2 answers",
        |fixture| Box::pin(onion_message(fixture)),
    )
    .hooks(ONION_MESSAGES)
    .options_before((24, 11), &[("experimental-offers", None)]),
    // Otherwise its offer has a path, and the request comes by that.
    Scenario::new(
        "hook_onion_message_by_id",
        &[],
        2,
        "l1 asks l2, which announces its address, for an invoice for an offer",
        |fixture| Box::pin(onion_message(fixture)),
    )
    .hooks(ONION_MESSAGES)
    .options(&[("dev-allow-localhost", None)])
    .since(24, 11),
    Scenario::new(
        "hook_openchannel2",
        &[],
        2,
        "l1 opens a dual-funded channel to l2, and replaces its transaction before it is in \
         a block",
        |fixture| Box::pin(openchannel2(fixture)),
    )
    .hooks(&[
        "openchannel2",
        "openchannel2_changed",
        "openchannel2_sign",
        "rbf_channel",
    ])
    .options(DUAL_FUND),
    Scenario::new(
        "hook_rpc_command",
        &[],
        1,
        "a client of l1 calls methods, with parameters by name and by position",
        |fixture| Box::pin(rpc_command(fixture)),
    )
    .hooks(&["rpc_command"]),
    Scenario::new(
        "hook_db_write",
        &[],
        1,
        "l1 starts, and makes an invoice",
        |fixture| Box::pin(db_write(fixture)),
    )
    .hooks(&["db_write"]),
    Scenario::new(
        "hook_recover",
        &[],
        1,
        "l1 starts with --recover in place of its secret",
        |fixture| Box::pin(recover(fixture)),
    )
    .hooks(&["recover"]),
];

/// An error unless the hook's parameter at `path` is this.
fn same(params: &Value, path: &str, expected: impl Into<Value>) -> Result<()> {
    let expected = expected.into();
    holds(
        params.pointer(&format!("/{path}")) == Some(&expected),
        || format!("`{path}` should be {expected}: {params}"),
    )
}

async fn peer_connected(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    l1.connect(l2).await?;
    for (node, peer) in [(l1, l2), (l2, l1)] {
        let params = fixture
            .hook_where(node, "peer_connected", "", |_| true)
            .await?;
        same(&params, "peer/id", peer.id())?;
        text(&params, "peer/features")?;
        holds(
            text(&params, "peer/addr")?.starts_with("127.0.0.1:"),
            || params.to_string(),
        )?;
    }
    Ok(())
}

async fn custommsg(fixture: &Fixture) -> Result<()> {
    const MESSAGE: &str = "8001deadbeef";
    let (l1, l2) = fixture.pair();
    l1.connect(l2).await?;
    let params = json!({"node_id": l2.id(), "msg": MESSAGE});
    l1.call::<Value>("sendcustommsg", params).await?;
    let ours = |params: &Value| params["payload"] == MESSAGE;
    let params = fixture
        .hook_where(l2, "custommsg", "with our message", ours)
        .await?;
    same(&params, "peer_id", l1.id())
}

async fn openchannel(fixture: &Fixture) -> Result<()> {
    const GIFT: u64 = 50_000_000;
    let (l1, l2) = fixture.pair();
    let specs = [OpenChannel::new(l1, l2).push_msat(GIFT)];
    fixture.lab().open_channels(&specs).await?;
    let params = fixture
        .hook_where(l2, "openchannel", "with a gift", |_| true)
        .await?;
    let open = &params["openchannel"];
    same(open, "id", l1.id())?;
    holds(msat(&open["push_msat"]) == Some(GIFT), || {
        params.to_string()
    })?;
    holds(open.get("shutdown_scriptpubkey").is_none(), || {
        params.to_string()
    })?;

    l1.fund(CHANNEL_SAT * 2).await?;
    fixture.lab().wait_block().await?;
    let own = l1.new_address().await?;
    let open = json!({"id": l2.id(), "amount": CHANNEL_SAT, "close_to": own});
    l1.call::<Value>("fundchannel", open).await?;
    let script = |params: &Value| params["openchannel"]["shutdown_scriptpubkey"].is_string();
    fixture
        .hook_where(l2, "openchannel", "with an address to close to", script)
        .await?;
    Ok(())
}

async fn payment(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let l3 = fixture.lab().node("l3")?;
    let channels = fixture.lab().line_graph().await?;
    let invoice = l3.invoice("1000sat", "inv", "pizza").await?;
    let paid = l1.pay(&invoice.bolt11).await?;
    let ours = |params: &Value| params["htlc"]["payment_hash"] == invoice.payment_hash.as_str();
    let forwarded = fixture
        .hook_where(l2, "htlc_accepted", "for l3", ours)
        .await?;
    same(
        &forwarded,
        "onion/short_channel_id",
        channels[1].short_channel_id.as_str(),
    )?;
    let arrived = fixture
        .hook_where(l3, "htlc_accepted", "to l3", ours)
        .await?;
    text(&arrived, "onion/payment_secret")?;
    for (params, amount) in [
        (&forwarded, paid.amount_sent_msat),
        (&arrived, paid.amount_msat),
    ] {
        let htlc = &params["htlc"];
        let value = htlc.get("amount_msat").unwrap_or(&htlc["amount"]);
        holds(msat(value) == Some(amount), || params.to_string())?;
    }
    let params = fixture
        .hook_where(l3, "invoice_payment", "", |_| true)
        .await?;
    same(&params, "payment/label", "inv")?;
    same(&params, "payment/preimage", paid.preimage.as_str())?;
    // The payer's peers had nothing in the commitments they revoked: no penalty.
    for node in [l2, l3] {
        let params = fixture
            .hook_where(node, "commitment_revocation", "", |_| true)
            .await?;
        text(&params, "penalty_tx")?;
    }
    Ok(())
}

async fn onion_message(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    l1.open_channel(l2, CHANNEL_SAT).await?;
    for (node, other) in [(l1, l2), (l2, l1)] {
        announced(node, other).await?;
    }
    let offer = json!({"amount": 5000, "description": "coffee"});
    let offer: Value = l2.call("offer", offer).await?;
    let offer = json!({"offer": text(&offer, "bolt12")?});
    l1.call::<Value>("fetchinvoice", offer).await?;
    let asked = |params: &Value| params["onion_message"]["invoice_request"].is_string();
    let mut requests = Vec::new();
    for hook in ONION_MESSAGES {
        requests.extend(fixture.calls(l2, hook)?.into_iter().filter(asked));
    }
    holds(requests.len() == 1, || {
        format!("expected one: {requests:?}")
    })?;
    let answered = |params: &Value| params["onion_message"]["invoice"].is_string();
    let hook = "onion_message_recv_secret";
    let params = fixture
        .hook_where(l1, hook, "with an invoice", answered)
        .await?;
    text(&params, "onion_message/pathsecret").map(drop)
}

async fn openchannel2(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    l1.fund(CHANNEL_SAT * 2).await?;
    fixture.lab().wait_block().await?;
    l1.connect(l2).await?;
    let funds: Value = l1.call("listfunds", json!({})).await?;
    let coin = &funds["outputs"][0];
    let coin = format!("{}:{}", text(coin, "txid")?, coin["output"]);
    let open = json!({"id": l2.id(), "amount": CHANNEL_SAT, "feerate": "1000perkw"});
    let opened: Value = l1.call("fundchannel", open).await?;
    let id = text(&opened, "channel_id")?;
    let params = fixture.hook_where(l2, "openchannel2", "", |_| true).await?;
    same(&params, "openchannel2/id", l1.id())?;
    for hook in ["openchannel2_changed", "openchannel2_sign"] {
        let params = fixture.hook_where(l2, hook, "", |_| true).await?;
        same(&params, &format!("{hook}/channel_id"), id)?;
        text(&params, &format!("{hook}/psbt"))?;
    }

    let feerate = awaits_block(l1, l2).await?;
    // It must spend a coin that the one it replaces spends.
    let psbt = json!({
        "satoshi": CHANNEL_SAT, "feerate": feerate, "startweight": 1000, "utxos": [coin],
        "reservedok": true, "excess_as_change": true,
    });
    let psbt: Value = l1.call("utxopsbt", psbt).await?;
    let bump = json!({
        "channel_id": id, "amount": CHANNEL_SAT, "initialpsbt": text(&psbt, "psbt")?,
        "funding_feerate": feerate,
    });
    l1.call::<Value>("openchannel_bump", bump).await?;
    let params = fixture.hook_where(l2, "rbf_channel", "", |_| true).await?;
    same(&params, "rbf_channel/id", l1.id())?;
    l1.call::<Value>("openchannel_abort", json!({"channel_id": id}))
        .await
        .map(drop)
}

/// Waits until both sides have the first transaction; the feerate that the next needs.
async fn awaits_block(l1: &Node, l2: &Node) -> Result<String> {
    const SIGNED: Duration = Duration::from_secs(30);
    let what = "a channel that awaits its block";
    let state = "DUALOPEND_AWAITING_LOCKIN";
    eventually(what, SIGNED, async || {
        let listed = [l1.channels_with(l2).await?, l2.channels_with(l1).await?];
        let waits = |channels: &Vec<Value>| channels.iter().any(|c| c["state"] == state);
        let feerate = listed[0]
            .first()
            .and_then(|channel| channel["next_feerate"].as_str());
        Ok(match feerate.filter(|_| listed.iter().all(waits)) {
            Some(feerate) => Probe::Ready(feerate.to_owned()),
            None => Probe::NotYet(format!("{listed:?}")),
        })
    })
    .await
}

async fn rpc_command(fixture: &Fixture) -> Result<()> {
    let l1 = fixture.lab().l1();
    let node = l1.id();
    for params in [json!({"id": node}), json!([node])] {
        l1.call::<Value>("listpeers", &params).await?;
        let ours = |call: &Value| {
            let call = call.get("rpc_command").unwrap_or(call);
            call["method"] == "listpeers" && call["params"] == params
        };
        fixture
            .hook_where(l1, "rpc_command", "with these parameters", ours)
            .await?;
    }
    Ok(())
}

async fn db_write(fixture: &Fixture) -> Result<()> {
    let l1 = fixture.lab().l1();
    l1.invoice("1sat", "inv", "pizza").await?;
    let writes = |params: &Value| {
        let writes = params["writes"].as_array().map_or(&[][..], Vec::as_slice);
        let mut writes = writes.iter().filter_map(Value::as_str);
        writes.any(|write| write.starts_with("INSERT INTO invoices"))
    };
    let params = fixture
        .hook_where(l1, "db_write", "with an invoice", writes)
        .await?;
    holds(params["data_version"].is_u64(), || params.to_string())
}

async fn recover(fixture: &Fixture) -> Result<()> {
    // A secret of everybody's, from lightningd's own tests.
    const SECRET: &str =
        "cl10leetsllhdmn9m42vcsamx24zrxgs3qrl7ahwvhw4fnzrhve25gvezzyqqjdsjnzedu43ns";
    const END: Duration = Duration::from_secs(60);
    let l1 = fixture.lab().l1();
    fixture.all(l1, "connect").await?;
    l1.stop().await?;
    let folder = l1.network_dir();
    for file in ["hsm_secret", "lightningd.sqlite3"] {
        let path = folder.join(file);
        std::fs::remove_file(&path).doing("remove", &path)?;
    }
    // It starts offline, and a node of the lab is up only when it listens.
    let mut command = tokio::process::Command::from(l1.start_command());
    command
        .arg(format!("--recover={SECRET}"))
        .kill_on_drop(true);
    let mut process = command.spawn().doing("run", l1.program())?;
    let params = fixture.hook_where(l1, "recover", "", |_| true).await?;
    same(&params, "codex32", SECRET)?;
    eventually("l1 to stop", END, async || {
        Ok(match call_raw(l1, "stop", json!({})).await {
            Ok(_) => Probe::Ready(()),
            Err(error) => Probe::NotYet(error.to_string()),
        })
    })
    .await?;
    let status = tokio::time::timeout(END, process.wait()).await;
    let status = status.map_err(|_| unexpected("l1", "it answered `stop` and goes on"))?;
    let status = status.doing("wait for", l1.program())?;
    holds(status.success(), || format!("l1 ended with {status}"))
}
