//! Environment variables.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, FileKeySelector, Volume};

use super::{names, sources};
use crate::manifest::fault::Findings;
use crate::manifest::path::At;

pub fn of(container: &Container, volumes: &[Volume], at: &At, findings: &mut Findings) {
    whole_objects(container, at, findings);
    let all = at.field("env");
    let mut known = HashSet::new();
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let at = all.index(index);
        let name = variable.name.as_str();
        if name.is_empty() {
            findings.required(&at.field("name"), "");
        } else {
            names::check(name, names::variable, &at.field("name"), findings);
            // One that is built on the earlier one hides nothing.
            let refers = variable.value.as_deref().is_some_and(|value| value != format!("$({name})") && value.contains(&format!("$({name})")));
            if !known.insert(name) && (variable.value_from.is_some() || !refers) {
                findings.warn(&at, format!("hides previous definition of {name:?}, which may be dropped when using apply"));
            }
        }
        if let Some(source) = &variable.value_from {
            self::source(source, variable.value.as_deref().unwrap_or_default(), volumes, &at.field("valueFrom"), findings);
        }
    }
}

fn source(source: &EnvVarSource, value: &str, volumes: &[Volume], at: &At, findings: &mut Findings) {
    let given = [
        source.field_ref.is_some(),
        source.resource_field_ref.is_some(),
        source.config_map_key_ref.is_some(),
        source.secret_key_ref.is_some(),
        source.file_key_ref.is_some(),
    ];
    match given.into_iter().filter(|given| *given).count() {
        0 => findings.invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"),
        _ if !value.is_empty() => findings.invalid(at, "", "may not be specified when `value` is not empty"),
        1 => {}
        _ => findings.invalid(at, "", "may not have more than one field specified at a time"),
    }
    if let Some(field) = &source.field_ref {
        sources::field(field, sources::ENV_FIELDS, &at.field("fieldRef"), findings);
    }
    if let Some(resource) = &source.resource_field_ref {
        sources::resource(resource, false, &at.field("resourceFieldRef"), findings);
    }
    if let Some(key) = &source.config_map_key_ref {
        self::key(&key.name, &key.key, &at.field("configMapKeyRef"), findings);
    }
    if let Some(key) = &source.secret_key_ref {
        self::key(&key.name, &key.key, &at.field("secretKeyRef"), findings);
    }
    if let Some(file) = &source.file_key_ref {
        self::file(file, volumes, &at.field("fileKeyRef"), findings);
    }
}

/// The key of an object.
fn key(name: &str, key: &str, at: &At, findings: &mut Findings) {
    if name.is_empty() {
        findings.required(&at.field("name"), "");
    }
    match key {
        "" => findings.required(&at.field("key"), ""),
        key => names::check(key, names::data_key, &at.field("key"), findings),
    }
}

/// The key of a file that another container writes into an emptyDir (KEP 3721).
fn file(file: &FileKeySelector, volumes: &[Volume], at: &At, findings: &mut Findings) {
    match file.volume_name.as_str() {
        "" => findings.required(&at.field("volumeName"), ""),
        name => match volumes.iter().find(|volume| volume.name == name) {
            None => findings.not_found(&at.field("volumeName"), name),
            Some(volume) if volume.empty_dir.is_none() => {
                findings.invalid(&at.field("volumeName"), name, "the referenced volume must be of type emptyDir");
            }
            Some(_) => {}
        },
    }
    match file.path.as_str() {
        "" => findings.required(&at.field("path"), ""),
        path => sources::local_path(path, &at.field("path"), findings),
    }
    match file.key.as_str() {
        "" => findings.required(&at.field("key"), ""),
        key => names::check(key, names::variable, &at.field("key"), findings),
    }
}

/// `envFrom` (`ValidateEnvFrom`).
fn whole_objects(container: &Container, at: &At, findings: &mut Findings) {
    let all = at.field("envFrom");
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        let at = all.index(index);
        names::check_if_set(source.prefix.as_ref(), names::variable, &at.field("prefix"), findings);
        let map = source.config_map_ref.as_ref().map(|map| ("configMapRef", &map.name));
        let secret = source.secret_ref.as_ref().map(|secret| ("secretRef", &secret.name));
        for (field, _) in map.iter().chain(&secret).filter(|(_, name)| name.is_empty()) {
            findings.required(&at.field(field).field("name"), "");
        }
        match (map, secret) {
            (None, None) => findings.invalid(&all, "", "must specify one of: `configMapRef` or `secretRef`"),
            (Some(_), Some(_)) => findings.invalid(&all, "", "may not have more than one field specified at a time"),
            _ => {}
        }
    }
}
