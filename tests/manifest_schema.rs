//! The table of what minipod does against Kubernetes' own types: no field is forgotten, none is invented.
//!
//! A deserializer that answers every question of the types with one example walks through all of a Pod; whatever struct
//! asks, it tells its field names. It goes no deeper than the table judges: below a field that is refused as a whole
//! nothing need be known.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use minipod::manifest::support::{CLAIM, CONFIG_MAP, DAEMON_SET, DEPLOYMENT, JOB, POD, REPLICA_SET, SECRET, SERVICE, STATEFUL_SET, Table, Verdict};
use serde::de::value::{Error, StrDeserializer, UnitDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

#[derive(Clone)]
struct Probe<'s> {
    at: String,
    of: &'static str,
    table: Table,
    seen: &'s RefCell<BTreeSet<(String, String)>>,
}

impl Probe<'_> {
    fn below(&self, name: &str) -> Self {
        let at = match self.at.as_str() {
            "" => name.to_owned(),
            // As in the table, one stands for both.
            at @ ("spec" | "spec.template.spec") if name == "initContainers" || name == "ephemeralContainers" => format!("{at}.containers"),
            at => format!("{at}.{name}"),
        };
        Probe { at, ..self.clone() }
    }

    fn text(&self) -> &'static str {
        match self.at.as_str() {
            "kind" => self.of,
            "apiVersion" if self.of == "Job" => "batch/v1",
            "apiVersion" if ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"].contains(&self.of) => "apps/v1",
            "spec.volumeClaimTemplates[].kind" => "PersistentVolumeClaim",
            // Maybe bytes, as base64; nothing is both.
            at if at.starts_with("data.") || at.starts_with("binaryData.") => "",
            _ => "v1",
        }
    }
}

/// Hands out the fields of a struct, or the single key of a map.
struct Entries<'s> {
    of: Probe<'s>,
    names: Vec<&'static str>,
    current: &'static str,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.names.pop() else { return Ok(None) };
        self.current = name;
        let key: StrDeserializer<'_, Error> = name.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let decided = self.current != "*" && self.of.table.row(&self.of.at, self.current).is_some_and(|row| row.verdict != Verdict::Done);
        match decided {
            true => seed.deserialize(UnitDeserializer::new()),
            false => seed.deserialize(self.of.below(self.current)),
        }
    }
}

struct One<'s>(Option<Probe<'s>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|probe| seed.deserialize(probe)).transpose()
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(true)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i32(1)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(1)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One(Some(Probe { at: format!("{}[]", self.at), ..self })))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Entries { of: self, names: vec!["*"], current: "" })
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.seen.borrow_mut().extend(fields.iter().map(|field| (self.at.clone(), (*field).to_owned())));
        visitor.visit_map(Entries { of: self, names: fields.to_vec(), current: "" })
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

impl fmt::Debug for Probe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at)
    }
}

/// All fields of a kind, as far as they are judged.
fn known<T: for<'de> Deserialize<'de>>(of: &'static str, table: Table) -> BTreeSet<(String, String)> {
    let seen = RefCell::default();
    T::deserialize(Probe { at: String::new(), of, table, seen: &seen }).unwrap();
    seen.into_inner()
}

fn compare(table: Table, known: &BTreeSet<(String, String)>) {
    let unjudged: Vec<_> = known.iter().filter(|(under, field)| table.row(under, field).is_none()).collect();
    assert!(unjudged.is_empty(), "without a verdict: {unjudged:?}");
    let rows = table.rows().flat_map(|row| row.fields.split_whitespace().map(|field| (row.under.to_owned(), field.to_owned())));
    // The keys of a map are the user's, so the types cannot know them.
    let invented: Vec<_> = rows
        .filter(|(under, field)| field != "*" && !under.ends_with("limits") && !under.ends_with("requests") && !known.contains(&(under.clone(), field.clone())))
        .collect();
    assert!(invented.is_empty(), "no such field: {invented:?}");
}

#[test]
fn the_documentation_has_the_table() {
    let made = minipod::cli::validate::markdown(minipod::manifest::support::KINDS);
    let kept = include_str!("../docs/fields.md");
    let line = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(made == kept, "run `minipod validate --fields -o markdown >docs/fields.md`; the first difference is {line:?}");
}

#[test]
fn every_field_of_a_pod_has_a_verdict_and_every_verdict_a_field() {
    let known = known::<Pod>("Pod", POD);
    compare(POD, &known);
    assert!(known.len() > 150, "the walk saw only {} fields", known.len());
}

#[test]
fn every_field_of_a_job_has_a_verdict_and_every_verdict_a_field() {
    let known = known::<Job>("Job", JOB);
    compare(JOB, &known);
    assert!(known.contains(&("spec.template.spec.containers[]".to_owned(), "image".to_owned())), "the walk goes into the template");
}

#[test]
fn every_field_of_a_config_map_and_of_a_secret_has_a_verdict_and_every_verdict_a_field() {
    compare(CONFIG_MAP, &known::<ConfigMap>("ConfigMap", CONFIG_MAP));
    compare(SECRET, &known::<Secret>("Secret", SECRET));
}

#[test]
fn every_field_of_a_claim_and_of_a_service_has_a_verdict_and_every_verdict_a_field() {
    compare(CLAIM, &known::<PersistentVolumeClaim>("PersistentVolumeClaim", CLAIM));
    compare(SERVICE, &known::<Service>("Service", SERVICE));
}

#[test]
fn every_field_of_a_workload_has_a_verdict_and_every_verdict_a_field() {
    compare(DEPLOYMENT, &known::<Deployment>("Deployment", DEPLOYMENT));
    compare(REPLICA_SET, &known::<ReplicaSet>("ReplicaSet", REPLICA_SET));
    compare(STATEFUL_SET, &known::<StatefulSet>("StatefulSet", STATEFUL_SET));
    compare(DAEMON_SET, &known::<DaemonSet>("DaemonSet", DAEMON_SET));
}
