//! The processes of a node: its own, those of its daemons and of its plugins.

use super::Node;
use crate::process::listing::{Process, in_group};
use crate::{Error, Result};

impl Node {
    /// All processes of the node's process group: lightningd, its daemons, its plugins.
    /// Empty if it is down.
    ///
    /// # Errors
    /// If there is neither `/proc` nor ps(1).
    pub async fn processes(&self) -> Result<Vec<Process>> {
        match self.pid().await {
            Some(group) => in_group(group),
            None => Ok(Vec::new()),
        }
    }

    /// The one of them whose command line contains `text`.
    ///
    /// # Errors
    /// [`Error::Answer`] if there is none, or more than one.
    pub async fn process_with(&self, text: &str) -> Result<Process> {
        let mut found = self.processes().await?;
        found.retain(|process| process.command.contains(text));
        match (found.pop(), found.is_empty()) {
            (Some(process), true) => Ok(process),
            (process, _) => Err(Error::Answer {
                from: format!("the processes of {}", self.name()),
                why: match process {
                    None => format!("none has `{text}` in its command line"),
                    Some(_) => format!("{} have `{text}` in their command line", found.len() + 1),
                },
            }),
        }
    }
}
