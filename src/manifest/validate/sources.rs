//! What is taken from other objects or from the pod itself: fields, resources, keys that become files (`ValidateDownwardAPI…`,
//! `validateKeyToPath` and their like).

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector, ProjectedVolumeSource, ResourceFieldSelector, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume,
};

use super::names;
use crate::manifest::fault::Findings;
use crate::manifest::path::At;
use crate::manifest::quantity::Quantity;

/// What an environment variable can be.
pub const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// What a file of a volume can be.
const FILE_FIELDS: &[&str] = &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Labels of a field that exist, though neither of the two may have it (`ConvertDownwardAPIFieldLabel`).
const OTHER_FIELDS: &[&str] = &["spec.restartPolicy", "spec.schedulerName", "spec.host", "status.phase"];
const RESOURCES: &[&str] = &["limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"];
const BYTES: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// The volumes that are made of objects.
pub fn volume(volume: &Volume, at: &At, findings: &mut Findings) {
    if let Some(map) = &volume.config_map {
        config_map(map, &at.field("configMap"), findings);
    }
    if let Some(secret) = &volume.secret {
        self::secret(secret, &at.field("secret"), findings);
    }
    if let Some(api) = &volume.downward_api {
        let at = at.field("downwardAPI");
        mode(api.default_mode, &at.field("defaultMode"), findings);
        files(api.items.as_deref(), &at, findings);
    }
    if let Some(projected) = &volume.projected {
        self::projected(projected, &at.field("projected"), findings);
    }
}

fn config_map(map: &ConfigMapVolumeSource, at: &At, findings: &mut Findings) {
    if map.name.is_empty() {
        findings.required(&at.field("name"), "");
    }
    mode(map.default_mode, &at.field("defaultMode"), findings);
    items(map.items.as_deref(), at, findings);
}

fn secret(secret: &SecretVolumeSource, at: &At, findings: &mut Findings) {
    if secret.secret_name.as_deref().unwrap_or_default().is_empty() {
        findings.required(&at.field("secretName"), "");
    }
    mode(secret.default_mode, &at.field("defaultMode"), findings);
    items(secret.items.as_deref(), at, findings);
}

fn projected(projected: &ProjectedVolumeSource, at: &At, findings: &mut Findings) {
    mode(projected.default_mode, &at.field("defaultMode"), findings);
    let mut paths = HashSet::new();
    let all = at.field("sources");
    for (index, source) in projected.sources.iter().flatten().enumerate() {
        let here = all.index(index);
        let mut kinds = 0;
        let objects = [
            source.secret.as_ref().map(|secret| ("secret", &secret.name, secret.items.as_deref())),
            source.config_map.as_ref().map(|map| ("configMap", &map.name, map.items.as_deref())),
        ];
        for (kind, name, list) in objects.into_iter().flatten() {
            kinds += 1;
            let here = here.field(kind);
            if name.is_empty() {
                findings.required(&here.field("name"), "");
            }
            items(list, &here, findings);
            let twice = list.into_iter().flatten().filter(|item| !item.path.is_empty() && !paths.insert(item.path.as_str()));
            twice.for_each(|_| findings.invalid(at, name, "conflicting duplicate paths"));
        }
        if let Some(api) = &source.downward_api {
            kinds += 1;
            files(api.items.as_deref(), &here.field("downwardAPI"), findings);
            for item in api.items.iter().flatten().filter(|item| !item.path.is_empty() && !paths.insert(item.path.as_str())) {
                findings.invalid(at, &item.path, "conflicting duplicate paths");
            }
        }
        if let Some(asked) = &source.service_account_token {
            token(asked, &here.field("serviceAccountToken"), findings);
        }
        kinds += i32::from(source.service_account_token.is_some()) + i32::from(source.cluster_trust_bundle.is_some());
        if kinds > 1 {
            findings.forbidden(&here, "may not specify more than 1 volume type per source");
        }
    }
}

fn token(asked: &ServiceAccountTokenProjection, at: &At, findings: &mut Findings) {
    match asked.expiration_seconds {
        Some(seconds) if seconds < 10 * 60 => findings.invalid(&at.field("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes"),
        Some(seconds) if seconds > 1 << 32 => findings.invalid(&at.field("expirationSeconds"), seconds, "may not specify a duration larger than 2^32 seconds"),
        _ => {}
    }
    match asked.path.as_str() {
        "" => findings.required(&at.field("path"), ""),
        path => local_path(path, &at.field("path"), findings),
    }
}

fn items(items: Option<&[KeyToPath]>, at: &At, findings: &mut Findings) {
    let all = at.field("items");
    for (index, item) in items.into_iter().flatten().enumerate() {
        let at = all.index(index);
        if item.key.is_empty() {
            findings.required(&at.field("key"), "");
        }
        match item.path.as_str() {
            "" => findings.required(&at.field("path"), ""),
            path => local_path(path, &at.field("path"), findings),
        }
        mode(item.mode, &at.field("mode"), findings);
    }
}

fn files(items: Option<&[DownwardAPIVolumeFile]>, at: &At, findings: &mut Findings) {
    let all = at.field("items");
    for (index, item) in items.into_iter().flatten().enumerate() {
        let at = all.index(index);
        match item.path.as_str() {
            "" => findings.required(&at.field("path"), ""),
            path => local_path(path, &at.field("path"), findings),
        }
        match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), other) => {
                self::field(field, FILE_FIELDS, &at.field("fieldRef"), findings);
                if other.is_some() {
                    findings.invalid(&at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
                }
            }
            (None, Some(resource)) => self::resource(resource, true, &at.field("resourceFieldRef"), findings),
            (None, None) => findings.required(&at, "one of fieldRef and resourceFieldRef is required"),
        }
        mode(item.mode, &at.field("mode"), findings);
    }
}

fn mode(mode: Option<i32>, at: &At, findings: &mut Findings) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        findings.invalid(at, mode, MODE);
    }
}

/// A path of a file below a volume's root (`ValidateLocalNonReservedPath`): what begins with `..` is the volume's own.
pub fn local_path(path: &str, at: &At, findings: &mut Findings) {
    if path.starts_with('/') {
        findings.invalid(at, path, "must be a relative path");
    }
    if path.split('/').any(|part| part == "..") {
        findings.invalid(at, path, "must not contain '..'");
    } else if path.starts_with("..") {
        findings.invalid(at, path, "must not start with '..'");
    }
}

/// `metadata.labels['key']` as the map and the key.
pub fn subscripted(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['").filter(|(map, _)| !map.is_empty())
}

/// A field of the pod.
pub fn field(field: &ObjectFieldSelector, known: &[&str], at: &At, findings: &mut Findings) {
    let path = field.field_path.as_str();
    let unconverted = |said: String, findings: &mut Findings| findings.invalid(&at.field("fieldPath"), path, format!("error converting fieldPath: {said}"));
    match (field.api_version.as_deref().unwrap_or("v1"), path) {
        (_, "") => return findings.required(&at.field("fieldPath"), ""),
        ("v1", _) => {}
        (version, _) => return unconverted(format!("unsupported pod version: {version}"), findings),
    }
    match subscripted(path) {
        Some(("metadata.annotations", key)) => names::qualified(&key.to_lowercase()).into_iter().for_each(|said| findings.invalid(at, key, said)),
        Some(("metadata.labels", key)) => names::check(key, names::qualified, at, findings),
        Some(_) => unconverted(format!("field label does not support subscript: {path}"), findings),
        None if ![ENV_FIELDS, FILE_FIELDS, OTHER_FIELDS].iter().any(|list| list.contains(&path)) => {
            unconverted(format!("field label not supported: {path}"), findings);
        }
        None if !known.contains(&path) => findings.unsupported(&at.field("fieldPath"), path, known),
        None => {}
    }
}

/// A limit or a request of a container; in a volume it must say of which.
pub fn resource(resource: &ResourceFieldSelector, in_volume: bool, at: &At, findings: &mut Findings) {
    let name = resource.resource.as_str();
    let huge = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if in_volume && resource.container_name.as_deref().unwrap_or_default().is_empty() {
        findings.required(&at.field("containerName"), "");
    } else if name.is_empty() {
        findings.required(&at.field("resource"), "");
    } else if !RESOURCES.contains(&name) && !huge {
        findings.unsupported(&at.field("resource"), name, RESOURCES);
    }
    let Some(divisor) = resource.divisor.as_ref().and_then(|text| Quantity::parse(&text.0).ok()).filter(|divisor| *divisor != Quantity::ZERO) else { return };
    let (kind, values) = match name.split_once('.').map_or("", |(_, kind)| kind) {
        "cpu" => ("cpu", "1m, 1"),
        "memory" => ("memory", BYTES),
        "ephemeral-storage" => ("local ephemeral storage", BYTES),
        _ if huge => ("hugepages", BYTES),
        _ => return,
    };
    // As text, for upstream asks for the canonical one: 1000m is 1, but 1024 is not 1Ki.
    if !values.split(", ").any(|value| value == divisor.to_string()) {
        let values = values.replace("1m, 1", "1m and 1");
        findings.invalid(&at.field("divisor"), name, format!("only divisor's values {values} are supported with the {kind} resource"));
    }
}
