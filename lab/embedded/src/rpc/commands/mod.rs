//! The commands that the embedded node has.
//!
//! # Layout
//! - [`info`]: getinfo, help, check, stop, and what concerns the connection.
//! - [`peers`]: connect, disconnect, listpeers, ping.
//! - [`invoices`]: invoice, listinvoices, delinvoice.
//! - [`chain`] has waitblockheight.
//! - [`plugin`]: plugin start, stop, startdir, rescan, list.
//! - [`listconfigs`], [`setconfig`]: the configuration.

pub mod chain;
pub mod info;
pub mod invoices;
pub mod listconfigs;
pub mod peers;
pub mod plugin;
pub mod setconfig;

use std::sync::Arc;

use serde_json::Value;

use super::Flags;
use super::error::RpcError;
use super::params::Params;
use crate::node::Node;

/// Name and parameters, as `help` shows them.
const COMMANDS: &[(&str, &str)] = &[
    ("batching", "enable"),
    ("check", "command_to_check"),
    ("connect", "id [host] [port]"),
    ("delinvoice", "label status [desconly]"),
    ("deprecations", "enable"),
    ("disconnect", "id [force]"),
    ("getinfo", ""),
    ("help", "[command]"),
    (
        "invoice",
        "amount_msat label description [expiry] [fallbacks] [preimage] [exposeprivatechannels] [cltv] [deschashonly]",
    ),
    ("listconfigs", "[config]"),
    (
        "listinvoices",
        "[label] [invstring] [payment_hash] [offer_id] [index] [start] [limit]",
    ),
    ("listpeers", "[id] [level]"),
    ("notifications", "enable"),
    ("ping", "id [len] [pongbytes]"),
    ("plugin", "subcommand=start|stop|startdir|rescan|list"),
    ("setconfig", "config [val] [transient]"),
    ("stop", ""),
    ("waitblockheight", "blockheight [timeout]"),
];

/// What lightningd v26.06 has beside these, without its developer's commands.
const LIGHTNINGD_ONLY: &[&str] = &[
    "abort_channels",
    "addblockdepthwatch",
    "addgossip",
    "addoutpointwatch",
    "addpsbtinput",
    "addpsbtoutput",
    "addscidwatch",
    "addscriptpubkeywatch",
    "askrene-age",
    "askrene-bias-channel",
    "askrene-bias-node",
    "askrene-create-channel",
    "askrene-create-layer",
    "askrene-disable-node",
    "askrene-inform-channel",
    "askrene-listlayers",
    "askrene-listreservations",
    "askrene-remove-channel-update",
    "askrene-remove-layer",
    "askrene-reserve",
    "askrene-unreserve",
    "askrene-update-channel",
    "autoclean-once",
    "autoclean-status",
    "bkpr-channelsapy",
    "bkpr-dumpincomecsv",
    "bkpr-editdescriptionbyoutpoint",
    "bkpr-editdescriptionbypaymentid",
    "bkpr-inspect",
    "bkpr-listaccountevents",
    "bkpr-listbalances",
    "bkpr-listincome",
    "bkpr-report",
    "blacklistrune",
    "cancelrecurringinvoice",
    "checkmessage",
    "checkrune",
    "close",
    "commando",
    "createinvoice",
    "createinvoicerequest",
    "createoffer",
    "createonion",
    "createproof",
    "createrune",
    "datastore",
    "datastoreusage",
    "decode",
    "decryptencrypteddata",
    "delblockdepthwatch",
    "deldatastore",
    "delforward",
    "delnetworkevent",
    "deloutpointwatch",
    "delpay",
    "delscidwatch",
    "delscriptpubkeywatch",
    "destroyrune",
    "disableinvoicerequest",
    "disableoffer",
    "emergencyrecover",
    "enableoffer",
    "estimatefees",
    "exposesecret",
    "feerates",
    "fetchinvoice",
    "fundchannel",
    "fundchannel_cancel",
    "fundchannel_complete",
    "fundchannel_start",
    "funderupdate",
    "fundpsbt",
    "getchaininfo",
    "getemergencyrecoverdata",
    "getlog",
    "getrawblockbyheight",
    "getroute",
    "getroutes",
    "getutxout",
    "graceful",
    "injectonionmessage",
    "injectpaymentonion",
    "injectutxodeposit",
    "injectutxospend",
    "invoicerequest",
    "invokerune",
    "keysend",
    "listaddresses",
    "listchainmoves",
    "listchannelmoves",
    "listchannels",
    "listclosedchannels",
    "listdatastore",
    "listforwards",
    "listfunds",
    "listhtlcs",
    "listincoming",
    "listinvoicerequests",
    "listnetworkevents",
    "listnodes",
    "listoffers",
    "listpays",
    "listpeerchannels",
    "listsendpays",
    "listsqlschemas",
    "listtransactions",
    "listwatch",
    "makesecret",
    "multifundchannel",
    "multiwithdraw",
    "newaddr",
    "offer",
    "openchannel_abort",
    "openchannel_bump",
    "openchannel_init",
    "openchannel_signed",
    "openchannel_update",
    "parsefeerate",
    "pay",
    "payersign",
    "paystatus",
    "preapproveinvoice",
    "preapprovekeysend",
    "reckless",
    "recover",
    "recoverchannel",
    "renepay",
    "renepaystatus",
    "reserveinputs",
    "restorefrompeer",
    "sendamount",
    "sendcustommsg",
    "sendinvoice",
    "sendonion",
    "sendpay",
    "sendpsbt",
    "sendrawtransaction",
    "setchannel",
    "setleaserates",
    "setpsbtversion",
    "showrunes",
    "signinvoice",
    "signmessage",
    "signmessagewithkey",
    "signpsbt",
    "splice_init",
    "splice_signed",
    "splice_update",
    "splicein",
    "spliceout",
    "sql",
    "staticbackup",
    "stfu_channels",
    "txdiscard",
    "txprepare",
    "txsend",
    "unreserveinputs",
    "upgradewallet",
    "utxopsbt",
    "wait",
    "waitanyinvoice",
    "waitinvoice",
    "waitsendpay",
    "withdraw",
    "xkeysend",
    "xpay",
    "xpay-as-pay",
];

/// One call of a command.
pub struct Call {
    /// The node.
    pub node: Arc<Node>,
    /// The caller's id, as JSON.
    pub id: String,
    /// The parameters.
    pub params: Params,
    /// Only look whether it could be carried out (`check`).
    pub check: bool,
    /// What is set for the connection.
    pub flags: Arc<Flags>,
}

/// Why a command gives no result.
#[derive(Debug)]
pub enum Stop {
    /// It failed.
    Failed(RpcError),
    /// It would have gone on, but was only to be checked.
    Checked,
}

impl From<RpcError> for Stop {
    fn from(error: RpcError) -> Self {
        Stop::Failed(error)
    }
}

impl Call {
    /// Ends a mere check here: everything is as it should be.
    ///
    /// # Errors
    /// [`Stop::Checked`], if it is one.
    pub fn done_if_check(&self) -> Result<(), Stop> {
        if self.check {
            Err(Stop::Checked)
        } else {
            Ok(())
        }
    }
}

/// Whether this is a command of the embedded node itself.
pub fn is_builtin(method: &str) -> bool {
    COMMANDS.iter().any(|(name, _)| *name == method)
}

/// Why there is no such command.
pub fn why_not(method: &str) -> String {
    if LIGHTNINGD_ONLY.contains(&method) {
        format!(
            "'{method}' is not available: this is the embedded node, which has peers, invoices and plugins, \
             but no wallet, channels or payments; lightningd has it"
        )
    } else {
        format!("Unknown command '{method}'")
    }
}

/// Carries out a command of the embedded node itself.
///
/// # Errors
/// Why it gives no result.
pub async fn run(method: &str, call: Call) -> Result<Value, Stop> {
    match method {
        "batching" | "deprecations" => info::switch(&call),
        "check" => info::check(call).await,
        "connect" => peers::connect(&call).await,
        "delinvoice" => invoices::delinvoice(&call),
        "disconnect" => peers::disconnect(&call).await,
        "getinfo" => info::getinfo(&call),
        "help" => info::help(&call),
        "invoice" => invoices::invoice(&call),
        "listconfigs" => listconfigs::listconfigs(&call),
        "listinvoices" => invoices::listinvoices(&call),
        "listpeers" => peers::listpeers(&call),
        "notifications" => info::notifications(&call),
        "ping" => peers::ping(&call).await,
        "plugin" => plugin::plugin(&call).await,
        "setconfig" => setconfig::setconfig(&call).await,
        "stop" => info::stop(&call).await,
        "waitblockheight" => chain::waitblockheight(&call).await,
        _ => Err(RpcError::new(super::error::METHOD_NOT_FOUND, why_not(method)).into()),
    }
}
