//! What this machine does not take in, though the manifest is valid: the pod is Failed at once, and nothing of it is made.
//!
//! The texts are the kubelet's (`pkg/kubelet/kubelet.go`, rejectPod): the status has a phase, a reason and a message, no conditions and no
//! containers.

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
use crate::network::HostPort;

/// Why a pod is not taken in.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    reason: &'static str,
    message: String,
}

/// None: the pod may run here, as far as this machine and the other pods of `places` go.
pub fn judge(places: &Places, pod: &Pod) -> Result<Option<Rejection>> {
    Ok(match judge_alone(pod) {
        None => taken_port(places, pod)?,
        rejected => rejected,
    })
}

fn judge_alone(pod: &Pod) -> Option<Rejection> {
    let spec = pod_spec(pod);
    let sysctls = sysctl::forbidden(spec).map(|message| Rejection { reason: "SysctlForbidden", message });
    sysctls.or_else(|| wants_apparmor(spec).then(|| Rejection { reason: "AppArmor", message: format!("Cannot enforce AppArmor: {}", why_no_apparmor()) }))
}

/// A hostPort that a running pod has. Those of hostNetwork pods count: their containerPorts are hostPorts.
fn taken_port(places: &Places, pod: &Pod) -> Result<Option<Rejection>> {
    let wanted = HostPort::all_of(pod_spec(pod))?;
    if wanted.is_empty() {
        return Ok(None);
    }
    for dir in dir::all(places)? {
        // What cannot be read is no pod that runs.
        let Some(other) = dir.read().ok().flatten().filter(|other| other.supervised && !status::is_finished(&other.pod)) else { continue };
        if other.pod.metadata.uid == pod.metadata.uid {
            continue;
        }
        let taken = HostPort::all_of(pod_spec(&other.pod)).unwrap_or_default();
        if let Some(port) = wanted.iter().find(|port| taken.iter().any(|taken| taken.conflicts(port))) {
            let holder = format!("pod {}/{} has hostPort {port}", dir.namespace, dir.name);
            let message = format!("Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: {holder}");
            return Ok(Some(Rejection { reason: "NodePorts", message }));
        }
    }
    Ok(None)
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
        journal.tell(Kind::Warning, self.reason, None, &self.message, now);
        let status = PodStatus {
            phase: Some("Failed".into()),
            reason: Some(self.reason.into()),
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
}
