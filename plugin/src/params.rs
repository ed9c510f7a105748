//! A method's parameters, by name or by position, refused as by lightningd.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::cursor::Cursor;
use crate::stdout::INVALID_PARAMS;

/// An error that a method answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The JSON-RPC code.
    pub code: i64,
    /// One line.
    pub message: String,
}

impl fmt::Display for Error {
    /// As JSON: cln-plugin finds the code in there.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        json!({"code": self.code, "message": self.message}).fmt(f)
    }
}

impl std::error::Error for Error {}

/// An error with a code.
pub fn error(code: i64, message: impl Into<String>) -> Error {
    Error {
        code,
        message: message.into(),
    }
}

/// The parameters of one call.
#[derive(Debug)]
pub struct Params(Map<String, Value>);

impl Params {
    /// Takes them as lightningd gave them: an object, or an array in the order
    /// of `names`. `null` stands for one that is left out.
    ///
    /// # Errors
    /// Too many, or one that is not among the names.
    pub fn read(params: Value, names: &[&str]) -> Result<Self, Error> {
        let mut map = match params {
            Value::Object(map) => map,
            Value::Array(values) if values.len() > names.len() => {
                return Err(error(
                    INVALID_PARAMS,
                    format!(
                        "too many parameters: got {}, expected {}",
                        values.len(),
                        names.len()
                    ),
                ));
            }
            Value::Array(values) => names
                .iter()
                .map(|&name| name.to_owned())
                .zip(values)
                .collect(),
            Value::Null => Map::new(),
            _ => {
                return Err(error(
                    INVALID_PARAMS,
                    "params: should be an object or an array",
                ));
            }
        };
        map.retain(|_, value| !value.is_null());
        match map.keys().find(|key| !names.contains(&key.as_str())) {
            Some(unknown) => Err(error(
                INVALID_PARAMS,
                format!("unknown parameter: {unknown}"),
            )),
            None => Ok(Self(map)),
        }
    }

    /// A whole number from 0 on; lightning-cli may send it as text.
    ///
    /// # Errors
    /// It is something else, or above `most`.
    pub fn number(&self, name: &str, most: u64) -> Result<Option<u64>, Error> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let number = value
            .as_u64()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
            .filter(|number| *number <= most);
        match number {
            Some(number) => Ok(Some(number)),
            None if most == u64::MAX => Err(bad(name, "should be an integer", value)),
            None => Err(bad(
                name,
                &format!("should be an integer from 0 to {most}"),
                value,
            )),
        }
    }

    /// A place in the order of the records.
    ///
    /// # Errors
    /// It is something else.
    pub fn cursor(&self, name: &str) -> Result<Option<Cursor>, Error> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let cursor = value.as_str().and_then(|text| text.parse().ok());
        let wrong = || bad(name, "should be a cursor, epoch:seq", value);
        cursor.ok_or_else(wrong).map(Some)
    }

    /// `true` or `false`; lightning-cli may send it as text. `false` if it is left out.
    ///
    /// # Errors
    /// It is something else.
    pub fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.0.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(value) => Err(bad(name, "should be 'true' or 'false'", value)),
        }
    }

    /// Both cannot be had.
    ///
    /// # Errors
    /// Both are given.
    pub fn not_both(&self, one: &str, other: &str) -> Result<(), Error> {
        if self.0.contains_key(one) && self.0.contains_key(other) {
            let message = format!("{one}: cannot be given together with {other}");
            return Err(error(INVALID_PARAMS, message));
        }
        Ok(())
    }

    /// One of these words.
    ///
    /// # Errors
    /// It is something else.
    pub fn word<'w>(&self, name: &str, words: &[&'w str]) -> Result<Option<&'w str>, Error> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let found = words.iter().find(|word| value.as_str() == Some(word));
        match found {
            Some(word) => Ok(Some(word)),
            None => {
                let words = words.join("' or '");
                Err(bad(name, &format!("should be '{words}'"), value))
            }
        }
    }

    /// Names: one, several with commas between, or an array of them.
    ///
    /// # Errors
    /// It is something else.
    pub fn names(&self, name: &str) -> Result<Vec<String>, Error> {
        let wrong = |value| bad(name, "should be a name, or an array of names", value);
        let texts = match self.0.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => vec![text.as_str()],
            Some(value @ Value::Array(values)) => values
                .iter()
                .map(|one| one.as_str().ok_or_else(|| wrong(value)))
                .collect::<Result<_, _>>()?,
            Some(value) => return Err(wrong(value)),
        };
        let names = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
        Ok(names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect())
    }
}

/// In lightningd's words: the parameter, what it should be, what it was.
fn bad(name: &str, should: &str, value: &Value) -> Error {
    error(
        INVALID_PARAMS,
        format!("{name}: {should}: invalid token {value}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NAMES: &[&str] = &["topic", "since"];

    fn refused(params: Value) -> Value {
        let error = match Params::read(params, NAMES) {
            Err(error) => error,
            Ok(params) => params.number("since", 9).unwrap_err(),
        };
        serde_json::from_str(&error.to_string()).unwrap()
    }

    #[test]
    fn by_name_by_position_and_left_out() {
        for params in [
            json!({"topic": "a", "since": 3}),
            json!(["a", 3]),
            json!(["a", "3"]),
        ] {
            let params = Params::read(params, NAMES).unwrap();
            assert_eq!(params.names("topic").unwrap(), ["a"]);
            assert_eq!(params.number("since", 9).unwrap(), Some(3));
        }
        for params in [
            json!({}),
            json!([]),
            json!(null),
            json!([null]),
            json!({"topic": null}),
        ] {
            let params = Params::read(params, NAMES).unwrap();
            assert!(params.names("topic").unwrap().is_empty());
        }
        let several = Params::read(json!([["a", "b, c"]]), NAMES).unwrap();
        assert_eq!(several.names("topic").unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn refused_as_lightningd_does() {
        let message = |params| {
            let error = refused(params);
            assert_eq!(error["code"], -32602);
            error["message"].as_str().unwrap().to_owned()
        };
        assert_eq!(
            message(json!([1, 2, 3])),
            "too many parameters: got 3, expected 2"
        );
        assert_eq!(message(json!({"foo": 1})), "unknown parameter: foo");
        assert_eq!(
            message(json!({"since": -1})),
            "since: should be an integer from 0 to 9: invalid token -1"
        );
    }
}
