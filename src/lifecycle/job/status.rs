//! The facts as `status` of the Kubernetes Job object.

use k8s_openapi::api::batch::v1::{JobCondition, JobStatus, UncountedTerminatedPods};

use super::facts::{Facts, Phase, Target};
use super::spec::Spec;
use crate::lifecycle::At;
use crate::lifecycle::status::time;

/// The status now.
pub fn status(spec: &Spec, facts: &Facts) -> JobStatus {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let some = |number: u32| i32::try_from(number).ok().filter(|number| *number > 0);
    let succeeded_at = facts.finished.filter(|_| facts.target.as_ref().is_some_and(|(target, _)| target.success));
    JobStatus {
        active: Some(count(facts.active().count())).filter(|active| *active > 0),
        ready: Some(count(facts.pods.iter().filter(|pod| pod.phase == Phase::Active && pod.is_active() && pod.ready).count())),
        terminating: Some(count(facts.terminating())),
        succeeded: some(facts.succeeded(spec)),
        failed: some(facts.failed(spec)),
        completed_indexes: Some(facts.succeeded_indexes().to_string()).filter(|indexes| spec.indexed && !indexes.is_empty()),
        failed_indexes: spec.backoff_limit_per_index.map(|_| facts.failed_indexes(spec).to_string()),
        start_time: start(facts).map(|at| time(at.wall)),
        completion_time: succeeded_at.map(|at| time(at.wall)),
        conditions: Some(conditions(facts)).filter(|conditions| !conditions.is_empty()),
        // Every end is counted in the moment in which it is seen.
        uncounted_terminated_pods: Some(UncountedTerminatedPods::default()),
    }
}

/// A Job that is suspended after it had begun keeps its start; one that is resumed begins again.
fn start(facts: &Facts) -> Option<At> {
    facts.active_since.or_else(|| (!facts.pods.is_empty()).then_some(facts.created))
}

fn conditions(facts: &Facts) -> Vec<JobCondition> {
    let mut all = Vec::new();
    match facts.suspension {
        Some(at) if facts.suspended() => all.push(condition("Suspended", true, "JobSuspended", "Job suspended", at)),
        Some(at) => all.push(condition("Suspended", false, "JobResumed", "Job resumed", at)),
        None => {}
    }
    if let Some((Target { success, reason, message }, at)) = &facts.target {
        let (first, last) = if *success { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
        all.push(condition(first, true, reason, message, *at));
        all.extend(facts.finished.map(|at| condition(last, true, reason, message, at)));
    }
    all
}

fn condition(type_: &str, holds: bool, reason: &str, message: &str, at: At) -> JobCondition {
    JobCondition {
        type_: type_.into(),
        status: if holds { "True" } else { "False" }.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(time(at.wall)),
        last_transition_time: Some(time(at.wall)),
    }
}

/// Whether a condition of a Job holds.
pub fn is_true(status: &JobStatus, type_: &str) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == type_ && condition.status == "True")
}
