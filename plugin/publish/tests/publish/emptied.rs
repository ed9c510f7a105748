//! Streams that no longer hold what they acknowledged, and records that they refuse.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, Context};
use libtest_mimic::Trial;

use crate::common::{Publisher, Recording};
use crate::nats::{Broker, block_on, ids, server, start, stream, until, url};

pub fn trials() -> Vec<Trial> {
    let test = |name: &str, run: fn(&Path)| crate::with(&format!("nats::{name}"), server(), run);
    vec![
        test("a_stream_that_was_purged_gets_nothing_again", purged),
        test(
            "a_stream_that_was_made_anew_gets_what_comes_after",
            made_anew,
        ),
        test(
            "what_is_in_flight_to_a_stream_made_anew_is_not_doubled",
            in_flight,
        ),
        test("a_record_that_was_refused_is_not_passed_over", refused),
        test("a_record_that_is_too_large_is_named", too_large),
    ]
}

async fn context(broker: &Broker) -> Context {
    jetstream::new(async_nats::connect(url(broker.port)).await.unwrap())
}

fn config() -> Config {
    Config {
        name: "CLN".to_owned(),
        subjects: vec!["cln.>".to_owned()],
        ..Config::default()
    }
}

fn purge(broker: &Broker) {
    block_on(async {
        let stream = stream(broker).await.unwrap();
        assert!(stream.purge().await.unwrap().purged > 0);
    });
}

fn make_anew(broker: &Broker) {
    block_on(async {
        let context = context(broker).await;
        context.delete_stream("CLN").await.unwrap();
        context.create_stream(config()).await.unwrap();
    });
}

/// Of what is in flight meanwhile the order is kept with a window of one.
fn in_order(mut found: Vec<String>, all: &[String]) -> Vec<String> {
    let at: HashMap<&String, usize> = all.iter().enumerate().map(|(at, id)| (id, at)).collect();
    found.sort_by_key(|id| at.get(id).copied());
    found
}

/// Records a hundred, which are all that comes into a stream that was emptied.
fn a_hundred_more(broker: &Broker, publisher: &Publisher, recording: &mut Recording) {
    recording.record(100);
    let all = recording.ids();
    let found = in_order(ids(&until(broker, publisher, 100)), &all);
    assert_eq!(found, all[all.len() - 100..], "{}", publisher.log());
}

fn purged(program: &Path) {
    let mut broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(300);
    let mut publisher = start(&recording.file(), &broker, &[]);
    until(&broker, &publisher, 301);
    for while_it_runs in [true, false] {
        if while_it_runs {
            purge(&broker);
        } else {
            publisher.stop();
            purge(&broker);
            // Else it remembers the ids.
            broker.kill();
            broker.restart();
            publisher = start(&recording.file(), &broker, &[]);
        }
        a_hundred_more(&broker, &publisher, &mut recording);
        let log = publisher.log();
        let said = if while_it_runs {
            "was removed"
        } else {
            "no message of this node: it goes on after"
        };
        assert!(log.contains(said), "{log}");
    }
    publisher.stop();
    purge(&broker);
    broker.kill();
    broker.restart();
    let place = recording.file().with_extension("jsonl.nats.cursor");
    fs::remove_file(place).unwrap();
    let publisher = start(&recording.file(), &broker, &[]);
    let all = recording.ids();
    assert_eq!(ids(&until(&broker, &publisher, all.len())), all);
    let log = publisher.stop();
    assert!(
        log.contains("is missing: all records are published"),
        "{log}"
    );
}

fn made_anew(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(300);
    let mut publisher = start(&recording.file(), &broker, &[]);
    until(&broker, &publisher, 301);
    for while_it_runs in [true, false] {
        if while_it_runs {
            make_anew(&broker);
        } else {
            publisher.stop();
            make_anew(&broker);
            publisher = start(&recording.file(), &broker, &[]);
        }
        a_hundred_more(&broker, &publisher, &mut recording);
        let log = publisher.log();
        assert!(log.contains("made anew"), "{log}");
    }
    publisher.stop();
}

fn in_flight(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(6000);
    let publisher = start(&recording.file(), &broker, &[]);
    until(&broker, &publisher, 1000);
    make_anew(&broker);
    let all = recording.ids();
    let found = publisher_reaches(&broker, &publisher, all.last().unwrap());
    let sorted = in_order(found, &all);
    // All from the first one on, each once.
    assert!(sorted.len() < all.len(), "it was made anew too late");
    assert!(
        sorted == all[all.len() - sorted.len()..],
        "{}",
        publisher.log()
    );
    publisher.stop();
}

/// Waits for the last record; gives all that the stream has.
fn publisher_reaches(broker: &Broker, publisher: &Publisher, last: &str) -> Vec<String> {
    let has = || {
        block_on(async {
            let stream = stream(broker).await.ok()?;
            let message = stream.get_last_raw_message_by_subject("cln.>").await.ok()?;
            let id = message.headers.get("Nats-Msg-Id")?;
            Some(id.as_str() == last)
        })
    };
    publisher.until("the last record", || has() == Some(true));
    ids(&broker.messages("cln.>"))
}

fn refused(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    let limited = Config {
        max_message_size: 3000,
        ..config()
    };
    block_on(async { context(&broker).await.create_stream(limited).await.unwrap() });
    recording.record(50);
    let publisher = start(&recording.file(), &broker, &[]);
    until(&broker, &publisher, 51);
    recording.record_large(8000);
    recording.record(2);
    publisher.until("refused", || publisher.log().contains("not acknowledged"));
    until(&broker, &publisher, 53);
    publisher.stop();
    // Now none can say whether what lies between was refused.
    block_on(async {
        let stream = stream(&broker).await.unwrap();
        stream.purge().keep(1).await.unwrap();
        context(&broker)
            .await
            .update_stream(config())
            .await
            .unwrap();
    });
    let failed = start(&recording.file(), &broker, &[]).failed();
    assert!(failed.contains("--skip-gap"), "{failed}");
    assert!(failed.contains("it was refused or lost"), "{failed}");
    let publisher = start(&recording.file(), &broker, &["--skip-gap"]);
    recording.record(1);
    assert_eq!(
        ids(&until(&broker, &publisher, 2)),
        recording.ids()[recording.ids().len() - 2..]
    );
    let log = publisher.stop();
    assert!(log.contains("published is what is left"), "{log}");
}

fn too_large(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record_large(1 << 20);
    let publisher = start(&recording.file(), &broker, &[]);
    publisher.until("both sizes", || {
        publisher
            .log()
            .contains("the broker takes 1048576 (max_payload)")
    });
    publisher.stop();
}
