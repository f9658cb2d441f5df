//! One ConfigMap or Secret as a line of `get`: `printConfigMap` and `printSecret` in `pkg/printers/internalversion/printers.go`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Kind, Line, Listed};
use crate::cli::duration;

/// The cells of an object that is only kept. Never what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    namespace: String,
    /// Name, for a Secret its type, how many keys it has.
    cells: Vec<String>,
    age: String,
}

impl Listed for ConfigMap {
    type Row = ObjectRow;
    const OF: Kind = Kind::ConfigMap;
    const HEADERS: &'static [&'static str] = &["NAME", "DATA", "AGE"];
    const WIDE_HEADERS: &'static [&'static str] = ConfigMap::HEADERS;

    fn row(&self, now: Timestamp) -> ObjectRow {
        let keys = self.data.iter().flatten().count() + self.binary_data.iter().flatten().count();
        row(&self.metadata, None, keys, now)
    }
}

impl Listed for Secret {
    type Row = ObjectRow;
    const OF: Kind = Kind::Secret;
    const HEADERS: &'static [&'static str] = &["NAME", "TYPE", "DATA", "AGE"];
    const WIDE_HEADERS: &'static [&'static str] = Secret::HEADERS;

    fn row(&self, now: Timestamp) -> ObjectRow {
        row(&self.metadata, Some(self.type_.clone().unwrap_or_default()), self.data.iter().flatten().count(), now)
    }
}

fn row(metadata: &ObjectMeta, type_: Option<String>, keys: usize, now: Timestamp) -> ObjectRow {
    let name = metadata.name.clone().unwrap_or_default();
    ObjectRow {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        cells: std::iter::once(name).chain(type_).chain([keys.to_string()]).collect(),
        age: duration::since(metadata.creation_timestamp.as_ref().map(|time| time.0), now),
    }
}

impl Line for ObjectRow {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn cells(&self, _: bool) -> Vec<&str> {
        self.cells.iter().chain([&self.age]).map(String::as_str).collect()
    }

    fn same_but_for_age(&self, other: &ObjectRow) -> bool {
        (&self.namespace, &self.cells) == (&other.namespace, &other.cells)
    }
}
