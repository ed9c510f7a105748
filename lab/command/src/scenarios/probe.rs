//! Which topics a running lightningd knows.
//!
//! No method lists them. But lightningd logs every subscription to a topic that
//! neither itself nor any plugin has announced. So a plugin subscribes to every word
//! in the executables, since a topic's name is a string of its program, and the words
//! that lightningd does not complain about are the topics it knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use cln_lab::{IoContext, Lab, Plugin, Result, write_executable};
use cln_topics::TOPICS;

use super::checks::unexpected;

/// Not a topic: lightningd must complain about it, or it never complains.
const NOT_A_TOPIC: &str = "not_a_topic_of_anyones";

/// How many subscriptions a probe has: a plugin must be up within a minute, and
/// lightningd v23.02 takes milliseconds for each complaint.
const AT_ONCE: usize = 4000;

/// How long names of topics are; they consist of lower case letters and `_`.
const LENGTH: std::ops::RangeInclusive<usize> = 3..=40;

/// The topics that the first node of a lab knows: its own, and those that its
/// plugins have announced. It takes some seconds, and leaves a long log.
///
/// # Errors
/// If the executables cannot be read, or the node does not complain about unknown
/// topics, like the embedded node.
pub async fn known(lab: &Lab) -> Result<BTreeSet<String>> {
    let node = lab.l1();
    let mut words: BTreeSet<String> = TOPICS.iter().map(|topic| topic.name.to_owned()).collect();
    words.insert(NOT_A_TOPIC.to_owned());
    // The program may be a script that runs it.
    let running = node.pid().await.map(|pid| format!("/proc/{pid}/exe"));
    let running = running.map(PathBuf::from).filter(|path| path.exists());
    words_of(running.as_deref().unwrap_or(node.program()), &mut words)?;
    for plugin in node.plugin_list().await? {
        words_of(Path::new(&plugin.name), &mut words)?;
    }

    let all: Vec<String> = words.iter().cloned().collect();
    for some in all.chunks(AT_ONCE) {
        let probe = probe(lab.dir(), some)?;
        let log = node.log().from_now()?;
        node.plugin_start(&Plugin::path(&probe)).await?;
        let complaints = log.lines_with(UNKNOWN)?;
        node.plugin_stop("probe.sh").await?;
        for complaint in &complaints {
            if let Some((_, word)) = complaint.rsplit_once("topic '")
                && let Some((word, _)) = word.split_once('\'')
            {
                words.remove(word);
            }
        }
    }
    if words.contains(NOT_A_TOPIC) {
        return Err(unexpected(
            format!("{}: log", node.name()),
            format!("no line `topic '{NOT_A_TOPIC}' {UNKNOWN}`"),
        ));
    }
    Ok(words)
}

/// What lightningd logs about a subscription to an unknown topic.
const UNKNOWN: &str = "is not a known notification topic";

/// Adds to `words` those of a program's strings that could be a topic. A linker stores
/// a string that is the end of another only once: `connect` is in `disconnect`.
fn words_of(program: &Path, words: &mut BTreeSet<String>) -> Result<()> {
    let bytes = fs::read(program).doing("read", program)?;
    let strings = data_of(&bytes).into_iter();
    for string in strings.flat_map(|data| data.split(|byte| *byte == 0)) {
        let is_part = |byte: &&u8| matches!(byte, b'a'..=b'z' | b'_');
        let length = string.iter().rev().take_while(is_part).count();
        let ends = (1..=length.min(*LENGTH.end())).filter(|n| LENGTH.contains(n));
        for end in ends {
            let word = &string[string.len() - end..];
            if word[0].is_ascii_lowercase()
                && let Ok(word) = std::str::from_utf8(word)
                && !words.contains(word)
            {
                words.insert(word.to_owned());
            }
        }
    }
    Ok(())
}

/// The data that a program loads, which excludes the names of symbols: in an ELF file
/// for 64 bits the sections of type PROGBITS that are allocated and not executable
/// (elf(5)); of any other file, all of it.
fn data_of(program: &[u8]) -> Vec<&[u8]> {
    const PROGBITS: u64 = 1;
    const ALLOCATED: u64 = 2;
    const EXECUTABLE: u64 = 4;
    let sections = || {
        if !program.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let number = |at: usize, length: usize| {
            let bytes = program.get(at..at.checked_add(length)?)?;
            let number = bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
            usize::try_from(number).ok()
        };
        let (table, size, count) = (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?);
        let mut data = Vec::new();
        for n in 0..count {
            let header = table.checked_add(n.checked_mul(size)?)?;
            let (kind, flags) = (number(header + 4, 4)? as u64, number(header + 8, 8)? as u64);
            let (from, length) = (number(header + 0x18, 8)?, number(header + 0x20, 8)?);
            if kind == PROGBITS && flags & (ALLOCATED | EXECUTABLE) == ALLOCATED {
                data.push(program.get(from..from.checked_add(length)?)?);
            }
        }
        Some(data)
    };
    sections()
        .filter(|data| !data.is_empty())
        .unwrap_or_else(|| vec![program])
}

/// A plugin that subscribes to all of these and does nothing.
fn probe(folder: &Path, words: &[String]) -> Result<PathBuf> {
    let manifest = json!({
        "dynamic": true,
        "options": [],
        "rpcmethods": [],
        "subscriptions": words,
    });
    let answer = folder.join("probe.json");
    fs::write(&answer, manifest.to_string()).doing("write", &answer)?;
    let path = folder.join("probe.sh");
    write_executable(&path, include_str!("probe.sh"))?;
    Ok(path)
}
