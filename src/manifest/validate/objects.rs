//! ConfigMaps and Secrets (`ValidateConfigMap`, `ValidateSecret`).

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::{metadata, names};
use crate::manifest::fault::Findings;
use crate::manifest::path::At;

/// All values of one object together, in bytes (`MaxSecretSize`).
const MOST: usize = 1 << 20;

/// What a type of Secret must have (`core/types.go`).
const NEEDED: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

pub fn config_map(map: &ConfigMap, findings: &mut Findings) {
    metadata::object(&map.metadata, &At::ROOT.field("metadata"), findings);
    let (data, binary) = (At::ROOT.field("data"), At::ROOT.field("binaryData"));
    for key in map.data.iter().flatten().map(|(key, _)| key) {
        names::check(key, names::data_key, &data.key(key), findings);
        if map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
            findings.invalid(&data.key(key), key, "duplicate of key present in binaryData");
        }
    }
    for key in map.binary_data.iter().flatten().map(|(key, _)| key) {
        names::check(key, names::data_key, &binary.key(key), findings);
        if map.data.as_ref().is_some_and(|data| data.contains_key(key)) {
            findings.invalid(&binary.key(key), key, "duplicate of key present in data");
        }
    }
    let texts = map.data.iter().flatten().map(|(_, text)| text.len());
    if texts.chain(map.binary_data.iter().flatten().map(|(_, bytes)| bytes.0.len())).sum::<usize>() > MOST {
        findings.too_long(&data, MOST);
    }
}

/// Judges what `stringData` has become part of.
pub fn secret(secret: &Secret, findings: &mut Findings) {
    metadata::object(&secret.metadata, &At::ROOT.field("metadata"), findings);
    let at = At::ROOT.field("data");
    for key in secret.data.iter().flatten().map(|(key, _)| key) {
        names::check(key, names::data_key, &at.key(key), findings);
    }
    if secret.data.iter().flatten().map(|(_, bytes)| bytes.0.len()).sum::<usize>() > MOST {
        findings.too_long(&at, MOST);
    }
    let has = |key: &str| secret.data.as_ref().is_some_and(|data| data.contains_key(key));
    let type_ = secret.type_.as_deref().unwrap_or_default();
    let needed = NEEDED.iter().filter(|(known, _)| *known == type_).flat_map(|(_, keys)| *keys);
    needed.filter(|key| !has(key)).for_each(|key| findings.required(&at.key(key), ""));
    if type_ == "kubernetes.io/basic-auth" && !has("username") && !has("password") {
        ["username", "password"].iter().for_each(|key| findings.required(&at.key(key), ""));
    }
}
