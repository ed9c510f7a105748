//! `filter` in a request: the parts of a result that the caller wants.

use serde_json::{Map, Value};

use super::error::RpcError;

/// For example `{"peers":[{"id":true}]}`.
#[derive(Debug, PartialEq)]
pub enum Filter {
    All,
    /// These members of an object.
    Object(Vec<(String, Filter)>),
    /// The same of each element of an array.
    Array(Box<Filter>),
}

impl Filter {
    pub fn read(json: &str) -> Result<Self, RpcError> {
        let value: Value = serde_json::from_str(json).unwrap_or_default();
        match value {
            Value::Object(_) => Self::from_value(&value),
            _ => Err(RpcError::bad("filter", "Expected object", json)),
        }
    }

    fn from_value(value: &Value) -> Result<Self, RpcError> {
        match value {
            Value::Bool(true) => Ok(Filter::All),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| Ok((name.clone(), Self::from_value(value)?)))
                .collect::<Result<_, _>>()
                .map(Filter::Object),
            Value::Array(elements) => match elements.as_slice() {
                [one] => Ok(Filter::Array(Box::new(Self::from_value(one)?))),
                _ => Err(RpcError::bad(
                    "filter",
                    "array must have exactly one element",
                    value.to_string(),
                )),
            },
            _ => Err(RpcError::bad(
                "filter",
                "value must be true",
                value.to_string(),
            )),
        }
    }

    /// The wanted parts of `value`.
    pub fn apply(&self, value: Value) -> Value {
        match (self, value) {
            (Filter::Object(wanted), Value::Object(mut members)) => {
                let mut left = Map::new();
                for name in members.keys().cloned().collect::<Vec<_>>() {
                    if let (Some((_, filter)), Some(value)) = (
                        wanted.iter().find(|(n, _)| *n == name),
                        members.remove(&name),
                    ) {
                        left.insert(name, filter.apply(value));
                    }
                }
                Value::Object(left)
            }
            (Filter::Array(filter), Value::Array(elements)) => {
                elements.into_iter().map(|e| filter.apply(e)).collect()
            }
            (_, value) => value,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn only_wanted_parts_remain() {
        let filter = Filter::read(r#"{"peers":[{"id":true}],"a":true}"#).unwrap();
        let value = json!({"peers": [{"id": 1, "x": 2}, {"x": 3}], "a": {"b": 1}, "c": 4});
        assert_eq!(
            filter.apply(value),
            json!({"peers": [{"id": 1}, {}], "a": {"b": 1}})
        );
        for wrong in ["true", "[]", r#"{"a":false}"#, r#"{"a":[true,true]}"#] {
            Filter::read(wrong).unwrap_err();
        }
    }
}
