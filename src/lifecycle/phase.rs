//! Which phase the pod is in (`getPhase` in `kubelet_pods.go`), from what its containers show.

use super::ending::{Drain, Why, drain};
use super::facts::{Facts, Phase, Running, State};
use super::look::{Look, look};
use super::spec::{Role, Spec};
use super::verdict::{Verdict, is_done, verdict};

/// The phase that the facts amount to. It may be terminal before the pod has ended: conditions turn first, `status.phase` last.
pub fn phase(spec: &Spec, facts: &Facts, now: u64) -> Phase {
    let end = drain(spec, facts, now).filter(|drain| drain.ends);
    let failed_init = end.is_some() && spec.inits().any(|c| spec.role(c) == Role::Init && is_done(spec, facts, c) && !succeeded(facts, c.0));
    if failed_init || matches!(end, Some(Drain { why: Why::Deadline | Why::Evicted, .. })) {
        return Phase::Failed;
    }
    let count = Count::of(spec, facts, now);
    if count.waiting > 0 {
        Phase::Pending
    } else if count.running > 0 {
        Phase::Running
    } else if count.stopped == 0 {
        Phase::Pending
    } else if end.is_none() && count.comes_back > 0 {
        Phase::Running
    } else if count.stopped == count.succeeded {
        Phase::Succeeded
    } else {
        Phase::Failed
    }
}

/// The phase of a pod that ends now: what is not finished has failed (`TerminatePod` in `status_manager.go`).
pub fn last(spec: &Spec, facts: &Facts, now: u64) -> Phase {
    match phase(spec, facts, now) {
        Phase::Succeeded => Phase::Succeeded,
        _ => Phase::Failed,
    }
}

fn succeeded(facts: &Facts, container: usize) -> bool {
    matches!(&facts.containers[container].state, State::Exited(exit) if !exit.failed())
}

#[derive(Default)]
struct Count {
    /// Containers that hold the pod back in Pending.
    waiting: u32,
    running: u32,
    stopped: u32,
    succeeded: u32,
    comes_back: u32,
}

impl Count {
    fn of(spec: &Spec, facts: &Facts, now: u64) -> Count {
        let ever_ran = spec.apps().any(|c| has_run(facts, c.0));
        let mut count = Count::default();
        for c in spec.all() {
            let (container, ran) = (facts.container(c), has_run(facts, c.0));
            match (spec.role(c), look(spec, facts, c, now)) {
                (Role::Init, Look::Running) => count.waiting += 1,
                (Role::Init, Look::Waiting(_)) => count.waiting += u32::from(!ran),
                (Role::Init | Role::Sidecar, Look::Exited) | (Role::Ephemeral, _) => {}
                (Role::Sidecar, Look::Running) => {
                    let started = matches!(&container.state, State::Running(run) if Running::started(run));
                    count.waiting += u32::from(!started && !ever_ran);
                    count.running += 1;
                }
                (Role::Sidecar, Look::Waiting(_)) => count.waiting += u32::from(!ran),
                (Role::App, Look::Running) => count.running += 1,
                (Role::App, Look::Waiting(_)) if !ran => count.waiting += 1,
                (Role::App, shown) => {
                    count.stopped += 1;
                    let State::Exited(exit) = &container.state else {
                        count.comes_back += 1;
                        continue;
                    };
                    count.succeeded += u32::from(shown == Look::Exited && exit.code == 0);
                    count.comes_back += u32::from(verdict(spec, c, exit) != Verdict::Done);
                }
            }
        }
        count
    }
}

/// Whether an instance of it has ever come to something that its status shows. One whose postStart still runs has not.
pub fn has_run(facts: &Facts, container: usize) -> bool {
    let container = &facts.containers[container];
    match &container.state {
        State::Exited(_) => true,
        State::Running(run) if !run.hook_pending => true,
        _ => container.last.is_some(),
    }
}
