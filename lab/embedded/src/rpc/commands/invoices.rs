//! invoice, listinvoices, delinvoice.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin_hashes::Hash;
use bitcoin_hashes::hex::{DisplayHex, FromHex};
use lightning::bitcoin::address::{Address, NetworkUnchecked};
use lightning::bitcoin::{Network, PubkeyHash, ScriptHash, WitnessVersion};
use lightning_invoice::{Bolt11Invoice, Fallback};
use serde_json::{Value, json};

use crate::amount::parse_msat;
use crate::invoice::{self, MAX_DESCRIPTION, Terms};
use crate::keys;
use crate::node::Node;
use crate::rpc::call::{Call, Stop};
use crate::rpc::error::{
    INVOICE_LABEL_ALREADY_EXISTS, INVOICE_NO_DESCRIPTION, INVOICE_NOT_FOUND,
    INVOICE_PREIMAGE_ALREADY_EXISTS, INVOICE_STATUS_UNEXPECTED, LIGHTNINGD, RpcError,
};
use crate::rpc::params::{self, Token, opt, req};
use crate::store::Invoice;

/// A week, in seconds.
const DEFAULT_EXPIRY: u64 = 604_800;

/// The longest label, in bytes.
const MAX_LABEL: usize = 128;

/// The longest time that an invoice may be valid for, in seconds: a hundred years.
/// lightningd accepts more; sums with the current time must not overflow.
const MAX_EXPIRY: u64 = 100 * 366 * 86_400;

/// Seconds since the epoch.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// In msat; `None` for `any`.
fn amount(name: &str, token: Token<'_>) -> Result<Option<u64>, RpcError> {
    let text = token.text();
    if text == "any" {
        return Ok(None);
    }
    match parse_msat(&text) {
        Some(msat) if msat > 0 => Ok(Some(msat)),
        _ => Err(token.bad(name, "should be positive msat or 'any'")),
    }
}

fn bytes32(token: Token<'_>) -> Option<[u8; 32]> {
    FromHex::from_hex(&token.text()).ok()
}

fn fallback(address: &str) -> Result<Fallback, String> {
    let address = Address::<NetworkUnchecked>::from_str(address)
        .map_err(|e| e.to_string())?
        .require_network(Network::Regtest)
        .map_err(|e| e.to_string())?;
    if let Some(hash) = address.pubkey_hash() {
        return Ok(Fallback::PubKeyHash(PubkeyHash::from_byte_array(
            hash.to_byte_array(),
        )));
    }
    if let Some(hash) = address.script_hash() {
        return Ok(Fallback::ScriptHash(ScriptHash::from_byte_array(
            hash.to_byte_array(),
        )));
    }
    match address.witness_program() {
        Some(program) => Ok(Fallback::SegWitProgram {
            version: WitnessVersion::try_from(program.version().to_num())
                .map_err(|e| e.to_string())?,
            program: program.program().as_bytes().to_vec(),
        }),
        None => Err("BOLT 11 does not have this kind of address".into()),
    }
}

/// Seconds that an invoice is valid for.
fn expiry(name: &str, token: Token<'_>) -> Result<u64, RpcError> {
    let seconds = params::number64(name, token)?;
    if seconds > MAX_EXPIRY {
        return Err(token.bad(name, "should be at most a hundred years"));
    }
    Ok(seconds)
}

fn failed(e: std::io::Error) -> RpcError {
    RpcError::new(LIGHTNINGD, e.to_string())
}

/// Reads the parameters of `invoice`: the label, and what to put in the invoice.
fn label_and_terms(call: &Call) -> Result<(String, Terms), RpcError> {
    let (mut msat, mut label, mut description, mut seconds) = (None, None, None, None);
    let (mut addresses, mut preimage, mut expose, mut cltv) = (None, None, None, None);
    let mut hash_only = None;
    call.params.read(vec![
        req("amount_msat", &mut msat, amount),
        req("label", &mut label, params::label),
        req("description", &mut description, params::escaped_string),
        opt("expiry", &mut seconds, expiry),
        opt("fallbacks", &mut addresses, |name, token| {
            match token.value() {
                Value::Array(list) => Ok(list),
                _ => Err(token.bad(name, "should be an array")),
            }
        }),
        opt("preimage", &mut preimage, |name, token| {
            bytes32(token).ok_or_else(|| token.bad(name, "should be 64 hex digits"))
        }),
        // There are no channels to expose.
        opt("exposeprivatechannels", &mut expose, |_, token| {
            Ok(token.value())
        }),
        opt("cltv", &mut cltv, params::number),
        opt("deschashonly", &mut hash_only, params::boolean),
    ])?;
    let label = label.unwrap_or_default();
    let description = description.unwrap_or_default();
    let hash_only = hash_only.unwrap_or(false);
    if label.len() > MAX_LABEL {
        return Err(RpcError::params(format!(
            "Label '{label}' over {MAX_LABEL} bytes"
        )));
    }
    if description.len() > MAX_DESCRIPTION && !hash_only {
        return Err(RpcError::params(format!(
            "Description greater than {MAX_DESCRIPTION} bytes invalid (description length {})",
            description.len()
        )));
    }
    let fallbacks = addresses
        .unwrap_or_default()
        .iter()
        .map(|a| fallback(a.as_str().unwrap_or_default()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| RpcError::new(LIGHTNINGD, "Fallback address not valid"))?;
    let terms = Terms {
        amount_msat: msat.flatten(),
        description,
        hash_only,
        expiry: seconds.unwrap_or(DEFAULT_EXPIRY),
        cltv: cltv.map_or(call.node.config.cltv_final, u64::from),
        preimage: preimage.map_or_else(keys::random, Ok).map_err(failed)?,
        fallbacks,
        features: call.node.features().invoice,
        timestamp: now(),
    };
    Ok((label, terms))
}

/// `invoice`
pub async fn invoice(call: &Call) -> Result<Value, Stop> {
    let (label, terms) = label_and_terms(call)?;
    call.done_if_check()?;
    let node = &call.node;
    let made = invoice::make(&terms, &node.keys)
        .map_err(|e| RpcError::params(format!("amount_msat: {e}")))?;
    let payment_hash = made.payment_hash.to_lower_hex_string();
    let preimage = terms.preimage.to_lower_hex_string();
    let mut new = Invoice {
        label,
        bolt11: made.bolt11,
        payment_hash,
        preimage,
        amount_msat: terms.amount_msat,
        description: Some(terms.description),
        expires_at: terms.timestamp + terms.expiry,
        created_index: 0,
        updated_index: None,
        expired: false,
    };
    new.created_index = add(node, &new)?;
    let mut creation = json!({});
    if let Some(msat) = new.amount_msat {
        creation["msat"] = json!(msat);
    }
    creation["preimage"] = json!(new.preimage);
    creation["label"] = json!(new.label);
    node.notify("invoice_creation", creation);
    Ok(json!({
        "payment_hash": new.payment_hash,
        "expires_at": new.expires_at,
        "bolt11": new.bolt11,
        "payment_secret": made.payment_secret.to_lower_hex_string(),
        "created_index": new.created_index,
        "warning_capacity": "Insufficient incoming channel capacity to pay invoice",
    }))
}

/// Stores an invoice whose hash and label are new; gives its `created_index`.
fn add(node: &Node, invoice: &Invoice) -> Result<u64, RpcError> {
    let mut store = node.store();
    if store.with_hash(&invoice.payment_hash).is_some() {
        return Err(RpcError::new(
            INVOICE_PREIMAGE_ALREADY_EXISTS,
            "preimage already used",
        ));
    }
    if store.with_label(&invoice.label).is_some() {
        return Err(RpcError::new(
            INVOICE_LABEL_ALREADY_EXISTS,
            format!("Duplicate label '{}'", invoice.label),
        ));
    }
    store.add(invoice.clone()).map_err(failed)
}

fn show(invoice: &Invoice) -> Value {
    let mut shown = json!({
        "label": invoice.label,
        "bolt11": invoice.bolt11,
        "payment_hash": invoice.payment_hash,
    });
    if let Some(msat) = invoice.amount_msat {
        shown["amount_msat"] = json!(msat);
    }
    shown["status"] = json!(invoice.status());
    if let Some(description) = &invoice.description {
        shown["description"] = json!(description);
    }
    shown["expires_at"] = json!(invoice.expires_at);
    shown["created_index"] = json!(invoice.created_index);
    if let Some(index) = invoice.updated_index {
        shown["updated_index"] = json!(index);
    }
    shown
}

/// What `listinvoices` lists.
enum Wanted {
    Label(String),
    /// By payment hash, hex.
    Hash(String),
    /// Offers have no invoices here.
    Offer,
    /// All invoices, or a range of indexes.
    Range {
        by_update: bool,
        start: u64,
        limit: usize,
    },
}

fn wanted(call: &Call) -> Result<Wanted, RpcError> {
    let (mut label, mut invstring, mut payment_hash, mut offer_id) = (None, None, None, None);
    let (mut by_update, mut start, mut limit) = (None, None, None);
    let hash = |name: &str, token: Token<'_>| {
        bytes32(token)
            .map(|bytes| bytes.to_lower_hex_string())
            .ok_or_else(|| token.bad(name, "should be a 32 byte hex value"))
    };
    call.params.read(vec![
        opt("label", &mut label, params::label),
        opt("invstring", &mut invstring, params::string),
        opt("payment_hash", &mut payment_hash, hash),
        opt("offer_id", &mut offer_id, hash),
        opt("index", &mut by_update, |name, token| {
            match token.text().as_str() {
                "created" => Ok(false),
                "updated" => Ok(true),
                _ => Err(token.bad(name, "unknown index")),
            }
        }),
        opt("start", &mut start, params::number64),
        opt("limit", &mut limit, params::number32),
    ])?;
    let one = [
        label.is_some(),
        invstring.is_some(),
        payment_hash.is_some(),
        offer_id.is_some(),
    ];
    if one.iter().filter(|given| **given).count() > 1 {
        return Err(RpcError::params(
            "Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}",
        ));
    }
    let start = start.unwrap_or(0);
    for (given, name) in [(start != 0, "start"), (limit.is_some(), "limit")] {
        if given && by_update.is_none() {
            return Err(RpcError::params(format!(
                "Can only specify {{{name}}} with {{index}}"
            )));
        }
    }
    if let Some(text) = invstring {
        let text = text.strip_prefix("lightning:").unwrap_or(&text);
        let parsed =
            Bolt11Invoice::from_str(text).map_err(|_| RpcError::params("Invalid invstring"))?;
        payment_hash = Some(parsed.payment_hash().to_string());
    }
    Ok(if let Some(label) = label {
        Wanted::Label(label)
    } else if let Some(hash) = payment_hash {
        Wanted::Hash(hash)
    } else if offer_id.is_some() {
        Wanted::Offer
    } else {
        Wanted::Range {
            by_update: by_update == Some(true),
            start,
            limit: limit.map_or(usize::MAX, |l| l as usize),
        }
    })
}

/// `listinvoices`
pub async fn listinvoices(call: &Call) -> Result<Value, Stop> {
    let wanted = wanted(call)?;
    call.done_if_check()?;
    let mut store = call.node.store();
    store.expire(now()).map_err(failed)?;
    let found: Vec<Value> = match wanted {
        Wanted::Label(label) => store.with_label(&label).into_iter().map(show).collect(),
        Wanted::Hash(hash) => store.with_hash(&hash).into_iter().map(show).collect(),
        Wanted::Offer => vec![],
        Wanted::Range {
            by_update,
            start,
            limit,
        } => {
            let index = |i: &Invoice| {
                if by_update {
                    i.updated_index
                } else {
                    Some(i.created_index)
                }
            };
            let mut all: Vec<_> = store
                .invoices()
                .filter(|i| index(i).is_some_and(|index| index >= start))
                .collect();
            all.sort_by_key(|i| index(i));
            all.into_iter().take(limit).map(show).collect()
        }
    };
    Ok(json!({ "invoices": found }))
}

/// `delinvoice`
pub async fn delinvoice(call: &Call) -> Result<Value, Stop> {
    let (mut label, mut status, mut description_only) = (None, None, None);
    call.params.read(vec![
        req("label", &mut label, params::label),
        req("status", &mut status, params::string),
        opt("desconly", &mut description_only, params::boolean),
    ])?;
    let (label, status) = (label.unwrap_or_default(), status.unwrap_or_default());
    let mut store = call.node.store();
    store.expire(now()).map_err(failed)?;
    let Some(invoice) = store.with_label(&label).cloned() else {
        return Err(RpcError::new(INVOICE_NOT_FOUND, "Unknown invoice").into());
    };
    let actual = invoice.status();
    if actual != status {
        return Err(RpcError {
            code: INVOICE_STATUS_UNEXPECTED,
            message: format!("Invoice status is {actual} not {status}"),
            data: Some(Box::new(
                json!({ "current_status": actual, "expected_status": status }),
            )),
            token: None,
        }
        .into());
    }
    if description_only.unwrap_or(false) {
        if invoice.description.is_none() {
            return Err(RpcError::new(
                INVOICE_NO_DESCRIPTION,
                "Invoice description already removed",
            )
            .into());
        }
        call.done_if_check()?;
        let changed = store.forget_description(&invoice).map_err(failed)?;
        // lightningd shows it without the index of this change.
        return Ok(show(&Invoice {
            updated_index: invoice.updated_index,
            ..changed
        }));
    }
    call.done_if_check()?;
    store.delete(invoice.created_index).map_err(failed)?;
    Ok(show(&invoice))
}
