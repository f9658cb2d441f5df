//! What has happened to a Job: the pods that were made for it, in the order in which they were, and what became of each.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use super::policy::{self, Matched};
use super::spec::Spec;
use crate::lifecycle::At;
use crate::manifest::indexes::Indexes;

/// All that is known of a Job.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub created: At,
    /// Since when it is active without a break; None while it is suspended.
    pub active_since: Option<At>,
    /// It was suspended at some time, and since when it is, or is not any more.
    pub suspension: Option<At>,
    pub pods: Vec<Made>,
    /// Tries to make a pod that failed one after another, and when the last was (monotonic milliseconds).
    pub refused: Option<(u32, u64)>,
    /// How it will end; decided once.
    pub target: Option<(Target, At)>,
    pub finished: Option<At>,
    /// It is to be gone, with all its pods; the grace in seconds, None for the pods' own.
    pub leaving: Option<Option<u64>>,
}

/// A pod that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    pub name: String,
    pub index: Option<u32>,
    pub phase: Phase,
    pub ready: bool,
    /// Restarts of all its containers together.
    pub restarts: u32,
    /// When its phase became final, or when it vanished without having had one; monotonic milliseconds.
    pub ended: Option<u64>,
    /// When it was asked to go.
    pub deleted: Option<u64>,
    /// It was deleted for no fault of its own (suspension, enough successes), so its end counts neither as a failure nor as a success.
    pub spared: bool,
    /// It was asked to go because the Job goes.
    pub leaves: bool,
    /// Nothing is left of it.
    pub gone: bool,
    /// What podFailurePolicy says of its failure.
    pub matched: Option<Matched>,
    /// Pods of its index that failed before it: those that count, and those that the policy ignores.
    pub earlier_failures: (u32, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Pending or Running.
    Active,
    Succeeded,
    Failed,
}

/// How a Job ends, with the reason and the message of its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub success: bool,
    pub reason: &'static str,
    pub message: String,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A pod was made for an index.
    Created {
        name: String,
        index: Option<u32>,
        earlier_failures: (u32, u32),
    },
    /// A pod could not be made.
    Refused,
    /// A pod's status, whether it changed or not; by its place in `Facts::pods`.
    Seen(usize, &'a PodStatus),
    /// A pod was asked to go.
    Deleted {
        pod: usize,
        spared: bool,
    },
    /// Nothing is left of a pod.
    Gone(usize),
    Suspend(bool),
    Settled(Target),
    Finished,
    /// The Job is to be gone. A second request may shorten the grace.
    Leave {
        grace_seconds: Option<u64>,
    },
}

impl Facts {
    pub fn new(suspended: bool, now: At) -> Facts {
        let (active_since, suspension) = if suspended { (None, Some(now)) } else { (Some(now), None) };
        Facts { created: now, active_since, suspension, pods: Vec::new(), refused: None, target: None, finished: None, leaving: None }
    }

    pub fn suspended(&self) -> bool {
        self.active_since.is_none()
    }

    /// The pods that do the work: neither ended nor being deleted.
    pub fn active(&self) -> impl Iterator<Item = (usize, &Made)> {
        self.pods.iter().enumerate().filter(|(_, pod)| pod.is_active())
    }

    pub fn terminating(&self) -> usize {
        self.pods.iter().filter(|pod| pod.is_terminating()).count()
    }

    /// The indexes of which a pod succeeded.
    pub fn succeeded_indexes(&self) -> Indexes {
        self.pods.iter().filter(|pod| pod.has_succeeded()).filter_map(|pod| pod.index).collect()
    }

    /// The indexes that failed for good (backoffLimitPerIndex, FailIndex).
    pub fn failed_indexes(&self, spec: &Spec) -> Indexes {
        let Some(limit) = spec.backoff_limit_per_index else { return Indexes::default() };
        let failed = |pod: &&Made| pod.has_failed(spec) && (pod.matched == Some(Matched::FailIndex) || pod.counts() && pod.earlier_failures.0 >= limit);
        self.pods.iter().filter(failed).filter_map(|pod| pod.index).collect()
    }

    /// An index counts once, however many of its pods succeeded.
    pub fn succeeded(&self, spec: &Spec) -> u32 {
        match spec.indexed {
            true => self.succeeded_indexes().total(),
            false => self.pods.iter().filter(|pod| pod.has_succeeded()).count().try_into().unwrap_or(u32::MAX),
        }
    }

    /// The failures that count.
    pub fn failed(&self, spec: &Spec) -> u32 {
        let fails = |pod: &&Made| (pod.has_failed(spec) || self.dooms(pod)) && pod.counts();
        self.pods.iter().filter(fails).count().try_into().unwrap_or(u32::MAX)
    }

    /// When a Job fails, the pods that it takes down with it are failures too.
    fn dooms(&self, pod: &Made) -> bool {
        !pod.spared && pod.phase == Phase::Active && pod.deleted.is_some() && self.target.as_ref().is_some_and(|(target, _)| !target.success)
    }
}

impl Made {
    pub fn is_active(&self) -> bool {
        self.phase == Phase::Active && self.deleted.is_none() && !self.gone
    }

    pub fn is_terminating(&self) -> bool {
        self.phase == Phase::Active && self.deleted.is_some() && !self.gone
    }

    pub fn has_succeeded(&self) -> bool {
        self.phase == Phase::Succeeded && !self.spared
    }

    /// Its end is a failure (`isPodFailed`). A pod that is being deleted has failed already, unless only ended ones are replaced.
    pub fn has_failed(&self, spec: &Spec) -> bool {
        let vanished = self.phase == Phase::Active && (self.gone || self.deleted.is_some() && !spec.replaces_ended_only);
        !self.spared && (self.phase == Phase::Failed || vanished)
    }

    /// Its failure counts towards the limits.
    pub fn counts(&self) -> bool {
        self.matched != Some(Matched::Ignore)
    }

    /// When it failed, or was given up.
    pub fn failed_at(&self) -> u64 {
        self.ended.or(self.deleted).unwrap_or_default()
    }
}

/// Records what happened; decides nothing.
pub fn observe(spec: &Spec, facts: &mut Facts, event: Event<'_>, now: At) {
    match event {
        Event::Created { name, index, earlier_failures } => {
            facts.refused = None;
            facts.pods.push(Made {
                name,
                index,
                phase: Phase::Active,
                ready: false,
                restarts: 0,
                ended: None,
                deleted: None,
                spared: false,
                leaves: false,
                gone: false,
                matched: None,
                earlier_failures,
            });
        }
        Event::Refused => facts.refused = Some((facts.refused.map_or(1, |(times, _)| times.saturating_add(1)), now.mono)),
        Event::Seen(pod, status) => see(spec, &mut facts.pods[pod], status, now),
        Event::Deleted { pod, spared } => {
            let leaving = facts.leaving.is_some() || facts.finished.is_some();
            let pod = &mut facts.pods[pod];
            pod.leaves |= leaving;
            pod.deleted = pod.deleted.or(Some(now.mono));
            // A pod that has ended keeps what it ended as.
            pod.spared |= spared && pod.phase == Phase::Active;
        }
        Event::Gone(pod) => {
            let pod = &mut facts.pods[pod];
            pod.gone = true;
            pod.ready = false;
            pod.ended = pod.ended.or(Some(now.mono));
        }
        Event::Suspend(suspend) if suspend != facts.suspended() => {
            facts.active_since = (!suspend).then_some(now);
            facts.suspension = Some(now);
        }
        Event::Suspend(_) => {}
        Event::Settled(target) => facts.target = facts.target.take().or(Some((target, now))),
        Event::Finished => facts.finished = facts.finished.or(Some(now)),
        Event::Leave { grace_seconds } => {
            facts.leaving = Some(grace_seconds);
            // Those that were asked already are asked again, with what may be a shorter grace.
            facts.pods.iter_mut().for_each(|pod| pod.leaves = false);
        }
    }
}

fn see(spec: &Spec, pod: &mut Made, status: &PodStatus, now: At) {
    // A final phase does not change.
    if pod.gone || pod.phase != Phase::Active {
        return;
    }
    let all = |list: &Option<Vec<ContainerStatus>>| list.iter().flatten().map(|status| u32::try_from(status.restart_count).unwrap_or_default()).sum::<u32>();
    pod.restarts = all(&status.init_container_statuses).saturating_add(all(&status.container_statuses));
    pod.ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    pod.phase = match status.phase.as_deref() {
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        _ => return,
    };
    pod.ready = false;
    pod.ended = Some(now.mono);
    if pod.phase == Phase::Failed {
        pod.matched = policy::of_failure(spec, &pod.name, status);
    }
}

/// The last failed pod of each index, which its replacement follows.
pub(super) fn last_failures<'f>(spec: &Spec, facts: &'f Facts) -> BTreeMap<u32, &'f Made> {
    let failed = facts.pods.iter().filter(|pod| pod.has_failed(spec));
    failed.filter_map(|pod| Some((pod.index?, pod))).collect()
}
