//! Volumes, and where containers mount them.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, PodSpec, Volume, VolumeMount};
use serde_json::Value;

use super::names;
use crate::manifest::fault::Findings;
use crate::manifest::huge_pages;
use crate::manifest::path::At;
use crate::manifest::quantity::Quantity;

const HOST_PATH_TYPES: &[&str] = &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Judges every volume and returns the names that a mount can find: those of volumes without a fault, as upstream does.
pub fn all<'v>(spec: &'v PodSpec, at: &At, findings: &mut Findings) -> HashSet<&'v str> {
    let mut known = HashSet::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let at = at.index(index);
        let before = findings.count();
        one(volume, spec, &at, findings);
        if volume.name.is_empty() {
            findings.required(&at.field("name"), "");
        } else {
            names::check(&volume.name, names::label, &at.field("name"), findings);
        }
        if known.contains(volume.name.as_str()) {
            findings.duplicate(&at.field("name"), &volume.name);
        }
        if findings.count() == before {
            known.insert(volume.name.as_str());
        }
    }
    known
}

fn one(volume: &Volume, spec: &PodSpec, at: &At, findings: &mut Findings) {
    for kind in kinds(volume).iter().skip(1) {
        findings.forbidden(&at.field(kind), "may not specify more than 1 volume type");
    }
    if let Some(empty) = &volume.empty_dir {
        empty_dir(empty, spec, &at.field("emptyDir"), findings);
    }
    if let Some(image) = &volume.image {
        let at = at.field("image");
        if image.reference.as_deref().unwrap_or_default().is_empty() {
            findings.required(&at.field("reference"), "");
        }
        super::containers::word(image.pull_policy.as_deref(), &["Always", "IfNotPresent", "Never"], &at.field("pullPolicy"), findings);
    }
    super::sources::volume(volume, at, findings);
    super::claim::volume(volume, at, findings);
    if let Some(host) = &volume.host_path {
        let at = at.field("hostPath");
        match host.path.as_str() {
            "" => findings.required(&at.field("path"), ""),
            path if climbs(path) => findings.invalid(&at.field("path"), path, "must not contain '..'"),
            _ => {}
        }
        super::containers::word(host.type_.as_deref(), HOST_PATH_TYPES, &at.field("type"), findings);
    }
}

/// The API server takes any medium; what the kubelet would not mount (`pkg/volume/emptydir`) is told before anything starts.
fn empty_dir(empty: &EmptyDirVolumeSource, spec: &PodSpec, at: &At, findings: &mut Findings) {
    let medium = empty.medium.as_deref().unwrap_or_default();
    if huge_pages::is_medium(medium) {
        if let Err(said) = huge_pages::page_size_of_medium(spec, medium) {
            findings.invalid(&at.field("medium"), medium, said);
        }
    } else if !matches!(medium, "" | "Memory") {
        findings.unsupported(&at.field("medium"), medium, &["HugePages", "HugePages-", "Memory"]);
    }
    let Some(limit) = &empty.size_limit else { return };
    match Quantity::parse(&limit.0) {
        Err(said) => findings.invalid(&at.field("sizeLimit"), &limit.0, said),
        Ok(size) if size.is_negative() => findings.forbidden(&at.field("sizeLimit"), "SizeLimit field must be a valid resource quantity"),
        Ok(_) => {}
    }
}

/// A token speaks for a service account, so there must be one. Judged apart from the volumes: one that only lacks this is
/// still found by its mounts.
pub fn tokens(spec: &PodSpec, at: &At, findings: &mut Findings) {
    if spec.service_account_name.as_deref().is_some_and(|name| !name.is_empty()) {
        return;
    }
    for (index, projected) in spec.volumes.iter().flatten().enumerate().filter_map(|(index, volume)| Some((index, volume.projected.as_ref()?))) {
        for (source, _) in projected.sources.iter().flatten().enumerate().filter(|(_, source)| source.service_account_token.is_some()) {
            let at = at.index(index);
            let (projected, token) = (at.field("projected"), "serviceAccountToken");
            findings.forbidden(&projected.field("sources").index(source).field(token), "must not be specified when serviceAccountName is not set");
        }
    }
}

/// The names of the sources that a volume has, in the order in which Kubernetes looks at them as far as it can be told.
fn kinds(volume: &Volume) -> Vec<String> {
    let first = ["emptyDir", "hostPath"];
    // A volume is plain data, so it has a JSON; where it had none there would be nothing to judge.
    let Ok(Value::Object(fields)) = serde_json::to_value(volume) else { return Vec::new() };
    let mut kinds: Vec<String> = fields.into_iter().map(|(name, _)| name).filter(|name| name != "name").collect();
    kinds.sort_by_key(|kind| first.iter().position(|known| known == kind).unwrap_or(first.len()));
    kinds
}

fn climbs(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

pub fn mounts(container: &Container, volumes: &HashSet<&str>, at: &At, findings: &mut Findings) {
    let all = at.field("volumeMounts");
    let mut paths = HashSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let at = all.index(index);
        if mount.name.is_empty() {
            findings.required(&at.field("name"), "");
        } else if !volumes.contains(mount.name.as_str()) {
            findings.not_found(&at.field("name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            findings.required(&at.field("mountPath"), "");
        } else if !paths.insert(&mount.mount_path) {
            findings.invalid(&at.field("mountPath"), &mount.mount_path, "must be unique");
        }
        sub_path(mount, &at, findings);
        propagation(container, mount, &at, findings);
    }
}

/// `validateMountPropagation` and `validateMountRecursiveReadOnly`.
fn propagation(container: &Container, mount: &VolumeMount, at: &At, findings: &mut Findings) {
    let wish = mount.mount_propagation.as_deref();
    let place = at.field("mountPropagation");
    super::containers::word(wish, &["Bidirectional", "HostToContainer", "None"], &place, findings);
    let privileged = container.security_context.as_ref().is_some_and(|context| context.privileged == Some(true));
    if wish == Some("Bidirectional") && !privileged {
        findings.forbidden(&place, "Bidirectional mount propagation is available only to privileged containers");
    }
    let place = at.field("recursiveReadOnly");
    super::containers::word(mount.recursive_read_only.as_deref(), &["Disabled", "IfPossible", "Enabled"], &place, findings);
    if matches!(mount.recursive_read_only.as_deref(), Some("IfPossible" | "Enabled")) {
        if mount.read_only != Some(true) {
            findings.forbidden(&place, "may only be specified when readOnly is true");
        }
        if wish.is_some_and(|wish| wish != "None") {
            findings.forbidden(&place, "may only be specified when mountPropagation is None or not specified");
        }
    }
}

fn sub_path(mount: &VolumeMount, at: &At, findings: &mut Findings) {
    let given = |path: &Option<String>| path.as_deref().unwrap_or_default().to_owned();
    let (plain, expression) = (given(&mount.sub_path), given(&mount.sub_path_expr));
    for (field, path) in [("subPath", &plain), ("subPathExpr", &expression)] {
        if path.starts_with('/') {
            findings.invalid(&at.field(field), path, "must be a relative path");
        } else if climbs(path) {
            findings.invalid(&at.field(field), path, "must not contain '..'");
        }
    }
    if !plain.is_empty() && !expression.is_empty() {
        findings.invalid(&at.field("subPathExpr"), &expression, "subPathExpr and subPath are mutually exclusive");
    }
}
