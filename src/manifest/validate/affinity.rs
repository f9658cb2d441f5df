//! Affinity and spread: without effect on one machine, but what a cluster would refuse is refused here too.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Affinity, NodeAffinity, NodeSelectorTerm, PodAffinityTerm, TopologySpreadConstraint, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::containers::word;
use super::{metadata, names};
use crate::manifest::fault::Findings;
use crate::manifest::path::At;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub fn all(affinity: &Affinity, at: &At, findings: &mut Findings) {
    if let Some(node) = &affinity.node_affinity {
        self::node(node, &at.field("nodeAffinity"), findings);
    }
    if let Some(pods) = &affinity.pod_affinity {
        let (required, preferred) = (&pods.required_during_scheduling_ignored_during_execution, &pods.preferred_during_scheduling_ignored_during_execution);
        self::pods(required.as_deref(), preferred.as_deref(), &at.field("podAffinity"), findings);
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        let (required, preferred) = (&pods.required_during_scheduling_ignored_during_execution, &pods.preferred_during_scheduling_ignored_during_execution);
        self::pods(required.as_deref(), preferred.as_deref(), &at.field("podAntiAffinity"), findings);
    }
}

fn node(node: &NodeAffinity, at: &At, findings: &mut Findings) {
    if let Some(selector) = &node.required_during_scheduling_ignored_during_execution {
        let at = at.field(REQUIRED);
        let at = at.field("nodeSelectorTerms");
        if selector.node_selector_terms.is_empty() {
            findings.required(&at, "must have at least one node selector term");
        }
        for (index, term) in selector.node_selector_terms.iter().enumerate() {
            self::term(term, &at.index(index), findings);
        }
    }
    for (index, preferred) in node.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate() {
        let at = at.field(PREFERRED);
        let at = at.index(index);
        weight(preferred.weight, &at, findings);
        term(&preferred.preference, &at.field("preference"), findings);
    }
}

/// `ValidateNodeSelectorRequirement`; `matchFields` knows one field and is left to clusters.
fn term(term: &NodeSelectorTerm, at: &At, findings: &mut Findings) {
    let all = at.field("matchExpressions");
    for (index, wish) in term.match_expressions.iter().flatten().enumerate() {
        let at = all.index(index);
        let values = wish.values.as_deref().unwrap_or_default();
        let values_at = at.field("values");
        match wish.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => findings.required(&values_at, "must be specified when `operator` is 'In' or 'NotIn'"),
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                findings.forbidden(&values_at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Gt" | "Lt" if values.len() != 1 => findings.required(&values_at, "must be specified single value when `operator` is 'Lt' or 'Gt'"),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => findings.invalid(&at.field("operator"), other, "not a valid selector operator"),
        }
        names::check(&wish.key, names::qualified, &at.field("key"), findings);
        for (index, value) in values.iter().enumerate() {
            names::check(value, names::label_value, &values_at.index(index), findings);
        }
    }
}

fn pods(required: Option<&[PodAffinityTerm]>, preferred: Option<&[WeightedPodAffinityTerm]>, at: &At, findings: &mut Findings) {
    let (hard, soft) = (at.field(REQUIRED), at.field(PREFERRED));
    for (index, term) in required.into_iter().flatten().enumerate() {
        of_pods(term, &hard.index(index), findings);
    }
    for (index, weighted) in preferred.into_iter().flatten().enumerate() {
        let at = soft.index(index);
        weight(weighted.weight, &at, findings);
        of_pods(&weighted.pod_affinity_term, &at.field("podAffinityTerm"), findings);
    }
}

fn of_pods(term: &PodAffinityTerm, at: &At, findings: &mut Findings) {
    if let Some(selector) = &term.label_selector {
        self::selector(selector, &at.field("labelSelector"), findings);
    }
    if let Some(selector) = &term.namespace_selector {
        self::selector(selector, &at.field("namespaceSelector"), findings);
    }
    topology(&term.topology_key, &at.field("topologyKey"), findings);
}

fn topology(key: &str, at: &At, findings: &mut Findings) {
    match key {
        "" => findings.required(at, "can not be empty"),
        key => names::check(key, names::qualified, at, findings),
    }
}

fn weight(weight: i32, at: &At, findings: &mut Findings) {
    if !(1..=100).contains(&weight) {
        findings.invalid(&at.field("weight"), weight, "must be in the range 1-100");
    }
}

/// `ValidateLabelSelector`.
fn selector(selector: &LabelSelector, at: &At, findings: &mut Findings) {
    if let Some(labels) = &selector.match_labels {
        metadata::labels(labels, &at.field("matchLabels"), findings);
    }
    let all = at.field("matchExpressions");
    for (index, wish) in selector.match_expressions.iter().flatten().enumerate() {
        let at = all.index(index);
        let given = wish.values.as_ref().is_some_and(|values| !values.is_empty());
        match wish.operator.as_str() {
            "In" | "NotIn" if !given => findings.required(&at.field("values"), "must be specified when `operator` is 'In' or 'NotIn'"),
            "Exists" | "DoesNotExist" if given => {
                findings.forbidden(&at.field("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => findings.invalid(&at.field("operator"), other, "not a valid selector operator"),
        }
        names::check(&wish.key, names::qualified, &at.field("key"), findings);
    }
}

/// `validateTopologySpreadConstraints`.
pub fn spread(constraints: &[TopologySpreadConstraint], at: &At, findings: &mut Findings) {
    let mut known = HashSet::new();
    for (index, constraint) in constraints.iter().enumerate() {
        let at = at.index(index);
        if constraint.max_skew <= 0 {
            findings.invalid(&at.field("maxSkew"), constraint.max_skew, "must be greater than zero");
        }
        topology(&constraint.topology_key, &at.field("topologyKey"), findings);
        let otherwise = constraint.when_unsatisfiable.as_str();
        word(Some(otherwise), &["DoNotSchedule", "ScheduleAnyway"], &at.field("whenUnsatisfiable"), findings);
        if let Some(domains) = constraint.min_domains {
            let at = at.field("minDomains");
            if domains <= 0 {
                findings.invalid(&at, domains, "must be greater than zero");
            }
            if otherwise != "DoNotSchedule" {
                findings.invalid(&at, domains, format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {otherwise}"));
            }
        }
        for (field, policy) in [("nodeAffinityPolicy", &constraint.node_affinity_policy), ("nodeTaintsPolicy", &constraint.node_taints_policy)] {
            word(policy.as_deref(), &["Honor", "Ignore"], &at.field(field), findings);
        }
        if !known.insert((&constraint.topology_key, otherwise)) {
            findings.duplicate(&at, format!("{{{}, {otherwise}}}", constraint.topology_key));
        }
        if let Some(selector) = &constraint.label_selector {
            self::selector(selector, &at.field("labelSelector"), findings);
        }
    }
}
