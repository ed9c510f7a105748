//! `lab mcp`: the subcommands as tools of the Model Context Protocol.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, ensure};
use lab_tests::sandbox::Sandbox;
use lab_tests::{Kinds, Outcome, Suite};
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("tools_drive_a_lab", drive)
        .test("the_protocol_is_spoken", protocol)
        .test("every_tool_has_a_schema", schemas)
}

/// What is answered to these lines.
fn answers(sandbox: &Sandbox, node: &str, lines: &[String]) -> anyhow::Result<Vec<Value>> {
    let mut mcp = sandbox
        .command(sandbox.program())
        .arg("mcp")
        .env("LAB_NODE", node)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = mcp.stdin.take().context("a pipe")?;
    stdin.write_all((lines.join("\n") + "\n").as_bytes())?;
    drop(stdin);
    let output = mcp.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}");
    let lines = std::str::from_utf8(&output.stdout)?.lines();
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn call(tool: &str, arguments: &Value) -> String {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": params}).to_string()
}

async fn drive(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let answers = answers(
        &sandbox,
        kinds.name(),
        &[
            call("up", &json!({"nodes": 2})),
            call("connect", &json!({"from": 1, "to": "l2"})),
            call(
                "cli",
                &json!({"node": "l1", "method": "invoice", "raw": true,
                "params": ["1000", "-label", "pizza"]}),
            ),
            call("connect", &json!({"from": "l1", "to": "l9"})),
            call("down", &json!({})),
        ],
    )?;
    let [up, connect, cli, nobody, down] = &answers[..] else {
        anyhow::bail!("{answers:?}");
    };
    let text = |answer: &Value, failed: bool| {
        let result = &answer["result"];
        ensure!(result["isError"] == failed, "{answer}");
        let text = result["content"][0]["text"].as_str();
        Ok(text.context(answer.to_string())?.to_owned())
    };
    ensure!(text(up, false)?.contains("is up: 2 ×"), "{up}");
    let connected: Value = serde_json::from_str(&text(connect, false)?)?;
    ensure!(connected["direction"] == "out", "{connect}");
    ensure!(text(cli, false)?.contains("\"bolt11\":\"lnbcrt"), "{cli}");
    ensure!(text(nobody, true)?.contains("l9"), "{nobody}");
    ensure!(text(down, false)?.contains("is down"), "{down}");
    Ok(())
}

async fn protocol() -> Outcome {
    let sandbox = Sandbox::new()?;
    let request = |id: u32, method: &str, params: Value| {
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
    };
    let lines = [
        request(1, "initialize", json!({"protocolVersion": "2025-03-26"})),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string(),
        request(2, "ping", json!({})),
        request(3, "resources/list", json!({})),
        request(4, "tools/call", json!({"name": "workshop"})),
        request(
            5,
            "tools/call",
            json!({"name": "mine", "arguments": {"block": 1}}),
        ),
        request(6, "tools/call", json!({"name": "mine", "arguments": [1]})),
        "{".to_owned(),
    ];
    let answers = answers(&sandbox, "auto", &lines)?;
    let codes: Vec<&Value> = answers
        .iter()
        .map(|answer| &answer["error"]["code"])
        .collect();
    ensure!(
        json!(codes) == json!([null, null, -32601, -32602, -32602, -32602, -32700]),
        "{answers:#?}"
    );
    let hello = &answers[0]["result"];
    ensure!(hello["protocolVersion"] == "2025-03-26", "{hello}");
    ensure!(hello["serverInfo"]["name"] == "lab" && hello["capabilities"]["tools"].is_object());
    ensure!(answers[1]["result"] == json!({}) && answers[1]["id"] == 2);
    Ok(())
}

async fn schemas() -> Outcome {
    let sandbox = Sandbox::new()?;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    let answers = answers(&sandbox, "auto", &[list])?;
    let tools = answers[0]["result"]["tools"]
        .as_array()
        .context("no tools")?;
    for tool in tools {
        let name = tool["name"].as_str().context("no name")?;
        let schema = &tool["inputSchema"];
        ensure!(
            tool["description"]
                .as_str()
                .is_some_and(|text| text.len() > 20),
            "{tool}"
        );
        ensure!(
            schema["type"] == "object" && schema["properties"].is_object(),
            "{tool}"
        );
        let help = sandbox.lab(&[name, "--help"])?;
        ensure!(help.code == Some(0), "{help:?}");
        for property in schema["properties"].as_object().into_iter().flatten() {
            ensure!(
                property.1["description"].is_string(),
                "{name}: {property:?}"
            );
        }
    }
    let connect = tools.iter().find(|tool| tool["name"] == "connect");
    let schema = &connect.context("no connect")?["inputSchema"];
    ensure!(schema["required"] == json!(["from", "to"]), "{schema}");
    let check = tools.iter().find(|tool| tool["name"] == "check");
    let schema = &check.context("no check")?["inputSchema"]["properties"];
    ensure!(schema["options"]["type"] == "array" && schema["json"]["type"] == "boolean");
    Ok(())
}
