//! Deployments, ReplicaSets, StatefulSets, DaemonSets: `pkg/apis/apps/validation/validation.go`, and that they are made once.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::containers::word;
use super::{claim, metadata, names};
use crate::manifest::fault::{Findings, Kind};
use crate::manifest::path::At;
use crate::manifest::workload::{Stateful, Workload};

/// More pods of one workload than this are refused: a slip, on one machine.
pub const MOST_REPLICAS: i32 = 1000;

pub fn deployment(deployment: &Deployment, findings: &mut Findings) {
    if let Some(strategy) = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()) {
        let at = At::ROOT.field("spec");
        word(strategy.type_.as_deref(), &["Recreate", "RollingUpdate"], &at.field("strategy").field("type"), findings);
    }
    workload(&deployment.into(), findings);
}

pub fn replica_set(set: &ReplicaSet, findings: &mut Findings) {
    workload(&set.into(), findings);
}

pub fn daemon_set(set: &DaemonSet, findings: &mut Findings) {
    workload(&set.into(), findings);
}

pub fn stateful_set(set: &StatefulSet, findings: &mut Findings) {
    let spec = set.spec.clone().unwrap_or_default();
    let at = At::ROOT.field("spec");
    word(spec.pod_management_policy.as_deref(), &["OrderedReady", "Parallel"], &at.field("podManagementPolicy"), findings);
    let policy = spec.persistent_volume_claim_retention_policy.unwrap_or_default();
    let place = at.field("persistentVolumeClaimRetentionPolicy");
    for (field, value) in [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)] {
        word(value.as_deref(), &["Delete", "Retain"], &place.field(field), findings);
    }
    let workload: Workload = set.into();
    if let Some(stateful) = &workload.stateful {
        self::stateful(stateful, &at, findings);
    }
    // Its pods' names, and so the name itself, are hostnames.
    if !workload.name().is_empty() && names::subdomain(workload.name()).is_empty() {
        names::check(workload.name(), names::label, &At::ROOT.field("metadata").field("name"), findings);
    }
    self::workload(&workload, findings);
}

fn stateful(stateful: &Stateful, at: &At, findings: &mut Findings) {
    if stateful.start < 0 {
        findings.invalid(&at.field("ordinals").field("start"), stateful.start, "must be greater than or equal to 0");
    }
    if let Some(service) = &stateful.service {
        names::check(service, names::label, &at.field("serviceName"), findings);
    }
    let all = at.field("volumeClaimTemplates");
    for (index, template) in stateful.claims.iter().enumerate() {
        let at = all.index(index);
        let metadata = at.field("metadata");
        match template.metadata.name.as_deref().unwrap_or_default() {
            "" => findings.required(&metadata.field("name"), ""),
            name => names::check(name, names::label, &metadata.field("name"), findings),
        }
        if let Some(spec) = &template.spec {
            claim::spec(spec, &at.field("spec"), findings);
        }
    }
}

fn workload(workload: &Workload, findings: &mut Findings) {
    metadata::object(&workload.metadata, &At::ROOT.field("metadata"), findings);
    if workload.metadata.name.as_deref().unwrap_or_default().is_empty() {
        let at = At::ROOT.field("metadata");
        findings.add(at.field("generateName").steps(), Kind::NotSupported, None, "the pods' names are made of metadata.name; give one");
    }
    let at = At::ROOT.field("spec");
    match workload.replicas {
        replicas if replicas < 0 => findings.invalid(&at.field("replicas"), replicas, "must be greater than or equal to 0"),
        replicas if replicas > MOST_REPLICAS => {
            findings.add(at.field("replicas").steps(), Kind::NotSupported, Some(replicas.to_string()), format!("at most {MOST_REPLICAS} on one machine"));
        }
        _ => {}
    }
    let template = at.field("template");
    let metadata = template.field("metadata");
    let given = workload.template.metadata.clone().unwrap_or_default();
    let labels = given.labels.unwrap_or_default();
    if workload.selector == LabelSelector::default() {
        findings.required(&at.field("selector"), "");
    } else if !selects(&workload.selector, &labels) {
        findings.invalid(&metadata.field("labels"), &labels, "`selector` does not match template `labels`");
    }
    metadata::labels(&labels, &metadata.field("labels"), findings);
    if let Some(annotations) = &given.annotations {
        metadata::annotations(annotations, &metadata.field("annotations"), findings);
    }
    // With its claims, a StatefulSet's template has all the volumes that its mounts name.
    let pod = workload.pod(0).spec.unwrap_or_default();
    let place = template.field("spec");
    super::spec(&pod, &place, findings);
    if let Some(policy) = pod.restart_policy.as_deref().filter(|policy| *policy != "Always") {
        findings.unsupported(&place.field("restartPolicy"), policy, &["Always"]);
    }
    if pod.active_deadline_seconds.is_some() {
        findings.forbidden(&place.field("activeDeadlineSeconds"), format!("activeDeadlineSeconds in {} is not Supported", workload.kind));
    }
    let count = match workload.replicas {
        1 => "one pod is".to_owned(),
        count => format!("{count} pods are"),
    };
    findings.warn(&at.field("replicas"), format!("{count} made once: no controller is here that would replace, update or scale"));
}

/// Whether a selector finds an object with these labels. An operator that does not exist finds nothing.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|asked| {
            let (value, values) = (labels.get(&asked.key), asked.values.as_deref().unwrap_or_default());
            match asked.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
