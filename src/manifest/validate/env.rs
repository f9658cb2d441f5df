//! Environment variables.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, EnvVarSource};

use crate::manifest::fault::Findings;
use crate::manifest::path::At;

pub fn of(container: &Container, at: &At, findings: &mut Findings) {
    let all = at.field("env");
    let mut known = HashSet::new();
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let at = all.index(index);
        let name = variable.name.as_str();
        if name.is_empty() {
            findings.required(&at.field("name"), "");
        } else if !name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
            // Relaxed in 1.34 (KEP-4369) from C identifiers to what a process can be given.
            let said = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            findings.invalid(&at.field("name"), name, said);
        } else if !known.insert(name) {
            findings.warn(&at, format!("hides previous definition of {name:?}, which may be dropped when using apply"));
        }
        if let Some(source) = &variable.value_from {
            self::source(source, variable.value.as_deref().unwrap_or_default(), &at.field("valueFrom"), findings);
        }
    }
}

fn source(source: &EnvVarSource, value: &str, at: &At, findings: &mut Findings) {
    let given = [
        source.field_ref.is_some(),
        source.resource_field_ref.is_some(),
        source.config_map_key_ref.is_some(),
        source.secret_key_ref.is_some(),
        source.file_key_ref.is_some(),
    ];
    match given.into_iter().filter(|given| *given).count() {
        0 => findings.invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"),
        count if !value.is_empty() && count > 0 => findings.invalid(at, "", "may not be specified when `value` is not empty"),
        1 => {}
        _ => findings.invalid(at, "", "may not have more than one field specified at a time"),
    }
}
