//! The options that lightningd v26.06 has, by name: which mean something to the
//! embedded node, and of what kind the values of the others are.

/// The kind of value of an option, which decides its key in `listconfigs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `value_str`.
    Str,
    /// `value_int`.
    Int,
    /// `value_bool`.
    Bool,
    /// `value_msat`.
    Msat,
}

/// One of lightningd's options that means something here.
#[derive(Debug)]
pub struct Own {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether it may be given more than once.
    pub multi: bool,
    /// For `--help`.
    pub help: &'static str,
}

const fn own(name: &'static str, kind: Kind, multi: bool, help: &'static str) -> Own {
    Own {
        name,
        kind,
        multi,
        help,
    }
}

/// The options with a value that mean something here.
pub const OWN: &[Own] = &[
    own(
        "lightning-dir",
        Kind::Str,
        false,
        "Base directory; the node lives in its folder regtest",
    ),
    own(
        "conf",
        Kind::Str,
        false,
        "Configuration file, instead of config in the directories",
    ),
    own(
        "network",
        Kind::Str,
        false,
        "regtest; nothing else is taken",
    ),
    own(
        "rpc-file",
        Kind::Str,
        false,
        "JSON-RPC socket (lightning-rpc)",
    ),
    own("rpc-file-mode", Kind::Str, false, "Its mode, octal (0600)"),
    own("pid-file", Kind::Str, false, "File with the process id"),
    own("alias", Kind::Str, false, "Up to 32 bytes"),
    own("rgb", Kind::Str, false, "RRGGBB"),
    own(
        "addr",
        Kind::Str,
        true,
        "Address to listen on and to announce: IP[:port]",
    ),
    own("bind-addr", Kind::Str, true, "Address to listen on"),
    own("announce-addr", Kind::Str, true, "Address to announce"),
    own(
        "bitcoin-rpcuser",
        Kind::Str,
        false,
        "User of bitcoind's JSON-RPC",
    ),
    own(
        "bitcoin-rpcpassword",
        Kind::Str,
        false,
        "Password of bitcoind's JSON-RPC",
    ),
    own(
        "bitcoin-rpcconnect",
        Kind::Str,
        false,
        "Host of bitcoind (127.0.0.1)",
    ),
    own(
        "bitcoin-rpcport",
        Kind::Int,
        false,
        "Port of bitcoind's JSON-RPC (18443)",
    ),
    own(
        "bitcoin-datadir",
        Kind::Str,
        false,
        "bitcoind's folder, for its cookie (~/.bitcoin)",
    ),
    own(
        "dev-bitcoind-poll",
        Kind::Int,
        false,
        "Seconds between two looks for a block (0.25)",
    ),
    own(
        "cltv-final",
        Kind::Int,
        false,
        "min_final_cltv_expiry of invoices, in blocks (10)",
    ),
    own(
        "allow-deprecated-apis",
        Kind::Bool,
        false,
        "Told to plugins (true; false with developer)",
    ),
    own(
        "log-level",
        Kind::Str,
        true,
        "LEVEL[:SUBSYSTEM]: io, trace, debug, info, unusual, broken",
    ),
    own(
        "log-prefix",
        Kind::Str,
        false,
        "Before each line of the log",
    ),
    own(
        "log-timestamps",
        Kind::Bool,
        false,
        "Time before each line of the log (true)",
    ),
    own(
        "log-file",
        Kind::Str,
        true,
        "Log to this file (- for stdout)",
    ),
    own("plugin", Kind::Str, true, "A plugin to run"),
    own(
        "important-plugin",
        Kind::Str,
        true,
        "The same; its death ends the node",
    ),
    own(
        "plugin-dir",
        Kind::Str,
        true,
        "A folder with plugins to run",
    ),
    own(
        "disable-plugin",
        Kind::Str,
        true,
        "A plugin not to run, by path or file name",
    ),
];

/// An option of lightningd's that takes a value and has no effect here.
const fn none(name: &'static str, kind: Kind, multi: bool) -> Own {
    own(name, kind, multi, "")
}

/// All of these.
pub const NO_EFFECT: &[Own] = &[
    none("accept-htlc-tlv-type", Kind::Int, true),
    none("always-use-proxy", Kind::Bool, false),
    none("announce-addr-discovered", Kind::Str, false),
    none("announce-addr-discovered-port", Kind::Int, false),
    none("askrene-max-threads", Kind::Int, false),
    none("askrene-timeout", Kind::Int, false),
    none("autoclean-cycle", Kind::Int, false),
    none("autoclean-expiredinvoices-age", Kind::Int, false),
    none("autoclean-failedforwards-age", Kind::Int, false),
    none("autoclean-failedpays-age", Kind::Int, false),
    none("autoclean-networkevents-age", Kind::Int, false),
    none("autoclean-paidinvoices-age", Kind::Int, false),
    none("autoclean-succeededforwards-age", Kind::Int, false),
    none("autoclean-succeededpays-age", Kind::Int, false),
    none("autoconnect-seeker-peers", Kind::Int, false),
    none("autolisten", Kind::Bool, false),
    none("bitcoin-cli", Kind::Str, false),
    none("bitcoin-retry-timeout", Kind::Int, false),
    none("bitcoin-rpcclienttimeout", Kind::Int, false),
    none("bkpr-currency", Kind::Str, false),
    none("bwatch-poll-interval", Kind::Int, false),
    none("cltv-delta", Kind::Int, false),
    none("commit-fee", Kind::Int, false),
    none("commit-feerate-offset", Kind::Int, false),
    none("commit-time", Kind::Int, false),
    none("database-upgrade", Kind::Bool, false),
    none("fee-base", Kind::Int, false),
    none("fee-per-satoshi", Kind::Int, false),
    none("force-feerates", Kind::Str, false),
    none("funding-confirms", Kind::Int, false),
    none("htlc-maximum-msat", Kind::Msat, false),
    none("htlc-minimum-msat", Kind::Msat, false),
    none("i-promise-to-fix-broken-api-user", Kind::Str, true),
    none("ignore-fee-limits", Kind::Bool, false),
    none("max-concurrent-htlcs", Kind::Int, false),
    none("max-dust-htlc-exposure-msat", Kind::Msat, false),
    none("message-padding", Kind::Bool, false),
    none("min-capacity-sat", Kind::Int, false),
    none("min-emergency-msat", Kind::Msat, false),
    none("payment-fronting-node", Kind::Str, true),
    none("proxy", Kind::Str, false),
    none("require-confirmed-inputs", Kind::Bool, false),
    none("rescan", Kind::Int, false),
    none("subdaemon", Kind::Str, true),
    none("tor-service-password", Kind::Str, false),
    none("wallet", Kind::Str, false),
    none("watchtime-blocks", Kind::Int, false),
    none("xpay-handle-pay", Kind::Bool, false),
    none("xpay-slow-mode", Kind::Bool, false),
    none("xpay-user-layer", Kind::Str, true),
];

/// The same, of options that take no value.
pub const NO_EFFECT_FLAGS: &[&str] = &[
    "disable-dns",
    "disable-mpp",
    "experimental-bwatch",
    "experimental-dual-fund",
    "experimental-offers",
    "experimental-onion-messages",
    "experimental-shutdown-wrong-funding",
    "experimental-splicing",
    "fetchinvoice-noconnect",
    "invoices-onchain-fallback",
    "list-features-only",
    "renepay-debug-mcf",
    "renepay-debug-payflow",
    "test-daemons-only",
];

/// The options without a value that mean something here.
pub const OWN_FLAGS: &[&str] = &["regtest", "developer", "clear-plugins", "daemon", "offline"];

/// Whether this is an option of lightningd's that takes a value.
pub fn takes_value(name: &str) -> bool {
    OWN.iter()
        .chain(NO_EFFECT)
        .any(|option| option.name == name)
}

/// Whether lightningd has an option of this name.
pub fn is_known(name: &str) -> bool {
    takes_value(name) || OWN_FLAGS.contains(&name) || NO_EFFECT_FLAGS.contains(&name)
}
