//! Where a message ends, byte by byte.
//!
//! The scan follows lightningd's own parser (jsmn), which takes more than JSON: a
//! bare word such as `127.0.0.1` goes on up to a blank, a comma or a closing
//! bracket, whatever else is in it, and a string may have line ends in it. What
//! that parser refuses cannot come from lightningd: it is garbage, and the next
//! empty line is where messages are looked for again.

/// The end that a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Of a message: its last bracket.
    Message,
    /// Of garbage: an empty line.
    Garbage,
}

/// Where in a message the scan is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// Between two messages.
    #[default]
    Between,
    /// Within brackets, between two tokens.
    Tokens,
    /// In a string.
    Text,
    /// In a string, after a backslash.
    Escape,
    /// In a number, `true`, `null`, or whatever passes for one.
    Word,
    /// In garbage, until an empty line.
    Lost,
    /// In garbage, after a line's end.
    LostLine,
}

/// Follows the brackets of one message after the other.
#[derive(Debug, Default)]
pub struct Scan {
    place: Place,
    /// The open brackets: true for `{`.
    open: Vec<bool>,
}

impl Scan {
    /// True between two messages.
    pub fn is_between(&self) -> bool {
        self.place == Place::Between
    }

    /// True within garbage.
    pub fn is_lost(&self) -> bool {
        matches!(self.place, Place::Lost | Place::LostLine)
    }

    /// Goes on with these bytes. Gives the number of them up to an end, and what
    /// ended there; `None` if it lies beyond them.
    pub fn advance(&mut self, bytes: &[u8]) -> Option<(usize, End)> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.place {
                Place::Text => match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                    Some(found) => {
                        at += found;
                        self.place = if bytes[at] == b'"' {
                            Place::Tokens
                        } else {
                            Place::Escape
                        };
                    }
                    None => return None,
                },
                Place::Escape => self.place = Place::Text,
                Place::Tokens => match byte {
                    b'"' => self.place = Place::Text,
                    b'{' | b'[' => self.open.push(byte == b'{'),
                    b'}' | b']' => {
                        if self.close(byte) {
                            return Some((at + 1, End::Message));
                        }
                    }
                    b',' | b':' => {}
                    b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.place = Place::Word,
                    byte if is_blank(byte) => {}
                    _ => self.lose(),
                },
                Place::Word => match byte {
                    b'}' | b']' => {
                        self.place = Place::Tokens;
                        if self.close(byte) {
                            return Some((at + 1, End::Message));
                        }
                    }
                    byte if byte == b',' || is_blank(byte) => self.place = Place::Tokens,
                    b' '..=b'~' => {}
                    _ => self.lose(),
                },
                Place::Between => match byte {
                    b'{' | b'[' => {
                        self.place = Place::Tokens;
                        self.open.push(byte == b'{');
                    }
                    byte if is_blank(byte) => {}
                    _ => self.lose(),
                },
                Place::Lost => match memchr::memchr(b'\n', &bytes[at..]) {
                    Some(found) => {
                        at += found;
                        self.place = Place::LostLine;
                    }
                    None => return None,
                },
                Place::LostLine => {
                    if byte == b'\n' {
                        self.place = Place::Between;
                        return Some((at + 1, End::Garbage));
                    }
                    self.place = Place::Lost;
                }
            }
            at += 1;
        }
        None
    }

    /// Closes a bracket: true if that was the last.
    fn close(&mut self, byte: u8) -> bool {
        if self.open.pop() != Some(byte == b'}') {
            self.lose();
            return false;
        }
        if self.open.is_empty() {
            self.place = Place::Between;
            // A deep message must not keep its memory.
            self.open.shrink_to(1024);
        }
        self.open.is_empty()
    }

    fn lose(&mut self) {
        self.open.clear();
        self.place = Place::Lost;
    }
}

/// The length of the JSON value, or what passes for one, that the text begins
/// with; `None` if it is not whole.
pub fn value_length(text: &[u8]) -> Option<usize> {
    // Within brackets the value ends where its last bracket, its quote or the
    // word ends.
    let mut scan = Scan {
        place: Place::Tokens,
        open: vec![false],
    };
    let first = *text.first()?;
    match first {
        b'{' | b'[' => {
            scan = Scan::default();
            let (length, end) = scan.advance(text)?;
            (end == End::Message).then_some(length)
        }
        b'"' => (2..=text.len()).find(|&length| {
            scan.advance(&text[if length == 2 { 0 } else { length - 1 }..length]);
            scan.place == Place::Tokens
        }),
        _ => {
            let ends = |byte: &u8| is_blank(*byte) || b",]}".contains(byte);
            match text.iter().position(ends).unwrap_or(text.len()) {
                0 => None,
                length => Some(length),
            }
        }
    }
}

/// True for what JSON allows between two tokens.
pub fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
