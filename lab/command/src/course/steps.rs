//! The course's steps, in order.

use futures_util::future::LocalBoxFuture;

use super::checks::{beyond, by_hand, library, releases};
use super::exam::{Exam, Outcome};
use super::text::Text;

/// The step whose file is a test, and not the plugin.
pub const TEST: &str = "test";

/// A step of the course.
#[derive(Debug)]
pub struct Step {
    /// Its name, in files and on the command line.
    pub slug: &'static str,
    /// Which part of the course it belongs to, from 1: an index into [`PARTS`].
    pub part: usize,
    /// Its file.
    pub file: &'static str,
    pub(super) check: fn(&mut Exam) -> LocalBoxFuture<'_, Outcome>,
}

/// The course's parts.
pub const PARTS: [&str; 3] = [
    "The protocol by hand",
    "With a library",
    "Beyond the workshop",
];

macro_rules! steps {
    ($($part:literal: $($slug:ident $module:ident)*;)*) => {
        &[$($(Step {
            slug: stringify!($slug),
            part: $part,
            file: include_str!(concat!("../../course/steps/", stringify!($slug), ".md")),
            check: |exam| Box::pin($module::$slug(exam)),
        }),*),*]
    };
}

/// All of them. A new one is a line here, a file in `course/steps/`, a function of its
/// name in `checks/`, and where its code changes a solution for each language.
pub static STEPS: &[Step] = steps! {
    1: lab by_hand  getmanifest by_hand  init by_hand  dynamic by_hand  connect by_hand
       disconnect by_hand  stream by_hand  silence by_hand  log by_hand;
    2: library library  invoice library  error library  method library  restart library;
    3: all beyond  order beyond  topic beyond  hook beyond  test beyond
       releases releases;
};

impl Step {
    /// Its place, from 1.
    pub fn number(&self) -> usize {
        let before = STEPS.iter().take_while(|step| step.slug != self.slug);
        before.count() + 1
    }

    /// What it says.
    pub fn text(&self) -> Text {
        // A test reads all of them.
        Text::parse(self.file).unwrap_or_else(|error| panic!("{}: {error}", self.slug))
    }

    /// The step of this number or name.
    pub fn named(name: &str) -> Option<&'static Step> {
        let number = name.parse::<usize>().ok();
        STEPS
            .iter()
            .find(|step| step.slug == name || Some(step.number()) == number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::LANGUAGES;
    use super::*;

    #[test]
    fn every_step_has_its_text_and_three_hints() {
        for step in STEPS {
            let text =
                Text::parse(step.file).unwrap_or_else(|error| panic!("{}: {error}", step.slug));
            assert_eq!(text.hints.len(), 3, "{}", step.slug);
            assert!(text.see.starts_with("https://"), "{}", step.slug);
            assert!(step.part >= 1 && step.part <= PARTS.len());
        }
    }

    #[test]
    fn solutions_belong_to_steps() {
        for language in LANGUAGES {
            for (name, text) in language.solutions {
                let step = Step::named(name).unwrap_or_else(|| panic!("no step {name}"));
                assert_ne!(language.before(step.slug), *text, "{name}");
                assert_eq!(language.solution(step.slug), *text, "{name}");
            }
        }
    }
}
