//! The options of lightningd v26.06: those that apply to the embedded node, and the
//! value type of each of the rest.

/// The type of an option's value, which decides its key in `listconfigs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Str,
    Int,
    Bool,
    Msat,
}

/// An option that takes a value.
#[derive(Debug)]
pub struct ValueOption {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether it may be given more than once.
    pub multi: bool,
    /// For `--help`; empty if the option has no effect.
    pub help: &'static str,
}

/// How many times an option may be given.
const ONCE: bool = false;
const MANY: bool = true;

/// Rows of a name, the type of the value, how many times, and perhaps the help.
macro_rules! options {
    ($($name:literal $kind:ident $multi:ident $($help:literal)?;)*) => {
        &[$(ValueOption { name: $name, kind: Kind::$kind, multi: $multi, help: concat!($($help)?) }),*]
    };
}

/// The options with a value that apply here.
pub const OWN: &[ValueOption] = options! {
    "lightning-dir" Str ONCE "Base directory; the node lives in its folder regtest";
    "conf" Str ONCE "Configuration file, instead of config in the directories";
    "network" Str ONCE "regtest, the only one supported";
    "rpc-file" Str ONCE "JSON-RPC socket (lightning-rpc)";
    "rpc-file-mode" Str ONCE "Its mode, octal (0600)";
    "pid-file" Str ONCE "File with the process id";
    "alias" Str ONCE "Up to 32 bytes";
    "rgb" Str ONCE "RRGGBB";
    "addr" Str MANY "Address to listen on and to announce: IP[:port]";
    "bind-addr" Str MANY "Address to listen on";
    "announce-addr" Str MANY "Address to announce";
    "bitcoin-rpcuser" Str ONCE "User of bitcoind's JSON-RPC";
    "bitcoin-rpcpassword" Str ONCE "Password of bitcoind's JSON-RPC";
    "bitcoin-rpcconnect" Str ONCE "Host of bitcoind (127.0.0.1)";
    "bitcoin-rpcport" Int ONCE "Port of bitcoind's JSON-RPC (18443)";
    "bitcoin-datadir" Str ONCE "bitcoind's folder, for its cookie (~/.bitcoin)";
    "dev-bitcoind-poll" Int ONCE "Seconds between checks for a new block (0.25)";
    "cltv-final" Int ONCE "min_final_cltv_expiry of invoices, in blocks (10)";
    "allow-deprecated-apis" Bool ONCE "Sent to plugins (true; false with developer)";
    "log-level" Str MANY "LEVEL[:SUBSYSTEM]: io, trace, debug, info, unusual, broken";
    "log-prefix" Str ONCE "Before each line of the log";
    "log-timestamps" Bool ONCE "Time before each line of the log (true)";
    "log-file" Str MANY "Log to this file (- for stdout)";
    "plugin" Str MANY "A plugin to run";
    "important-plugin" Str MANY "The same; its death ends the node";
    "plugin-dir" Str MANY "A folder with plugins to run";
    "disable-plugin" Str MANY "A plugin not to run, by path or file name";
};

/// The options with a value that have no effect here.
pub const NO_EFFECT: &[ValueOption] = options! {
    "accept-htlc-tlv-type" Int MANY;
    "always-use-proxy" Bool ONCE;
    "announce-addr-discovered" Str ONCE;
    "announce-addr-discovered-port" Int ONCE;
    "askrene-max-threads" Int ONCE;
    "askrene-timeout" Int ONCE;
    "autoclean-cycle" Int ONCE;
    "autoclean-expiredinvoices-age" Int ONCE;
    "autoclean-failedforwards-age" Int ONCE;
    "autoclean-failedpays-age" Int ONCE;
    "autoclean-networkevents-age" Int ONCE;
    "autoclean-paidinvoices-age" Int ONCE;
    "autoclean-succeededforwards-age" Int ONCE;
    "autoclean-succeededpays-age" Int ONCE;
    "autoconnect-seeker-peers" Int ONCE;
    "autolisten" Bool ONCE;
    "bitcoin-cli" Str ONCE;
    "bitcoin-retry-timeout" Int ONCE;
    "bitcoin-rpcclienttimeout" Int ONCE;
    "bkpr-currency" Str ONCE;
    "bwatch-poll-interval" Int ONCE;
    "cltv-delta" Int ONCE;
    "commit-fee" Int ONCE;
    "commit-feerate-offset" Int ONCE;
    "commit-time" Int ONCE;
    "database-upgrade" Bool ONCE;
    "fee-base" Int ONCE;
    "fee-per-satoshi" Int ONCE;
    "force-feerates" Str ONCE;
    "funding-confirms" Int ONCE;
    "htlc-maximum-msat" Msat ONCE;
    "htlc-minimum-msat" Msat ONCE;
    "i-promise-to-fix-broken-api-user" Str MANY;
    "ignore-fee-limits" Bool ONCE;
    "max-concurrent-htlcs" Int ONCE;
    "max-dust-htlc-exposure-msat" Msat ONCE;
    "message-padding" Bool ONCE;
    "min-capacity-sat" Int ONCE;
    "min-emergency-msat" Msat ONCE;
    "payment-fronting-node" Str MANY;
    "proxy" Str ONCE;
    "require-confirmed-inputs" Bool ONCE;
    "rescan" Int ONCE;
    "subdaemon" Str MANY;
    "tor-service-password" Str ONCE;
    "wallet" Str ONCE;
    "watchtime-blocks" Int ONCE;
    "xpay-handle-pay" Bool ONCE;
    "xpay-slow-mode" Bool ONCE;
    "xpay-user-layer" Str MANY;
};

/// The options without a value that have no effect here.
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

/// The options without a value that apply here.
pub const OWN_FLAGS: &[&str] = &["regtest", "developer", "clear-plugins", "daemon", "offline"];

/// Whether lightningd has an option of this name that takes a value.
pub fn takes_value(name: &str) -> bool {
    OWN.iter()
        .chain(NO_EFFECT)
        .any(|option| option.name == name)
}

/// Whether lightningd has an option of this name.
pub fn is_known(name: &str) -> bool {
    takes_value(name) || OWN_FLAGS.contains(&name) || NO_EFFECT_FLAGS.contains(&name)
}

/// The whole `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "Usage: cln-embedded --network=regtest [options]\n\
         One Lightning node for tests, in one process: lightningd's JSON-RPC, plugin protocol,\n\
         peers and invoices, on regtest; no wallet, no channels, no payments.\n\n",
    );
    for flag in [
        "daemon",
        "developer",
        "clear-plugins",
        "offline",
        "regtest",
        "help",
        "version",
    ] {
        text += &format!("--{flag}\n");
    }
    for own in OWN {
        text += &format!("{:<32}{}\n", format!("--{}=<arg>", own.name), own.help);
    }
    text +=
        "\nOther options from lightningd are accepted and have no effect; plugins add their own.\n";
    text
}
