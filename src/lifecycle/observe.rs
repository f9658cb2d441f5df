//! Records an event in the facts. Decides nothing, and ignores what cannot be: a probe's word about a container that has ended,
//! a second answer to one question.

use super::backoff;
use super::facts::*;
use super::spec::{C, Role, Spec};

/// What is missing is looked for again after this long: the kubelet's `backOffPeriod`, in milliseconds.
pub(super) const RETRY_MS: u64 = 10_000;
/// The image errors after which the kubelet does not wait longer and longer: no registry was asked.
const NOT_PULLED: [&str; 3] = ["ErrImageNeverPull", "InvalidImageName", "ImageInspectError"];
/// What a container shows that RestartAllContainers has removed (KEP 5532; `kubelet_pods.go`).
const REMOVED: (&str, &str) = ("RestartingAllContainers", "The container is removed because RestartAllContainers in place");

/// Records `event`, which happened at `now`.
pub fn observe(spec: &Spec, facts: &mut Facts, event: Event, now: At) {
    match event {
        Event::SandboxReady { ips } => {
            facts.sandbox.state = SandboxState::Ready;
            facts.sandbox.ips = ips;
            facts.sandbox.lost = None;
        }
        Event::SandboxFailed { reason, message } => facts.sandbox.state = SandboxState::Failed { reason, message, at: now },
        Event::SandboxDied if facts.sandbox.state == SandboxState::Ready => {
            facts.sandbox.state = SandboxState::Dead;
            facts.sandbox.lost = Some(now);
            facts.round += 1;
        }
        Event::SandboxDied => {}
        Event::SandboxGone => {
            facts.sandbox.state = SandboxState::None;
            facts.sandbox.attempt += 1;
        }
        Event::LookAgain => look_again(facts, now),
        Event::StopAsked { grace_seconds } => stop(spec, facts, grace_seconds, now),
        Event::Evicted { message } => facts.evicted = facts.evicted.take().or(Some(Evicted { at: now, message })),
        Event::EphemeralAdded => facts.ephemerals.push(Container::default()),
        Event::ResetDone => reset(facts, now),
        Event::Finished(phase) => facts.finished = facts.finished.or(Some((phase, now))),
        Event::Starting(c) => facts.container_mut(c).starting = Some(now),
        Event::Aborted(c) => facts.container_mut(c).starting = None,
        Event::Spawned(c, ids) => spawned(spec, facts, c, ids, now),
        Event::StartFailed(c, failure) => start_failed(spec, facts, c, failure, now),
        Event::Exited(c, ended) => exited(facts.container_mut(c), ended, now),
        Event::HookDone(c, hook, result) => hook_done(spec, facts.container_mut(c), hook, result, now),
        Event::Told(c, notice) => told(facts.container_mut(c), notice),
        Event::Started(c) => running(facts, c, |run| run.passed = true),
        Event::ReadyChanged(c, ready) => running(facts, c, |run| run.ready = ready),
        Event::Resized(c) => running(facts, c, |run| doom(run, Cause::Resize, spec.grace_ms(), now)),
        Event::ProbeFailed(c, probe) => probe_failed(spec, facts, c, probe, now),
        Event::PreStopSent(c) => running(facts, c, |run| run.pre_stop = PreStop::Sent),
        Event::TermSent(c) => running(facts, c, |run| run.term = run.term.or(Some(now))),
        Event::KillSent(c) => running(facts, c, |run| run.kill = run.kill.or(Some(now))),
    }
}

/// Only what an object may have been missing for: an image does not come by one.
fn look_again(facts: &mut Facts, now: At) {
    if let SandboxState::Failed { reason, at, .. } = &mut facts.sandbox.state
        && (reason == "FailedMount" || reason == UNSCHEDULABLE)
    {
        at.mono = at.mono.min(now.mono.saturating_sub(RETRY_MS));
    }
    for container in &mut facts.containers {
        if let State::Refused(refusal) = &mut container.state
            && refusal.reason == "CreateContainerConfigError"
        {
            refusal.retry = refusal.retry.min(now.mono);
        }
    }
}

fn running(facts: &mut Facts, c: C, change: impl FnOnce(&mut Running)) {
    if let State::Running(run) = &mut facts.container_mut(c).state {
        change(run)
    }
}

fn told(container: &mut Container, notice: Notice) {
    match (&mut container.state, notice) {
        (State::Running(run), Notice::Killing) => run.told = true,
        (State::Exited(exit), Notice::BackOff) => exit.told = true,
        _ => {}
    }
}

/// A second request can bring the end nearer, never put it off.
fn stop(spec: &Spec, facts: &mut Facts, grace_seconds: Option<u64>, now: At) {
    let until = now.mono.saturating_add(grace_seconds.map_or(spec.grace_ms(), |seconds| seconds.saturating_mul(1000)));
    match &mut facts.stop {
        Some(stop) => stop.until = stop.until.min(until),
        None => facts.stop = Some(Stop { at: now, until }),
    }
}

/// A start was tried, with or without success: an end that it follows becomes `lastState`, and the series of restarts goes on.
fn try_again(spec: &Spec, container: &mut Container, now: At) {
    container.starting = None;
    if let State::Exited(exit) = std::mem::take(&mut container.state) {
        container.backoff = container.backoff.next(&exit, container.last.as_ref(), spec.max_backoff_ms, now.mono);
        container.last = Some(exit);
    }
}

fn begin(spec: &Spec, container: &mut Container, now: At) {
    try_again(spec, container, now);
    container.restarts += u32::from(container.made);
    container.made = true;
    container.pull_delay = 0;
}

fn spawned(spec: &Spec, facts: &mut Facts, c: C, ids: Ids, now: At) {
    let asked = spec.container(c);
    for container in facts.containers.iter_mut().filter(|_| asked.role != Role::Ephemeral) {
        // From the first start after the removal, the others wait like in any beginning.
        if matches!(&container.state, State::Refused(Refusal { kind: Refused::Removed, .. })) {
            container.state = State::Waiting;
        }
    }
    let round = facts.round;
    let container = facts.container_mut(c);
    begin(spec, container, now);
    container.ids = ids;
    container.state = State::Running(Running {
        since: now,
        round,
        hook_pending: asked.post_start,
        passed: asked.startup.is_none(),
        ready: false,
        doom: None,
        told: false,
        pre_stop: PreStop::NotSent,
        term: None,
        kill: None,
    });
}

fn start_failed(spec: &Spec, facts: &mut Facts, c: C, failure: Failure, now: At) {
    let round = facts.round;
    let container = facts.container_mut(c);
    let (kind, wait) = match failure.at {
        FailedAt::Run => return failed_to_run(spec, container, failure, round, now),
        FailedAt::Image if !NOT_PULLED.contains(&failure.reason.as_str()) => {
            let wait = container.pull_delay.max(backoff::FIRST_MS);
            container.pull_delay = wait.saturating_mul(2).min(backoff::MAX_MS);
            (Refused::Pull, wait)
        }
        FailedAt::Image | FailedAt::Config => (Refused::Missing, RETRY_MS),
    };
    try_again(spec, container, now);
    let retry = now.mono.saturating_add(wait);
    container.state = State::Refused(Refusal { kind, reason: failure.reason, message: failure.message, image: failure.image, at: now, retry });
}

/// A start that failed after the instance was made counts as an instance that ended: containerd's StartError with code 128.
fn failed_to_run(spec: &Spec, container: &mut Container, failure: Failure, round: u32, now: At) {
    begin(spec, container, now);
    container.state = State::Exited(Exit {
        code: 128,
        signal: None,
        reason: "StartError".into(),
        message: failure.message.clone(),
        started: Some(At { mono: now.mono, wall: 0 }),
        finished: now,
        round,
        container_id: container.ids.container_id.clone(),
        sentenced: false,
        stopped: false,
        label: Some((failure.reason, failure.message)),
        told: false,
    });
}

fn exited(container: &mut Container, ended: Ended, now: At) {
    let State::Running(run) = &container.state else { return };
    let why = run.doom.as_ref().map(|doom| &doom.why);
    container.state = State::Exited(Exit {
        code: ended.code,
        signal: ended.signal,
        reason: ended.reason,
        message: ended.message,
        started: Some(run.since),
        finished: now,
        round: run.round,
        container_id: container.ids.container_id.clone(),
        stopped: run.told && why.is_none(),
        sentenced: matches!(why, Some(Cause::Liveness | Cause::Startup | Cause::Resize)),
        label: match why {
            Some(Cause::PostStart(message)) => Some(post_start_error(message)),
            _ => None,
        },
        told: false,
    });
}

fn post_start_error(message: &str) -> (String, String) {
    ("PostStartHookError".into(), message.into())
}

fn hook_done(spec: &Spec, container: &mut Container, hook: Hook, result: Result<(), String>, now: At) {
    match (&mut container.state, hook, result) {
        (State::Running(run), Hook::PreStop, _) => run.pre_stop = PreStop::Done,
        (State::Running(run), Hook::PostStart, Ok(())) => run.hook_pending = false,
        (State::Running(run), Hook::PostStart, Err(message)) => doom(run, Cause::PostStart(message), spec.grace_ms(), now),
        // The program was quicker than its hook, which fails then, whatever the program's own end was.
        (State::Exited(exit), Hook::PostStart, Err(message)) => exit.label = exit.label.take().or(Some(post_start_error(&message))),
        _ => {}
    }
}

fn probe_failed(spec: &Spec, facts: &mut Facts, c: C, probe: Probe, now: At) {
    let (asked, why) = match probe {
        Probe::Startup => (spec.container(c).startup, Cause::Startup),
        Probe::Liveness => (spec.container(c).liveness, Cause::Liveness),
    };
    let own = asked.and_then(|probe| probe.grace_seconds).map(|seconds| seconds.saturating_mul(1000));
    running(facts, c, |run| doom(run, why, own.unwrap_or(spec.grace_ms()), now));
}

fn doom(run: &mut Running, why: Cause, grace_ms: u64, now: At) {
    run.doom.get_or_insert(Doom { why, at: now, until: now.mono.saturating_add(grace_ms) });
}

/// Every container starts over from nothing, and what it was is lost: `lastState` of all, the one that caused it too, is the removal.
fn reset(facts: &mut Facts, now: At) {
    facts.round += 1;
    for container in facts.containers.iter_mut().filter(|container| container.made) {
        let (reason, message) = (REMOVED.0.to_owned(), REMOVED.1.to_owned());
        container.last = Some(Exit {
            code: 137,
            signal: None,
            reason: reason.clone(),
            message: message.clone(),
            started: None,
            finished: now,
            round: facts.round - 1,
            container_id: container.ids.container_id.clone(),
            sentenced: false,
            stopped: false,
            label: None,
            told: false,
        });
        container.state = State::Refused(Refusal { kind: Refused::Removed, reason, message, image: None, at: now, retry: now.mono });
        container.restarts += 1;
        container.made = false;
        container.backoff = Default::default();
    }
}
