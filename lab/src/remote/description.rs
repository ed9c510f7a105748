//! The description of a lab in its folder: `lab.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::IoContext;
use crate::process::files::write_private;
use crate::{Error, Implementation, Result};

/// The file that describes a lab, in its folder.
const FILE: &str = "lab.json";

/// What runs in a lab, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Description {
    /// The process that holds it.
    pub pid: u32,
    /// Whether its folder stays after its end.
    pub keep: bool,
    pub bitcoind: DescribedBitcoind,
    pub nodes: Vec<DescribedNode>,
}

/// Its bitcoind. The password is in bitcoind's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DescribedBitcoind {
    pub program: PathBuf,
    pub dir: PathBuf,
    pub port: u16,
    pub pid: u32,
}

/// One of its nodes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DescribedNode {
    pub name: String,
    pub id: String,
    #[serde(flatten)]
    pub implementation: Implementation,
    pub program: PathBuf,
    pub dir: PathBuf,
    pub port: u16,
    /// `None` while it is down.
    pub pid: Option<u32>,
}

impl Description {
    /// Reads the description of the lab in `dir`.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no lab.
    pub fn read(dir: &Path) -> Result<Description> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::usage(format!(
                    "no lab in {}: there is no {FILE}; the lab has ended, or its folder is another",
                    dir.display()
                )));
            }
            Err(e) => return Err(e).doing("read", &path),
        };
        serde_json::from_str(&text).map_err(|e| Error::Answer {
            from: path.display().to_string(),
            why: e.to_string(),
        })
    }

    /// Writes it for the lab in `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other);
        write_private(&dir.join(FILE), &text.doing("describe", dir)?)
    }
}
