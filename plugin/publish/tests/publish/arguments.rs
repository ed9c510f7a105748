//! What is said on the command line and in the environment.

use std::process::{Command, Output};

use libtest_mimic::Trial;

const SECRET: &str = "hunter2hunter2hunter2hunter2";

pub fn trials() -> Vec<Trial> {
    let test = |name: &str, run: fn()| {
        Trial::test(format!("arguments::{name}"), move || {
            run();
            Ok(())
        })
    };
    vec![
        test("help_shows_no_secret", help),
        test("a_password_in_the_address_is_refused_unseen", password),
        test("the_command_line_beats_the_environment", chosen),
    ]
}

fn run(args: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventlog-publish"));
    let fixed = ["/dev/null", "--network", "regtest", "--node-id", "02aa"];
    command
        .args(fixed)
        .args(args)
        .envs(environment.iter().copied());
    let Output {
        status,
        stdout,
        stderr,
    } = command.env("NO_COLOR", "1").output().unwrap();
    let said = [stdout, stderr].concat();
    (status.success(), String::from_utf8(said).unwrap())
}

fn help() {
    let nats = format!("nats://op:{SECRET}@host");
    let (amqp, hook) = (
        format!("amqp://op:{SECRET}@host"),
        format!("https://host/{SECRET}"),
    );
    let environment = [
        ("NATS_URL", &*nats),
        ("WEBHOOK_URL", &*hook),
        ("AMQP_URL", &*amqp),
    ];
    let (well, said) = run(&["--help"], &environment);
    assert!(well && said.contains("NATS_URL"), "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

fn password() {
    let url = format!("nats://one:4222,nats://op:{SECRET},x@127.0.0.1:1");
    for (args, environment) in [
        (&["--nats", &*url, "--check"][..], &[][..]),
        (&["--check"], &[("NATS_URL", &*url)]),
    ] {
        let (well, said) = run(args, environment);
        assert!(!well && said.contains("--password-file"), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    }
}

fn chosen() {
    let (hook, nats) = ("http://127.0.0.1:1/", "nats://127.0.0.1:1");
    // It goes as far as what is wrong with the sink that is chosen.
    let (webhook_is_tried, nats_is_tried) = ("the webhook's secret", "no connection to");
    let (by_hook, by_nats) = (["--webhook", hook, "--check"], ["--nats", nats, "--check"]);
    for (args, environment, is_tried) in [
        (&by_hook[..], &[("NATS_URL", nats)][..], webhook_is_tried),
        (&by_nats, &[("WEBHOOK_URL", hook)], nats_is_tried),
        (&["--check"], &[("WEBHOOK_URL", hook)], webhook_is_tried),
        (
            &["--check"],
            &[("WEBHOOK_URL", hook), ("NATS_URL", nats)],
            "cannot be used with",
        ),
        (
            &["--nats", nats, "--webhook", hook],
            &[],
            "cannot be used with",
        ),
    ] {
        let (well, said) = run(args, environment);
        assert!(
            !well && said.contains(is_tried),
            "{args:?} {environment:?}: {said}"
        );
    }
}
