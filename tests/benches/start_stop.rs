//! Two nodes up and down: the lab beside a bare loop that spawns the same three
//! processes one after the other, polls every 5 ms, makes a wallet, mines 101
//! blocks, and stops them. Five pairs, alternating; medians and their ratio.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::bail;
use bitcoincore_rpc::{Auth, Client, RpcApi};
use cln_lab::{Lab, NodeKind, binaries};
use lab_tests::bench::{Pairs, timed};
use lab_tests::socket::call;
use lab_tests::{Outcome, block_on};
use serde_json::{Value, json};

fn main() -> Outcome {
    if binaries::lightningd().is_err() {
        println!("start and stop: skipped, no lightningd found");
        return Ok(());
    }
    let mut pairs = Pairs::new("two nodes up and down, 101 blocks", "lab", "bare loop");
    lab()?; // Mines the prepared chain, should this be the first lab here.
    for _ in 0..5 {
        pairs.add(timed(lab)?, timed(bare_loop)?);
    }
    pairs.print();
    Ok(())
}

fn lab() -> Outcome {
    block_on(async {
        let lab = Lab::builder()
            .nodes(2)
            .kind(NodeKind::Lightningd)
            .start()
            .await?;
        Ok(lab.stop().await?)
    })
}

/// A process that is killed when the loop fails half-way.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const RPC_PORT: u16 = 19_443;

fn bare_loop() -> Outcome {
    let dir = tempfile::Builder::new().prefix("bare-").tempdir()?;
    let bitcoin_dir = dir.path().join("bitcoind");
    std::fs::create_dir(&bitcoin_dir)?;
    let mut bitcoind = spawn(
        Command::new(binaries::bitcoind()?)
            .arg(format!("-datadir={}", bitcoin_dir.display()))
            .args([
                "-regtest",
                "-server",
                "-listen=0",
                "-printtoconsole=0",
                "-fallbackfee=0.00001",
            ])
            .args(["-rpcuser=bare", "-rpcpassword=bare"])
            .arg(format!("-rpcport={RPC_PORT}")),
    )?;
    let auth = Auth::UserPass("bare".to_owned(), "bare".to_owned());
    let client = Client::new(&format!("http://127.0.0.1:{RPC_PORT}"), auth)?;
    poll("bitcoind", || {
        client.call::<u64>("getblockcount", &[]).is_ok()
    })?;
    client.call::<Value>("createwallet", &[json!("default")])?;
    let address: String = client.call("getnewaddress", &[])?;
    client.call::<Value>("generatetoaddress", &[json!(101), json!(address)])?;

    let mut nodes = Vec::new();
    for n in 1..=2 {
        let node_dir = dir.path().join(format!("l{n}"));
        std::fs::create_dir(&node_dir)?;
        let child = spawn(&mut lightningd(&node_dir, &bitcoin_dir, RPC_PORT + n)?)?;
        nodes.push((child, node_dir.join("regtest/lightning-rpc")));
    }
    for (_, socket) in &nodes {
        poll("lightningd", || {
            call(socket, "getinfo").is_ok_and(|info| info["blockheight"] == 101)
        })?;
    }
    for (_, socket) in &nodes {
        call(socket, "stop")?;
    }
    for (child, _) in &mut nodes {
        child.0.wait()?;
    }
    client.call::<Value>("stop", &[])?;
    bitcoind.0.wait()?;
    Ok(())
}

fn lightningd(dir: &Path, bitcoin_dir: &Path, port: u16) -> anyhow::Result<Command> {
    let bitcoin_cli = binaries::bitcoin_cli(&binaries::bitcoind()?)?;
    let mut command = Command::new(binaries::lightningd()?);
    command
        .arg(format!("--lightning-dir={}", dir.display()))
        .args([
            "--network=regtest",
            "--rescan=1",
            "--log-level=debug",
            "--log-file=log",
        ])
        .arg(format!("--addr=127.0.0.1:{port}"))
        .arg(format!("--bitcoin-cli={}", bitcoin_cli.display()))
        .arg(format!("--bitcoin-datadir={}", bitcoin_dir.display()))
        .args(["--bitcoin-rpcuser=bare", "--bitcoin-rpcpassword=bare"])
        .arg(format!("--bitcoin-rpcport={RPC_PORT}"))
        .args([
            "--disable-plugin=cln-grpc",
            "--disable-plugin=clnrest",
            "--disable-plugin=wss-proxy",
        ]);
    Ok(command)
}

fn spawn(command: &mut Command) -> anyhow::Result<Killed> {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(Killed(quiet.spawn()?))
}

fn poll(what: &str, mut ready: impl FnMut() -> bool) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        if Instant::now() > deadline {
            bail!("{what} was not ready in 60 s");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
