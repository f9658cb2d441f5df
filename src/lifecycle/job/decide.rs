//! The rules of a Job, in upstream's order (`syncJob`, `manageJob`).

use super::backoff;
use super::facts::{Facts, Target, last_failures};
use super::policy::{self, Matched};
use super::spec::Spec;

/// What must be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a pod; `earlier_failures` of its index, counted and ignored, are told to it (`job-index-failure-count`).
    Create { index: Option<u32>, earlier_failures: (u32, u32) },
    /// Ask a pod to go, by its place in `Facts::pods`. `spared`: its end is no failure.
    Delete { pod: usize, spared: bool },
    /// How it ends is decided.
    Settle(Target),
    /// It has ended.
    Finish,
    /// Nothing of it is left but itself, and it is to be gone.
    Leave,
}

/// What is due, and when to ask again (monotonic milliseconds) if nothing happens before. Each action is performed and observed
/// before the next decision.
pub fn decide(spec: &Spec, facts: &Facts, now: u64) -> (Vec<Action>, Option<u64>) {
    if facts.leaving.is_some() {
        return (leave(facts), None);
    }
    if let Some(finished) = facts.finished {
        let expires = spec.ttl.map(|ttl| finished.mono.saturating_add(ttl));
        return match expires {
            Some(at) if at <= now => (leave(facts), None),
            expires => (Vec::new(), expires),
        };
    }
    match &facts.target {
        Some((target, _)) => (end(facts, target.success), None),
        None => match ending(spec, facts, now) {
            Some(target) => (vec![Action::Settle(target)], None),
            None => manage(spec, facts, now),
        },
    }
}

/// All pods go, those that have ended too; then the Job.
fn leave(facts: &Facts) -> Vec<Action> {
    let all = || facts.pods.iter().enumerate().filter(|(_, pod)| !pod.gone);
    if all().next().is_none() {
        return vec![Action::Leave];
    }
    all().filter(|(_, pod)| !pod.leaves).map(|(pod, _)| Action::Delete { pod, spared: true }).collect()
}

/// The end is decided: what is active goes, and when nothing runs any more it has come.
fn end(facts: &Facts, spared: bool) -> Vec<Action> {
    let active: Vec<Action> = facts.active().map(|(pod, _)| Action::Delete { pod, spared }).collect();
    if active.is_empty() && facts.terminating() == 0 { vec![Action::Finish] } else { active }
}

/// Why it ends, if it does.
fn ending(spec: &Spec, facts: &Facts, now: u64) -> Option<Target> {
    let failure = |reason, message: &str| Some(Target { success: false, reason, message: message.to_owned() });
    let doomed = facts.pods.iter().find_map(|pod| match &pod.matched {
        Some(Matched::FailJob(message)) => Some(message.as_str()),
        _ => None,
    });
    if let Some(message) = doomed {
        return failure("PodFailurePolicy", message);
    }
    if facts.failed(spec) > spec.backoff_limit || too_many_restarts(spec, facts) {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if deadline(spec, facts).is_some_and(|at| at <= now) {
        return failure("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    if spec.backoff_limit_per_index.is_some() {
        let failed = facts.failed_indexes(spec).total();
        if spec.max_failed_indexes.is_some_and(|most| failed > most) {
            return failure("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
        }
        if failed > 0 && failed + facts.succeeded(spec) >= spec.completions.unwrap_or_default() {
            return failure("FailedIndexes", "Job has failed indexes");
        }
    }
    if let Some(message) = policy::success(spec, facts) {
        return Some(Target { success: true, reason: "SuccessPolicy", message });
    }
    let succeeded = facts.succeeded(spec);
    let enough = spec.completions.map_or(succeeded > 0, |wanted| succeeded >= wanted);
    (enough && facts.active().next().is_none()).then(|| Target {
        success: true,
        reason: "CompletionsReached",
        message: "Reached expected number of succeeded pods".to_owned(),
    })
}

/// With OnFailure the restarts of the pods that live are the failures. The limit itself is too many, unless it is 0: no restart at
/// all (`pastBackoffLimitOnFailure`).
fn too_many_restarts(spec: &Spec, facts: &Facts) -> bool {
    let alive = facts.pods.iter().filter(|pod| pod.is_active() || pod.is_terminating());
    let restarts = alive.map(|pod| pod.restarts).fold(0, u32::saturating_add);
    spec.restarts_in_place && restarts >= spec.backoff_limit.max(1)
}

fn deadline(spec: &Spec, facts: &Facts) -> Option<u64> {
    Some(facts.active_since?.mono.saturating_add(spec.deadline?))
}

/// As many pods as it should have, no more and no less.
fn manage(spec: &Spec, facts: &Facts, now: u64) -> (Vec<Action>, Option<u64>) {
    let active = facts.active().count().try_into().unwrap_or(u32::MAX);
    if facts.suspended() {
        return (facts.active().map(|(pod, _)| Action::Delete { pod, spared: true }).collect(), None);
    }
    let succeeded = facts.succeeded(spec);
    let wanted = match spec.completions {
        None if succeeded > 0 => active,
        None => spec.parallelism,
        Some(completions) => completions.saturating_sub(succeeded).min(spec.parallelism),
    };
    let waits_for = if spec.replaces_ended_only { facts.terminating().try_into().unwrap_or(u32::MAX) } else { 0 };
    let missing = wanted.saturating_sub(active).saturating_sub(waits_for);
    let (mut create, mut due) = if missing == 0 { (Vec::new(), None) } else { create(spec, facts, missing, now) };
    if let Some(at) = facts.refused.map(|(times, at)| backoff::due_refused(times, at)).filter(|at| *at > now && missing > 0) {
        create.clear();
        due = due.max(Some(at));
    }
    (create, due.into_iter().chain(deadline(spec, facts)).min())
}

/// The pods that may be made now, and when the next may.
fn create(spec: &Spec, facts: &Facts, missing: u32, now: u64) -> (Vec<Action>, Option<u64>) {
    let per_index = spec.backoff_limit_per_index.is_some();
    if !per_index && let Some(due) = Some(backoff::due(spec, facts)).filter(|due| *due > now) {
        return (Vec::new(), Some(due));
    }
    if !spec.indexed {
        return ((0..missing).map(|_| Action::Create { index: None, earlier_failures: (0, 0) }).collect(), None);
    }
    let last = last_failures(spec, facts);
    let (mut actions, mut next) = (Vec::new(), None);
    for index in pending(spec, facts, missing) {
        let before = last.get(&index).filter(|_| per_index);
        let due = before.map_or(0, |pod| backoff::due_after(spec, pod));
        if due > now {
            next = next.into_iter().chain(Some(due)).min();
            continue;
        }
        let earlier_failures = before.map_or((0, 0), |pod| {
            let (counted, ignored) = pod.earlier_failures;
            if pod.counts() { (counted + 1, ignored) } else { (counted, ignored + 1) }
        });
        actions.push(Action::Create { index: Some(index), earlier_failures });
    }
    (actions, next)
}

/// The first indexes that nobody works on and that neither succeeded nor failed (`firstPendingIndexes`).
fn pending(spec: &Spec, facts: &Facts, count: u32) -> Vec<u32> {
    let busy = |pod: &super::Made| pod.is_active() || spec.replaces_ended_only && pod.is_terminating();
    let busy: std::collections::BTreeSet<u32> = facts.pods.iter().filter(|pod| busy(pod)).filter_map(|pod| pod.index).collect();
    let (done, failed) = (facts.succeeded_indexes(), facts.failed_indexes(spec));
    let free = (0..spec.completions.unwrap_or_default()).filter(|index| !busy.contains(index) && !done.contains(*index) && !failed.contains(*index));
    free.take(count.try_into().unwrap_or(usize::MAX)).collect()
}
