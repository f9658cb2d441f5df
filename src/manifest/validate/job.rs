//! Jobs: `pkg/apis/batch/validation/validation.go`.

use std::collections::HashSet;

use k8s_openapi::api::batch::v1::{Job, JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicyRule};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::containers::word;
use super::{metadata, names};
use crate::manifest::fault::{Findings, Kind};
use crate::manifest::indexes::Indexes;
use crate::manifest::path::At;

const MOST_PARALLEL_INDEXED: i32 = 100_000;
const MOST_FAILED_INDEXES: i32 = 100_000;
/// Beyond so many completions a limit for each index has tighter bounds.
const MANY_COMPLETIONS: i32 = 100_000;
const MOST_OF_MANY: i32 = 10_000;
/// Rules of either policy, and patterns of one rule.
const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;
const LONGEST_INDEXES: usize = 64 * 1024;

/// Judges a whole, defaulted Job. The selector is made with the uid, so nothing can be wrong with it here.
pub fn job(job: &Job, findings: &mut Findings) {
    metadata::object(&job.metadata, &At::ROOT.field("metadata"), findings);
    let Some(spec) = &job.spec else { return };
    let at = At::ROOT.field("spec");
    let name = job.metadata.name.as_deref().unwrap_or_default();
    if is_indexed(spec)
        && let Some(last) = spec.completions.and_then(|completions| completions.checked_sub(1)).filter(|last| *last >= 0)
    {
        let longest = format!("{name}-{last}");
        if !name.is_empty() && !names::label(&longest).is_empty() {
            let said = format!("will not able to create pod with invalid DNS label: {longest}");
            findings.invalid(&At::ROOT.field("metadata").field("name"), name, said);
        }
    }
    numbers(spec, &at, findings);
    indexed(spec, &at, findings);
    policies(spec, &at, findings);
    template(spec, name, &at.field("template"), findings);
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

fn numbers(spec: &JobSpec, at: &At, findings: &mut Findings) {
    for (field, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        not_negative(value, &at.field(field), findings);
    }
    word(spec.completion_mode.as_deref(), &["NonIndexed", "Indexed"], &at.field("completionMode"), findings);
}

fn not_negative(value: Option<i64>, at: &At, findings: &mut Findings) {
    if let Some(value) = value.filter(|value| *value < 0) {
        findings.invalid(at, value, "must be greater than or equal to 0");
    }
}

/// What goes with completionMode Indexed, and what needs it.
fn indexed(spec: &JobSpec, at: &At, findings: &mut Findings) {
    let (parallelism, failed) = (at.field("parallelism"), at.field("maxFailedIndexes"));
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        findings.required(&at.field("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if !is_indexed(spec) {
        for (field, value) in [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)] {
            if let Some(value) = value {
                findings.invalid(&at.field(field), value, "requires indexed completion mode");
            }
        }
        return;
    }
    let Some(completions) = spec.completions else {
        return findings.required(&at.field("completions"), "when completion mode is Indexed");
    };
    let above = |value: Option<i32>, most: i32| value.filter(|value| *value > most);
    if let Some(value) = above(spec.parallelism, MOST_PARALLEL_INDEXED) {
        findings.invalid(&parallelism, value, format!("must be less than or equal to {MOST_PARALLEL_INDEXED} when completion mode is Indexed"));
    }
    if let Some(value) = above(spec.max_failed_indexes, completions) {
        findings.invalid(&failed, value, "must be less than or equal to completions");
    }
    if let Some(value) = above(spec.max_failed_indexes, MOST_FAILED_INDEXES) {
        findings.invalid(&failed, value, format!("must be less than or equal to {MOST_FAILED_INDEXES}"));
    }
    if completions > MANY_COMPLETIONS && spec.backoff_limit_per_index.is_some() {
        if spec.max_failed_indexes.is_none() {
            findings.required(&failed, format!("must be specified when completions is above {MANY_COMPLETIONS}"));
        }
        let said = format!("must be less than or equal to {MOST_OF_MANY} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index");
        for (at, value) in [(&parallelism, spec.parallelism), (&failed, spec.max_failed_indexes)] {
            if let Some(value) = above(value, MOST_OF_MANY) {
                findings.invalid(at, value, said.as_str());
            }
        }
    }
}

fn policies(spec: &JobSpec, at: &At, findings: &mut Findings) {
    if let Some(policy) = &spec.pod_failure_policy {
        let at = at.field("podFailurePolicy");
        let at = at.field("rules");
        too_many(policy.rules.len(), MOST_RULES, &at, findings);
        for (index, rule) in policy.rules.iter().enumerate() {
            failure_rule(rule, spec, &at.index(index), findings);
        }
    }
    if let Some(policy) = &spec.success_policy {
        let at = at.field("successPolicy");
        if !is_indexed(spec) {
            let value = serde_json::to_value(policy).unwrap_or_default();
            findings.invalid(&at, format_args!("{value}"), "requires indexed completion mode");
        } else {
            let at = at.field("rules");
            if policy.rules.is_empty() {
                findings.required(&at, "at least one rules must be specified when the successPolicy is specified");
            }
            too_many(policy.rules.len(), MOST_RULES, &at, findings);
            for (index, rule) in policy.rules.iter().enumerate() {
                success_rule(rule, spec, &at.index(index), findings);
            }
        }
    }
    let replacements: &[&str] = if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    word(spec.pod_replacement_policy.as_deref(), replacements, &at.field("podReplacementPolicy"), findings);
}

fn too_many(count: usize, most: usize, at: &At, findings: &mut Findings) {
    if count > most {
        findings.add(at.steps(), Kind::TooMany, Some(count.to_string()), format!("must have at most {most} items"));
    }
}

/// A word that must be there, and be one of these.
fn choice(value: &str, known: &[&str], at: &At, findings: &mut Findings) {
    match value {
        "" => findings.required(at, format!("valid values: {known:?}").replace("\", \"", "\" \"")),
        value => word(Some(value), known, at, findings),
    }
}

fn failure_rule(rule: &PodFailurePolicyRule, spec: &JobSpec, at: &At, findings: &mut Findings) {
    if rule.action == "FailIndex" {
        if spec.backoff_limit_per_index.is_none() {
            findings.invalid(&at.field("action"), &rule.action, "requires the backoffLimitPerIndex to be set");
        }
    } else {
        choice(&rule.action, &["Count", "FailIndex", "FailJob", "Ignore"], &at.field("action"), findings);
    }
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(codes, spec, &at.field("onExitCodes"), findings);
    }
    let conditions_at = at.field("onPodConditions");
    too_many(conditions.len(), MOST_RULES, &conditions_at, findings);
    for (index, pattern) in conditions.iter().enumerate() {
        let at = conditions_at.index(index);
        names::check(&pattern.type_, names::qualified, &at.field("type"), findings);
        choice(pattern.status.as_deref().unwrap_or_default(), &["False", "True", "Unknown"], &at.field("status"), findings);
    }
    let said = match (rule.on_exit_codes.is_some(), !conditions.is_empty()) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    findings.add(at.steps(), Kind::Invalid, None, said);
}

fn exit_codes(codes: &PodFailurePolicyOnExitCodesRequirement, spec: &JobSpec, at: &At, findings: &mut Findings) {
    choice(&codes.operator, &["In", "NotIn"], &at.field("operator"), findings);
    let template = spec.template.spec.iter();
    let mut containers = template.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    if let Some(name) = &codes.container_name
        && !containers.any(|container| container.name == *name)
    {
        findings.invalid(&at.field("containerName"), name, "must be one of the container or initContainer names in the pod template");
    }
    let values = at.field("values");
    if codes.values.is_empty() {
        findings.invalid(&values, &codes.values, "at least one value is required");
    }
    too_many(codes.values.len(), MOST_CODES, &values, findings);
    let mut seen = HashSet::new();
    for (index, value) in codes.values.iter().enumerate() {
        let at = values.index(index);
        if codes.operator == "In" && *value == 0 {
            findings.invalid(&at, value, "must not be 0 for the In operator");
        }
        if !seen.insert(value) {
            findings.duplicate(&at, value);
        }
    }
    if !codes.values.is_sorted() {
        findings.invalid(&values, &codes.values, "must be ordered");
    }
}

fn success_rule(rule: &SuccessPolicyRule, spec: &JobSpec, at: &At, findings: &mut Findings) {
    let completions = spec.completions.unwrap_or_default();
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        findings.required(at, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if let Some(text) = &rule.succeeded_indexes {
        let at = at.field("succeededIndexes");
        if text.len() > LONGEST_INDEXES {
            findings.too_long(&at, LONGEST_INDEXES);
        }
        match Indexes::parse(text, completions.try_into().unwrap_or_default()) {
            Ok(indexes) => total = indexes.total(),
            Err(said) => findings.invalid(&at, text, format!("error parsing succeededIndexes: {said}")),
        }
    }
    let Some(count) = rule.succeeded_count else { return };
    let at = at.field("succeededCount");
    not_negative(Some(count.into()), &at, findings);
    if count > completions {
        findings.invalid(&at, count, format!("must be less than or equal to {completions} (the number of specified completions)"));
    }
    if rule.succeeded_indexes.is_some() && i64::from(count) > i64::from(total) {
        let said = format!("must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)");
        findings.invalid(&at, count, said);
    }
}

/// The pods are judged before there is one. The API server's path to a template's labels leaves `metadata` out.
fn template(spec: &JobSpec, job: &str, at: &At, findings: &mut Findings) {
    let metadata_at = at.within("metadata");
    if let Some(metadata) = &spec.template.metadata {
        if let Some(labels) = &metadata.labels {
            metadata::labels(labels, &metadata_at.field("labels"), findings);
        }
        if let Some(annotations) = &metadata.annotations {
            metadata::annotations(annotations, &metadata_at.field("annotations"), findings);
        }
    }
    // Each pod bears the job's name as a label, which is shorter than a name may be.
    names::check(job, names::label_value, &metadata_at.field("labels"), findings);
    let Some(pod) = &spec.template.spec else { return };
    super::warnings::pod(spec.template.metadata.as_ref().unwrap_or(&ObjectMeta::default()), pod, at, findings);
    let at = at.field("spec");
    super::spec(pod, &at, findings);
    let at = at.field("restartPolicy");
    match pod.restart_policy.as_deref().unwrap_or_default() {
        "Always" | "" => findings.required(&at, "valid values: \"OnFailure\", \"Never\""),
        policy @ "OnFailure" if spec.pod_failure_policy.is_some() => {
            findings.invalid(&at, policy, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        policy => word(Some(policy), &["OnFailure", "Never"], &at, findings),
    }
}
