//! A located tree becomes an object of Kubernetes' types, strictly.
//!
//! The tree goes through `serde_json::Value`, so that types are judged as the API server does, on JSON: `value: yes` is
//! a boolean and no string. The types themselves accept more than the API server; what they let pass is told here:
//!
//! - a field they do not know (all of them, with what was probably meant),
//! - a key that stands twice,
//! - a value of the wrong type: the first ends the reading, so it is replaced and the reading begins again, until all are told.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::fault::{Findings, Kind};
use super::path::Step;
use super::suggest;
use super::support::{self, Table};
use super::tree::{Node, Place};

/// More wrong types than this in one object are not told; each costs one reading.
const MOST_WRONG_TYPES: usize = 20;

/// Reads an object; what is wrong goes to `findings`, and the object is what remains without it.
pub fn object<T: DeserializeOwned + Default>(tree: &Place, table: &Table, findings: &mut Findings) -> T {
    duplicates(tree, &mut Vec::new(), findings);
    let mut json = tree.json();
    let mut told: Vec<(Vec<Step>, usize)> = Vec::new();
    for _ in 0..MOST_WRONG_TYPES * 4 {
        let error = match typed(&json) {
            (Ok(object), unknown) => {
                for path in unknown {
                    if findings.is_full() {
                        break;
                    }
                    unknown_field(path, table, findings);
                }
                return object;
            }
            (Err(error), _) => error,
        };
        let steps = steps_of(error.path());
        let known = told.iter().position(|(path, _)| *path == steps);
        if known.is_none() {
            if told.len() == MOST_WRONG_TYPES {
                break;
            }
            wrong_type(&steps, tree, &error.inner().to_string(), findings);
            told.push((steps.clone(), 0));
        }
        let index = known.unwrap_or(told.len() - 1);
        let (_, next) = &mut told[index];
        let tried = *next;
        *next += 1;
        // An absent field is what fits most often; an element of a list must be something.
        let Some(stand_in) = [Value::Null, Value::from(0), Value::String(String::new()), Value::Object(Default::default())].into_iter().nth(tried) else {
            break;
        };
        match at(&mut json, &steps) {
            Some(place) => *place = stand_in,
            None => break,
        }
    }
    T::default()
}

/// An object as it is kept on disk; the one other way to make one, through the same deserializer, since each kind of it
/// compiles all types of a Pod again.
pub fn from_value<T: DeserializeOwned>(json: &Value) -> Result<T, String> {
    typed(json).0.map_err(|error| error.to_string())
}

type Read<T> = Result<T, serde_path_to_error::Error<serde_json::Error>>;

fn typed<T: DeserializeOwned>(json: &Value) -> (Read<T>, Vec<Vec<Step>>) {
    let mut unknown = Vec::new();
    let mut push = |path: serde_ignored::Path| unknown.push(ignored(&path));
    // As a trait object: a closure would be a deserializer of its own for each kind of object, and a PodSpec is in many.
    let mut note: &mut dyn FnMut(serde_ignored::Path) = &mut push;
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_ignored::Deserializer::new(json, &mut note);
    let read = T::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track));
    (read.map_err(|error| serde_path_to_error::Error::new(track.path(), error)), unknown)
}

fn ignored(path: &serde_ignored::Path) -> Vec<Step> {
    use serde_ignored::Path;
    match path {
        Path::Root => Vec::new(),
        Path::Seq { parent, index } => with(ignored(parent), Step::Index(*index)),
        Path::Map { parent, key } => with(ignored(parent), Step::Field(key.clone())),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => ignored(parent),
    }
}

fn with(mut steps: Vec<Step>, step: Step) -> Vec<Step> {
    steps.push(step);
    steps
}

fn steps_of(path: &serde_path_to_error::Path) -> Vec<Step> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Field(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

fn at<'v>(json: &'v mut Value, steps: &[Step]) -> Option<&'v mut Value> {
    steps.iter().try_fold(json, |here, step| match step {
        Step::Index(index) => here.get_mut(*index),
        Step::Field(name) | Step::Key(name) | Step::Within(name) => here.get_mut(name.as_str()),
    })
}

fn unknown_field(path: Vec<Step>, table: &Table, findings: &mut Findings) {
    let Some((Step::Field(name), parents)) = path.split_last() else { return };
    // The server fills these; whatever an older or newer one wrote there is none of the user's business.
    if matches!(parents.first(), Some(Step::Field(first)) if first == "status") {
        return;
    }
    let suggestion = suggest::for_field(table, &support::pattern(parents), name);
    findings.add(path, Kind::UnknownField, None, "").suggestion = suggestion;
}

fn wrong_type(steps: &[Step], tree: &Place, said: &str, findings: &mut Findings) {
    let place = steps.iter().try_fold(tree, |here, step| match (step, &here.node) {
        (Step::Index(index), Node::List(items)) => items.get(*index),
        (Step::Field(key), Node::Map(_)) => here.get(key),
        _ => None,
    });
    let value = place.and_then(|place| match &place.node {
        Node::Scalar(value) => Some(value.to_string()),
        _ => None,
    });
    let is = place.map_or("something else", |place| match &place.node {
        Node::List(_) => "a list",
        Node::Map(_) => "a mapping",
        Node::Scalar(Value::Null) => "null",
        Node::Scalar(Value::Bool(_)) => "a boolean",
        Node::Scalar(Value::Number(_)) => "a number",
        Node::Scalar(_) => "a string",
    });
    let wanted = said.rsplit_once("expected ").map_or(said, |(_, wanted)| wanted);
    let wanted = wanted.split(" at line ").next().unwrap_or(wanted);
    let detail = match wanted {
        "a string" | "a boolean" | "a map" => format!("must be {}, not {is}", if wanted == "a map" { "a mapping" } else { wanted }),
        "a sequence" => format!("must be a list, not {is}"),
        "i32" | "i64" | "u32" | "u64" | "u16" if is == "a number" => "must be a whole number that fits".to_owned(),
        "i32" | "i64" | "u32" | "u64" | "u16" => format!("must be a whole number, not {is}"),
        "Quantity" => format!("must be a quantity, not {is}"),
        // A type of Kubernetes, by its name.
        other if other.starts_with(|c: char| c.is_ascii_uppercase()) => format!("must be a mapping ({other}), not {is}"),
        _ => said.to_owned(),
    };
    let suggestion = match (wanted, is) {
        ("a string", "a boolean" | "a number") => Some("put it in quotes".to_owned()),
        ("a sequence", "a string") => Some("write it as a list: [\"…\"]".to_owned()),
        _ => None,
    };
    findings.add(steps.to_vec(), Kind::WrongType, value, detail).suggestion = suggestion;
}

/// Tells every repeated key where it stands again.
fn duplicates(place: &Place, steps: &mut Vec<Step>, findings: &mut Findings) {
    match &place.node {
        Node::Scalar(_) => {}
        Node::List(items) => {
            for (index, item) in items.iter().enumerate() {
                steps.push(Step::Index(index));
                duplicates(item, steps, findings);
                steps.pop();
            }
        }
        Node::Map(entries) => {
            let mut seen = std::collections::HashSet::with_capacity(entries.len());
            for entry in entries {
                steps.push(Step::Field(entry.key.clone()));
                if !seen.insert(entry.key.as_str()) {
                    findings.add_at(entry.mark, steps.clone(), Kind::DuplicateField, None, "");
                }
                duplicates(&entry.value, steps, findings);
                steps.pop();
            }
        }
    }
}
