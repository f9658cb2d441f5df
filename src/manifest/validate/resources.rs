//! Requests and limits.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::containers::word;
use super::names;
use crate::manifest::default;
use crate::manifest::fault::Findings;
use crate::manifest::huge_pages;
use crate::manifest::path::At;
use crate::manifest::quantity::Quantity;

/// What a pod as a whole can have here, and what of a running container may change.
const OF_PODS: &[&str] = &["cpu", "memory"];
const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];

/// Names that mean something in a ResourceQuota, but not in a container.
const OF_QUOTAS: &[&str] = &[
    "pods",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "storage",
    "services",
    "services.nodeports",
    "services.loadbalancers",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
];

type List<'a> = BTreeMap<&'a str, Quantity>;

/// Whose they are: a pod as a whole shares out less than a container.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Pod,
    Container,
}

pub fn of(resources: &ResourceRequirements, whose: Of, at: &At, findings: &mut Findings) {
    let (limits_at, requests_at) = (at.field("limits"), at.field("requests"));
    let limits = list(resources.limits.as_ref(), whose, &limits_at, findings);
    let requests = list(resources.requests.as_ref(), whose, &requests_at, findings);
    for (name, request) in &requests {
        match limits.get(name) {
            Some(limit) if !may_be_overcommitted(name) && request != limit => {
                findings.invalid(&requests_at.within(name), request.to_string(), format!("must be equal to {name} limit of {limit}"));
            }
            Some(limit) if request > limit => {
                findings.invalid(&requests_at.within(name), request.to_string(), format!("must be less than or equal to {name} limit of {limit}"));
            }
            None if !may_be_overcommitted(name) => {
                findings.required(&limits_at, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    let names = || limits.keys().chain(requests.keys());
    if names().any(|name| huge_pages::is_resource(name)) && !names().any(|name| matches!(*name, "cpu" | "memory")) {
        findings.forbidden(at, "HugePages require cpu or memory");
    }
}

/// The pod as a whole, and that its containers fit into it (`validatePodResourceConsistency`).
pub fn of_pod(spec: &PodSpec, at: &At, findings: &mut Findings) {
    let Some(whole) = &spec.resources else { return };
    let resources_at = at.field("resources");
    of(whole, Of::Pod, &resources_at, findings);
    let amount = |list: &Option<BTreeMap<String, Text>>, name: &str| list.as_ref()?.get(name).and_then(|text| Quantity::parse(&text.0).ok());
    for name in OF_PODS.iter().copied().chain(huge_pages::resources(spec)) {
        if let (Some(request), Some(together)) = (amount(&whole.requests, name), default::together(spec, name))
            && request < together
        {
            let detail = format!("must be greater than or equal to aggregate container requests of {together}");
            findings.invalid(&resources_at.field("requests").key(name), request.to_string(), detail);
        }
        let Some(limit) = amount(&whole.limits, name) else { continue };
        for (index, container) in spec.containers.iter().enumerate() {
            if let Some(own) = container.resources.as_ref().and_then(|resources| amount(&resources.limits, name)).filter(|own| *own > limit) {
                // Upstream's own path leads into spec.resources, where there is no container.
                let (containers, detail) = (at.field("containers"), format!("must be less than or equal to pod limits of {limit}"));
                findings.invalid(&containers.index(index).field("resources").field("limits").key(name), own.to_string(), detail);
            }
        }
    }
}

/// What a change of resources means for the container (`validateResizePolicy`). Upstream names the item only of a duplicate.
pub fn resize_policy(container: &Container, restart_policy: Option<&str>, at: &At, findings: &mut Findings) {
    let mut known = HashSet::new();
    for (index, policy) in container.resize_policy.iter().flatten().enumerate() {
        if !known.insert(&policy.resource_name) {
            findings.duplicate(&at.index(index), &policy.resource_name);
        }
        match policy.resource_name.as_str() {
            "" => findings.required(at, ""),
            name => word(Some(name), OF_PODS, at, findings),
        }
        match policy.restart_policy.as_str() {
            "" => findings.required(at, ""),
            "RestartContainer" if restart_policy == Some("Never") => {
                findings.invalid(at, "RestartContainer", "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
            }
            known => word(Some(known), &["NotRequired", "RestartContainer"], at, findings),
        }
    }
}

fn list<'a>(given: Option<&'a BTreeMap<String, Text>>, whose: Of, at: &At, findings: &mut Findings) -> List<'a> {
    let mut list = List::new();
    for (name, text) in given.into_iter().flatten() {
        let at = at.key(name);
        self::name(name, whose, &at, findings);
        match Quantity::parse(&text.0) {
            Err(said) => findings.invalid(&at, &text.0, said),
            Ok(amount) => {
                amount_of(name, amount, &at, findings);
                list.insert(name, amount);
            }
        }
    }
    list
}

/// `validateContainerResourceName` and `validatePodResourceName`.
fn name(name: &str, whose: Of, at: &At, findings: &mut Findings) {
    let wrong = names::qualified(name);
    let right = wrong.is_empty();
    wrong.into_iter().for_each(|said| findings.invalid(at, name, said));
    let plain = !name.contains('/');
    let known = STANDARD.contains(&name) || OF_QUOTAS.contains(&name) || huge_pages::is_resource(name);
    if right && plain && !known {
        findings.invalid(at, name, "must be a standard resource type or fully qualified");
    }
    match whose {
        Of::Pod if right && (known || !plain) && !matches!(name, "cpu" | "memory") && !huge_pages::is_resource(name) => {
            findings.unsupported(at, name, &["cpu", "hugepages-", "memory"]);
        }
        Of::Container if plain && !STANDARD.contains(&name) && !huge_pages::is_resource(name) => {
            findings.invalid(at, name, "must be a standard resource for containers")
        }
        Of::Container if !plain && !may_be_overcommitted(name) && name.starts_with("requests.") => {
            findings.invalid(at, name, "doesn't follow extended resource name standard");
        }
        _ => {}
    }
}

fn amount_of(name: &str, amount: Quantity, at: &At, findings: &mut Findings) {
    if amount.is_negative() {
        findings.invalid(at, amount.to_string(), "must be greater than or equal to 0");
    }
    if !may_be_overcommitted(name) && !amount.is_whole() {
        findings.invalid(at, amount.to_string(), "must be an integer");
    }
    if huge_pages::is_resource(name) && !is_whole_pages(name, amount) {
        findings.invalid(at, amount.to_string(), format!("{amount} is not positive integer multiple of {name}"));
    }
    if matches!(name, "memory" | "ephemeral-storage") && !amount.is_whole() {
        findings.warn(at, format!("fractional byte value \"{amount}\" is invalid, must be an integer"));
    }
}

/// `IsHugePageResourceValueDivisible`: nothing at all is a multiple as well.
fn is_whole_pages(name: &str, amount: Quantity) -> bool {
    huge_pages::page_size(name).is_some_and(|size| u64::try_from(amount.bytes()).is_ok_and(|bytes| bytes.is_multiple_of(size)))
}

/// More may be requested than there is only of what the node itself shares out: its own kinds, and not huge pages.
fn may_be_overcommitted(name: &str) -> bool {
    let native = !name.contains('/') || name.split('/').next().is_some_and(|prefix| prefix == "kubernetes.io" || prefix.ends_with(".kubernetes.io"));
    native && !huge_pages::is_resource(name)
}
