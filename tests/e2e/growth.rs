//! A lab that changes while it runs: nodes are added, configured anew, end by themselves;
//! bitcoind stops and starts.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Error, Keep, Lab, NodeKind, NodeSpec, Plugin};
use lab_tests::{Kinds, Outcome, Suite, write_script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario("a_node_is_added", added)
        .scenario_alone("a_node_that_cannot_start_stays_in_the_lab", cannot_start)
        .scenario_alone("a_node_is_configured_anew", reconfigured)
        .scenario_alone("the_end_of_a_node_is_waited_for", ended)
        .scenario_alone("bitcoind_stops_and_starts_with_options", bitcoind)
        .on(
            &[Kinds::Lightningd],
            "a_node_need_not_listen",
            does_not_listen,
        )
        .test("wrong_options_of_bitcoind_are_refused", wrong_options)
}

async fn added(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).env("FOR_EVERY", "node").start().await?;
    let spec = |place: usize| NodeSpec::new().kind(kinds.kind_of(place));
    // At the same time, and while the lab is used.
    let (l2, carol) = tokio::try_join!(
        lab.add_node(spec(1)),
        lab.add_node(spec(2).name("carol").option("alias", "three"))
    )?;
    ensure!(lab.nodes().len() == 3 && lab.node("carol")?.id() == carol.id());
    ensure!(carol.call::<Value>("getinfo", json!({})).await?["alias"] == "three");
    lab.l1().connect(l2).await?;
    l2.connect(carol).await?;
    lab.mine(1).await?;
    for name in ["l1", "carol", "bitcoind", "../x"] {
        let refused = lab.add_node(NodeSpec::new().name(name)).await;
        ensure!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
    }
    ensure!(lab.nodes().len() == 3);
    let environ = carol.pid().await.map(|pid| format!("/proc/{pid}/environ"));
    if let Some(environ) = environ.and_then(|path| std::fs::read_to_string(path).ok()) {
        ensure!(environ.contains("FOR_EVERY=node"), "{environ}");
    }
    Ok(lab.stop().await?)
}

async fn cannot_start(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).keep(Keep::Never).start().await?;
    let spec = NodeSpec::new()
        .kind(kinds.kind_of(0))
        .option("no-such-option", 1);
    let error = lab.add_node(spec).await.expect_err("an unknown option");
    ensure!(error.to_string().contains("no-such-option"), "{error}");
    let l2 = lab.l2();
    ensure!(l2.is_stopped().await && l2.id().is_empty());
    l2.reconfigure(NodeSpec::new()).await?;
    l2.start().await?;
    lab.l1().connect(l2).await?;
    Ok(lab.stop().await?)
}

async fn reconfigured(kinds: Kinds) -> Outcome {
    let folder = tempfile::tempdir()?;
    let own = NodeSpec::new()
        .kind(kinds.kind_of(0))
        .allow_plugin_death("plugin.sh")
        .option("alias", "first");
    let lab = Lab::builder().node(own).start().await?;
    let l1 = lab.l1();
    let alias =
        async || Ok::<_, Error>(l1.call::<Value>("getinfo", json!({})).await?["alias"].take());
    let (id, port) = (l1.id().to_owned(), l1.port());
    ensure!(alias().await? == "first");

    let printed = folder.path().join("printed");
    let plugin = write_script(
        &folder.path().join("plugin.sh"),
        &format!("echo \"$GREETING\" >'{}'; exit 0", printed.display()),
    )?;
    let spec = NodeSpec::new()
        .argument("--alias=second")
        .env("GREETING", "hello");
    l1.reconfigure(spec.clone()).await?;
    ensure!(alias().await? == "first", "before its next start");
    l1.restart().await?;
    ensure!(alias().await? == "second");
    ensure!(l1.id() == id && l1.port() == port);

    l1.stop().await?;
    let with_plugin = spec.plugin(Plugin::path(&plugin));
    l1.reconfigure(with_plugin).await?;
    l1.start().await.expect_err("the plugin ends");
    ensure!(std::fs::read_to_string(&printed)? == "hello\n");
    if !l1.is_stopped().await {
        l1.kill9().await?;
    }

    l1.reconfigure(NodeSpec::new()).await?;
    l1.start().await?;
    ensure!(alias().await? == "l1");
    for spec in [
        NodeSpec::new().name("x"),
        NodeSpec::new().kind(NodeKind::Auto),
        NodeSpec::new().may_fail(),
        NodeSpec::new().option("alias", "a\nb"),
    ] {
        let refused = l1.reconfigure(spec).await;
        ensure!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
    }
    l1.restart().await?;
    ensure!(alias().await? == "l1");
    Ok(lab.stop().await?)
}

async fn ended(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let runs = l1.ended(Duration::from_millis(1)).await;
    ensure!(matches!(runs, Err(Error::TimedOut { .. })), "{runs:?}");
    let pid = l1.pid().await.expect("it runs");
    let (status, ()) = tokio::try_join!(l1.ended(Duration::from_secs(20)), async {
        let killed = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        killed.map_err(|errno| Error::Usage(errno.to_string()))
    })?;
    ensure!(status.signal() == Some(Signal::SIGKILL as i32), "{status}");
    ensure!(l1.is_stopped().await);
    l1.start().await?;
    let _: Value = l1.call("stop", json!({})).await?;
    ensure!(l1.ended(Duration::from_secs(60)).await?.success());
    Ok(lab.stop().await?)
}

async fn bitcoind(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).bitcoind_option("txindex", 1);
    let lab = lab.bitcoind_option("wallet", "mining").start().await?;
    let bitcoind = lab.bitcoind();
    let mined_to_it = async || {
        let wallets: Value = bitcoind.call("listwallets", vec![]).await?;
        let coins: Vec<Value> = bitcoind.call("listunspent", vec![]).await?;
        let address = coins[0]["address"].as_str().context("no address")?;
        ensure!(wallets == json!(["mining"]), "{wallets}");
        ensure!(address.starts_with("bcrt1q"), "{address}");
        anyhow::Ok(())
    };
    mined_to_it().await?;
    let indexes = async || bitcoind.call::<Value>("getindexinfo", vec![]).await;
    ensure!(indexes().await?.get("txindex").is_some());
    let (height, pid) = (bitcoind.height().await?, bitcoind.pid());
    ensure!(bitcoind.start(&[]).await.is_err());
    ensure!(bitcoind.stop().await?.success());
    ensure!(bitcoind.is_stopped() && bitcoind.height().await.is_err());
    lab.check_alive().await?;
    let option = ("blockfilterindex".to_owned(), "1".to_owned());
    bitcoind.start(&[option]).await?;
    let now = indexes().await?;
    ensure!(now.get("basic block filter index").is_some() && now.get("txindex").is_none());
    ensure!(bitcoind.height().await? == height && bitcoind.pid() != pid);
    mined_to_it().await?;
    lab.mine(1).await?;
    bitcoind.stop().await?;
    Ok(lab.stop().await?)
}

async fn does_not_listen(_: Kinds) -> Outcome {
    let lab = Kinds::Lightningd.lab(1).start().await?;
    let l2 = lab.add_node(NodeSpec::new().flag("offline")).await?;
    let info: Value = l2.call("getinfo", json!({})).await?;
    ensure!(info.get("binding").is_none(), "{info}");
    ensure!(std::fs::read(l2.db_path())?.starts_with(b"SQLite format 3"));
    Ok(lab.stop().await?)
}

async fn wrong_options() -> Outcome {
    for (name, value) in [
        ("rpcport", "1"),
        ("txindex", "1\nrpcport=1"),
        ("[main]", ""),
        ("wallet", "../mine"),
    ] {
        let lab = Lab::builder().keep(Keep::Never);
        let refused = lab.bitcoind_option(name, value).start().await;
        ensure!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
    }
    Ok(())
}
