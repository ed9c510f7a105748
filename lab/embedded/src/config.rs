//! The node's configuration: lightningd's options, as far as they apply to a node
//! without a wallet.
//!
//! An option from lightningd that does not apply is accepted and logged once; one
//! that neither lightningd nor any plugin knows is an error, as with lightningd.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::log::{Level, LogConfig};
use crate::option_table;
use crate::options::{self, ConfigVar, parse_bool};

/// The port on which lightningd listens on regtest.
pub const DEFAULT_PORT: u16 = 19846;
/// The port of bitcoind's JSON-RPC on regtest.
const BITCOIN_RPC_PORT: u16 = 18443;

/// How to reach bitcoind; the options `bitcoin-*`.
#[derive(Debug, Clone, Default)]
pub struct BitcoinConfig {
    /// `bitcoin-rpcuser`.
    pub user: Option<String>,
    /// `bitcoin-rpcpassword`.
    pub password: Option<String>,
    /// `bitcoin-rpcconnect`; 127.0.0.1 by default.
    pub host: Option<String>,
    /// `bitcoin-rpcport`.
    pub port: Option<u16>,
    /// `bitcoin-datadir`: where the cookie is when there is no user; `~/.bitcoin`
    /// by default.
    pub datadir: Option<PathBuf>,
}

impl BitcoinConfig {
    /// Of bitcoind's JSON-RPC.
    pub fn url(&self) -> String {
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        format!("http://{host}:{}", self.port.unwrap_or(BITCOIN_RPC_PORT))
    }

    /// The file with bitcoind's cookie.
    pub fn cookie(&self) -> PathBuf {
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        self.datadir
            .clone()
            .unwrap_or_else(|| home().join(".bitcoin"))
            .join("regtest/.cookie")
    }
}

/// An option about plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginSetting {
    /// `plugin` (or `important-plugin`: true).
    Plugin(PathBuf, bool),
    /// `plugin-dir`.
    Dir(PathBuf),
    /// `disable-plugin`, by path or by file name.
    Disable(String),
    /// `clear-plugins`.
    Clear,
}

#[derive(Debug, Clone)]
pub struct Config {
    /// `lightning-dir`.
    pub base_dir: PathBuf,
    /// The node's folder: `<lightning-dir>/regtest`.
    pub net_dir: PathBuf,
    /// `rpc-file`, in full.
    pub rpc_file: PathBuf,
    /// `rpc-file-mode`; 0600 by default.
    pub rpc_file_mode: u32,
    /// `pid-file`, in full.
    pub pid_file: PathBuf,
    pub alias: Option<String>,
    /// Six hex digits.
    pub rgb: Option<String>,
    /// `addr` and `bind-addr`.
    pub bind: Vec<SocketAddr>,
    /// Routable `addr`, and `announce-addr`; shown in `getinfo`.
    pub announce: Vec<SocketAddr>,
    /// Do not listen.
    pub offline: bool,
    pub bitcoin: BitcoinConfig,
    /// How often to look for a block: `dev-bitcoind-poll`, or four times a second.
    pub poll: Duration,
    pub log: LogConfig,
    /// In order.
    pub plugins: Vec<PluginSetting>,
    pub developer: bool,
    /// `allow-deprecated-apis`, true by default.
    pub deprecated_ok: bool,
    /// `cltv-final`, in blocks.
    pub cltv_final: u64,
    pub daemon: bool,
    /// The configuration file that `conf` names.
    pub conf: Option<PathBuf>,
    /// Every option that is not a plugin's, in order of effect; for `listconfigs`.
    pub vars: Vec<ConfigVar>,
    /// Plugins' options, or mistakes.
    pub unknown: Vec<ConfigVar>,
    /// Options from lightningd that have no effect here.
    pub no_effect: Vec<String>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    Run(Box<Config>),
    Help,
    Version,
}

impl Config {
    /// Reads the command line and the configuration files.
    ///
    /// # Errors
    /// One line, in lightningd's words where it has any.
    pub fn read(args: impl IntoIterator<Item = String>) -> Result<Asked, String> {
        let command_line = options::command_line(args)?;
        let given = |name: &str| command_line.iter().rfind(|v| v.name == name);
        if given("help").is_some() {
            return Ok(Asked::Help);
        }
        if given("version").is_some() {
            return Ok(Asked::Version);
        }
        let value = |name: &str| -> Result<Option<String>, String> {
            match given(name) {
                Some(var) => var.clone().settle_argument().map(|v| Some(v.to_owned())),
                None => Ok(None),
            }
        };
        let cwd = std::env::current_dir().map_err(|e| format!("no current directory: {e}"))?;
        let conf = value("conf")?.map(|c| cwd.join(c));
        let base_dir = match value("lightning-dir")? {
            Some(dir) => cwd.join(dir),
            None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".lightning"),
        };
        let mut config = Config::new(base_dir);
        let mut vars = Vec::new();
        match &conf {
            Some(conf) => vars.extend(options::config_file(conf)?),
            None => {
                for dir in [&config.base_dir, &config.net_dir] {
                    let file = dir.join("config");
                    if file.exists() {
                        vars.extend(options::config_file(&file)?);
                    }
                }
            }
        }
        config.conf = conf;
        vars.extend(command_line);
        let mut network = None;
        for mut var in vars {
            config.apply(&mut var, &cwd, &mut network)?;
        }
        match network.as_deref() {
            Some("regtest") => Ok(Asked::Run(Box::new(config))),
            Some(other) => Err(format!(
                "--network={other}: the embedded node runs on regtest only (it keeps no funds safe); \
                 for {other}, run lightningd"
            )),
            None => Err(
                "no --network: the embedded node runs on regtest only; add --network=regtest"
                    .into(),
            ),
        }
    }

    fn new(base_dir: PathBuf) -> Self {
        let net_dir = base_dir.join("regtest");
        Self {
            rpc_file: net_dir.join("lightning-rpc"),
            rpc_file_mode: 0o600,
            pid_file: base_dir.join("lightningd-regtest.pid"),
            base_dir,
            net_dir,
            alias: None,
            rgb: None,
            bind: Vec::new(),
            announce: Vec::new(),
            offline: false,
            bitcoin: BitcoinConfig::default(),
            poll: Duration::from_millis(250),
            log: LogConfig::default(),
            plugins: Vec::new(),
            developer: false,
            deprecated_ok: true,
            cltv_final: 10,
            daemon: false,
            conf: None,
            vars: Vec::new(),
            unknown: Vec::new(),
            no_effect: Vec::new(),
        }
    }

    fn apply(
        &mut self,
        var: &mut ConfigVar,
        cwd: &Path,
        network: &mut Option<String>,
    ) -> Result<(), String> {
        let name = var.name.clone();
        match name.as_str() {
            "regtest" | "testnet" | "testnet4" | "signet" | "mainnet" => {
                var.settle_flag()?;
                *network = Some(if name == "mainnet" {
                    "bitcoin".into()
                } else {
                    name
                });
            }
            "developer" => {
                var.settle_flag()?;
                self.developer = true;
                // As in lightningd, unless a later option allows them.
                self.deprecated_ok = false;
            }
            "clear-plugins" => {
                var.settle_flag()?;
                self.plugins.push(PluginSetting::Clear);
            }
            "daemon" => {
                var.settle_flag()?;
                self.daemon = true;
            }
            "offline" => {
                var.settle_flag()?;
                self.offline = true;
            }
            _ if option_table::NO_EFFECT_FLAGS.contains(&name.as_str()) => {
                var.settle_flag()?;
                self.no_effect.push(name);
            }
            _ if name.starts_with("dev-") && name != "dev-bitcoind-poll" => {
                self.no_effect.push(name)
            }
            _ => return self.apply_value(var, cwd, network),
        }
        self.vars.push(var.clone());
        Ok(())
    }

    fn apply_value(
        &mut self,
        var: &mut ConfigVar,
        cwd: &Path,
        network: &mut Option<String>,
    ) -> Result<(), String> {
        if !option_table::takes_value(&var.name) {
            self.unknown.push(var.clone());
            return Ok(());
        }
        let value = var.settle_argument()?.to_owned();
        self.set(&var.name, value, cwd, network)
            .map_err(|what| var.complain(what))?;
        self.vars.push(var.clone());
        Ok(())
    }

    /// Sets an option that takes a value; an error has lightningd's words.
    fn set(
        &mut self,
        name: &str,
        value: String,
        cwd: &Path,
        network: &mut Option<String>,
    ) -> Result<(), String> {
        match name {
            "network" => *network = Some(known_network(value)?),
            // These are read before all others.
            "lightning-dir" | "conf" => {}
            "rpc-file" => self.rpc_file = self.net_dir.join(value),
            "rpc-file-mode" => self.rpc_file_mode = file_mode(&value)?,
            "pid-file" => self.pid_file = self.net_dir.join(value),
            "alias" if value.len() > 32 => {
                return Err(format!("Alias '{value}' is over 32 characters"));
            }
            "alias" => self.alias = Some(value),
            "rgb" if value.len() != 6 || !value.bytes().all(|b| b.is_ascii_hexdigit()) => {
                return Err(format!("rgb '{value}' is not six hex digits"));
            }
            "rgb" => self.rgb = Some(value.to_lowercase()),
            "addr" => {
                let addr = parse_addr(&value)?;
                self.bind.push(addr);
                self.announce.extend(is_routable(&addr).then_some(addr));
            }
            "bind-addr" => self.bind.push(parse_addr(&value)?),
            "announce-addr" => self.announce.push(parse_addr(&value)?),
            "bitcoin-rpcuser" => self.bitcoin.user = Some(value),
            "bitcoin-rpcpassword" => self.bitcoin.password = Some(value),
            "bitcoin-rpcconnect" => self.bitcoin.host = Some(value),
            "bitcoin-rpcport" => self.bitcoin.port = Some(number(&value)?),
            "bitcoin-datadir" => self.bitcoin.datadir = Some(cwd.join(value)),
            "dev-bitcoind-poll" => {
                self.poll = Duration::from_secs(number::<u32>(&value)?.max(1).into());
            }
            "cltv-final" => self.cltv_final = number::<u32>(&value)?.into(),
            "allow-deprecated-apis" => self.deprecated_ok = boolean(&value)?,
            "log-level" => self.log_level(&value)?,
            "log-prefix" => self.log.prefix = value,
            "log-timestamps" => self.log.timestamps = boolean(&value)?,
            "log-file" if value == "-" => self.log.files.push(value),
            "log-file" => {
                let path = self.net_dir.join(value);
                self.log.files.push(path.display().to_string());
            }
            "plugin" | "important-plugin" => {
                let path = cwd.join(&value).canonicalize().map_err(|e| {
                    format!("Failed to register {value}: {}", options::os_error(&e))
                })?;
                let important = name == "important-plugin";
                self.plugins.push(PluginSetting::Plugin(path, important));
            }
            "plugin-dir" => self.plugins.push(PluginSetting::Dir(cwd.join(value))),
            "disable-plugin" => self.plugins.push(PluginSetting::Disable(value)),
            _ => self.no_effect.push(name.to_owned()),
        }
        Ok(())
    }

    fn log_level(&mut self, value: &str) -> Result<(), String> {
        let (level, subsystem) = match value.split_once(':') {
            Some((level, subsystem)) => (level, Some(subsystem)),
            None => (value, None),
        };
        let level: Level = level
            .parse()
            .map_err(|_| format!("unknown log level {value}"))?;
        match subsystem {
            Some(text) => self.log.filters.push((text.into(), level)),
            None => self.log.level = level,
        }
        Ok(())
    }
}

fn known_network(name: String) -> Result<String, String> {
    match name.as_str() {
        "regtest" | "bitcoin" | "testnet" | "testnet4" | "signet" | "litecoin"
        | "litecoin-testnet" | "liquid" | "liquid-regtest" => Ok(name),
        _ => Err(format!("Unknown network name '{name}'")),
    }
}

fn file_mode(value: &str) -> Result<u32, String> {
    match u32::from_str_radix(value, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!("'{value}' is not a file mode in octal digits")),
    }
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("'{value}' is not a number"))
}

fn boolean(value: &str) -> Result<bool, String> {
    parse_bool(value).ok_or_else(|| format!("Invalid argument '{value}'"))
}

/// Reads `IP`, `IP:port`, `[IP6]:port`, `host:port` or `:port`.
fn parse_addr(value: &str) -> Result<SocketAddr, String> {
    let wrong = || format!("Unable to parse address '{value}'");
    if let Ok(addr) = value.parse::<SocketAddr>() {
        return Ok(addr);
    }
    if let Ok(ip) = value.trim_matches(['[', ']']).parse() {
        return Ok(SocketAddr::new(ip, DEFAULT_PORT));
    }
    let (host, port) = match value.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (value, DEFAULT_PORT),
    };
    if host.is_empty() {
        return Ok(SocketAddr::from(([0, 0, 0, 0], port)));
    }
    (host, port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(wrong)
}

/// Whether lightningd would announce an address it listens on.
fn is_routable(addr: &SocketAddr) -> bool {
    match addr.ip() {
        IpAddr::V4(ip) => {
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.is_unspecified())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(line: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let mut args = vec![format!("--lightning-dir={}", dir.path().display())];
        args.extend(line.split_whitespace().map(String::from));
        match Config::read(args)? {
            Asked::Run(config) => Ok(*config),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_regtest() {
        read("--network=regtest").unwrap();
        read("--regtest").unwrap();
        assert!(
            read("--network=bitcoin")
                .unwrap_err()
                .contains("regtest only")
        );
        assert!(read("--mainnet").unwrap_err().contains("--network=bitcoin"));
        assert!(read("").unwrap_err().contains("add --network=regtest"));
        assert_eq!(
            read("--network=bogus").unwrap_err(),
            "--network=bogus: Unknown network name 'bogus'"
        );
    }

    #[test]
    fn wrong_values() {
        for (line, want) in [
            ("--rgb=zz", "--rgb=zz: rgb 'zz' is not six hex digits"),
            ("--log-level=foo", "--log-level=foo: unknown log level foo"),
            (
                "--plugin=/nonexistent",
                "--plugin=/nonexistent: Failed to register /nonexistent: No such file or directory",
            ),
            (
                "--bitcoin-rpcport=abc",
                "--bitcoin-rpcport=abc: 'abc' is not a number",
            ),
            ("--alias", "--alias: requires an argument"),
            ("--daemon=1", "--daemon=1: doesn't allow an argument"),
            (
                "--conf=/nonexistent",
                "Opening and reading /nonexistent: No such file or directory",
            ),
        ] {
            assert_eq!(
                read(&format!("--network=regtest {line}")).unwrap_err(),
                want
            );
        }
    }

    #[test]
    fn addresses() {
        for (text, want) in [
            ("127.0.0.1:1234", "127.0.0.1:1234"),
            ("127.0.0.1", "127.0.0.1:19846"),
            ("[::1]:5", "[::1]:5"),
            ("::1", "[::1]:19846"),
            (":7", "0.0.0.0:7"),
        ] {
            assert_eq!(parse_addr(text).unwrap().to_string(), want);
        }
        parse_addr("1.2.3.4:99999").unwrap_err();
    }

    #[test]
    fn unknown_options_wait_for_plugins() {
        let config =
            read("--network=regtest --eventlog-file=x --fee-base=1 --dev-fast-gossip").unwrap();
        assert_eq!(config.unknown.len(), 1);
        assert_eq!(config.no_effect, ["fee-base", "dev-fast-gossip"]);
    }

    proptest::proptest! {
        /// Whatever stands in a `config` file is taken or refused in one line.
        #[test]
        fn any_config_file_is_taken_or_refused(
            lines in proptest::collection::vec(
                "(network|alias|rgb|addr|log-level|log-file|plugin|bitcoin-rpcport|fee-base|include|x)?[= ]{0,2}(regtest|[0-9]{1,7}|0[0-9a-f]{5}|127.0.0.1:9|debug|[ -~é\t]{0,9})?",
                0..8,
            ),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("config");
            std::fs::write(&path, lines.join("\n")).unwrap();
            let args = [
                format!("--conf={}", path.display()),
                format!("--lightning-dir={}", dir.path().display()),
            ];
            if let Err(what) = Config::read(args.map(String::from)) {
                proptest::prop_assert!(!what.is_empty() && !what.contains('\n'), "{}", what);
            }
        }
    }
}
