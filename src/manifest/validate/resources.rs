//! Requests and limits.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::names;
use crate::manifest::fault::Findings;
use crate::manifest::path::At;
use crate::manifest::quantity::Quantity;

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
    if names().any(|name| is_huge(name)) && !names().any(|name| matches!(*name, "cpu" | "memory")) {
        findings.forbidden(at, "HugePages require cpu or memory");
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
    let known = STANDARD.contains(&name) || OF_QUOTAS.contains(&name) || is_huge(name);
    if right && plain && !known {
        findings.invalid(at, name, "must be a standard resource type or fully qualified");
    }
    match whose {
        Of::Pod if right && (known || !plain) && !matches!(name, "cpu" | "memory") && !is_huge(name) => {
            findings.unsupported(at, name, &["cpu", "hugepages-", "memory"]);
        }
        Of::Container if plain && !STANDARD.contains(&name) && !is_huge(name) => findings.invalid(at, name, "must be a standard resource for containers"),
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
    if matches!(name, "memory" | "ephemeral-storage") && !amount.is_whole() {
        findings.warn(at, format!("fractional byte value \"{amount}\" is invalid, must be an integer"));
    }
}

/// More may be requested than there is only of what the node itself shares out: its own kinds, and not huge pages.
fn may_be_overcommitted(name: &str) -> bool {
    let native = !name.contains('/') || name.split('/').next().is_some_and(|prefix| prefix == "kubernetes.io" || prefix.ends_with(".kubernetes.io"));
    native && !is_huge(name)
}

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}
