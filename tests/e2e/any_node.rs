//! Every node, whichever program it is: typed requests, what survives its death,
//! lightning-cli; and how the embedded node identifies itself.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use cln_lab::{Lab, Node, NodeSpec, Plugin, binaries};
use cln_rpc::model::TypedRequest;
use cln_rpc::model::requests::*;
use lab_tests::{Kinds, Outcome, Suite, write_scripted};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .since((26, 4), "typed_requests", typed_requests)
        .scenario_alone("identity_and_invoices_survive_kill_9", what_survives)
        .on(
            &[Kinds::LightningdAndEmbedded],
            "lightning_cli_and_decode",
            lightning_cli,
        )
        .scenario_alone("a_lean_node_starts_without_plugins", lean)
        .on(
            &[Kinds::Embedded],
            "the_embedded_node_identifies_itself",
            says_what_it_is,
        )
        .on(&[Kinds::Embedded], "files_are_private_and_removed", files)
        .on(&[Kinds::Embedded], "memory_of_the_embedded_node", memory)
}

/// A lean node without any of lightningd's own plugins starts and does the rest.
async fn lean(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).lean([]).start().await?;
    lab.l1().connect(lab.l2()).await?;
    lab.l1().invoice("1000", "i", "d").await?;
    let payments = lab.l1().call::<Value>("pay", json!(["x"])).await;
    let error = payments.expect_err("it has no plugin `pay`");
    ensure!(error.rpc_code() == Some(-32601), "{error}");
    Ok(lab.stop().await?)
}

/// Sends a request of cln-rpc, made from JSON; cln-rpc must accept the answer.
async fn typed<R>(node: &Node, request: Value) -> anyhow::Result<R::Response>
where
    R: TypedRequest + Serialize + DeserializeOwned + std::fmt::Debug,
    R::Response: DeserializeOwned + std::fmt::Debug,
{
    let request: R =
        serde_json::from_value(request.clone()).with_context(|| request.to_string())?;
    node.call_typed(&request)
        .await
        .with_context(|| format!("{request:?}"))
}

/// Every request of cln-rpc for which the embedded node has a command.
async fn typed_requests(kinds: Kinds) -> Outcome {
    let scripts = tempfile::tempdir()?;
    let options = write_scripted(&scripts.path().join("options"), "options", "o")?;
    let spec = |place| NodeSpec::new().kind(kinds.kind_of(place));
    let lab = Lab::builder()
        .node(spec(0).plugin(Plugin::path(&options)))
        .node(spec(1))
        .start()
        .await?;
    let (l1, l2) = (lab.l1(), lab.l2());

    let info = typed::<GetinfoRequest>(l1, json!({})).await?;
    ensure!(
        info.id.to_string() == l1.id() && info.network == "regtest",
        "{info:?}"
    );
    let to = json!({"id": l2.id(), "host": "127.0.0.1", "port": l2.port()});
    let connected = typed::<ConnectRequest>(l1, to).await?;
    ensure!(connected.id.to_string() == l2.id(), "{connected:?}");
    let peers = typed::<ListpeersRequest>(l1, json!({})).await?.peers;
    ensure!(peers.len() == 1 && peers[0].connected, "{peers:?}");
    let ping = typed::<PingRequest>(l1, json!({"id": l2.id()})).await?;
    ensure!(ping.totlen == 132, "{ping:?}");
    typed::<DisconnectRequest>(l1, json!({"id": l2.id()})).await?;

    let request = json!({"amount_msat": "any", "label": "a", "description": "d"});
    let invoice = typed::<InvoiceRequest>(l1, request).await?;
    let listed = typed::<ListinvoicesRequest>(l1, json!({"label": "a"}))
        .await?
        .invoices;
    ensure!(listed.len() == 1, "{listed:?}");
    ensure!(
        listed[0].bolt11.as_ref() == Some(&invoice.bolt11),
        "{listed:?}"
    );
    ensure!(listed[0].amount_msat.is_none(), "{listed:?}");
    typed::<DelinvoiceRequest>(l1, json!({"label": "a", "status": "unpaid"})).await?;

    let height = typed::<WaitblockheightRequest>(l1, json!({"blockheight": 1})).await?;
    ensure!(height.blockheight >= 1, "{height:?}");
    let plugins = typed::<PluginRequest>(l1, json!({"subcommand": "list"})).await?;
    ensure!(plugins.plugins.is_some_and(|p| !p.is_empty()), "no plugins");
    let help = typed::<HelpRequest>(l1, json!({"command": "stop"})).await?;
    ensure!(help.help[0].command == "stop ", "{help:?}");
    typed::<ListconfigsRequest>(l1, json!({})).await?;
    let set = json!({"config": "o-str", "val": "x"});
    let set = typed::<SetconfigRequest>(l1, set).await?.config;
    ensure!(set.value_str.as_deref() == Some("x"), "{set:?}");
    Ok(lab.stop().await?)
}

/// A node's id and invoices survive; deleted ones stay deleted, no index is used twice.
async fn what_survives(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let mut kept = Vec::new();
    for label in ["a", "b", "c"] {
        kept.push(l1.invoice("1sat", label, "d").await?.bolt11);
    }
    l1.call::<Value>("delinvoice", json!(["c", "unpaid"]))
        .await?;
    kept.pop();
    for _ in 0..2 {
        l1.kill9().await?;
        // `start` waits for the same id.
        l1.start().await?;
        let listed: Value = l1.call("listinvoices", json!({})).await?;
        let bolt11: Vec<_> = listed["invoices"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|i| i["bolt11"].as_str())
            .collect();
        ensure!(bolt11 == kept, "{listed}");
    }
    let next: Value = l1.call("invoice", json!(["any", "d", "d"])).await?;
    // Since v23.08.
    let index = next.get("created_index");
    ensure!(index.is_none_or(|index| *index == 4), "{next}");
    Ok(lab.stop().await?)
}

/// lightning-cli speaks to both; lightningd reads the embedded node's invoices.
async fn lightning_cli(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (real, embedded) = (lab.l1(), lab.l2());
    let cli = binaries::lightning_cli(real.program()).context("lightning-cli is not there")?;
    let run = |node: &Node, args: &[&str]| -> anyhow::Result<Value> {
        let output = Command::new(&cli)
            .arg(format!("--lightning-dir={}", node.dir().display()))
            .arg("--network=regtest")
            .args(args)
            .output()?;
        ensure!(output.status.success(), "{args:?}: {output:?}");
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    for (from, to) in [(embedded, real), (real, embedded)] {
        let info = run(from, &["getinfo"])?;
        ensure!(info["id"] == from.id(), "{info}");
        let connected = run(
            from,
            &["connect", to.id(), "127.0.0.1", &to.port().to_string()],
        )?;
        ensure!(connected["id"] == to.id(), "{connected}");
        run(from, &["disconnect", to.id()])?;
    }
    for (n, amount) in ["any", "1msat", "0.001btc", "21sat"].iter().enumerate() {
        let label = format!("i{n}");
        let made = run(
            embedded,
            &[
                "-k",
                "invoice",
                &format!("amount_msat={amount}"),
                &format!("label={label}"),
                "description=Ein Stück Pizza",
            ],
        )?;
        let bolt11 = made["bolt11"].as_str().context("no bolt11")?;
        let read = run(real, &["decode", bolt11])?;
        ensure!(
            read["valid"] == true && read["payee"] == embedded.id(),
            "{read}"
        );
        ensure!(read["description"] == "Ein Stück Pizza", "{read}");
        ensure!(read["payment_hash"] == made["payment_hash"], "{read}");
        ensure!(read["payment_secret"] == made["payment_secret"], "{read}");
    }
    let help = run(embedded, &["help", "connect"]);
    // For people, not JSON.
    ensure!(help.is_err(), "{help:?}");
    Ok(lab.stop().await?)
}

fn embedded(args: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(binaries::embedded()?).args(args).output()?)
}

async fn says_what_it_is(kinds: Kinds) -> Outcome {
    let version = String::from_utf8(embedded(&["--version"])?.stdout)?;
    ensure!(
        version.starts_with("embedded-") && version.contains(" (LDK 0.2."),
        "{version}"
    );
    for network in ["bitcoin", "testnet", "signet"] {
        let refused = embedded(&[
            &format!("--network={network}"),
            "--lightning-dir=/nonexistent",
        ])?;
        let words = String::from_utf8(refused.stderr)?;
        ensure!(
            !refused.status.success() && words.contains("regtest only"),
            "{words}"
        );
    }
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let info: Value = l1.call("getinfo", json!({})).await?;
    ensure!(info["version"] == version.trim(), "{info}");
    l1.log().wait_for("This is the embedded node").await?;
    let error = l1.call::<Value>("pay", json!(["lnbcrt1"])).await;
    ensure!(
        error.as_ref().err().and_then(cln_lab::Error::rpc_code) == Some(-32601),
        "{error:?}"
    );
    Ok(lab.stop().await?)
}

/// Only the owner may read secrets; a directory has one node; the socket and the pid
/// file are removed at the end.
async fn files(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    l1.invoice("1sat", "a", "d").await?;
    let mode = |path: &Path| -> anyhow::Result<u32> {
        let meta = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        Ok(meta.permissions().mode() & 0o777)
    };
    ensure!(mode(&l1.network_dir())? == 0o700, "the network directory");
    for file in ["hsm_secret", "invoices.jsonl", "lightning-rpc"] {
        let mode = mode(&l1.network_dir().join(file))?;
        ensure!(mode == 0o600, "{file}: {mode:o}");
    }
    let second = embedded(&[&format!("--lightning-dir={}", l1.dir().display())])?;
    let words = String::from_utf8(second.stderr)?;
    ensure!(
        !second.status.success() && words.contains("lightningd already running?"),
        "{words}"
    );
    l1.call::<Value>("getinfo", json!({})).await?;
    l1.stop().await?;
    ensure!(!l1.rpc_path().exists(), "the socket is left");
    ensure!(
        !l1.dir().join("lightningd-regtest.pid").exists(),
        "the pid file is left"
    );
    Ok(lab.stop().await?)
}

/// Less than 15 MB resident in a debug build with two peers, most of it the
/// executable's pages, which all nodes share; a thousand invoices take little
/// memory of its own. (On Linux, which reports it.)
async fn memory(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(3).start().await?;
    let l1 = lab.l1();
    for peer in &lab.nodes()[1..] {
        l1.connect(peer).await?;
    }
    let pid = l1.pid().await.context("no pid")?;
    let kilobytes = |of: &str| -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(of));
        let number = line.with_context(|| format!("no {of} in {status}"))?;
        Ok(number.trim().trim_end_matches(" kB").parse()?)
    };
    if !Path::new("/proc/self/status").exists() {
        return Ok(lab.stop().await?);
    }
    let resident = kilobytes("VmRSS:")?;
    ensure!(resident < 15_000, "{resident} kB resident");
    for n in 0..1000 {
        l1.call::<Value>("invoice", json!(["any", n, "d"])).await?;
    }
    let own = kilobytes("RssAnon:")?;
    ensure!(own < 5_000, "{own} kB of its own after 1000 invoices");
    Ok(lab.stop().await?)
}
