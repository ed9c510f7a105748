//! The answers to hooks that lightningd accepts, by hook and release: what its callbacks
//! check before they call `fatal`.

use serde_json::Value;

use super::finding::Level;
use super::release::Release;

/// What is wrong with the `result` of an answer to a hook, and how bad that is; `None` if
/// lightningd accepts it.
pub fn refused(hook: &str, result: &Value, release: &Release) -> Option<(Level, String)> {
    let error = |text: String| Some((Level::Error, text));
    let word = result["result"].as_str();
    let needs = |name: &str, valid: fn(&str) -> bool| match &result[name] {
        Value::String(text) if valid(text) => None,
        Value::Null => error(format!("`{name}` is missing")),
        other => error(format!("`{name}` is not valid: {other}")),
    };
    let may = |name: &str, valid: fn(&str) -> bool| match result.get(name) {
        None => None,
        Some(_) => needs(name, valid),
    };
    match (hook, word) {
        // Its answer is not looked at.
        ("commitment_revocation", _) => None,
        ("rpc_command", _) => rpc_command(result).map(|text| (Level::Warning, text)),
        ("htlc_accepted", Some("continue")) => may("payload", is_hex)
            .or_else(|| may("forward_to", is_hash))
            .or_else(|| may("extra_tlvs", is_hex)),
        ("htlc_accepted", Some("resolve")) => needs("payment_key", is_hash),
        ("htlc_accepted", Some("fail")) => {
            if result.get("failure_onion").is_some() {
                return needs("failure_onion", is_hex);
            }
            let old = !release.since(24, 5);
            if old && result.get("failure_message").is_none() {
                return None;
            }
            needs("failure_message", is_hex)
        }
        ("invoice_payment", None) if result.get("result").is_none() => {
            let old = !release.since(24, 5);
            if old && result.get("failure_message").is_none() {
                return None;
            }
            needs("failure_message", is_hex)
        }
        ("invoice_payment" | "openchannel" | "rbf_channel", Some("reject"))
        | ("peer_connected", Some("disconnect")) => None,
        ("openchannel2_changed" | "openchannel2_sign", Some("continue")) => {
            needs("psbt", |text| !text.is_empty())
        }
        // Any other word ends the opening of the channel, or keeps the message from the
        // plugins after this one.
        (
            "openchannel2"
            | "openchannel2_changed"
            | "openchannel2_sign"
            | "onion_message_recv"
            | "onion_message_recv_secret",
            Some(_),
        ) => None,
        // lightningd takes one without a word for one that does not continue.
        ("onion_message_recv" | "onion_message_recv_secret", None) => {
            Some((Level::Warning, "it has no `result`".to_owned()))
        }
        (_, Some("continue")) => None,
        (_, Some(other)) => error(format!("`{other}` is no `result` of this hook")),
        (_, None) => error(format!("it has no `result`: {result}")),
    }
}

/// The answers of this hook that lightningd ignores, with a line in the log.
fn rpc_command(result: &Value) -> Option<String> {
    if let Some(word) = result.get("result") {
        return (word != "continue").then(|| format!("`result` is {word}, not \"continue\""));
    }
    if let Some(request) = result.get("replace") {
        let missing = ["jsonrpc", "id", "method", "params"]
            .into_iter()
            .find(|member| request.get(member).is_none())?;
        return Some(format!("`replace` has no `{missing}`"));
    }
    let Some(answer) = result.get("return") else {
        return Some(format!(
            "it has no `result`, `replace` or `return`: {result}"
        ));
    };
    let error = &answer["error"];
    let valid =
        answer.get("result").is_some() || (error["code"].is_i64() && error["message"].is_string());
    (!valid).then(|| format!("`return` has neither a `result` nor an `error`: {answer}"))
}

fn is_hex(text: &str) -> bool {
    text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cln_lab::corpus;
    use serde_json::json;

    #[test]
    fn every_hook_may_continue() {
        for corpus in corpus::ALL {
            let release = Release::read(corpus);
            for hook in cln_topics::hooks_of(release.number) {
                let mut result = json!({"result": "continue"});
                if hook.name.starts_with("openchannel2_") {
                    result["psbt"] = json!("cHNidP8=");
                }
                assert_eq!(refused(hook.name, &result, &release), None, "{}", hook.name);
            }
        }
    }

    #[test]
    fn what_lightningd_refuses() {
        let release = Release::read(corpus::ALL.last().expect("one"));
        for (hook, result) in [
            ("peer_connected", json!({})),
            ("peer_connected", json!({"result": "reject"})),
            ("openchannel", json!({"result": "disconnect"})),
            (
                "htlc_accepted",
                json!({"result": "resolve", "payment_key": "00"}),
            ),
            ("htlc_accepted", json!({"result": "fail"})),
            (
                "htlc_accepted",
                json!({"result": "continue", "payload": "xy"}),
            ),
            ("invoice_payment", json!({})),
            ("db_write", json!({"result": true})),
            ("custommsg", json!(null)),
            ("openchannel2_sign", json!({"result": "continue"})),
            ("rpc_command", json!({"replace": {"method": "getinfo"}})),
            ("rpc_command", json!({"return": {"error": "text"}})),
        ] {
            assert!(
                refused(hook, &result, &release).is_some(),
                "{hook} {result}"
            );
        }
        for (hook, result) in [
            (
                "peer_connected",
                json!({"result": "disconnect", "error_message": "no"}),
            ),
            (
                "htlc_accepted",
                json!({"result": "resolve", "payment_key": "00".repeat(32)}),
            ),
            (
                "htlc_accepted",
                json!({"result": "fail", "failure_message": "2002"}),
            ),
            ("invoice_payment", json!({"result": "reject"})),
            ("rpc_command", json!({"return": {"result": null}})),
            (
                "rpc_command",
                json!({"return": {"error": {"code": -1, "message": "no"}}}),
            ),
            ("commitment_revocation", json!(null)),
        ] {
            assert_eq!(refused(hook, &result, &release), None, "{hook} {result}");
        }
    }
}
