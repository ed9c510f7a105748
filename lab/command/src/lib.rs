//! What the command `lab` plays: the workshop, and a scenario for each topic.
//!
//! The tests play both, too; the subcommands belong to the executable. All of it uses only
//! the public API of `cln_lab`.
//!
//! # Layout
//!
//! | module | what it is |
//! |---|---|
//! | [`workshop`] | the scripted walkthrough: steps, checks, and what is shown |
//! | [`course`] | the course of `lab learn`: steps, what they check, solutions |
//! | [`pyln`] | a Python with pyln-client |
//! | [`scenarios`] | for each topic what triggers it, and what must be recorded then |
//! | [`check`] | what every release sends, played to a plugin |
//! | [`matrix`] | one command on each lightningd that there is |
//! | `keys` | single keys from the terminal |
//! | [`wire`] | a tee between lightningd and a plugin, and what passed |
//! | `subcommands/` | the command, one file a subcommand |

pub mod check;
pub mod course;
mod keys;
pub mod matrix;
pub mod pyln;
pub mod scenarios;
pub mod wire;
pub mod workshop;

use bitcoin_hashes::hex::FromHex;
use bitcoin_hashes::{Hash, sha256};

/// The payment hash of a preimage, both in hexadecimal; `None` if it is not 32 bytes.
fn hash_of(preimage: &str) -> Option<String> {
    let bytes = <[u8; 32]>::from_hex(preimage).ok()?;
    Some(sha256::Hash::hash(&bytes).to_string())
}

/// So many of this.
fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
