//! The shape of a message: its members and their types.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

/// The type of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Type {
    /// The type of a value.
    pub fn of(value: &Value) -> Type {
        match value {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Number(_) => Type::Number,
            Value::String(_) => Type::String,
            Value::Array(_) => Type::Array,
            Value::Object(_) => Type::Object,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Number => "number",
            Type::String => "string",
            Type::Array => "array",
            Type::Object => "object",
        })
    }
}

/// The members of one or more messages, recursively, with the types they have:
/// `params.connect.address.port`, `hops[].next_node`. The elements of an array count as
/// one member, `[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape(BTreeMap<String, BTreeSet<Type>>);

impl Shape {
    /// The shape of a value.
    pub fn of(value: &Value) -> Shape {
        let mut shape = Shape::default();
        shape.add("", value);
        shape
    }

    fn add(&mut self, path: &str, value: &Value) {
        if !path.is_empty() {
            self.0
                .entry(path.to_owned())
                .or_default()
                .insert(Type::of(value));
        }
        match value {
            Value::Object(members) => members.iter().for_each(|(name, member)| {
                let dot = if path.is_empty() { "" } else { "." };
                self.add(&format!("{path}{dot}{name}"), member);
            }),
            Value::Array(elements) => elements
                .iter()
                .for_each(|element| self.add(&format!("{path}[]"), element)),
            _ => {}
        }
    }

    /// This shape with what another has more.
    #[must_use]
    pub fn with(mut self, other: &Shape) -> Shape {
        for (path, types) in &other.0 {
            self.0.entry(path.clone()).or_default().extend(types);
        }
        self
    }

    /// What of this shape another has, too, whatever its type there.
    #[must_use]
    pub fn common(mut self, other: &Shape) -> Shape {
        self.0.retain(|path, _| other.0.contains_key(path));
        self
    }

    /// Every member with its types, by path.
    pub fn members(&self) -> impl Iterator<Item = (&str, &BTreeSet<Type>)> {
        self.0.iter().map(|(path, types)| (path.as_str(), types))
    }

    /// The types of a member; `None` if there is no such member.
    pub fn types(&self, path: &str) -> Option<&BTreeSet<Type>> {
        self.0.get(path)
    }

    /// Leaves out what is in a member, but not the member.
    #[must_use]
    pub fn without(mut self, path: &str) -> Shape {
        self.0.retain(|member, _| {
            !member
                .strip_prefix(path)
                .is_some_and(|rest| rest.starts_with(['.', '[']))
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shape(value: &Value) -> Vec<String> {
        Shape::of(value)
            .members()
            .map(|(path, types)| {
                let types: Vec<String> = types.iter().map(Type::to_string).collect();
                format!("{path} {}", types.join("|"))
            })
            .collect()
    }

    #[test]
    fn members_and_types_recursively() {
        let value = json!({"a": {"b": 1, "c": [null, "x", {"d": true}]}});
        assert_eq!(
            shape(&value),
            [
                "a object",
                "a.b number",
                "a.c array",
                "a.c[] null|string|object",
                "a.c[].d bool"
            ]
        );
        assert!(shape(&json!("x")).is_empty());
    }

    #[test]
    fn shapes_are_joined_and_cut() {
        let (a, b) = (
            Shape::of(&json!({"x": 1, "y": {"z": 1}})),
            Shape::of(&json!({"x": "1"})),
        );
        assert_eq!(a.clone().common(&b).members().count(), 1);
        let both = a.with(&b);
        assert_eq!(both.types("x").map(BTreeSet::len), Some(2));
        let cut = both.without("y");
        assert_eq!(cut.members().count(), 2);
        assert!(cut.types("y.z").is_none());
    }
}
