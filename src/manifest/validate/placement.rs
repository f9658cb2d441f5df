//! Fields that choose a node, a user of the API or an operating system. They have no effect on one machine, but what a
//! cluster would refuse is refused here too, so that a Pod that runs here is accepted there.

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use super::containers::word;
use super::{metadata, names};
use crate::manifest::fault::Findings;
use crate::manifest::path::At;

pub fn pod(spec: &PodSpec, at: &At, findings: &mut Findings) {
    for (field, name) in [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
        ("priorityClassName", &spec.priority_class_name),
        ("runtimeClassName", &spec.runtime_class_name),
    ] {
        names::check_if_set(name.as_ref(), names::subdomain, &at.field(field), findings);
    }
    if let Some(labels) = &spec.node_selector {
        metadata::labels(labels, &at.field("nodeSelector"), findings);
    }
    if let Some(affinity) = &spec.affinity {
        super::affinity::all(affinity, &at.field("affinity"), findings);
    }
    if let Some(constraints) = &spec.topology_spread_constraints {
        super::affinity::spread(constraints, &at.field("topologySpreadConstraints"), findings);
    }
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        self::toleration(toleration, &at.field("tolerations").index(index), findings);
    }
    if let Some(os) = &spec.os {
        let at = at.field("os");
        match os.name.as_str() {
            "" => findings.required(&at.field("name"), "cannot be empty"),
            name => word(Some(name), &["linux", "windows"], &at.field("name"), findings),
        }
    }
}

fn toleration(toleration: &Toleration, at: &At, findings: &mut Findings) {
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, operator, value, effect) = (given(&toleration.key), given(&toleration.operator), given(&toleration.value), given(&toleration.effect));
    if !key.is_empty() {
        names::check(&key, names::qualified, &at.field("key"), findings);
    } else if operator != "Exists" {
        findings.invalid(&at.field("operator"), &operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
    }
    match operator.as_str() {
        "" | "Equal" => names::check(&value, names::label_value, &at.field("value"), findings),
        "Exists" if !value.is_empty() => findings.invalid(&at.field("operator"), toleration, "value must be empty when `operator` is 'Exists'"),
        // Lt and Gt are an alpha of 1.35 and off.
        operator => word(Some(operator), &["Equal", "Exists"], &at.field("operator"), findings),
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        findings.invalid(&at.field("effect"), &effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
    if !effect.is_empty() {
        word(Some(&effect), &["NoSchedule", "PreferNoSchedule", "NoExecute"], &at.field("effect"), findings);
    }
}
