//! Why all containers are being stopped, since when and until when. Nothing of it is stored: it follows from the facts.
//!
//! Several causes can hold at once: a deadline passes while a deletion is under way. The earliest names the reason and decides
//! the phase, and what comes after it no longer counts; only a deletion does, which can bring the end nearer.

use super::facts::{Facts, SandboxState, State};
use super::spec::{Policy, Role, Spec};
use super::verdict::{Verdict, is_done, verdict};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Someone asked for it.
    Deleted,
    /// `activeDeadlineSeconds` have passed.
    Deadline,
    /// It used more than it may.
    Evicted,
    /// An init container has failed for good.
    InitFailed,
    /// Every app container has ended for good; what still runs are sidecars.
    WorkDone,
    /// The sandbox is lost. The pod goes on in a new one, unless it may not restart.
    SandboxLost,
    /// A rule said RestartAllContainers. The pod goes on in the same sandbox.
    RestartAll,
}

/// What the containers of an evicted pod get, whatever the pod says (`immediateEvictionGracePeriodSeconds` in `eviction_manager.go`).
const EVICTION_GRACE_MS: u64 = 1000;

/// All containers are to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    pub why: Why,
    /// Since when (monotonic milliseconds).
    pub since: u64,
    /// When the grace that all share is used up (monotonic milliseconds).
    pub until: u64,
    /// The pod does not go on afterwards.
    pub ends: bool,
}

/// Whether, and why, all containers are to stop at `now`.
pub fn drain(spec: &Spec, facts: &Facts, now: u64) -> Option<Drain> {
    let graced = |why: Why, since: u64| (why, since, since.saturating_add(spec.grace_ms()));
    let all = restart_all(spec, facts).map(|at| (Why::RestartAll, at, at));
    let deleted = facts.stop.map(|stop| (Why::Deleted, stop.at.mono, stop.until));
    let deadline = deadline(spec, facts).filter(|at| *at <= now).map(|at| graced(Why::Deadline, at));
    let evicted = facts.evicted.as_ref().map(|evicted| (Why::Evicted, evicted.at.mono, evicted.at.mono.saturating_add(EVICTION_GRACE_MS)));
    // What RestartAllContainers kills has neither failed nor finished its work.
    let failed = init_failed(spec, facts).filter(|_| all.is_none()).map(|at| graced(Why::InitFailed, at));
    let done = work_done(spec, facts).filter(|_| all.is_none()).map(|at| graced(Why::WorkDone, at));
    let lost = facts.sandbox.lost.map(|at| graced(Why::SandboxLost, at.mono));
    let fatal = lost.filter(|_| spec.restart_policy == Policy::Never && facts.containers.iter().any(|c| c.made || c.restarts > 0));
    // Once the remains are cleared away, a pod that goes on has nothing left to stop.
    let lost = lost.filter(|_| facts.sandbox.state == SandboxState::Dead);

    let end = [deleted, evicted, deadline, failed, done, fatal].into_iter().flatten().min_by_key(|(_, since, _)| *since);
    let causes = || [deleted, evicted, deadline, failed, done, fatal, lost, all].into_iter().flatten();
    let (why, since, _) = end.or(causes().min_by_key(|(_, since, _)| *since))?;
    // A deadline that passes during a deletion, or an app that ends in it, changes nothing any more; a deletion always does.
    let counts = |(cause, at, _): &(Why, u64, u64)| *at <= since || *cause == Why::Deleted || end.is_none();
    let until = causes().filter(counts).map(|(.., until)| until).min()?;
    Some(Drain { why, since, until, ends: end.is_some() })
}

/// When `activeDeadlineSeconds` pass (monotonic milliseconds).
pub fn deadline(spec: &Spec, facts: &Facts) -> Option<u64> {
    spec.active_deadline_seconds.map(|seconds| facts.created.mono.saturating_add(seconds.saturating_mul(1000)))
}

fn init_failed(spec: &Spec, facts: &Facts) -> Option<u64> {
    let failures = spec.inits().filter(|c| spec.role(*c) == Role::Init).filter_map(|c| match &facts.container(c).state {
        State::Exited(exit) if exit.round == facts.round && exit.failed() && verdict(spec, c, exit) == Verdict::Done => Some(exit.finished.mono),
        _ => None,
    });
    failures.min()
}

fn work_done(spec: &Spec, facts: &Facts) -> Option<u64> {
    let mut last = None;
    for c in spec.apps() {
        match &facts.container(c).state {
            State::Exited(exit) if is_done(spec, facts, c) => last = last.max(Some(exit.finished.mono)),
            _ => return None,
        }
    }
    last
}

/// An end that was already under way for another reason starts nothing over.
fn restart_all(spec: &Spec, facts: &Facts) -> Option<u64> {
    let causes = spec.all().filter_map(|c| match &facts.container(c).state {
        State::Exited(exit) if exit.round == facts.round && !exit.stopped && verdict(spec, c, exit) == Verdict::RestartAll => Some(exit.finished.mono),
        _ => None,
    });
    causes.min()
}
