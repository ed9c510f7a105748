//! Any cut of any stream of messages gives `from_scratch` the same messages, empty
//! lines and lightningd's idea of a number within them included.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/from_scratch.rs"]
mod from_scratch;

use from_scratch::Messages;
use proptest::prelude::*;

proptest! {
    #[test]
    fn messages_do_not_depend_on_how_their_bytes_arrive(
        messages in prop::collection::vec(
            "\\{(\n{0,3}(\"([a-zé:{}\\[\\]\n]|\\\\\"|\\\\\\\\){0,6}\"|\\[1[{\"0-9]{0,3}\n?\\]|\\{\n\n\\}|[0-9][{:a]{0,2},)){0,4}\\}",
            0..12,
        ),
        between in prop::sample::select(&["\n\n", "", " \n\n\n"][..]),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..16),
    ) {
        let stream: String = messages.iter().map(|message| format!("{message}{between}")).collect();
        let stream = stream.as_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let mut splitter = Messages::default();
        let mut seen = Vec::new();
        for piece in cuts.windows(2) {
            seen.extend(splitter.push(&stream[piece[0]..piece[1]]));
        }
        prop_assert_eq!(seen, messages);
    }

    #[test]
    fn anything_does_no_harm(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..9),
    ) {
        let mut splitter = Messages::default();
        for piece in pieces {
            splitter.push(&piece);
        }
    }

    #[test]
    fn records_do_not_depend_on_it_either(
        labels in prop::collection::vec("[a-zé\"\\\\]{0,9}", 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut stream = String::new();
        let mut expected = String::new();
        for (n, label) in labels.iter().enumerate() {
            let topic = ["connect", "disconnect", "other"][n % 3];
            let message = serde_json::json!({"method": topic, "params": {"label": label}}).to_string();
            stream += &format!("{message}\n\n");
            if topic != "other" {
                expected += &format!("{topic} notification: {message}\n");
            }
        }
        let topics = ["connect".to_owned(), "disconnect".to_owned()];
        let (mut answers, mut records) = (Vec::new(), Vec::new());
        from_scratch::run(Pieces::new(stream.as_bytes(), &cuts), &mut answers, &mut records, &topics).unwrap();
        prop_assert_eq!(String::from_utf8(records).unwrap(), expected);
    }
}

/// Gives a stream piece by piece.
struct Pieces<'a> {
    bytes: &'a [u8],
    cuts: Vec<usize>,
    at: usize,
}

impl<'a> Pieces<'a> {
    fn new(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Self {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        Self { bytes, cuts, at: 0 }
    }
}

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let end = self
            .cuts
            .iter()
            .copied()
            .find(|&cut| cut > self.at)
            .unwrap_or(self.at);
        let count = (end - self.at).min(buffer.len());
        buffer[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[test]
fn an_empty_line_within_a_message_forges_nothing() {
    let forged = "{\"method\":\"connect\",\"params\":[\n\n{\"method\":\"disconnect\"}\n\n]}";
    let (mut answers, mut records) = (Vec::new(), Vec::new());
    let topics = ["connect".to_owned(), "disconnect".to_owned()];
    let stream = format!("{forged}\n\n");
    from_scratch::run(stream.as_bytes(), &mut answers, &mut records, &topics).unwrap();
    let expected = format!("connect notification: {}\n", forged.replace('\n', ""));
    assert_eq!(String::from_utf8(records).unwrap(), expected);
}
