//! The pod's conditions, in upstream's order, with upstream's reasons and messages (`pkg/kubelet/status/generate.go`).

use k8s_openapi::api::core::v1 as core;

use super::ending::{Why, drain};
use super::facts::{At, Facts, Phase, SandboxState};
use super::phase::has_run;
use super::spec::{C, Role, Spec};
use super::status::time;

/// A condition's status, reason and message.
type Verdict = (bool, Option<&'static str>, Option<String>);

const TRUE: Verdict = (true, None, None);

/// The conditions at `now` of a pod whose facts amount to `phase`. Others' conditions in `previous` follow ours.
pub fn conditions(
    spec: &Spec,
    facts: &Facts,
    phase: Phase,
    inits: &[core::ContainerStatus],
    apps: &[core::ContainerStatus],
    previous: Option<&core::PodStatus>,
    now: At,
) -> Vec<core::PodCondition> {
    let before = previous.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let containers = containers_ready(spec, phase, inits, apps);
    let ready = if containers.0 { gates(spec, before) } else { containers.clone() };
    let mut ours = vec![
        ("PodReadyToStartContainers", (facts.sandbox.state == SandboxState::Ready, None, None)),
        ("Initialized", initialized(spec, facts, phase, inits)),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", TRUE),
    ];
    if spec.containers.iter().any(|c| c.restart_rules.iter().any(|rule| rule.all_containers)) {
        ours.push(("AllContainersRestarting", all_restarting(spec, facts, phase, now)));
    }
    let others = before.iter().filter(|condition| !ours.iter().any(|(name, _)| *name == condition.type_));
    ours.iter().map(|(name, verdict)| condition(spec, name, verdict, before, now)).chain(others.cloned()).collect()
}

/// The one condition of a pod that no node takes (`pkg/scheduler/schedule_one.go`); the kubelet has not seen it yet.
pub fn unscheduled(spec: &Spec, message: &str, previous: Option<&core::PodStatus>, now: At) -> Vec<core::PodCondition> {
    let before = previous.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    vec![condition(spec, "PodScheduled", &(false, Some("Unschedulable"), Some(message.to_owned())), before, now)]
}

/// The transition time moves only with the status; a new reason is no transition.
fn condition(spec: &Spec, name: &str, (yes, reason, message): &Verdict, before: &[core::PodCondition], now: At) -> core::PodCondition {
    let status = if *yes { "True" } else { "False" };
    let same = before.iter().find(|condition| condition.type_ == name && condition.status == status);
    core::PodCondition {
        type_: name.into(),
        status: status.into(),
        reason: reason.map(Into::into),
        message: message.clone(),
        last_transition_time: same.and_then(|condition| condition.last_transition_time.clone()).or_else(|| Some(time(now.wall))),
        last_probe_time: None,
        observed_generation: spec.generation,
    }
}

fn named<'a>(names: impl Iterator<Item = &'a core::ContainerStatus>) -> Vec<&'a str> {
    names.map(|status| status.name.as_str()).collect()
}

fn initialized(spec: &Spec, facts: &Facts, phase: Phase, inits: &[core::ContainerStatus]) -> Verdict {
    if phase == Phase::Succeeded {
        return (true, Some("PodCompleted"), None);
    }
    let open = |(c, status): &(C, &core::ContainerStatus)| match spec.role(*c) {
        Role::Sidecar => status.started == Some(true),
        _ => status.ready,
    };
    let incomplete = named(spec.inits().zip(inits).filter(|entry| !open(entry)).map(|(_, status)| status));
    // A sidecar that restarts, or inits that run again, do not take back what an app container has proved.
    if incomplete.is_empty() || spec.apps().any(|c| has_run(facts, c.0)) {
        return TRUE;
    }
    (false, Some("ContainersNotInitialized"), Some(format!("containers with incomplete status: [{}]", incomplete.join(" "))))
}

fn containers_ready(spec: &Spec, phase: Phase, inits: &[core::ContainerStatus], apps: &[core::ContainerStatus]) -> Verdict {
    match phase {
        Phase::Succeeded => return (false, Some("PodCompleted"), None),
        Phase::Failed => return (false, Some("PodFailed"), None),
        Phase::Pending | Phase::Running => {}
    }
    let counted = spec.all().zip(inits.iter().chain(apps)).filter(|(c, _)| spec.role(*c) != Role::Init);
    let unready = named(counted.map(|(_, status)| status).filter(|status| !status.ready));
    if unready.is_empty() {
        return TRUE;
    }
    (false, Some("ContainersNotReady"), Some(format!("containers with unready status: [{}]", unready.join(" "))))
}

fn gates(spec: &Spec, before: &[core::PodCondition]) -> Verdict {
    let closed = spec.readiness_gates.iter().filter_map(|gate| match before.iter().find(|condition| condition.type_ == *gate) {
        None => Some(format!("corresponding condition of pod readiness gate \"{gate}\" does not exist.")),
        Some(condition) if condition.status != "True" => Some(format!("the status of pod readiness gate \"{gate}\" is not \"True\", but {}", condition.status)),
        Some(_) => None,
    });
    let closed: Vec<String> = closed.collect();
    if closed.is_empty() { TRUE } else { (false, Some("ReadinessGatesNotReady"), Some(closed.join(", "))) }
}

fn all_restarting(spec: &Spec, facts: &Facts, phase: Phase, now: At) -> Verdict {
    match phase {
        Phase::Succeeded => (false, Some("PodCompleted"), None),
        Phase::Failed => (false, Some("PodFailed"), None),
        _ if drain(spec, facts, now.mono).is_some_and(|drain| drain.why == Why::RestartAll) => {
            (true, Some("RestartAllContainersStarted"), Some("container exited with restart policy rule".into()))
        }
        _ => (false, None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Event, UNSCHEDULABLE, observe, status};
    use super::*;

    #[test]
    fn a_pod_that_no_node_takes_says_so_and_nothing_else() {
        let pod = serde_json::from_value(serde_json::json!({ "spec": { "containers": [{ "name": "a" }] } })).unwrap();
        let (spec, at) = (Spec::of(&pod), |seconds: i64| At { mono: seconds as u64 * 1000, wall: seconds * 1000 });
        let mut facts = Facts::new(&spec, at(0));
        let told = |facts: &Facts, before: Option<&core::PodStatus>, now: i64| status(&spec, facts, before, at(now));
        observe(&spec, &mut facts, Event::SandboxFailed { reason: UNSCHEDULABLE.into(), message: "no claim".into() }, at(1));
        let first = told(&facts, None, 1);
        assert_eq!((first.phase.as_deref(), &first.container_statuses, &first.pod_ip), (Some("Pending"), &None, &None));
        let [scheduled] = first.conditions.as_deref().unwrap() else { panic!("{:?}", first.conditions) };
        let said = (scheduled.type_.as_str(), scheduled.status.as_str(), scheduled.reason.as_deref(), scheduled.message.as_deref());
        assert_eq!(said, ("PodScheduled", "False", Some("Unschedulable"), Some("no claim")));
        let later = told(&facts, Some(&first), 5);
        assert_eq!(later, first, "the time of the transition stays");
        observe(&spec, &mut facts, Event::SandboxReady { ips: vec!["10.77.0.2".into()] }, at(9));
        let last = told(&facts, Some(&later), 9);
        let scheduled = last.conditions.as_ref().unwrap().iter().find(|condition| condition.type_ == "PodScheduled").unwrap();
        assert_eq!((scheduled.status.as_str(), &scheduled.reason, &scheduled.last_transition_time), ("True", &None, &Some(time(9000))));
        assert_eq!(last.container_statuses.unwrap().len(), 1);
    }
}
