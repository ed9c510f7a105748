//! The executable to start in a plugin's place.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use cln_lab::{IoContext, Result, quoted, write_executable};

use super::relay::beside;

/// An executable of the plugin's name, in the folder `teed` beside it, that starts the
/// plugin with a tee; and the record of what passes.
#[derive(Debug)]
pub struct Tee {
    /// What to start: `plugin start` of this.
    pub executable: PathBuf,
    /// Read it with [`super::Wire::open`].
    pub record: PathBuf,
}

impl Tee {
    /// Where those of this plugin are, made or not.
    ///
    /// # Errors
    /// If the plugin cannot be found.
    pub fn of(plugin: &Path) -> Result<Tee> {
        let plugin = plugin.canonicalize().doing("find", plugin)?;
        let (executable, record) = beside(&plugin);
        Ok(Tee { executable, record })
    }

    /// Makes it; `lab` is the path of the command `lab`, which it runs. Made again
    /// after the plugin's file has changed it changes, too: lightningd restarts a plugin
    /// only then.
    ///
    /// # Errors
    /// If the plugin cannot be read, or the folder not written.
    pub fn create(plugin: &Path, lab: &Path) -> Result<Tee> {
        let tee = Tee::of(plugin)?;
        let plugin = plugin.canonicalize().doing("find", plugin)?;
        let text = std::fs::read(&plugin).doing("read", &plugin)?;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let word = |path: &Path| quoted(&path.display().to_string());
        let script = format!(
            "#!/bin/sh\n# Copies what passes between lightningd and the plugin, whose text is {:016x}.\n\
             exec {} tee --run {} {}\n",
            hasher.finish(),
            word(lab),
            word(&tee.record),
            word(&plugin)
        );
        let folder = tee.executable.parent().unwrap_or(&plugin);
        std::fs::create_dir_all(folder).doing("create folder", folder)?;
        write_executable(&tee.executable, &script)?;
        Ok(tee)
    }
}
