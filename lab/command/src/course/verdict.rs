//! What a check found.

use serde::Serialize;

use crate::counted;
use crate::wire::Sender;

/// What a check found.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// What held, in order.
    pub held: Vec<String>,
    /// What did not; `None` if the step is passed.
    pub miss: Option<Miss>,
    /// What passed between the plugin and its host, in order.
    pub wire: Vec<Said>,
}

/// What did not hold.
#[derive(Debug, Clone, Serialize)]
pub struct Miss {
    /// What was done.
    pub done: String,
    /// What should have come; a message or words.
    pub expected: String,
    /// What came instead.
    pub came: String,
    /// The end of the plugin's standard error and a hint; may be empty.
    pub help: String,
}

/// Something that passed.
#[derive(Debug, Clone, Serialize)]
pub struct Said {
    /// Who said it.
    pub from: Sender,
    /// As it was written; what is very long is cut.
    pub text: String,
    /// What is wrong with it, if lightningd takes it in silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mistake: Option<String>,
}

impl Verdict {
    /// The compiler refuses the source, and says why.
    pub fn not_built(why: &str) -> Verdict {
        const SHOWN: usize = 2;
        // The first error is often the cause of the others.
        let errors: Vec<&str> = why
            .lines()
            .filter(|line| !line.contains(": warning"))
            .collect();
        let mut help = errors[..errors.len().min(SHOWN)].join("\n");
        if errors.len() > SHOWN {
            let more = counted(errors.len() - SHOWN, "more line");
            help.push_str(&format!("\n… {more}"));
        }
        Verdict {
            miss: Some(Miss {
                done: "your source was compiled".to_owned(),
                expected: "a program".to_owned(),
                came: "the compiler's errors".to_owned(),
                help,
            }),
            ..Verdict::default()
        }
    }

    /// All that passed, a message a line: → to the plugin, ← from it, ! its stderr.
    pub fn wire_text(&self) -> String {
        let mut text = String::new();
        for said in &self.wire {
            let mark = said.from.mark();
            text.push_str(&format!("{mark} {}\n", said.text));
            if let Some(mistake) = &said.mistake {
                text.push_str(&format!("  mistake: {mistake}\n"));
            }
        }
        text
    }

    /// True if everything held.
    pub fn passed(&self) -> bool {
        self.miss.is_none()
    }
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n  expected: {}\n  came:     {}",
            self.done, self.expected, self.came
        )?;
        self.help
            .lines()
            .try_for_each(|line| write!(f, "\n  {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "warning"), "1 warning");
        assert_eq!(counted(0, "warning"), "0 warnings");
        let miss = Verdict::not_built("a\nb\nc").miss.expect("a miss");
        assert!(miss.help.ends_with("… 1 more line"), "{miss}");
    }
}
