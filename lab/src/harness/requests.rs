//! What lightningd asks and reports: requests, notifications, recorded messages.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::PluginHarness;
use crate::corpus::{Kind, Message};
use crate::lock::lock;
use crate::node::NETWORK;
use crate::{Error, Result};

impl PluginHarness {
    /// Asks for its manifest, `getmanifest`: options, methods, subscriptions, hooks.
    ///
    /// # Errors
    /// If it answers with an error, with anything but JSON, or not at all.
    pub async fn manifest(&mut self) -> Result<Value> {
        let manifest = match self.recorded(Kind::Manifest) {
            Some(request) => self.ask(request.json()).await?,
            None => {
                let params = json!({"allow-deprecated-apis": true});
                self.call("getmanifest", params).await?
            }
        };
        self.manifest = Some(manifest.clone());
        Ok(manifest)
    }

    /// Sends `init` with the values of these options, an object, and with the
    /// defaults of the others; asks for the manifest first, unless that was done. A
    /// plugin that does not want to run answers `{"disable": "why"}`.
    ///
    /// # Errors
    /// As [`PluginHarness::manifest`]; [`Error::Usage`] for an option that is not in
    /// the manifest.
    pub async fn init(&mut self, options: Value) -> Result<Value> {
        let manifest = match &self.manifest {
            Some(manifest) => manifest.clone(),
            None => self.manifest().await?,
        };
        let options = settings(&manifest, &options)?;
        if let Some(request) = self.recorded(Kind::Init) {
            let mut request = request.json();
            request["params"]["options"] = options;
            request["params"]["configuration"]["lightning-dir"] = json!(self.dir());
            return self.ask(request).await;
        }
        let params = json!({
            "options": options,
            "configuration": {
                "lightning-dir": self.dir(),
                "rpc-file": "lightning-rpc",
                "startup": true,
                "network": NETWORK,
                "feature_set": {"init": "", "node": "", "channel": "", "invoice": ""},
            },
        });
        self.call("init", params).await
    }

    /// Sends a notification as lightningd does from v23.08 on, with the payload under
    /// the topic's name: `params` is `{topic: payload}`.
    pub async fn notify(&mut self, topic: &str, payload: Value) -> Result<()> {
        let mut params = Map::new();
        params.insert(topic.to_owned(), payload);
        self.notify_flat(topic, Value::Object(params)).await
    }

    /// Sends a notification with exactly these `params`: before v23.08, they are the
    /// payload.
    pub async fn notify_flat(&mut self, topic: &str, params: Value) -> Result<()> {
        self.send(&json!({"jsonrpc": "2.0", "method": topic, "params": params}))
            .await
    }

    /// The first recorded message of this kind, if the harness speaks as a release.
    fn recorded(&self, kind: Kind) -> Option<Message> {
        self.release?
            .messages()
            .find(|message| message.kind == kind)
    }

    /// Sends a recorded message byte for byte; waits for the answer if it is a request.
    ///
    /// # Errors
    /// As [`PluginHarness::call`]; [`Error::Usage`] for what lightningd does not send to a
    /// plugin: the answers of its methods, the environment, the help text.
    pub async fn replay(&mut self, message: &Message) -> Result<Option<Value>> {
        if matches!(message.kind, Kind::Answer | Kind::Environment | Kind::Help) {
            return Err(Error::usage(format!(
                "replay of `{}`: {} is nothing that a plugin is sent",
                message.name, message.kind
            )));
        }
        self.raw(format!("{}\n\n", message.message)).await?;
        let json = message.json();
        match json.get("id") {
            Some(id) => self.answer_to(&message.name, id).await.map(Some),
            None => Ok(None),
        }
    }

    /// Sends this request and waits for the answer.
    async fn ask(&mut self, request: Value) -> Result<Value> {
        self.send(&request).await?;
        let method = request["method"].as_str().unwrap_or_default();
        self.answer_to(method, &request["id"]).await
    }

    /// Waits for the answer to the request with this id, which was sent with
    /// [`PluginHarness::raw`]: the whole message, with `result` or `error`.
    ///
    /// # Errors
    /// [`Error::Died`] if it ends instead; [`Error::TimedOut`].
    pub async fn response(&mut self, method: &str, id: &Value) -> Result<Value> {
        let received = Arc::clone(&self.received);
        let what = format!("an answer to `{method}`");
        self.wait(&what, || {
            let mut received = lock(&received);
            let at = received.answers.iter().position(|a| a["id"] == *id)?;
            received.answers.remove(at)
        })
        .await
    }

    /// Calls a method of the plugin and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Rpc`] with the plugin's code and message; [`Error::Died`] if it ends
    /// instead; [`Error::TimedOut`].
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.next_id += 1;
        // As lightningd's ids, a string.
        let id = json!(format!("cln-lab:{method}#{}", self.next_id));
        self.ask(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await
    }

    async fn answer_to(&mut self, method: &str, id: &Value) -> Result<Value> {
        let mut answer = self.response(method, id).await?;
        match answer["error"].take() {
            Value::Null => Ok(answer["result"].take()),
            mut error => Err(Error::Rpc {
                node: self.command.clone(),
                method: method.to_owned(),
                code: error["code"].as_i64().and_then(|code| code.try_into().ok()),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
                data: Some(error["data"].take())
                    .filter(|data| !data.is_null())
                    .map(Box::new),
                help: String::new(),
            }),
        }
    }

    /// Calls a hook and waits for the answer, for example `{"result": "continue"}`
    /// (CLN's documentation, "Hooks"). On the wire it is a call like any other.
    ///
    /// # Errors
    /// As [`PluginHarness::call`].
    pub async fn hook(&mut self, name: &str, payload: Value) -> Result<Value> {
        self.call(name, payload).await
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        self.raw(format!("{message}\n\n")).await
    }
}

/// The options of `init`: what was set, else the manifest's defaults.
fn settings(manifest: &Value, set: &Value) -> Result<Value> {
    let declared = manifest["options"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = declared.iter().filter_map(|o| o["name"].as_str()).collect();
    let empty = Map::new();
    let set = match set {
        Value::Object(set) => set,
        Value::Null => &empty,
        other => return Err(Error::usage(format!("options as an object, not {other}"))),
    };
    if let Some(unknown) = set.keys().find(|name| !names.contains(&name.as_str())) {
        return Err(Error::usage(format!(
            "the plugin has no option `{unknown}`: it has [{}]",
            names.join(", ")
        )));
    }
    let mut options = Map::new();
    for option in &declared {
        let Some(name) = option["name"].as_str() else {
            continue;
        };
        // One without a value and without a default is left out.
        let value = set.get(name).or(option.get("default"));
        if let Some(value) = value.filter(|value| !value.is_null()) {
            options.insert(name.to_owned(), value.clone());
        }
    }
    Ok(Value::Object(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_what_was_set_or_the_default() {
        let manifest = json!({"options": [
            {"name": "a", "type": "int", "default": 1},
            {"name": "b", "type": "string", "default": null},
            {"name": "c", "type": "string"},
            {"name": "d", "type": "bool", "default": false},
        ]});
        let options = settings(&manifest, &json!({"c": "x", "d": true})).expect("options");
        assert_eq!(options, json!({"a": 1, "c": "x", "d": true}));
        let error = settings(&manifest, &json!({"e": 1})).expect_err("unknown");
        assert!(error.to_string().contains("[a, b, c, d]"), "{error}");
    }
}
