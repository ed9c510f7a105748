//! The `config` file of a node.
//!
//! All options are in the file rather than on the command line, so that a person can
//! start the node by hand as in the workshop: `lightningd --lightning-dir=…`.

use std::fmt::Write;

use super::{Holder, Lean, NETWORK, Node, NodeSpec};
use crate::bitcoin::bcli;
use crate::lock::lock;
use crate::process::files::write_private;
use crate::{Error, Implementation, Result, binaries};

/// Options that the lab sets and that may be given more than once: a test's values
/// come in addition.
const MULTIPLE: [&str; 3] = ["addr", "disable-plugin", "important-plugin"];
/// How many seconds lightningd waits before it asks again for a block that is not there.
const POLL: &str = "dev-bitcoind-poll";

impl Node {
    /// Writes `config`, readable by its owner only: it names bitcoind's password.
    pub(super) fn write_config(&self) -> Result<()> {
        let text = self.config(&self.spec())?;
        write_private(&self.dir.join("config"), &text)
    }

    /// Replaces what was set for this node alone, from its next start on: options,
    /// plugins and environment. What [`LabBuilder`](crate::LabBuilder) sets for every
    /// node stays.
    ///
    /// # Errors
    /// [`Error::Usage`] if `own` sets what cannot change in a node's life: its name,
    /// its program, what it may leave out, what may go wrong on it. Then nothing changes.
    pub async fn reconfigure(&self, own: NodeSpec) -> Result<()> {
        if let Some(what) = own.sets_for_life() {
            return Err(Error::usage(format!(
                "{}: {what} cannot change once a node is there",
                self.name
            )));
        }
        if let Holder::Other(attached) = &self.holder {
            return attached.reconfigure(self, own).await;
        }
        let mut new = self.every.with(&own);
        let before = self.spec();
        (new.name, new.lean) = (before.name, before.lean);
        let text = self.config(&new)?;
        write_private(&self.dir.join("config"), &text)?;
        *lock(&self.spec) = new;
        Ok(())
    }

    fn config(&self, spec: &NodeSpec) -> Result<String> {
        let bitcoin_cli = binaries::bitcoin_cli(self.bitcoind.program())?;
        let mut lines: Vec<(String, Option<String>)> = Vec::new();
        let mut set = |name: &str, value: String| lines.push((name.to_owned(), Some(value)));
        set("network", NETWORK.to_owned());
        set("alias", self.name.clone());
        set("addr", format!("127.0.0.1:{}", self.port()));
        set("log-file", self.log_path().display().to_string());
        set("log-level", "debug".to_owned());
        // Without it bitcoin-cli would read the user's ~/.bitcoin/bitcoin.conf.
        set("bitcoin-datadir", self.bitcoind.dir().display().to_string());
        set("bitcoin-cli", bitcoin_cli.display().to_string());
        set("bitcoin-rpcconnect", "127.0.0.1".to_owned());
        set("bitcoin-rpcport", self.bitcoind.rpc_port().to_string());
        let (user, password) = self.bitcoind.credentials();
        set("bitcoin-rpcuser", user.to_owned());
        set("bitcoin-rpcpassword", password.to_owned());
        // A new node has nothing in old blocks; reading the last 30 takes longer than
        // everything else at its start.
        set("rescan", "1".to_owned());
        // These take fixed ports, which a second node would find in use.
        for (plugin, port) in [
            ("cln-grpc", "grpc-port"),
            ("clnrest", "clnrest-port"),
            ("wss-proxy", "wss-bind-addr"),
        ] {
            if !spec.sets(port) {
                set("disable-plugin", plugin.to_owned());
            }
        }
        if let Implementation::Lightningd(version) = &self.implementation {
            for plugin in spec.lean.iter().flat_map(Lean::left_out) {
                lines.push(("disable-plugin".to_owned(), Some(plugin.to_owned())));
            }
            // Before, the developer options were a choice of the build.
            if version.at_least(23, 11) {
                lines.push(("developer".to_owned(), None));
                lines.push(("dev-fast-gossip".to_owned(), None));
                let in_place = if spec.sets(POLL) {
                    None
                } else {
                    bcli::in_place_of(&self.program, &self.dir)?
                };
                let seconds = if let Some((ours, its)) = in_place {
                    for (name, path) in [("disable-plugin", its), ("important-plugin", ours)] {
                        lines.push((name.to_owned(), Some(path.display().to_string())));
                    }
                    "0"
                } else {
                    "1"
                };
                lines.push((POLL.to_owned(), Some(seconds.to_owned())));
                // Without it lightningd runs each of its daemons once more at its
                // start, for their version.
                lines.push(("dev-no-version-checks".to_owned(), None));
            } else {
                // An empty chain gives no fee estimates, without which lightningd opens
                // no channel; from v23.11 on it has defaults on regtest.
                lines.push(("force-feerates".to_owned(), Some("1000".to_owned())));
            }
            if version.at_least(25, 9) && self.trace().is_full() {
                // In the network directory, where lightningd runs.
                lines.push(("dev-save-plugin-io".to_owned(), Some(".".to_owned())));
            }
            // `developer` turns this off; a plugin meets it on in production.
            lines.push(("allow-deprecated-apis".to_owned(), Some("true".to_owned())));
        }
        // This node's own options replace the lab's.
        lines.retain(|(name, _)| MULTIPLE.contains(&name.as_str()) || !spec.sets(name));
        for plugin in &spec.plugins {
            lines.push((
                "plugin".to_owned(),
                Some(plugin.executable().display().to_string()),
            ));
            for (name, value) in plugin.options() {
                lines.push((name.clone(), Some(value.clone())));
            }
        }
        lines.extend(spec.options.iter().cloned());

        let mut text = String::new();
        for (name, value) in &lines {
            let line = match value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            };
            if line.contains(['\n', '\r']) {
                return Err(Error::usage(format!(
                    "option `{name}` of {}: its value has a line break",
                    self.name
                )));
            }
            let _ = writeln!(text, "{line}");
        }
        Ok(text)
    }
}
