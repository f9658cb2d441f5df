//! The facts as `status` of the Kubernetes Pod object: phase, conditions, container statuses (`generateAPIPodStatus`,
//! `status/generate.go`, `status_manager.go`).
//!
//! Three rules that surprise, all recorded from a real kubelet:
//! - The terminal phase comes last. When the work is done the conditions say PodCompleted or PodFailed at once, while `phase` keeps
//!   what it said, until nothing runs any more, sidecars included.
//! - When the pod has ended, a container that waits is one nobody can find: Terminated, ContainerStatusUnknown, 137. The true end of
//!   a sidecar in back-off is in `lastState` only. The conditions were made before that, so they know nothing of it.
//! - Of a pod being deleted nothing comes back, so CrashLoopBackOff and the reasons of failed starts vanish at once.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::conditions::{conditions, unscheduled};
use super::ending::{Why, drain};
use super::facts::{At, Container, Exit, Facts, Phase, State};
use super::look::{Look, look};
use super::phase::{has_run, phase};
use super::spec::{C, Role, Spec};

/// The status at `now`. `previous` is the status told before: the conditions' transition times and a phase that must not end yet
/// are read from it, and everything the engine knows nothing of (hostIP, qosClass, others' conditions) is taken over.
pub fn status(spec: &Spec, facts: &Facts, previous: Option<&core::PodStatus>, now: At) -> core::PodStatus {
    let mut status = previous.cloned().unwrap_or_default();
    if let Some(message) = facts.sandbox.unschedulable().filter(|_| facts.finished.is_none()) {
        status.phase = Some(Phase::Pending.word().into());
        status.conditions = Some(unscheduled(spec, message, previous, now));
        (status.init_container_statuses, status.container_statuses) = (None, None);
        status.observed_generation = spec.generation.or(status.observed_generation);
        return status;
    }
    let amounts_to = phase(spec, facts, now.mono);
    let list = |role: fn(Role) -> bool| {
        spec.all().chain(facts.ephemerals()).filter(|c| role(spec.role(*c))).map(|c| container_status(spec, facts, c, now)).collect::<Vec<_>>()
    };
    let (mut inits, mut apps) = (list(|role| matches!(role, Role::Init | Role::Sidecar)), list(|role| role == Role::App));
    status.conditions = Some(conditions(spec, facts, amounts_to, &inits, &apps, previous, now));
    if let Some((phase, at)) = facts.finished {
        let apps = if was_initialized(spec, facts, at) { apps.as_mut_slice() } else { &mut [] };
        not_located(&mut inits, apps);
        status.phase = Some(phase.word().into());
        let told = match (drain(spec, facts, at.mono).map(|drain| drain.why), &facts.evicted) {
            (Some(Why::Deadline), _) => Some(("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")),
            (Some(Why::Evicted), Some(evicted)) => Some(("Evicted", evicted.message.as_str())),
            _ => None,
        };
        if let Some((reason, message)) = told {
            (status.reason, status.message) = (Some(reason.into()), Some(message.into()));
        }
    } else {
        status.phase = Some(shown_phase(spec, facts, amounts_to, previous).word().into());
    }
    apps.sort_by(|a, b| a.name.cmp(&b.name));
    status.init_container_statuses = Some(inits).filter(|inits| !inits.is_empty());
    status.container_statuses = Some(apps);
    status.ephemeral_container_statuses = Some(list(|role| role == Role::Ephemeral)).filter(|ephemerals| !ephemerals.is_empty());
    status.start_time = Some(time(facts.created.wall));
    status.observed_generation = spec.generation.or(status.observed_generation);
    status.pod_ip = facts.sandbox.ips.first().cloned();
    status.pod_ips = status.pod_ip.as_ref().map(|_| facts.sandbox.ips.iter().map(|ip| core::PodIP { ip: ip.clone() }).collect());
    status
}

/// A terminal phase is not told before the pod has ended: the one told before stays.
fn shown_phase(spec: &Spec, facts: &Facts, amounts_to: Phase, previous: Option<&core::PodStatus>) -> Phase {
    if !amounts_to.is_terminal() {
        return amounts_to;
    }
    match previous.and_then(|status| status.phase.as_deref()) {
        Some("Running") => Phase::Running,
        Some(_) => Phase::Pending,
        None if spec.apps().all(|c| has_run(facts, c.0)) => Phase::Running,
        None => Phase::Pending,
    }
}

fn container_status(spec: &Spec, facts: &Facts, c: C, now: At) -> core::ContainerStatus {
    let (asked, container) = (spec.container(c), facts.container(c));
    let look = look(spec, facts, c, now.mono);
    let started = match &container.state {
        State::Running(run) => look == Look::Running && run.started(),
        _ => false,
    };
    let ready = match &container.state {
        State::Running(run) => matches!(asked.role, Role::App | Role::Sidecar) && started && (run.ready || asked.readiness.is_none()),
        State::Exited(exit) => asked.role == Role::Init && look == Look::Exited && !exit.failed(),
        _ => false,
    };
    let last = match (&container.state, &look) {
        (State::Exited(exit), Look::Waiting(_)) => Some(exit),
        _ => container.last.as_ref(),
    };
    core::ContainerStatus {
        name: asked.name.clone(),
        image: if container.ids.image.is_empty() { asked.image.clone() } else { container.ids.image.clone() },
        image_id: container.ids.image_id.clone(),
        container_id: Some(container.ids.container_id.clone()).filter(|id| !id.is_empty()),
        ready,
        // Whoever has no probes has no such field either (`prober_manager.go` passes ephemeral containers by).
        started: (asked.role != Role::Ephemeral).then_some(started),
        restart_count: i32::try_from(container.restarts).unwrap_or(i32::MAX),
        state: Some(state(container, look)),
        last_state: Some(core::ContainerState { terminated: last.map(terminated), ..Default::default() }),
        stop_signal: Some(container.ids.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        ..Default::default()
    }
}

fn state(container: &Container, look: Look) -> core::ContainerState {
    let mut state = core::ContainerState::default();
    match (look, &container.state) {
        (Look::Waiting(waiting), _) => {
            state.waiting = Some(core::ContainerStateWaiting { reason: Some(waiting.reason), message: waiting.message });
        }
        (_, State::Running(run)) => state.running = Some(core::ContainerStateRunning { started_at: Some(time(run.since.wall)) }),
        (_, State::Exited(exit)) => state.terminated = Some(terminated(exit)),
        // What is neither there nor gone looks like waiting.
        (_, State::Waiting | State::Refused(_)) => {}
    }
    state
}

fn terminated(exit: &Exit) -> core::ContainerStateTerminated {
    core::ContainerStateTerminated {
        container_id: Some(exit.container_id.clone()).filter(|id| !id.is_empty()),
        exit_code: exit.code,
        signal: exit.signal,
        reason: Some(exit.reason.clone()),
        message: Some(exit.message.clone()).filter(|message| !message.is_empty()),
        started_at: exit.started.map(|at| time(at.wall)),
        finished_at: Some(time(exit.finished.wall)),
    }
}

/// Whether the pod had come past its init containers when it began to end (`hasPodInitialized`, which looks at what was told last).
fn was_initialized(spec: &Spec, facts: &Facts, end: At) -> bool {
    let since = drain(spec, facts, end.mono).map_or(end.mono, |drain| drain.since);
    let done = |c: C| matches!(&facts.container(c).state, State::Exited(exit) if !exit.failed() && exit.finished.mono < since);
    let last = spec.inits().next_back();
    last.is_none_or(|c| spec.role(c) == Role::Init && done(c)) || spec.apps().any(|c| has_run(facts, c.0))
}

/// In an ended pod nothing waits (`TerminatePod`), but for the init containers whose turn never came, and the apps behind them.
fn not_located(inits: &mut [core::ContainerStatus], apps: &mut [core::ContainerStatus]) {
    let waited = |status: &core::ContainerStatus| status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    let has_ended = |status: &core::ContainerStatus| status.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
    let begun = inits.iter().rposition(|init| !waited(init) || has_ended(init)).unwrap_or(0) + 1;
    for status in inits.iter_mut().take(begun).chain(apps) {
        let Some(core::ContainerState { terminated: None, .. }) = status.state else { continue };
        let unknown = core::ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            ..Default::default()
        };
        status.state = Some(core::ContainerState { terminated: Some(unknown), ..Default::default() });
    }
}

/// Kubernetes' times have whole seconds. What no calendar holds is shown as the epoch.
pub(super) fn time(wall_ms: i64) -> Time {
    Time(Timestamp::from_second(wall_ms.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Ended, Event, Ids};
    use super::super::observe;
    use super::*;

    #[test]
    fn what_whoever_makes_containers_calls_them_stands_in_the_status_from_the_first_start_to_the_end() {
        let pod = serde_json::from_value(serde_json::json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": "a", "image": "x" }] } })).unwrap();
        let (spec, at) = (Spec::of(&pod), |seconds: i64| At { mono: seconds as u64 * 1000, wall: seconds * 1000 });
        let mut facts = Facts::new(&spec, at(0));
        let named = |facts: &Facts, now: i64| {
            let told = status(&spec, facts, None, at(now)).container_statuses.unwrap().remove(0);
            (told.image, told.image_id, told.container_id, told.stop_signal)
        };
        assert_eq!(named(&facts, 0), ("x".into(), String::new(), None, None));
        let ids = Ids { image: "docker.io/library/x:latest".into(), image_id: "i".into(), container_id: "minipod://c".into(), stop_signal: "SIGQUIT".into() };
        let expected = (ids.image.clone(), ids.image_id.clone(), Some(ids.container_id.clone()), Some("SIGQUIT".to_owned()));
        observe(&spec, &mut facts, Event::SandboxReady { ips: Vec::new() }, at(1));
        observe(&spec, &mut facts, Event::Spawned(C(0), ids), at(2));
        assert_eq!(named(&facts, 3), expected);
        let ended = Ended { code: 0, signal: None, reason: "Completed".into(), message: String::new() };
        observe(&spec, &mut facts, Event::Exited(C(0), ended), at(4));
        assert_eq!(named(&facts, 5), expected);
    }
}
