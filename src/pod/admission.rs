//! What this machine does not take in, though the manifest is valid: the pod is Failed at once, and nothing of it is made.
//!
//! The texts are the kubelet's (`pkg/kubelet/kubelet.go`, rejectPod): the status has a phase, a reason and a message, no conditions and no
//! containers.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{AppArmorProfile, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::dir::{self, PodDir};
use super::ground::{all_containers, pod_spec};
use super::journal::{Journal, Kind};
use super::places::Places;
use super::status;
use crate::container::sysctl;
use crate::error::Result;
use crate::manifest::huge_pages as wanted;
use crate::network::HostPort;
use crate::sys::huge_pages::{self, Pool};

/// Why a pod is not taken in.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    reason: Cow<'static, str>,
    message: String,
}

/// None: the pod may run here, as far as this machine and the other pods of `places` go.
pub fn judge(places: &Places, pod: &Pod) -> Result<Option<Rejection>> {
    Ok(match judge_alone(pod) {
        None => {
            let (ports, spec) = (HostPort::all_of(pod_spec(pod))?, pod_spec(pod));
            // To read all pods is not for every start.
            let others = if ports.is_empty() && wanted::resources(spec).is_empty() { Vec::new() } else { others(places, pod)? };
            taken_port(&ports, &others).or_else(|| too_few_huge_pages(spec, &others, &huge_pages::pools()))
        }
        rejected => rejected,
    })
}

/// The other pods that run.
fn others(places: &Places, pod: &Pod) -> Result<Vec<Pod>> {
    // What cannot be read is no pod that runs.
    let read = |dir: PodDir| dir.read().ok().flatten().filter(|other| other.supervised && !status::is_finished(&other.pod));
    let all = dir::all(places)?.into_iter().filter_map(read).map(|other| other.pod);
    Ok(all.filter(|other| other.metadata.uid != pod.metadata.uid).collect())
}

fn judge_alone(pod: &Pod) -> Option<Rejection> {
    let spec = pod_spec(pod);
    let sysctls = sysctl::forbidden(spec).map(|message| Rejection { reason: "SysctlForbidden".into(), message });
    sysctls
        .or_else(|| wants_apparmor(spec).then(|| Rejection { reason: "AppArmor".into(), message: format!("Cannot enforce AppArmor: {}", why_no_apparmor()) }))
}

/// A hostPort that a running pod has. Those of hostNetwork pods count: their containerPorts are hostPorts.
fn taken_port(wanted: &[HostPort], others: &[Pod]) -> Option<Rejection> {
    for other in others {
        let taken = HostPort::all_of(pod_spec(other)).unwrap_or_default();
        if let Some(port) = wanted.iter().find(|port| taken.iter().any(|taken| taken.conflicts(port))) {
            let name = |name: &Option<String>| name.clone().unwrap_or_default();
            let holder = format!("pod {}/{} has hostPort {port}", name(&other.metadata.namespace), name(&other.metadata.name));
            let message = format!("Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: {holder}");
            return Some(Rejection { reason: "NodePorts".into(), message });
        }
    }
    None
}

/// Huge pages that the machine does not have, or has no more of: running pods hold what they asked for, others what they took
/// (`InsufficientResourceError`). Pages of a size that the machine does not know are none.
fn too_few_huge_pages(spec: &PodSpec, others: &[Pod], pools: &[Pool]) -> Option<Rejection> {
    wanted::resources(spec).into_iter().find_map(|name| {
        let pool = pools.iter().find(|pool| wanted::resource_of(pool.page_size) == name).copied().unwrap_or_default();
        let held = others.iter().map(|other| wanted::total(pod_spec(other), name)).fold(0, u64::saturating_add);
        let (requested, used, capacity) = (wanted::total(spec, name), held.max(pool.taken), pool.all);
        let message = format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}");
        (requested > capacity.saturating_sub(used)).then(|| Rejection { reason: format!("OutOf{name}").into(), message })
    })
}

/// Whether a profile other than Unconfined is asked for (`pkg/security/apparmor/validate.go`).
fn wants_apparmor(pod: &PodSpec) -> bool {
    let asks = |profile: Option<&AppArmorProfile>| profile.is_some_and(|profile| profile.type_ != "Unconfined");
    asks(pod.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref()))
        || all_containers(pod).any(|container| asks(container.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref())))
}

fn why_no_apparmor() -> &'static str {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    if enabled { "minipod does not load AppArmor profiles" } else { "AppArmor is not enabled on the host" }
}

impl Rejection {
    /// Writes the pod's only status, and the event that tells of it.
    pub fn write(&self, dir: &PodDir, mut pod: Pod) -> Result<()> {
        let now = Timestamp::now();
        let mut journal = Journal::new(&dir.namespace, &dir.name, pod.metadata.uid.as_deref().unwrap_or_default());
        journal.tell(Kind::Warning, &self.reason, None, &self.message, now);
        let status = PodStatus {
            phase: Some("Failed".into()),
            reason: Some(self.reason.to_string()),
            message: Some(format!("Pod was rejected: {}", self.message)),
            start_time: Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
            ..Default::default()
        };
        pod.status = Some(status::complete(status, &pod));
        dir.write_pod(&pod)?;
        journal.write(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rejection(of_pod: Value, of_container: Value) -> Option<String> {
        let pod = json!({ "spec": { "securityContext": of_pod, "containers": [{ "name": "c", "securityContext": of_container }] } });
        judge_alone(&serde_json::from_value(pod).unwrap()).map(|rejection| format!("{}: {}", rejection.reason, rejection.message))
    }

    #[test]
    fn what_the_machine_cannot_do_is_rejected_in_the_kubelets_words() {
        assert_eq!(rejection(json!({}), json!({})), None);
        assert_eq!(rejection(json!({ "appArmorProfile": { "type": "Unconfined" } }), json!({})), None);
        let sysctl = json!({ "sysctls": [{ "name": "kernel.msgmax", "value": "65536" }] });
        assert_eq!(rejection(sysctl, json!({})).as_deref(), Some("SysctlForbidden: forbidden sysctl: \"kernel.msgmax\" not allowlisted"));
        let apparmor = rejection(json!({}), json!({ "appArmorProfile": { "type": "RuntimeDefault" } })).unwrap();
        assert!(apparmor.starts_with("AppArmor: Cannot enforce AppArmor: "), "{apparmor}");
    }

    #[test]
    fn huge_pages_are_promised_once() {
        let pod = |amounts: Value| -> Pod {
            serde_json::from_value(json!({ "spec": { "containers": [{ "name": "c", "resources": { "limits": amounts, "requests": amounts } }] } })).unwrap()
        };
        let pool = |taken: u64| [Pool { page_size: 2 << 20, all: 8 << 20, taken: taken << 20 }];
        let said = |amounts: Value, others: &[Pod], pools: &[Pool]| {
            too_few_huge_pages(pod_spec(&pod(amounts)), others, pools).map(|rejection| format!("{}: {}", rejection.reason, rejection.message))
        };
        let four = || json!({ "hugepages-2Mi": "4Mi" });
        assert_eq!(said(four(), &[], &pool(4)), None);
        assert_eq!(said(four(), &[pod(four())], &pool(4)), None, "what the other pod has taken is what it asked for");
        assert_eq!(said(json!({ "memory": "1Gi" }), &[], &[]), None);
        let refused = said(four(), &[pod(json!({ "hugepages-2Mi": "6Mi" }))], &pool(0)).unwrap();
        assert_eq!(refused, "OutOfhugepages-2Mi: Node didn't have enough resource: hugepages-2Mi, requested: 4194304, used: 6291456, capacity: 8388608");
        assert!(said(four(), &[], &pool(6)).unwrap().contains("used: 6291456"), "somebody else has taken them");
        let unknown = said(json!({ "hugepages-1Gi": "1Gi" }), &[], &pool(0)).unwrap();
        assert!(unknown.ends_with("requested: 1073741824, used: 0, capacity: 0"), "{unknown}");
    }
}
