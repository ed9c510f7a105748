//! The solutions in Rust, as clippy and rustfmt see them with everything else: a learner
//! reads them as examples.
#![allow(dead_code)] // `main`

#[path = "../../../lab/command/course/rust/all.rs"]
mod all;
#[path = "../../../lab/command/course/rust/connect.rs"]
mod connect;
#[path = "../../../lab/command/course/rust/disconnect.rs"]
mod disconnect;
#[path = "../../../lab/command/course/rust/dynamic.rs"]
mod dynamic;
#[path = "../../../lab/command/course/rust/error.rs"]
mod error;
#[path = "../../../lab/command/course/rust/getmanifest.rs"]
mod getmanifest;
#[path = "../../../lab/command/course/rust/hook.rs"]
mod hook;
#[path = "../../../lab/command/course/rust/init.rs"]
mod init;
#[path = "../../../lab/command/course/rust/invoice.rs"]
mod invoice;
#[path = "../../../lab/command/course/rust/library.rs"]
mod library;
#[path = "../../../lab/command/course/rust/log.rs"]
mod log;
#[path = "../../../lab/command/course/rust/method.rs"]
mod method;
#[path = "../../../lab/command/course/rust/order.rs"]
mod order;
#[path = "../../../lab/command/course/rust/releases.rs"]
mod releases;
#[path = "../../../lab/command/course/rust/restart.rs"]
mod restart;
#[path = "../../../lab/command/course/rust/silence.rs"]
mod silence;
#[path = "../../../lab/command/course/rust/start.rs"]
mod start;
#[path = "../../../lab/command/course/rust/stream.rs"]
mod stream;
#[path = "../../../lab/command/course/rust/test.rs"]
mod test;
#[path = "../../../lab/command/course/rust/topic.rs"]
mod topic;
