//! The node's invoices, on disk: one JSON object a line, one line a change.
//!
//! A line is appended in one write before the change is answered, so that nothing
//! answered is lost in a crash, and the cost of an invoice does not grow with their
//! number. Opening drops a last line that a crash cut short, and rewrites the file
//! (through a new one that replaces it) without outdated lines. Mode 0600: it holds
//! preimages.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Unique among the node's invoices.
    pub label: String,
    /// The BOLT 11 string.
    pub bolt11: String,
    /// Hex.
    pub payment_hash: String,
    /// Hex; secret.
    pub preimage: String,
    /// `None` for `any`.
    pub amount_msat: Option<u64>,
    /// `None` once deleted with `delinvoice desconly`.
    pub description: Option<String>,
    /// Seconds since the epoch.
    pub expires_at: u64,
    /// 1 for the node's first invoice.
    pub created_index: u64,
    /// Unset until the first change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_index: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
}

impl Invoice {
    /// `unpaid` or `expired`: an embedded node cannot be paid.
    pub fn status(&self) -> &'static str {
        if self.expired { "expired" } else { "unpaid" }
    }
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    /// The highest indexes so far, so that none is used twice after a deletion.
    Counters { created: u64, updated: u64 },
    /// Adds or replaces an invoice.
    Put(Invoice),
    /// By `created_index`.
    Delete(u64),
}

/// The invoices of one node. Only one process may have it open (the pid file ensures
/// that).
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    file: File,
    /// The length of the file up to the last whole line.
    len: u64,
    invoices: BTreeMap<u64, Invoice>,
    by_label: HashMap<String, u64>,
    by_hash: HashMap<String, u64>,
    /// The unpaid ones, by `expires_at` and `created_index`.
    unpaid: BTreeSet<(u64, u64)>,
    created: u64,
    updated: u64,
}

impl Store {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// It cannot be read or written, or a line in it is invalid (except for the last,
    /// which a crash may have cut short).
    pub fn open(path: &Path) -> io::Result<Self> {
        let fail = |what: String| io::Error::other(format!("{}: {what}", path.display()));
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(fail(e.to_string())),
        };
        let mut store = Self {
            path: path.to_owned(),
            file: append_to(path).map_err(|e| fail(e.to_string()))?,
            len: text.len() as u64,
            invoices: BTreeMap::new(),
            by_label: HashMap::new(),
            by_hash: HashMap::new(),
            unpaid: BTreeSet::new(),
            created: 0,
            updated: 0,
        };
        let mut changes = 0;
        let mut cut_short = false;
        let mut lines = text.split_inclusive(|b| *b == b'\n').enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            match serde_json::from_slice(line) {
                Ok(change) if line.ends_with(b"\n") => {
                    store.apply(change);
                    changes += 1;
                }
                _ if lines.peek().is_none() && !line.ends_with(b"\n") => cut_short = true,
                Ok(_) => {}
                Err(e) => return Err(fail(format!("line {}: {e}", index + 1))),
            }
        }
        if cut_short || changes > store.invoices.len() + 1 {
            store.rewrite().map_err(|e| fail(e.to_string()))?;
        }
        Ok(store)
    }

    /// Writes all invoices to a new file and replaces the old one with it.
    fn rewrite(&mut self) -> io::Result<()> {
        let counters = Change::Counters {
            created: self.created,
            updated: self.updated,
        };
        let new = self.path.with_extension("new");
        // One that a crash left behind may have another mode.
        let _ = fs::remove_file(&new);
        self.file = append_to(&new)?;
        let mut text = line(&counters)?;
        for invoice in self.invoices.values() {
            text.extend(line(&Change::Put(invoice.clone()))?);
        }
        self.file.write_all(&text)?;
        self.file.sync_all()?;
        self.len = text.len() as u64;
        fs::rename(&new, &self.path)
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Counters { created, updated } => {
                self.created = self.created.max(created);
                self.updated = self.updated.max(updated);
            }
            Change::Put(invoice) => {
                let index = invoice.created_index;
                self.created = self.created.max(index);
                self.updated = self.updated.max(invoice.updated_index.unwrap_or(0));
                self.by_label.insert(invoice.label.clone(), index);
                self.by_hash.insert(invoice.payment_hash.clone(), index);
                if invoice.expired {
                    self.unpaid.remove(&(invoice.expires_at, index));
                } else {
                    self.unpaid.insert((invoice.expires_at, index));
                }
                self.invoices.insert(index, invoice);
            }
            Change::Delete(index) => {
                if let Some(invoice) = self.invoices.remove(&index) {
                    self.by_label.remove(&invoice.label);
                    self.by_hash.remove(&invoice.payment_hash);
                    self.unpaid.remove(&(invoice.expires_at, index));
                }
            }
        }
    }

    /// Writes a change, then applies it. If the write fails, nothing changes.
    fn commit(&mut self, change: Change) -> io::Result<()> {
        let text = line(&change)?;
        if let Err(e) = self.file.write_all(&text) {
            // Remove the part of the line that was written.
            let _ = self.file.set_len(self.len);
            return Err(io::Error::new(
                e.kind(),
                format!("{}: {e}", self.path.display()),
            ));
        }
        self.len += text.len() as u64;
        self.apply(change);
        Ok(())
    }

    /// Adds an invoice; gives its new `created_index`.
    pub fn add(&mut self, mut invoice: Invoice) -> io::Result<u64> {
        invoice.created_index = self.created + 1;
        let index = invoice.created_index;
        self.commit(Change::Put(invoice))?;
        Ok(index)
    }

    /// Marks the expired ones; `now` in seconds since the epoch.
    pub fn expire(&mut self, now: u64) -> io::Result<()> {
        while let Some((expires_at, index)) = self.unpaid.first().copied() {
            if expires_at >= now {
                break;
            }
            let Some(invoice) = self.invoices.get(&index) else {
                break;
            };
            self.commit(Change::Put(Invoice {
                expired: true,
                updated_index: Some(self.updated + 1),
                ..invoice.clone()
            }))?;
        }
        Ok(())
    }

    pub fn delete(&mut self, created_index: u64) -> io::Result<()> {
        self.commit(Change::Delete(created_index))
    }

    /// Removes an invoice's description; gives the changed invoice.
    pub fn forget_description(&mut self, invoice: &Invoice) -> io::Result<Invoice> {
        let changed = Invoice {
            description: None,
            updated_index: Some(self.updated + 1),
            ..invoice.clone()
        };
        self.commit(Change::Put(changed.clone()))?;
        Ok(changed)
    }

    pub fn with_label(&self, label: &str) -> Option<&Invoice> {
        self.invoices.get(self.by_label.get(label)?)
    }

    /// By payment hash, hex.
    pub fn with_hash(&self, hash: &str) -> Option<&Invoice> {
        self.invoices.get(self.by_hash.get(hash)?)
    }

    /// Oldest first.
    pub fn invoices(&self) -> impl Iterator<Item = &Invoice> {
        self.invoices.values()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

fn line(change: &Change) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(change)?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn invoice(label: &str) -> Invoice {
        Invoice {
            label: label.into(),
            bolt11: format!("lnbcrt{label}"),
            payment_hash: format!("hash of {label}"),
            preimage: "00".into(),
            amount_msat: Some(1),
            description: Some("d".into()),
            expires_at: u64::MAX,
            created_index: 0,
            updated_index: None,
            expired: false,
        }
    }

    #[test]
    fn an_unpaid_invoice_expires_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invoices.jsonl");
        let mut store = Store::open(&path).unwrap();
        store
            .add(Invoice {
                expires_at: 10,
                ..invoice("a")
            })
            .unwrap();
        store.add(invoice("b")).unwrap();
        for now in [10, 11, 12] {
            store.expire(now).unwrap();
            let a = store.with_label("a").unwrap();
            let want = if now > 10 {
                ("expired", Some(1))
            } else {
                ("unpaid", None)
            };
            assert_eq!((a.status(), a.updated_index), want);
            assert_eq!(store.with_label("b").unwrap().status(), "unpaid");
        }
        assert_eq!(
            Store::open(&path)
                .unwrap()
                .with_label("a")
                .unwrap()
                .status(),
            "expired"
        );
    }

    #[test]
    fn everything_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invoices.jsonl");
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.add(invoice("a")).unwrap(), 1);
        assert_eq!(store.add(invoice("b")).unwrap(), 2);
        assert_eq!(store.add(invoice("c")).unwrap(), 3);
        store.delete(3).unwrap();
        let b = store.with_label("b").unwrap().clone();
        assert_eq!(store.forget_description(&b).unwrap().updated_index, Some(1));
        drop(store);

        for _ in 0..2 {
            let store = Store::open(&path).unwrap();
            let labels: Vec<_> = store.invoices().map(|i| i.label.as_str()).collect();
            assert_eq!(labels, ["a", "b"]);
            assert_eq!(store.with_hash("hash of b").unwrap().description, None);
        }
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.add(invoice("d")).unwrap(), 4, "3 was used");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_any_other_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invoices.jsonl");
        Store::open(&path).unwrap().add(invoice("a")).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            fs::write(&path, [&whole[..], &whole[..cut]].concat()).unwrap();
            if whole[cut - 1] == b'\n' {
                continue;
            }
            assert_eq!(Store::open(&path).unwrap().invoices().count(), 1);
        }
        fs::write(&path, [b"rubbish\n", &whole[..]].concat()).unwrap();
        assert!(
            Store::open(&path)
                .unwrap_err()
                .to_string()
                .contains("line 1")
        );
    }
}
