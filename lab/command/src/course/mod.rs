//! The course of `lab learn`: the learner writes a plugin, and the lab checks it.
//!
//! # Layout
//! Its text and the solutions are data, in `course/`: see the README there.
//! `steps` has the order, `text` reads a step's file, `language` has the solutions;
//! `checks` is what the steps check, with `exam` (one check while it runs), `alone`
//! (without a node), `on_node` (on a lab that stays up) and `bench`, which holds that
//! lab; `verdict` is the outcome.
//! `folder` is the learner's, `progress` what he has passed.
//! `screen`, `keys` and `watch` are the terminal; `learn` puts all together; `book` is
//! the course as pages.

mod alone;
mod bench;
mod book;
mod checks;
mod exam;
mod folder;
mod language;
mod learn;
mod on_node;
mod progress;
mod screen;
mod steps;
mod text;
mod verdict;
mod watch;

pub use bench::Bench;
pub use book::pages;
pub use folder::Folder;
pub use language::{LANGUAGES, Language};
pub use learn::learn;
pub use progress::Progress;
pub use screen::{After, verdict as verdict_text};
pub use steps::{PARTS, STEPS, Step, TEST};
pub use text::Text;
pub use verdict::{Miss, Said, Verdict};
