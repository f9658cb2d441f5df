//! What a Job's manifest asks, after defaulting and validation.

use k8s_openapi::api::batch::v1::{Job, JobSpec, PodFailurePolicyRule, SuccessPolicyRule};

use super::backoff;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spec {
    pub namespace: String,
    /// None: a work queue; one success is enough, and then nothing new is made.
    pub completions: Option<u32>,
    pub parallelism: u32,
    /// Each pod has a completion index.
    pub indexed: bool,
    pub backoff_limit: u32,
    pub backoff_limit_per_index: Option<u32>,
    pub max_failed_indexes: Option<u32>,
    /// The Job's own, in milliseconds; not that of its pods.
    pub deadline: Option<u64>,
    /// restartPolicy OnFailure: a pod repeats its containers itself, and their restarts are the failures.
    pub restarts_in_place: bool,
    pub failure_rules: Vec<PodFailurePolicyRule>,
    pub success_rules: Vec<SuccessPolicyRule>,
    /// podReplacementPolicy Failed: a pod that is being deleted is replaced when it has ended, not before.
    pub replaces_ended_only: bool,
    /// How long a finished Job stays, in milliseconds.
    pub ttl: Option<u64>,
    /// The longest wait before a replacement, in milliseconds.
    pub max_backoff: u64,
}

impl Spec {
    pub fn of(job: &Job) -> Spec {
        let absent = JobSpec::default();
        let spec = job.spec.as_ref().unwrap_or(&absent);
        // Validation has refused what is negative.
        let count = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
        let millis = |seconds: i64| u64::try_from(seconds).unwrap_or_default().saturating_mul(1000);
        Spec {
            namespace: job.metadata.namespace.clone().unwrap_or_default(),
            completions: count(spec.completions),
            parallelism: count(spec.parallelism).unwrap_or(1),
            indexed: spec.completion_mode.as_deref() == Some("Indexed"),
            backoff_limit: count(spec.backoff_limit).unwrap_or(6),
            backoff_limit_per_index: count(spec.backoff_limit_per_index),
            max_failed_indexes: count(spec.max_failed_indexes),
            deadline: spec.active_deadline_seconds.map(millis),
            restarts_in_place: spec.template.spec.as_ref().and_then(|pod| pod.restart_policy.as_deref()) == Some("OnFailure"),
            failure_rules: spec.pod_failure_policy.iter().flat_map(|policy| policy.rules.clone()).collect(),
            success_rules: spec.success_policy.iter().flat_map(|policy| policy.rules.clone()).collect(),
            replaces_ended_only: spec.pod_replacement_policy.as_deref() == Some("Failed"),
            ttl: spec.ttl_seconds_after_finished.map(|seconds| millis(seconds.into())),
            max_backoff: backoff::MAX_MS,
        }
    }
}
