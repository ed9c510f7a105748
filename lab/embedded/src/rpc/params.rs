//! A command's parameters: by position or by name, checked in lightningd's order and
//! with its words.

use cln_wire::Members;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::error::RpcError;
use crate::options::parse_bool;

/// One value, as it was written.
#[derive(Debug, Clone, Copy)]
pub struct Token<'a>(pub &'a str);

impl<'a> Token<'a> {
    /// A string's text, or the literal of anything else (`5`, `true`, `1.5`).
    pub fn text(self) -> String {
        serde_json::from_str(self.0).unwrap_or_else(|_| self.0.to_owned())
    }

    pub fn string(self) -> Option<String> {
        serde_json::from_str(self.0).ok()
    }

    pub fn value(self) -> Value {
        serde_json::from_str(self.0).unwrap_or(Value::Null)
    }

    /// An error about this value.
    pub fn bad(self, name: &str, what: &str) -> RpcError {
        RpcError::bad(name, what, self.0)
    }

    fn is_null(self) -> bool {
        self.0 == "null"
    }
}

/// Takes a parameter's value.
type Take<'a> = Box<dyn FnMut(Token<'_>) -> Result<(), RpcError> + 'a>;

/// One parameter of a command.
pub struct Param<'a> {
    name: &'static str,
    required: bool,
    take: Take<'a>,
}

/// A required parameter; `read` makes the value for `slot`.
pub fn req<'a, T>(
    name: &'static str,
    slot: &'a mut Option<T>,
    read: impl Fn(&str, Token<'_>) -> Result<T, RpcError> + 'a,
) -> Param<'a> {
    param(name, true, slot, read)
}

/// An optional parameter.
pub fn opt<'a, T>(
    name: &'static str,
    slot: &'a mut Option<T>,
    read: impl Fn(&str, Token<'_>) -> Result<T, RpcError> + 'a,
) -> Param<'a> {
    param(name, false, slot, read)
}

fn param<'a, T>(
    name: &'static str,
    required: bool,
    slot: &'a mut Option<T>,
    read: impl Fn(&str, Token<'_>) -> Result<T, RpcError> + 'a,
) -> Param<'a> {
    Param {
        name,
        required,
        take: Box::new(move |token| {
            *slot = Some(read(name, token)?);
            Ok(())
        }),
    }
}

/// The parameters of a request, as they were written.
#[derive(Debug, Clone)]
pub struct Params(Box<RawValue>);

impl Params {
    pub fn new(raw: Box<RawValue>) -> Self {
        Self(raw)
    }

    pub fn by_position(&self) -> bool {
        self.0.get().starts_with('[')
    }

    /// The values given by position.
    pub fn positional(&self) -> Vec<&RawValue> {
        serde_json::from_str(self.0.get()).unwrap_or_default()
    }

    /// The names and values given by name.
    pub fn named(&self) -> Members<'_> {
        Members::read(self.0.get()).unwrap_or_default()
    }

    /// The same as parsed values.
    pub fn to_map(&self) -> Map<String, Value> {
        serde_json::from_str(self.0.get()).unwrap_or_default()
    }

    /// Reads them into `spec`, required ones first.
    ///
    /// # Errors
    /// The first thing that is wrong, in lightningd's words.
    pub fn read(&self, spec: Vec<Param<'_>>) -> Result<(), RpcError> {
        self.read_some(spec, false)
    }

    /// The same; with `allow_extra`, others than those in `spec` are ignored.
    pub fn read_some(&self, mut spec: Vec<Param<'_>>, allow_extra: bool) -> Result<(), RpcError> {
        let mut set = vec![false; spec.len()];
        match self.0.get().as_bytes().first() {
            Some(b'[') => {
                let values = self.positional();
                if values.len() > spec.len() && !allow_extra {
                    return Err(RpcError::params(format!(
                        "too many parameters: got {}, expected {}",
                        values.len(),
                        spec.len()
                    )));
                }
                for ((value, param), set) in values.into_iter().zip(&mut spec).zip(&mut set) {
                    let token = Token(value.get());
                    if !token.is_null() {
                        (param.take)(token)?;
                        *set = true;
                    }
                }
            }
            Some(b'{') => {
                for (name, value) in self.named().0 {
                    let Some(index) = spec.iter().position(|p| p.name == name) else {
                        if allow_extra {
                            continue;
                        }
                        return Err(RpcError::params(format!(
                            "unknown parameter: {name}, this may be caused by a failure to autodetect \
                             key=value-style parameters. Please try using the -k flag and explicit key=value \
                             pairs of parameters."
                        )));
                    };
                    if set[index] {
                        return Err(RpcError::params(format!("duplicate json names: {name}")));
                    }
                    (spec[index].take)(Token(value))?;
                    set[index] = true;
                }
            }
            _ => return Err(RpcError::params("Expected array or object for params")),
        }
        match spec
            .iter()
            .zip(&set)
            .find(|(param, set)| param.required && !**set)
        {
            Some((param, _)) => Err(RpcError::params(format!(
                "missing required parameter: {}",
                param.name
            ))),
            None => Ok(()),
        }
    }
}

/// A string, or the literal of anything else.
pub fn string(_: &str, token: Token<'_>) -> Result<String, RpcError> {
    Ok(token.text())
}

/// A label: a string or a number.
pub fn label(name: &str, token: Token<'_>) -> Result<String, RpcError> {
    match token.value() {
        Value::String(text) => Ok(text),
        Value::Number(_) => Ok(token.0.to_owned()),
        _ => Err(token.bad(name, "should be a string or number")),
    }
}

/// A string, unescaped.
pub fn escaped_string(name: &str, token: Token<'_>) -> Result<String, RpcError> {
    token
        .string()
        .ok_or_else(|| token.bad(name, "should be a string (without \\u)"))
}

/// `true` or `false`, also as a string.
pub fn boolean(name: &str, token: Token<'_>) -> Result<bool, RpcError> {
    let text = token.text();
    parse_bool(&text)
        .filter(|_| text == "true" || text == "false")
        .ok_or_else(|| token.bad(name, "should be 'true' or 'false'"))
}

/// A `u32`, also as a string.
pub fn number(name: &str, token: Token<'_>) -> Result<u32, RpcError> {
    token
        .text()
        .parse()
        .map_err(|_| token.bad(name, "should be an integer"))
}

/// The same, with the error that newer parameters give.
pub fn number32(name: &str, token: Token<'_>) -> Result<u32, RpcError> {
    token
        .text()
        .parse()
        .map_err(|_| token.bad(name, "should be an unsigned 32 bit integer"))
}

/// A `u64`, also as a string.
pub fn number64(name: &str, token: Token<'_>) -> Result<u64, RpcError> {
    token
        .text()
        .parse()
        .map_err(|_| token.bad(name, "should be an unsigned 64 bit integer"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Result<(Option<String>, Option<u64>), String> {
        let params = Params::new(RawValue::from_string(json.into()).unwrap());
        let (mut a, mut b) = (None, None);
        params
            .read(vec![req("a", &mut a, string), opt("b", &mut b, number64)])
            .map_err(|e| e.message)?;
        Ok((a, b))
    }

    #[test]
    fn by_position_and_by_name() {
        let (x, y) = (Some("x".to_owned()), Some(5));
        assert_eq!(read(r#"["x", 5]"#), Ok((x.clone(), y)));
        assert_eq!(read(r#"["x", "5"]"#), Ok((x.clone(), y)));
        assert_eq!(read(r#"["x", null]"#), Ok((x.clone(), None)));
        assert_eq!(read(r#"{"b": 5, "a": "x"}"#), Ok((x, y)));
        assert_eq!(read(r#"[3]"#), Ok((Some("3".into()), None)));
    }

    #[test]
    fn wrong_params() {
        for (json, want) in [
            ("{}", "missing required parameter: a"),
            ("[]", "missing required parameter: a"),
            ("[null]", "missing required parameter: a"),
            (r#"["x", 5, 6]"#, "too many parameters: got 3, expected 2"),
            (r#"{"a": 1, "a": 2}"#, "duplicate json names: a"),
            (r#"{"b": "x"}"#, "b: should be an unsigned 64 bit integer"),
            ("null", "Expected array or object for params"),
            ("5", "Expected array or object for params"),
        ] {
            assert_eq!(read(json), Err(want.into()), "{json}");
        }
        assert!(
            read(r#"{"c": 1}"#)
                .unwrap_err()
                .starts_with("unknown parameter: c, this may be")
        );
    }

    proptest! {
        #[test]
        fn no_params_panic(json in "[\\[\\]{}\"ab:,0-9.n ]{0,30}") {
            if serde_json::from_str::<Value>(&json).is_ok() {
                let _ = read(json.trim());
            }
        }
    }
}
