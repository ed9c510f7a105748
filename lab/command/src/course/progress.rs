//! How far a learner is: the file `.lab-learn.json` in his folder.

use std::io::Write;
use std::path::{Path, PathBuf};

use cln_lab::{Error, IoContext, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{STEPS, Step};

/// The file's name.
pub const FILE: &str = ".lab-learn.json";

/// How far a learner is. Steps go by name, so that new ones do not shift them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The language, by its name; `None` for any executable.
    pub language: Option<String>,
    /// The executable, if there is no language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PathBuf>,
    /// The step to continue with.
    pub step: String,
    /// Those that are passed.
    pub passed: Vec<String>,
}

impl Progress {
    /// That in this folder; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or is of a course that this one does not know.
    pub fn read(folder: &Path) -> Result<Option<Progress>> {
        let path = folder.join(FILE);
        // A pipe would wait for a writer, and all else with it.
        if path.exists() && !path.is_file() {
            return Err(unusable(folder, "it is no regular file"));
        }
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).doing("read", &path),
        };
        // Of a list, serde would take the members in order.
        let object: serde_json::Result<Map<String, Value>> = serde_json::from_slice(&text);
        let progress = object.and_then(|object| serde_json::from_value(object.into()));
        let progress: Progress = progress.map_err(|error| {
            unusable(folder, &format!("it is no progress of a course: {error}"))
        })?;
        if Step::named(&progress.step).is_none() {
            let why = format!("there is no step `{}`", progress.step);
            return Err(unusable(folder, &why));
        }
        Ok(Some(progress))
    }

    /// Writes it, all or nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.persist(&path).map_err(|error| error.error)
        };
        write().map(drop).doing("write", &path)
    }

    /// The step to continue with: where the learner was, or if that is passed, the next
    /// that is not.
    pub fn step(&self) -> &'static Step {
        let was = Step::named(&self.step).unwrap_or(&STEPS[0]);
        let mut from_there = STEPS[was.number() - 1..].iter().chain(STEPS);
        from_there
            .find(|step| !self.has_passed(step))
            .unwrap_or(was)
    }

    /// True if this step is passed.
    pub fn has_passed(&self, step: &Step) -> bool {
        self.passed.iter().any(|slug| slug == step.slug)
    }

    /// This step is passed.
    pub fn pass(&mut self, step: &Step) {
        if !self.has_passed(step) {
            self.passed.push(step.slug.to_owned());
        }
    }
}

/// What to do about a progress file that cannot be used.
pub(super) fn unusable(folder: &Path, why: &str) -> Error {
    Error::usage(format!(
        "{}: {why}: mend it, or move it away to start the course anew; your plugin stays",
        folder.join(FILE).display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_continues_with_the_first_open_step() {
        let slugs = |steps: &[Step]| steps.iter().map(|step| step.slug.to_owned()).collect();
        let mut progress = Progress {
            language: None,
            plugin: None,
            step: STEPS[1].slug.to_owned(),
            passed: slugs(&STEPS[1..3]),
        };
        assert_eq!(progress.step().slug, STEPS[3].slug);
        progress.passed = slugs(&STEPS[1..]);
        assert_eq!(progress.step().slug, STEPS[0].slug);
        progress.passed = slugs(STEPS);
        assert_eq!(progress.step().slug, STEPS[1].slug);
        progress.passed.clear();
        assert_eq!(progress.step().slug, STEPS[1].slug);
    }
}
