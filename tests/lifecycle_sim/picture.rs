//! A status in one line, and what must hold of every status and of every step from one to the next.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodCondition, PodStatus};
use minipod::lifecycle::{Facts, Role, Spec};

/// `PHASE [REASON] S± I± R± | CONTAINER …`. S sandbox ready, I initialized, R ready; a condition that is False, or has a reason, shows reason
/// and list. A container is `NAME=waiting reason|running|REASON:CODE`, `*` started, `+` ready, `<REASON:CODE` the last state, `#N` restarts.
pub fn picture(status: &PodStatus) -> String {
    let phase = status.phase.clone().unwrap_or_default();
    let reason = status.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
    let letters = [("S", "PodReadyToStartContainers"), ("I", "Initialized"), ("R", "Ready")];
    let conditions: Vec<String> = letters.iter().map(|(letter, name)| condition(letter, find(status, name).unwrap())).collect();
    let containers: Vec<String> = all(status).map(container).collect();
    format!("{phase}{reason} {} | {}", conditions.join(" "), containers.join(" "))
}

pub fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == name)
}

fn all(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses].into_iter().flatten().flatten()
}

fn condition(letter: &str, condition: &PodCondition) -> String {
    let sign = if condition.status == "True" { "+" } else { "-" };
    let list = condition.message.as_deref().and_then(|message| message.split_once('[')).map(|(_, list)| format!("[{list}"));
    format!("{letter}{sign}{}{}", condition.reason.as_deref().unwrap_or_default(), list.unwrap_or_default())
}

fn container(status: &ContainerStatus) -> String {
    let state = status.state.clone().unwrap_or_default();
    let ended = |end: &ContainerStateTerminated| format!("{}:{}", end.reason.as_deref().unwrap_or_default(), end.exit_code);
    let mut text = format!("{}=", status.name);
    match (&state.waiting, &state.running, &state.terminated) {
        (Some(waiting), None, None) => text += waiting.reason.as_deref().unwrap_or_default(),
        (None, Some(_), None) => text += "running",
        (None, None, Some(end)) => text += &ended(end),
        other => panic!("a state is exactly one of three: {other:?}"),
    }
    text += if status.started == Some(true) { "*" } else { "" };
    text += if status.ready { "+" } else { "" };
    if let Some(last) = status.last_state.clone().unwrap_or_default().terminated {
        text += &format!("<{}", ended(&last));
    }
    if status.restart_count > 0 {
        text += &format!("#{}", status.restart_count);
    }
    text
}

/// What must hold of every status, and of the step from the one before.
pub fn judge(spec: &Spec, facts: &Facts, before: Option<&PodStatus>, status: &PodStatus) {
    let drawn = picture(status);
    let phase = |status: &PodStatus| status.phase.clone().unwrap();
    let terminal = |phase: &str| phase == "Succeeded" || phase == "Failed";
    assert_eq!(terminal(&phase(status)), facts.finished.is_some(), "the terminal phase comes last, and then at once: {drawn}");
    let ready = find(status, "Ready").unwrap().status == "True";
    let containers = find(status, "ContainersReady").unwrap().status == "True";
    assert!(!ready || containers, "Ready without ContainersReady: {drawn}");
    assert!(!ready || phase(status) == "Running", "ready in no other phase than Running: {drawn}");
    let mut gated = all(status).filter(|status| matches!(spec.role(spec.find(&status.name).unwrap()), Role::App | Role::Sidecar));
    assert!(!containers || gated.all(|status| status.ready), "ContainersReady, and one is not: {drawn}");
    for status in all(status) {
        let state = status.state.clone().unwrap_or_default();
        assert!(status.started != Some(true) || state.running.is_some(), "started, but not running: {drawn}");
        assert!(facts.finished.is_none() || state.running.is_none(), "it runs after the end: {drawn}");
        let waits = state.waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"));
        assert!(!waits || status.last_state.clone().unwrap_or_default().terminated.is_some(), "a back-off after nothing: {drawn}");
    }
    let Some(before) = before else { return };
    if terminal(&phase(before)) {
        let bare = |status: &PodStatus| PodStatus { start_time: None, ..status.clone() };
        assert_eq!(bare(before), bare(status), "an ended pod has changed");
    }
    for (before, status) in all(before).zip(all(status)) {
        assert!(before.restart_count <= status.restart_count && status.restart_count <= before.restart_count + 1, "restarts are counted one by one: {drawn}");
    }
    for condition in status.conditions.iter().flatten() {
        let Some(old) = find(before, &condition.type_) else { continue };
        let moved = old.last_transition_time != condition.last_transition_time;
        assert!(!moved || old.status != condition.status, "the transition time of {} moved without a transition", condition.type_);
    }
}
