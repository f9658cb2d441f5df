//! What podFailurePolicy says of a failed pod (KEP-3329), and successPolicy of the successes so far (KEP-3998).

use k8s_openapi::api::batch::v1::{PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use super::facts::Facts;
use super::spec::Spec;
use crate::manifest::indexes::Indexes;

/// The first rule that matches a failed pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matched {
    Count,
    Ignore,
    FailIndex,
    /// With the message of the Job's condition.
    FailJob(String),
}

/// What the rules say of the failure of a pod; None: no rule does, and it counts.
pub(super) fn of_failure(spec: &Spec, pod: &str, status: &PodStatus) -> Option<Matched> {
    spec.failure_rules.iter().enumerate().find_map(|(index, rule)| {
        let why = why(rule, spec, pod, status)?;
        Some(match rule.action.as_str() {
            "Ignore" => Matched::Ignore,
            "FailIndex" => Matched::FailIndex,
            "FailJob" => Matched::FailJob(format!("{why} matching FailJob rule at index {index}")),
            _ => Matched::Count,
        })
    })
}

/// That a rule matches, in words.
fn why(rule: &PodFailurePolicyRule, spec: &Spec, pod: &str, status: &PodStatus) -> Option<String> {
    let namespace = &spec.namespace;
    if let Some(wanted) = &rule.on_exit_codes {
        let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        let (container, code) = all.filter_map(|container| Some((&container.name, failed_with(container, wanted)?))).next()?;
        return Some(format!("Container {container} for pod {namespace}/{pod} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let is_wanted = |type_: &str, value: &str| patterns.iter().any(|pattern| pattern.type_ == type_ && pattern.status.as_deref().unwrap_or("True") == value);
    let condition = status.conditions.iter().flatten().find(|condition| is_wanted(&condition.type_, &condition.status))?;
    Some(format!("Pod {namespace}/{pod} has condition {}", condition.type_))
}

/// The exit code of a container if it is a failure that the requirement means. 0 is never one, not even for NotIn.
fn failed_with(container: &ContainerStatus, wanted: &PodFailurePolicyOnExitCodesRequirement) -> Option<i32> {
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let named = wanted.container_name.as_ref().is_none_or(|name| *name == container.name);
    let listed = wanted.values.contains(&code);
    (named && code != 0 && listed == (wanted.operator == "In")).then_some(code)
}

/// The message of the first success rule that is met.
pub(super) fn success(spec: &Spec, facts: &Facts) -> Option<String> {
    let done = facts.succeeded_indexes();
    if done.is_empty() {
        return None;
    }
    let count = |count: Option<i32>| count.and_then(|count| u32::try_from(count).ok());
    let met = spec.success_rules.iter().position(|rule| match &rule.succeeded_indexes {
        None => count(rule.succeeded_count).is_some_and(|count| done.total() >= count),
        Some(text) => {
            // Validation has read it; a list that names nothing is never met.
            let wanted = Indexes::parse(text, spec.completions.unwrap_or_default()).unwrap_or_default();
            let shared = wanted.shared_with(&done);
            !wanted.is_empty() && (shared == wanted.total() || count(rule.succeeded_count).is_some_and(|count| shared >= count))
        }
    })?;
    Some(format!("Matched rules at index {met}"))
}
