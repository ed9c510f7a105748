//! Every notification lightningd can send, made and checked on real nodes. The
//! scenarios are the library's own: `lab topics --run` plays the same.

use std::process::ExitCode;

use cln_lab::topics;
use lab_tests::{Cast, Suite};

fn main() -> ExitCode {
    scenarios(Suite::new()).main()
}

/// One test a scenario, on each kind of node that can play it.
fn scenarios(suite: Suite) -> Suite {
    let casts = |scenario: &topics::Scenario| match scenario.embedded {
        true => &Cast::PURE[..],
        false => &[Cast::Lightningd],
    };
    topics::scenarios()
        .flat_map(|scenario| casts(scenario).iter().map(move |cast| (scenario, *cast)))
        .fold(suite, |suite, (scenario, cast)| {
            let kind = cast.kind_of(0);
            // What cannot even be asked is for the test to tell.
            let skip = wait(scenario.skipped_because(kind)).unwrap_or(None);
            suite.case(scenario.name, cast, skip, move || async move {
                scenario.play(kind).await?;
                Ok(())
            })
        })
}

/// Which tests there are is decided before any runs.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(answer)
}
