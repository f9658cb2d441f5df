//! The object itself: name, namespace, labels, annotations.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::names;
use crate::manifest::fault::Findings;
use crate::manifest::path::At;

/// All keys and values of the annotations together, in bytes.
const MOST_ANNOTATIONS: usize = 256 * 1024;

pub fn object(metadata: &ObjectMeta, at: &At, findings: &mut Findings) {
    let name = metadata.name.as_deref().unwrap_or_default();
    let prefix = metadata.generate_name.as_deref().unwrap_or_default();
    if !prefix.is_empty() {
        // Five characters follow, so a hyphen may end it.
        let whole = prefix.strip_suffix('-').map(|rest| format!("{rest}a"));
        for said in names::subdomain(whole.as_deref().unwrap_or(prefix)) {
            findings.invalid(&at.field("generateName"), prefix, said);
        }
    }
    match (name, prefix) {
        ("", "") => findings.required(&at.field("name"), "name or generateName is required"),
        ("", _) => {}
        _ => names::check(name, names::subdomain, &at.field("name"), findings),
    }
    names::check_if_set(metadata.namespace.as_ref(), names::label, &at.field("namespace"), findings);
    if let Some(labels) = &metadata.labels {
        self::labels(labels, &at.field("labels"), findings);
    }
    if let Some(annotations) = &metadata.annotations {
        self::annotations(annotations, &at.field("annotations"), findings);
    }
}

pub fn labels(labels: &BTreeMap<String, String>, at: &At, findings: &mut Findings) {
    for (key, value) in labels {
        names::check(key, names::qualified, &at.within(key), findings);
        names::check(value, names::label_value, &at.within(key), findings);
    }
}

pub fn annotations(annotations: &BTreeMap<String, String>, at: &At, findings: &mut Findings) {
    for key in annotations.keys() {
        // Upper case is allowed in the prefix, for history's sake.
        for said in names::qualified(&key.to_lowercase()) {
            findings.invalid(&at.within(key), key, said);
        }
    }
    if annotations.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MOST_ANNOTATIONS {
        findings.too_long(at, MOST_ANNOTATIONS);
    }
}
