//! Messages out of a stream of bytes: lightningd ends each with an empty line.

/// Cuts a stream into messages, however its bytes arrive.
#[derive(Debug, Default)]
pub struct Splitter {
    /// What was read of a message whose end has not come.
    partial: Vec<u8>,
}

impl Splitter {
    /// Takes the next bytes and gives the messages that are now whole, without
    /// the empty line. All of them have to be taken before the next bytes.
    pub fn push<'a>(&'a mut self, bytes: &'a [u8]) -> Messages<'a> {
        Messages {
            partial: &mut self.partial,
            used: 0,
            bytes,
        }
    }
}

/// The whole messages; not an `Iterator`, as each borrows from the splitter.
#[derive(Debug)]
pub struct Messages<'a> {
    partial: &'a mut Vec<u8>,
    /// Of `partial`: already given.
    used: usize,
    bytes: &'a [u8],
}

const END: &[u8] = b"\n\n";

impl Messages<'_> {
    /// The next message, if it is whole. Empty ones are left out.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<&[u8]> {
        if self.used > 0 {
            self.partial.clear();
            self.used = 0;
        }
        loop {
            if self.partial.is_empty() {
                // Usual: the message lies whole in what was read; no copy.
                let Some(end) = memchr::memmem::find(self.bytes, END) else {
                    self.partial.extend_from_slice(self.bytes);
                    self.bytes = &[];
                    return None;
                };
                let (message, rest) = self.bytes.split_at(end);
                self.bytes = &rest[END.len()..];
                if !is_blank(message) {
                    return Some(message);
                }
                continue;
            }
            if self.bytes.is_empty() {
                return None;
            }
            // The end may be cut in two.
            let end = if self.partial.ends_with(b"\n") && self.bytes.starts_with(b"\n") {
                Some(1)
            } else {
                memchr::memmem::find(self.bytes, END).map(|end| end + END.len())
            };
            let Some(end) = end else {
                self.partial.extend_from_slice(self.bytes);
                self.bytes = &[];
                return None;
            };
            let (message, rest) = self.bytes.split_at(end);
            self.partial.extend_from_slice(message);
            self.bytes = rest;
            let length = self.partial.len() - END.len();
            if is_blank(&self.partial[..length]) {
                self.partial.clear();
                continue;
            }
            self.used = self.partial.len();
            return Some(&self.partial[..length]);
        }
    }
}

fn is_blank(message: &[u8]) -> bool {
    message.iter().all(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::default();
        let mut seen = Vec::new();
        for piece in pieces {
            let mut messages = splitter.push(piece);
            while let Some(message) = messages.next() {
                seen.push(message.to_vec());
            }
        }
        seen
    }

    #[test]
    fn pieces_and_several_at_once() {
        assert_eq!(split(&[b"{1}\n\n{2}\n\n{3}"]), [b"{1}", b"{2}"]);
        assert_eq!(split(&[b"{", b"1}\n", b"\n{2", b"}\n\n"]), [b"{1}", b"{2}"]);
        assert_eq!(split(&[b"{1}\n\n\n\n{2}\n\n"]), [b"{1}", b"{2}"]);
        assert_eq!(split(&[b"{1\n}\n\n"]), [b"{1\n}"]);
    }

    proptest! {
        #[test]
        fn any_cut_of_a_stream_gives_the_same(
            messages in prop::collection::vec("\\{[a-z\u{e9}\" ]{0,20}(\n[a-z]{1,5})?\\}", 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let stream: String = messages.iter().map(|m| format!("{m}\n\n")).collect();
            let stream = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&stream[from..cut]);
                from = cut;
            }
            pieces.push(&stream[from..]);
            let expected: Vec<Vec<u8>> = messages.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(split(&pieces), expected);
        }
    }
}
