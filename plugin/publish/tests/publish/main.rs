//! `eventlog-publish`, with what it publishes to.

#![allow(clippy::unwrap_used)]

#[cfg(feature = "amqp")]
mod amqp;
mod arguments;
mod common;
mod emptied;
mod nats;
mod proxy;
mod service;
mod webhook;

use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut trials = nats::trials();
    trials.extend(emptied::trials());
    trials.extend(arguments::trials());
    trials.extend(webhook::trials());
    trials.extend(service::trials());
    #[cfg(feature = "amqp")]
    trials.extend(amqp::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// A test that needs a program: reported as skipped, with the reason, where there is none.
fn with(name: &str, program: Result<PathBuf, String>, run: fn(&Path)) -> Trial {
    match program {
        Ok(program) => Trial::test(name, move || {
            run(&program);
            Ok(())
        }),
        Err(why) => {
            let name = format!("{name}::skipped ({why})");
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
    }
}
