//! A YAML document as a tree that remembers where everything stood.
//!
//! ```text
//! text ── yaml.rs ──> Place { mark, node } ── json() ──> serde_json::Value ── decode.rs ──> Pod
//!                        ^
//!                        └── find(path): a fault found much later still points at its key or value
//! ```
//!
//! Scalars are already what kubectl makes of them (YAML 1.1 booleans and octals, whole floats as integers); aliases and
//! merge keys are expanded, and what came from one is marked where it is used.

use serde_json::{Map, Number, Value};

use super::path::Step;

/// Where something stands: line and column are 1-based and count characters; `length` is in characters too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub line: usize,
    pub column: usize,
    pub length: usize,
}

/// A node and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub mark: Mark,
    pub node: Node,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// null, a boolean, a number or a string; never a list or an object.
    Scalar(Value),
    List(Vec<Place>),
    /// In the order of the text; a key that is given twice is here twice.
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub mark: Mark,
    pub value: Place,
}

impl Place {
    /// The last entry of this name, as the last one is what a lenient reader keeps.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.node {
            Node::Map(entries) => entries.iter().rev().find(|entry| entry.key == key),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Place> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub fn text(&self) -> Option<&str> {
        match &self.node {
            Node::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.node, Node::Scalar(Value::Null))
    }

    /// Where the field at `path` stands: its key or its value; for a field that is not there, the nearest thing around it
    /// that is. An element of a list is where its first key is.
    pub fn find(&self, path: &[Step], at_key: bool) -> Mark {
        let (mut here, mut nearest) = (self, self.mark);
        for (depth, step) in path.iter().enumerate() {
            let last = depth + 1 == path.len();
            let next = match (step, &here.node) {
                (Step::Index(index), Node::List(items)) => items.get(*index).map(|item| (item.mark, item)),
                (Step::Field(key) | Step::Key(key) | Step::Within(key), Node::Map(_)) => here.entry(key).map(|entry| {
                    let scalar = matches!(entry.value.node, Node::Scalar(ref value) if !value.is_null());
                    (if scalar && last && !at_key { entry.value.mark } else { entry.mark }, &entry.value)
                }),
                _ => None,
            };
            let Some((mark, place)) = next else { return nearest };
            (nearest, here) = (mark, place);
        }
        nearest
    }

    /// The JSON that kubectl would send. Of a key that is given twice the last value stays.
    pub fn json(&self) -> Value {
        match &self.node {
            Node::Scalar(value) => value.clone(),
            Node::List(items) => Value::Array(items.iter().map(Place::json).collect()),
            Node::Map(entries) => Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.json())).collect::<Map<_, _>>()),
        }
    }
}

/// A float as JSON: a whole one becomes an integer, since kubectl's YAML reader makes `08` and `1e3` integers.
pub fn number(value: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Some(Value::Number(Number::from(value as i64)));
    }
    Number::from_f64(value).map(Value::Number)
}
