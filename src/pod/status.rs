//! A pod's status beyond what the engine knows: the machine's part, and the truth about a pod whose supervisor has died.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, HostIP, Pod, PodStatus};

use super::dir::Known;
use super::ground::pod_spec;
use super::sandbox::host_ip;
use crate::cgroup;

/// The reason that a pod without a supervisor shows.
pub const SUPERVISOR_LOST: &str = "SupervisorLost";

/// Adds what depends on the machine and the manifest: host addresses and the class of service.
pub fn complete(mut status: PodStatus, pod: &Pod) -> PodStatus {
    let before = pod.status.as_ref().and_then(|status| status.host_ip.clone());
    let ip = before.unwrap_or_else(host_ip);
    status.host_ips = Some(vec![HostIP { ip: ip.clone() }]);
    status.host_ip = Some(ip);
    status.qos_class = Some(cgroup::limits::qos_class(pod_spec(pod)).to_string());
    status
}

/// Whether nothing of the pod runs any more and nothing will.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// What is true of a pod now. A supervisor that was killed wrote its last status before. The kernel kills its containers with it, but
/// for programs that changed their user or were setuid since (PR_SET_PDEATHSIG, prctl(2)): nobody sees what becomes of them, so
/// how what it called running ended is not known (`ContainerStatusUnknown`, as the kubelet says it).
pub fn truth(known: Known) -> Pod {
    let mut pod = known.pod;
    if known.supervised || is_finished(&pod) {
        return pod;
    }
    let status = pod.status.get_or_insert_default();
    status.phase = Some("Failed".into());
    status.reason = Some(SUPERVISOR_LOST.into());
    status.message = Some("The pod's supervisor ended unexpectedly; deleting the pod ends and removes what is left of it.".into());
    for list in [&mut status.init_container_statuses, &mut status.container_statuses, &mut status.ephemeral_container_statuses] {
        list.iter_mut().flatten().for_each(end);
    }
    for condition in status.conditions.iter_mut().flatten().filter(|condition| matches!(condition.type_.as_str(), "Ready" | "ContainersReady")) {
        condition.status = "False".into();
        condition.reason = Some("PodFailed".into());
    }
    pod
}

fn end(container: &mut ContainerStatus) {
    container.ready = false;
    container.started = Some(false);
    let state = container.state.get_or_insert_default();
    if let Some(waiting) = &mut state.waiting {
        // What it waited for will not come.
        waiting.reason = Some(SUPERVISOR_LOST.into());
    }
    let Some(running) = state.running.take() else { return };
    container.state = Some(ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            started_at: running.started_at,
            container_id: container.container_id.clone(),
            ..Default::default()
        }),
        ..Default::default()
    });
}
