//! Containers: apps, init containers and sidecars, and what they have in common.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{env, handlers, names, ports, resources, restart, security, volumes};
use crate::manifest::fault::Findings;
use crate::manifest::path::At;

pub fn all(spec: &PodSpec, volumes: &HashSet<&str>, at: &At, findings: &mut Findings) {
    let (apps, inits) = (&spec.containers, spec.init_containers.as_deref().unwrap_or_default());
    let (apps_at, inits_at) = (at.field("containers"), at.field("initContainers"));
    if apps.is_empty() {
        findings.required(&apps_at, "");
    }
    let mut known = HashSet::new();
    for (index, container) in apps.iter().enumerate() {
        let at = apps_at.index(index);
        one(container, spec, volumes, &at, findings);
        unique(container, &mut known, &at, findings);
    }
    for (index, container) in inits.iter().enumerate() {
        let at = inits_at.index(index);
        one(container, spec, volumes, &at, findings);
        init(container, &at, findings);
        unique(container, &mut known, &at, findings);
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|all| !all.is_empty()) {
        findings.forbidden(&at.field("ephemeralContainers"), "cannot be set on create");
    }
    ports::conflicts(apps.iter(), &apps_at, findings);
    // Init containers run one after another, so each is only judged against itself.
    for (index, container) in inits.iter().enumerate() {
        ports::conflicts_of(container, &inits_at.index(index), findings);
    }
}

fn unique<'a>(container: &'a Container, known: &mut HashSet<&'a str>, at: &At, findings: &mut Findings) {
    if !container.name.is_empty() && !known.insert(&container.name) {
        findings.duplicate(&at.field("name"), &container.name);
    }
}

fn one(container: &Container, spec: &PodSpec, known: &HashSet<&str>, at: &At, findings: &mut Findings) {
    if container.name.is_empty() {
        findings.required(&at.field("name"), "");
    } else {
        names::check(&container.name, names::label, &at.field("name"), findings);
    }
    match container.image.as_deref().unwrap_or_default() {
        "" => findings.required(&at.field("image"), ""),
        image if image.trim() != image => findings.invalid(&at.field("image"), image, "must not have leading or trailing whitespace"),
        _ => {}
    }
    word(container.image_pull_policy.as_deref(), &["Always", "IfNotPresent", "Never"], &at.field("imagePullPolicy"), findings);
    word(container.termination_message_policy.as_deref(), &["File", "FallbackToLogsOnError"], &at.field("terminationMessagePolicy"), findings);
    ports::of(container, spec.host_network == Some(true), at, findings);
    env::of(container, spec.volumes.as_deref().unwrap_or_default(), at, findings);
    volumes::mounts(container, known, at, findings);
    if let Some(requirements) = &container.resources {
        resources::of(requirements, resources::Of::Container, &at.field("resources"), findings);
    }
    resources::resize_policy(container, container.restart_policy.as_deref().or(spec.restart_policy.as_deref()), &at.field("resizePolicy"), findings);
    security::of(container, spec, at, findings);
    restart::of(container, at, findings);
    handlers::of(container, spec, at, findings);
}

/// A plain init container ends by itself, so nothing may watch or stop it.
fn init(container: &Container, at: &At, findings: &mut Findings) {
    if container.restart_policy.as_deref() == Some("Always") {
        return;
    }
    for (field, set) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if set {
            findings.forbidden(&at.field(field), "may not be set for init containers without restartPolicy=Always");
        }
    }
}

/// A word of a fixed set, where one is given.
pub fn word(word: Option<&str>, known: &[&str], at: &At, findings: &mut Findings) {
    if let Some(word) = word.filter(|word| !known.contains(word)) {
        findings.unsupported(at, word, known);
    }
}
