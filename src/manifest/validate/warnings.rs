//! What the API server only warns of (`pkg/api/pod/warnings.go`): legal, but probably not meant. Two more of its warnings, on
//! twice defined variables and on fractional bytes, are found where these are judged.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodAffinityTerm, PodSpec, ProjectedVolumeSource, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::manifest::fault::Findings;
use crate::manifest::path::At;

const NO_MATCH: &str = "a null labelSelector results in matching no pod";

/// `at` is the object that has `metadata` and `spec`: the Pod, or a template.
pub fn pod(metadata: &ObjectMeta, spec: &PodSpec, at: &At, findings: &mut Findings) {
    annotations(metadata, spec, &at.field("metadata").field("annotations"), findings);
    let at = at.field("spec");
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        self::volume(volume, &at.field("volumes").index(index), findings);
    }
    twice(spec, &at, findings);
    ports(spec, &at, findings);
    selectors(spec, &at, findings);
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        findings.warn(&at.field("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1");
    }
}

/// Fields were annotations once, and are silently nothing now.
fn annotations(metadata: &ObjectMeta, spec: &PodSpec, at: &At, findings: &mut Findings) {
    let no_profile = |container: &Container| container.security_context.as_ref().is_none_or(|context| context.seccomp_profile.is_none());
    for key in metadata.annotations.iter().flatten().map(|(key, _)| key.as_str()) {
        let of_container = |prefix: &str| key.strip_prefix(prefix).and_then(|name| all(spec).find(|(_, _, container)| container.name == name));
        let said = match key {
            "scheduler.alpha.kubernetes.io/critical-pod" => "non-functional in v1.16+; use the \"priorityClassName\" field instead",
            "security.alpha.kubernetes.io/sysctls" | "security.alpha.kubernetes.io/unsafe-sysctls" => {
                "non-functional in v1.11+; use the \"sysctls\" field instead"
            }
            "seccomp.security.alpha.kubernetes.io/pod" if spec.security_context.as_ref().is_none_or(|context| context.seccomp_profile.is_none()) => {
                "non-functional in v1.27+; use the \"seccompProfile\" field instead"
            }
            _ if of_container("container.seccomp.security.alpha.kubernetes.io/").is_some_and(|(_, _, container)| no_profile(container)) => {
                "non-functional in v1.27+; use the \"seccompProfile\" field instead"
            }
            _ => continue,
        };
        findings.warn(&at.key(key), said);
    }
}

/// Kinds of volumes that are on their way out, or gone.
fn volume(volume: &Volume, at: &At, findings: &mut Findings) {
    for (field, set, said) in [
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some(), "deprecated in v1.11, non-functional in v1.16+"),
        ("gitRepo", volume.git_repo.is_some(), "deprecated in v1.11"),
        ("scaleIO", volume.scale_io.is_some(), "deprecated in v1.16, non-functional in v1.22+"),
        ("flocker", volume.flocker.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("storageos", volume.storageos.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("quobyte", volume.quobyte.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", volume.glusterfs.is_some(), "deprecated in v1.25, non-functional in v1.26+"),
        ("cephfs", volume.cephfs.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
        ("rbd", volume.rbd.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if set {
            findings.warn(&at.field(field), said);
        }
    }
    if let Some(projected) = &volume.projected {
        tokens(projected, &at.field("projected").field("sources"), findings);
    }
}

/// A file that stands where a token goes.
fn tokens(projected: &ProjectedVolumeSource, at: &At, findings: &mut Findings) {
    let sources = projected.sources.as_deref().unwrap_or_default();
    let taken: HashSet<&str> = sources.iter().filter_map(|source| Some(source.service_account_token.as_ref()?.path.as_str())).collect();
    for (index, source) in sources.iter().enumerate() {
        let map = source.config_map.iter().flat_map(|map| map.items.iter().flatten().map(|item| item.path.as_str()));
        let secret = source.secret.iter().flat_map(|secret| secret.items.iter().flatten().map(|item| item.path.as_str()));
        let api = source.downward_api.iter().flat_map(|api| api.items.iter().flatten().map(|item| item.path.as_str()));
        for path in map.chain(secret).chain(api).filter(|path| taken.contains(path)) {
            findings.warn(&at.index(index), format_args!("has duplicated path with ServiceAccountToken {path:?}"));
        }
    }
}

fn twice(spec: &PodSpec, at: &At, findings: &mut Findings) {
    let (mut addresses, mut names) = (HashSet::new(), HashSet::new());
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        if !addresses.insert(&alias.ip) {
            findings.warn(&at.field("hostAliases").index(index).field("ip"), format_args!("duplicate ip {:?}", alias.ip));
        }
    }
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        let at = at.field("imagePullSecrets");
        let at = at.index(index);
        match secret.name.as_str() {
            "" => findings.warn(&at.field("name"), "invalid empty name \"\""),
            name if !names.insert(name) => findings.warn(&at.field("name"), format_args!("duplicate name {name:?}")),
            _ => {}
        }
    }
}

/// Init containers first, as upstream visits them: list, index, container.
fn all(spec: &PodSpec) -> impl Iterator<Item = (&'static str, usize, &Container)> {
    let inits = spec.init_containers.iter().flatten().enumerate().map(|(index, container)| ("initContainers", index, container));
    inits.chain(spec.containers.iter().enumerate().map(|(index, container)| ("containers", index, container)))
}

/// Ports of all containers together: they share one network.
fn ports(spec: &PodSpec, at: &At, findings: &mut Findings) {
    let mut known: BTreeMap<(i32, &str), Vec<(String, &ContainerPort)>> = BTreeMap::new();
    for (list, index, container) in all(spec) {
        let containers = at.field(list);
        let container_at = containers.index(index);
        let all = container_at.field("ports");
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let at = all.index(index);
            let (host, ip) = (port.host_port.unwrap_or_default(), port.host_ip.as_deref().unwrap_or_default());
            if host == 0 && !ip.is_empty() {
                findings.warn(&at, "hostIP set without hostPort");
            }
            let others = known.entry((port.container_port, port.protocol.as_deref().unwrap_or("TCP"))).or_default();
            for (other_at, other) in others.iter() {
                let (other_host, other_ip) = (other.host_port.unwrap_or_default(), other.host_ip.as_deref().unwrap_or_default());
                if (host, ip) == (other_host, other_ip) {
                    findings.warn(&at, format_args!("duplicate port definition with {other_at}"));
                } else if host == 0 || other_host == 0 {
                    findings.warn(&at, format_args!("overlapping port definition with {other_at}"));
                } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                    findings.warn(&at, format_args!("dangerously ambiguous port definition with {other_at}"));
                }
            }
            // A thousand equal ports are told against the first few, not each against all.
            if others.len() < 8 {
                others.push((at.to_string(), port));
            }
        }
    }
}

/// A selector that is absent selects nothing; an empty one selects everything.
fn selectors(spec: &PodSpec, at: &At, findings: &mut Findings) {
    for (index, spread) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        if spread.label_selector.is_none() {
            findings.warn(&at.field("topologySpreadConstraints").index(index).field("labelSelector"), NO_MATCH);
        }
    }
    let Some(affinity) = &spec.affinity else { return };
    let at = at.field("affinity");
    let pod = affinity
        .pod_affinity
        .as_ref()
        .map(|it| ("podAffinity", &it.required_during_scheduling_ignored_during_execution, &it.preferred_during_scheduling_ignored_during_execution));
    let anti = affinity
        .pod_anti_affinity
        .as_ref()
        .map(|it| ("podAntiAffinity", &it.required_during_scheduling_ignored_during_execution, &it.preferred_during_scheduling_ignored_during_execution));
    let lacks = |term: &PodAffinityTerm| term.label_selector.is_none();
    for (field, required, preferred) in pod.into_iter().chain(anti) {
        let at = at.field(field);
        for (index, _) in required.iter().flatten().enumerate().filter(|(_, term)| lacks(term)) {
            findings.warn(&at.field("requiredDuringSchedulingIgnoredDuringExecution").index(index).field("labelSelector"), NO_MATCH);
        }
        for (index, _) in preferred.iter().flatten().enumerate().filter(|(_, weighted)| lacks(&weighted.pod_affinity_term)) {
            let list = at.field("preferredDuringSchedulingIgnoredDuringExecution");
            findings.warn(&list.index(index).field("podAffinityTerm").field("labelSelector"), NO_MATCH);
        }
    }
}
