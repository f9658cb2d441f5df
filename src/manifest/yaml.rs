//! Text becomes located trees. The only place that knows the YAML reader.
//!
//! The reader decides scalars as YAML 1.1 does, which is what kubectl sees (`yes` is a boolean, `0644` is 420), and it
//! bounds what a hostile text can cost: depth, nodes, aliases. What remains here: positions, keys as kubectl spells
//! them in JSON, and one clear line for a text that is no YAML.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::{Location, Spanned, UserMessageFormatter};

use super::fault::Syntax;
use super::tree::{Entry, Mark, Node, Place, number};

/// What the API server takes as one request (`apiserver/pkg/server/config.go`, MaxRequestBodyBytes); in bytes.
pub const LIMIT: usize = 3 * 1024 * 1024;

/// All documents of a stream in order, without the empty ones. Marks count from the begin of the whole text.
pub fn documents(text: &str) -> Result<Vec<Place>, Syntax> {
    if text.len() > LIMIT {
        return Err(Syntax::new(1, 1, format!("the manifest has {} bytes, more than the {LIMIT} that Kubernetes accepts", text.len())));
    }
    refuse_control_characters(text)?;
    let options = serde_saphyr::options! {
        // A managed field of a printed object goes about 20 deep. The reader recurses: a level costs 6 KiB of stack, but
        // 50 KiB in a debug build, and a thread of a test has 2 MiB.
        budget: serde_saphyr::budget! { max_depth: 28, max_nodes: 200_000, max_events: 500_000, max_aliases: 10_000, max_documents: 1_024 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        // Repeated keys reach the tree, so that every one of them is told, not only the first.
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let found: Vec<Located> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| syntax(&error))?;
    Ok(found.into_iter().map(|located| located.0).filter(|place| !place.is_null()).collect())
}

/// YAML forbids control characters, and a terminal that shows the fault must not obey them.
fn refuse_control_characters(text: &str) -> Result<(), Syntax> {
    let forbidden = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let Some((offset, character)) = text.char_indices().find(|(_, c)| forbidden(*c)) else { return Ok(()) };
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    Err(Syntax::new(line, column, format!("control character U+{:04X} is not allowed in YAML", u32::from(character))))
}

fn syntax(error: &serde_saphyr::Error) -> Syntax {
    let place = error.location().unwrap_or(Location::UNKNOWN);
    let options = serde_saphyr::render_options! { formatter: &UserMessageFormatter, snippets: serde_saphyr::SnippetMode::Off };
    let message = error.render_with_options(options);
    // The place is told by the fault itself.
    let said = message.lines().next().unwrap_or_default();
    let said = said.split(" at line ").next().unwrap_or(said).trim_end_matches([',', ':', ' ']);
    let said = match error.without_snippet() {
        serde_saphyr::Error::UnknownAnchor { .. } => "alias of an anchor that is not defined before it",
        _ if said.contains("recursion limit") || said.contains("Depth {") => "nested too deep",
        _ => said,
    };
    Syntax::new(place.line() as usize, place.column() as usize, said.to_owned())
}

struct Located(Place);

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: Read(node), referenced, .. } = Spanned::<Read>::deserialize(deserializer)?;
        Ok(Located(Place { mark: mark(referenced), node }))
    }
}

fn mark(location: Location) -> Mark {
    Mark { line: location.line() as usize, column: location.column() as usize, length: location.span().len() as usize }
}

struct Read(Node);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Read)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Reader)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Number(Number::from(value))))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Number(Number::from(value))))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Node, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Node, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        number(value).map(Node::Scalar).ok_or_else(|| E::custom("infinity and not-a-number are not values of JSON"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(Located(place)) = items.next_element()? {
            list.push(place);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some((Located(key), Located(value))) = items.next_entry()? {
            let mark = key.mark;
            entries.push(Entry { key: spell(key.node)?, mark, value });
        }
        Ok(Node::Map(entries))
    }
}

/// A key as JSON has it: numbers and booleans in words, as kubectl's converter does; nothing else can be one.
fn spell<E: serde::de::Error>(key: Node) -> Result<String, E> {
    match key {
        Node::Scalar(Value::String(text)) => Ok(text),
        Node::Scalar(Value::Null) => Err(E::custom("a key must not be null")),
        Node::Scalar(value) => Ok(value.to_string()),
        Node::List(_) | Node::Map(_) => Err(E::custom("a key must be a scalar")),
    }
}
