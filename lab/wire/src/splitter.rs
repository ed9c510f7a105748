//! Messages out of a stream of bytes: a message ends where its JSON value ends.

use crate::scan::{End, Scan, is_blank};

/// The longest message that is kept, in bytes. A longer one is followed to its
/// end, so that the next is found, but not held in memory.
pub const LONGEST: usize = 64 << 20;

/// The buffer keeps at most this much memory from one message to the next.
const SPARE: usize = 1 << 20;

/// A part of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole JSON object or array, as far as its brackets go.
    Message(&'a [u8]),
    /// A message longer than [`LONGEST`]: its length in bytes.
    TooLong(usize),
    /// Bytes that are no message: their number, with the empty line after them.
    Garbage(usize),
}

/// Cuts a stream into messages, however its bytes arrive.
#[derive(Debug)]
pub struct Splitter {
    scan: Scan,
    /// The start of a message whose end has not come.
    partial: Vec<u8>,
    /// The bytes of that message, or garbage, seen in earlier pushes.
    length: usize,
    limit: usize,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::with_limit(LONGEST)
    }
}

impl Splitter {
    /// A splitter that keeps messages of up to `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            scan: Scan::default(),
            partial: Vec::new(),
            length: 0,
            limit,
        }
    }

    /// Takes the next bytes and gives the frames that are now whole. All of them
    /// have to be taken before the next bytes.
    pub fn push<'a>(&'a mut self, bytes: &'a [u8]) -> Frames<'a> {
        Frames {
            splitter: self,
            given: false,
            bytes,
        }
    }
}

/// The whole frames; not an `Iterator`, as each borrows from the splitter.
#[derive(Debug)]
pub struct Frames<'a> {
    splitter: &'a mut Splitter,
    /// The splitter's `partial` was given as a frame.
    given: bool,
    bytes: &'a [u8],
}

impl Frames<'_> {
    /// The next frame, if it is whole.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Frame<'_>> {
        if std::mem::take(&mut self.given) {
            self.splitter.partial.clear();
            // One large message must not keep its memory.
            self.splitter.partial.shrink_to(SPARE);
        }
        let Splitter {
            scan,
            partial,
            length,
            limit,
        } = &mut *self.splitter;
        if scan.is_between() {
            let blank = self.bytes.iter().take_while(|byte| is_blank(**byte));
            self.bytes = &self.bytes[blank.count()..];
            *length = 0;
        }
        let found = scan.advance(self.bytes);
        let taken = found.as_ref().map_or(self.bytes.len(), |(end, _)| *end);
        let (part, rest) = self.bytes.split_at(taken);
        self.bytes = rest;
        let whole = *length + taken;
        let keep = whole <= *limit && !scan.is_lost();
        let Some((_, end)) = found else {
            *length = whole;
            if keep {
                partial.extend_from_slice(part);
            } else {
                *partial = Vec::new();
            }
            return None;
        };
        match end {
            End::Garbage => {
                *partial = Vec::new();
                Some(Frame::Garbage(whole))
            }
            End::Message if whole > *limit => {
                *partial = Vec::new();
                Some(Frame::TooLong(whole))
            }
            // Usual: the message lies whole in these bytes; no copy.
            End::Message if *length == 0 => Some(Frame::Message(part)),
            End::Message => {
                partial.extend_from_slice(part);
                self.given = true;
                Some(Frame::Message(partial))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// A frame that does not borrow.
    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        Message(String),
        TooLong(usize),
        Garbage(usize),
    }

    fn split_with(mut splitter: Splitter, pieces: &[&[u8]]) -> Vec<Seen> {
        let mut seen = Vec::new();
        for piece in pieces {
            let mut frames = splitter.push(piece);
            while let Some(frame) = frames.next() {
                seen.push(match frame {
                    Frame::Message(bytes) => {
                        Seen::Message(String::from_utf8(bytes.to_vec()).unwrap())
                    }
                    Frame::TooLong(length) => Seen::TooLong(length),
                    Frame::Garbage(length) => Seen::Garbage(length),
                });
            }
        }
        seen
    }

    fn split(pieces: &[&str]) -> Vec<Seen> {
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        split_with(Splitter::default(), &pieces)
    }

    fn messages(texts: &[&str]) -> Vec<Seen> {
        let message = |text: &&str| Seen::Message((*text).to_owned());
        texts.iter().map(message).collect()
    }

    #[test]
    fn pieces_and_several_at_once() {
        assert_eq!(split(&["{1}\n\n{2}\n\n{3"]), messages(&["{1}", "{2}"]));
        assert_eq!(
            split(&["{", "1}\n", "\n{2", "}\n\n"]),
            messages(&["{1}", "{2}"])
        );
        assert_eq!(split(&["{1}{2} [3]"]), messages(&["{1}", "{2}", "[3]"]));
    }

    #[test]
    fn an_empty_line_within_a_message_ends_nothing() {
        let forged = "{\"params\":[\n\n{\"method\":\"shutdown\"}\n\n,\"a\n\nb\"]}";
        assert_eq!(split(&[forged, "\n\n"]), messages(&[forged]));
    }

    #[test]
    fn words_go_on_as_in_lightningds_parser() {
        // jsmn takes each for an array of one word.
        for odd in ["[1{]", "[1\"]", "[127.0.0.1]", "[1:[]", "[t{[\"x]", "[007]"] {
            assert_eq!(split(&[odd, "\n\n{1}\n\n"]), messages(&[odd, "{1}"]));
        }
    }

    #[test]
    fn after_garbage_an_empty_line_begins_anew() {
        let garbage = |text: &str| Seen::Garbage(text.len());
        for bad in [
            "oops}\n\n",
            "{\"a\": oops\n\n",
            "{]}\n\n",
            "\u{e9}\n\n",
            "{\"a\":1}x\n\n",
        ] {
            let mut expected = messages(&["{1}"]);
            if bad.ends_with("x\n\n") {
                expected = messages(&["{\"a\":1}"]);
                expected.push(garbage("x\n\n"));
                expected.extend(messages(&["{1}"]));
            } else {
                expected.insert(0, garbage(bad));
            }
            assert_eq!(split(&[bad, "{1}\n\n"]), expected, "{bad}");
        }
    }

    #[test]
    fn a_message_too_long_is_left_out_and_its_memory_given_back() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(3000));
        for size in [1, 700, 5000] {
            let stream = format!("{{1}}{long}\n\n{{2}}");
            let pieces: Vec<&[u8]> = stream.as_bytes().chunks(size).collect();
            let seen = split_with(Splitter::with_limit(1000), &pieces);
            let mut expected = messages(&["{1}"]);
            expected.push(Seen::TooLong(long.len()));
            expected.extend(messages(&["{2}"]));
            assert_eq!(seen, expected, "pieces of {size}");
        }
        let mut splitter = Splitter::default();
        let long = format!("{{\"a\":\"{}\"}}{{", "x".repeat(5 * SPARE));
        for piece in long.as_bytes().chunks(1000) {
            let mut frames = splitter.push(piece);
            while frames.next().is_some() {}
        }
        assert!(splitter.partial.capacity() <= SPARE);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            "[\\\\\"{}\\[\\]\n ]*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|v| serde_json::Value::Object(v.into_iter().collect())),
            ]
        })
    }

    /// The same JSON with blanks between its tokens, empty lines among them.
    fn spaced(json: &str, blanks: &[&str]) -> String {
        let mut blanks = blanks.iter().cycle();
        let mut out = String::new();
        let (mut quoted, mut escaped) = (false, false);
        for c in json.chars() {
            let between = !quoted && "{}[],:".contains(c);
            if between {
                out.push_str(blanks.next().unwrap_or(&""));
            }
            out.push(c);
            if between {
                out.push_str(blanks.next().unwrap_or(&""));
            }
            quoted ^= c == '"' && !escaped;
            escaped = quoted && c == '\\' && !escaped;
        }
        out
    }

    proptest! {
        #[test]
        fn any_json_anywhere_in_a_message_is_one_message(
            values in prop::collection::vec((json(), any::<bool>()), 0..6),
            blanks in prop::collection::vec(
                prop::sample::select(&["", " ", "\n", "\n\n", "\r\n\t\n\n\n"][..]), 1..9),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut expected = Vec::new();
            let mut stream = String::new();
            for (value, request) in values {
                let id = if request { r#""id":"x#1","# } else { "" };
                let head = format!(r#"{{"jsonrpc":"2.0",{id}"method":"mine","params":"#);
                // The value stands within brackets, as jsmn takes `1}` for a word.
                let message = format!("{head}{}}}", spaced(&format!("[{value}]"), &blanks));
                let message = message.trim_end().to_owned();
                stream += &message;
                stream += "\n\n";
                expected.push(Seen::Message(message));
            }
            let stream = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect();
            prop_assert_eq!(split_with(Splitter::default(), &pieces), expected);
        }
    }
}
