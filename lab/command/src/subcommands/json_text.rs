//! JSON as lightning-cli prints it: the node's own spelling of numbers and
//! strings and its order of keys, in one of several layouts.

use serde_json::value::RawValue;

/// A JSON text, taken apart but not interpreted.
#[derive(Debug)]
pub enum Json<'a> {
    /// A number, `true`, `false`, `null`, as spelled.
    Bare(&'a str),
    /// A string, without its quotes, as escaped.
    Text(&'a str),
    Array(Vec<Json<'a>>),
    /// Keys without their quotes, as escaped.
    Object(Vec<(&'a str, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Takes apart a text that serde_json has found to be JSON.
    pub fn of(raw: &'a RawValue) -> Json<'a> {
        Json::read(&mut raw.get())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        match self {
            Json::Object(members) => members.iter().find(|(k, _)| *k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The contents of a string, as escaped.
    pub fn text(&self) -> Option<&'a str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Reads one value from the front of a well-formed text.
    fn read(rest: &mut &'a str) -> Json<'a> {
        skip(rest, 0);
        match rest.as_bytes().first() {
            Some(b'"') => Json::Text(read_string(rest)),
            Some(b'[') => {
                let mut items = Vec::new();
                skip(rest, 1);
                while !rest.starts_with(']') && !rest.is_empty() {
                    items.push(Json::read(rest));
                    next(rest);
                }
                skip(rest, 1);
                Json::Array(items)
            }
            Some(b'{') => {
                let mut members = Vec::new();
                skip(rest, 1);
                while !rest.starts_with('}') && !rest.is_empty() {
                    let key = read_string(rest);
                    skip(rest, 0);
                    skip(rest, 1);
                    members.push((key, Json::read(rest)));
                    next(rest);
                }
                skip(rest, 1);
                Json::Object(members)
            }
            _ => {
                let end = rest.find(|c: char| ",]}".contains(c) || c.is_ascii_whitespace());
                let (bare, after) = rest.split_at(end.unwrap_or(rest.len()));
                *rest = after;
                Json::Bare(bare)
            }
        }
    }

    /// Indented by three spaces, as lightning-cli does.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.indent(&mut out, 0);
        out
    }

    fn indent(&self, out: &mut String, depth: usize) {
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n("   ", depth));
        };
        match self {
            Json::Bare(text) => out.push_str(text),
            Json::Text(text) => quote(out, text),
            Json::Array(items) => {
                out.push('[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    line(out, depth + 1);
                    item.indent(out, depth + 1);
                }
                if !items.is_empty() {
                    line(out, depth);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (n, (key, value)) in members.iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    line(out, depth + 1);
                    quote(out, key);
                    out.push_str(": ");
                    value.indent(out, depth + 1);
                }
                if !members.is_empty() {
                    line(out, depth);
                }
                out.push('}');
            }
        }
    }

    /// `key=value` a line, nothing quoted; the only member of an object is printed
    /// without its key.
    pub fn human(&self) -> String {
        let mut out = String::new();
        self.write_human(&mut out);
        out
    }

    fn write_human(&self, out: &mut String) {
        match self {
            Json::Bare(text) | Json::Text(text) => {
                unescape(out, text);
                out.push('\n');
            }
            Json::Array(items) => items.iter().for_each(|item| item.write_human(out)),
            Json::Object(members) => match members.as_slice() {
                [(_, only)] => only.write_human(out),
                several => {
                    for (key, value) in several {
                        unescape(out, key);
                        out.push('=');
                        value.write_human(out);
                    }
                }
            },
        }
    }

    /// `x.y[0].z=value` a line.
    pub fn flat(&self) -> String {
        let mut out = String::new();
        self.write_flat(&mut out, "");
        out
    }

    fn write_flat(&self, out: &mut String, path: &str) {
        match self {
            Json::Bare(text) | Json::Text(text) => {
                out.extend([path, "=", text, "\n"]);
            }
            Json::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    item.write_flat(out, &format!("{path}[{n}]"));
                }
            }
            Json::Object(members) => {
                for (key, value) in members {
                    let path = match path {
                        "" => (*key).to_owned(),
                        path => format!("{path}.{key}"),
                    };
                    value.write_flat(out, &path);
                }
            }
        }
    }
}

/// A value of ours, in the layout of the answers from nodes.
pub fn pretty(value: &serde_json::Value) -> String {
    Json::read(&mut value.to_string().as_str()).pretty()
}

/// Skips `bytes` bytes and the white space after them.
fn skip(rest: &mut &str, bytes: usize) {
    *rest = rest.get(bytes..).unwrap_or_default().trim_ascii_start();
}

/// Skips a comma, if there is one.
fn next(rest: &mut &str) {
    skip(rest, 0);
    if rest.starts_with(',') {
        skip(rest, 1);
    }
}

/// Reads a string: what is between its quotes.
fn read_string<'a>(rest: &mut &'a str) -> &'a str {
    let inner = rest.get(1..).unwrap_or_default();
    let mut escaped = false;
    let end = inner.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    let end = end.unwrap_or(inner.len());
    *rest = inner.get(end + 1..).unwrap_or_default();
    &inner[..end]
}

fn quote(out: &mut String, text: &str) {
    out.extend(["\"", text, "\""]);
}

/// `\n` and `\t` become what they mean; of every other escape the backslash goes.
fn unescape(out: &mut String, text: &str) {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                other => out.extend(other),
            },
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_apart(text: &str) -> Json<'_> {
        Json::of(serde_json::from_str(text).expect("JSON"))
    }

    #[test]
    fn spelling_and_order_stay() {
        let text = r#"{"z":1.50,"a":"q\"\\\u00e9\/","e":{},"l":[],"n":[ 1e3 , {"x" : null} ]}"#;
        let pretty = taken_apart(text).pretty();
        assert_eq!(
            pretty,
            "{\n   \"z\": 1.50,\n   \"a\": \"q\\\"\\\\\\u00e9\\/\",\n   \"e\": {},\n   \"l\": [],\n   \
             \"n\": [\n      1e3,\n      {\n         \"x\": null\n      }\n   ]\n}"
        );
        // Laid out again, it stays as it is.
        assert_eq!(taken_apart(&pretty).pretty(), pretty);
    }

    #[test]
    fn other_layouts() {
        let json = taken_apart(r#"{"a":[{"only":"x\ny"},2],"b":{"c":true,"d":"\\"}}"#);
        assert_eq!(json.human(), "a=x\ny\n2\nb=c=true\nd=\\\n");
        assert_eq!(json.flat(), "a[0].only=x\\ny\na[1]=2\nb.c=true\nb.d=\\\\\n");
    }

    proptest::proptest! {
        /// Whatever is printed means what was read.
        #[test]
        fn nothing_is_changed(text in "([0-9]{1,3}|\"[a-z\\\\\\\\\"]{0,4}\"|[\\[\\]{}:,]){1,12}") {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                let again: serde_json::Value =
                    serde_json::from_str(&taken_apart(&text).pretty()).expect("JSON");
                proptest::prop_assert_eq!(value, again);
            }
        }
    }
}
