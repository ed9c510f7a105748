//! What learners get wrong: an edit of a solution, and what must be said about it.

use anyhow::ensure;

/// A typical mistake.
#[derive(Debug)]
pub struct Mistake {
    /// In this step.
    pub step: &'static str,
    /// This text of the solution becomes the other; all of it, if it is empty.
    pub edit: (&'static str, &'static str),
    /// The verdict has this.
    pub says: &'static str,
}

/// In this step, `from` becomes `to`, and the verdict says this.
pub const fn m(
    step: &'static str,
    from: &'static str,
    to: &'static str,
    says: &'static str,
) -> Mistake {
    Mistake {
        step,
        edit: (from, to),
        says,
    }
}

impl Mistake {
    /// The solution with the mistake in it.
    pub fn made_in(&self, solution: &str) -> anyhow::Result<String> {
        let (from, to) = self.edit;
        if from.is_empty() {
            return Ok(to.to_owned());
        }
        ensure!(
            solution.contains(from),
            "no `{from}` in the solution of {}",
            self.step
        );
        Ok(solution.replace(from, to))
    }
}
