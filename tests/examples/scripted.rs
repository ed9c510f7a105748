//! A plugin, written by hand, that does what a test asks for: `scripted MODE [PREFIX]`.
//!
//! The mode says how it behaves (see [`Mode`]). While it runs it has the methods
//! `PREFIX-hi` (its process id), `PREFIX-received` (everything that came),
//! `PREFIX-crash`, `PREFIX-garbage`, `PREFIX-traceback`, `PREFIX-emit`,
//! `PREFIX-odd`, `PREFIX-undeclared`, `PREFIX-fail`, `PREFIX-progress` and `PREFIX-ban`.

use std::io::{self, BufRead, Write};

use serde_json::{Value, json};

/// How the plugin behaves.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Well.
    Good,
    /// The manifest disables it.
    Disabled,
    /// It disables itself when it is sent `init`.
    InitDisabled,
    /// It exits when it is sent `init`.
    InitExit,
    /// It may not be started while the node runs.
    NotDynamic,
    /// It subscribes to an unknown topic.
    BadTopic,
    /// Its manifest is a string.
    NoObject,
    /// It has an RPC method that the node itself has.
    TakesGetinfo,
    /// It wants every notification, with `log`; it exits at `shutdown`.
    Tap,
    /// It has the hooks `rpc_command` and `peer_connected`, and subscribes to `connect`.
    Hooks,
    /// It has options of each kind.
    Options,
    /// It adds a mandatory feature bit (100) that no node knows.
    Feature,
    /// It does not answer `getmanifest`, but writes log lines without end.
    Flood,
}

impl Mode {
    fn named(name: &str) -> Mode {
        match name {
            "disabled" => Mode::Disabled,
            "init_disabled" => Mode::InitDisabled,
            "init_exit" => Mode::InitExit,
            "not_dynamic" => Mode::NotDynamic,
            "bad_topic" => Mode::BadTopic,
            "no_object" => Mode::NoObject,
            "takes_getinfo" => Mode::TakesGetinfo,
            "tap" => Mode::Tap,
            "hooks" => Mode::Hooks,
            "options" => Mode::Options,
            "feature" => Mode::Feature,
            "flood" => Mode::Flood,
            _ => Mode::Good,
        }
    }
}

struct Plugin {
    mode: Mode,
    prefix: String,
    init: Value,
    notifications: Vec<Value>,
    requests: Vec<Value>,
    banned: bool,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut plugin = Plugin {
        mode: Mode::named(&args.next().unwrap_or_default()),
        prefix: args.next().unwrap_or_else(|| "x".to_owned()),
        init: Value::Null,
        notifications: Vec::new(),
        requests: Vec::new(),
        banned: false,
    };
    // Every message is one line; the empty lines between them are nothing.
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        if let Ok(message) = serde_json::from_str::<Value>(&line) {
            plugin.take(&message);
        }
    }
}

fn say(message: &Value) {
    let mut out = io::stdout().lock();
    // Nobody reads any more: the end of input comes next.
    let _ = write!(out, "{message}\n\n").and_then(|()| out.flush());
}

fn log(level: &str, text: &str) {
    say(&json!({
        "jsonrpc": "2.0", "method": "log", "params": {"level": level, "message": text}
    }));
}

impl Plugin {
    fn take(&mut self, message: &Value) {
        let method = message["method"].as_str().unwrap_or_default();
        if message.get("id").is_none() {
            self.notifications.push(message.clone());
            if method == "shutdown" && self.mode == Mode::Tap {
                std::process::exit(0);
            }
            return;
        }
        let answer = match method {
            "getmanifest" => Ok(self.manifest()),
            "init" => Ok(self.init(&message["params"])),
            "rpc_command" | "peer_connected" => Ok(self.hook(method, &message["params"])),
            "setconfig" => self.setconfig(&message["params"]),
            _ => {
                let name = method.rsplit('-').next().unwrap_or_default();
                let Some(answer) = self.call(name, message) else {
                    return;
                };
                answer
            }
        };
        let (member, value) = match answer {
            Ok(result) => ("result", result),
            Err(error) => ("error", error),
        };
        say(&json!({"jsonrpc": "2.0", "id": message["id"], member: value}));
    }

    fn init(&mut self, params: &Value) -> Value {
        self.init = params.clone();
        match self.mode {
            Mode::InitExit => std::process::exit(1),
            Mode::InitDisabled => json!({"disable": "not at init"}),
            _ => {
                log("info", "scripted is up");
                json!({})
            }
        }
    }

    /// Takes every value but `bad`.
    fn setconfig(&mut self, params: &Value) -> Result<Value, Value> {
        self.requests.push(params.clone());
        if params["val"] == "bad" {
            return Err(json!({"code": -32602, "message": "I refuse"}));
        }
        Ok(json!({}))
    }

    /// The result or the error of the method `PREFIX-name`; `None`: it never answers.
    fn call(&mut self, name: &str, message: &Value) -> Option<Result<Value, Value>> {
        let mut result = json!({});
        match name {
            "hi" => result = json!({"pid": std::process::id()}),
            "received" => result = self.received(message),
            "crash" => std::process::exit(3),
            "garbage" => {
                let _ = io::stdout().write_all(b"rubbish }\n\n");
                return None;
            }
            "traceback" => log("warn", "Traceback:\n  File \"x\"\n\nValueError: no"),
            "emit" => {
                say(&json!({"jsonrpc": "2.0", "method": "scripted", "params": {"a": [1, 2]}}));
            }
            "odd" => {
                // No JSON, but lightningd takes it for that.
                let odd = b"{\"jsonrpc\":\"2.0\",\"method\":\"scripted\",\"params\":[\"a\tb\",\n\n007,1{]}\n\n";
                let _ = io::stdout().write_all(odd);
            }
            "undeclared" => {
                say(&json!({"jsonrpc": "2.0", "method": "undeclared", "params": {}}));
            }
            "progress" => {
                say(&json!({
                    "jsonrpc": "2.0", "method": "message",
                    "params": {"id": message["id"], "level": "info", "message": "half way"}
                }));
                result = json!({"done": true});
            }
            "ban" => self.banned = message["params"][0] == true,
            _ => {
                let why = json!({"code": 77, "message": "no", "data": {"why": "asked to"}});
                return Some(Err(why));
            }
        }
        Some(Ok(result))
    }

    /// Everything this plugin has received, and this request.
    fn received(&self, message: &Value) -> Value {
        json!({
            "init": self.init,
            "cwd": std::env::current_dir().unwrap_or_default(),
            "env": {
                "LIGHTNINGD_PLUGIN": std::env::var("LIGHTNINGD_PLUGIN").ok(),
                "LIGHTNINGD_VERSION": std::env::var("LIGHTNINGD_VERSION").ok(),
            },
            "notifications": self.notifications,
            "requests": self.requests,
            "id": message["id"],
            "params": message["params"],
        })
    }

    fn manifest(&self) -> Value {
        match self.mode {
            Mode::NoObject => return json!("nope"),
            Mode::Disabled => return json!({"disable": "I do not want to run"}),
            Mode::Flood => loop {
                log("debug", "and on");
            },
            _ => {}
        }
        let mut names: Vec<String> = [
            "hi",
            "received",
            "crash",
            "garbage",
            "traceback",
            "emit",
            "odd",
            "undeclared",
            "progress",
            "ban",
            "fail",
        ]
        .iter()
        .map(|name| format!("{}-{name}", self.prefix))
        .collect();
        if self.mode == Mode::TakesGetinfo {
            names.push("getinfo".to_owned());
        }
        let methods: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "usage": "[what]", "description": "for a test"}))
            .collect();
        let mut manifest = json!({
            "options": [],
            "rpcmethods": methods,
            "subscriptions": [],
            "notifications": [{"method": "scripted"}],
            "dynamic": !matches!(self.mode, Mode::NotDynamic | Mode::Feature),
        });
        match self.mode {
            Mode::BadTopic => manifest["subscriptions"] = json!(["no_such_topic"]),
            Mode::Tap => manifest["subscriptions"] = json!(["*", "log"]),
            Mode::Hooks => {
                manifest["subscriptions"] = json!(["connect"]);
                manifest["hooks"] = json!([
                    {"name": "rpc_command", "filters": ["listpeers"]}, "peer_connected", "htlc_accepted"
                ]);
            }
            Mode::Feature => {
                manifest["featurebits"] = json!({"init": "1".to_owned() + &"0".repeat(25)})
            }
            Mode::Options => manifest["options"] = options(),
            _ => {}
        }
        manifest
    }

    fn hook(&mut self, hook: &str, params: &Value) -> Value {
        self.requests.push(params.clone());
        if hook == "peer_connected" {
            return if self.banned {
                json!({"result": "disconnect", "error_message": "go away"})
            } else {
                json!({"result": "continue"})
            };
        }
        let command = &params["rpc_command"];
        match command["params"][0].as_str() {
            Some("replace") => json!({"replace": {
                "jsonrpc": "2.0", "id": command["id"], "method": "help", "params": ["getinfo"]
            }}),
            Some("result") => json!({"return": {"result": {"custom": 1}}}),
            Some("error") => json!({"return": {"error": {"code": -99, "message": "no way"}}}),
            Some("nonsense") => json!({"result": "nonsense"}),
            _ => json!({"result": "continue"}),
        }
    }
}

fn options() -> Value {
    let option = |name: &str, kind: &str, more: Value| {
        let mut option = json!({"name": name, "type": kind, "description": "for a test"});
        for (key, value) in more.as_object().into_iter().flatten() {
            option[key] = value.clone();
        }
        option
    };
    json!([
        option(
            "o-str",
            "string",
            json!({"default": "given", "dynamic": true})
        ),
        option("o-none", "string", json!({})),
        option("o-int", "int", json!({"default": 7, "dynamic": true})),
        option("o-bool", "bool", json!({"default": true})),
        option("o-flag", "flag", json!({"dynamic": true})),
        option(
            "o-multi",
            "string",
            json!({"default": "m", "multi": true, "dynamic": true})
        ),
        option("o-ints", "int", json!({"multi": true})),
        option("o-secret", "string-conceal", json!({})),
    ])
}
