//! The pause: the process that holds a pod's namespaces, and, where the pod shares its PIDs, reaps its orphans.
//!
//! It has an empty root, no capability, no descriptor, and a program of a thousand bytes that exists in no file system, so
//! that a container which sees it (PID 1 of a shared PID namespace) finds nothing of the host behind /proc/1.

use std::path::Path;

use k8s_openapi::api::core::v1::PodSpec;

use super::plan::Plan;
use super::step::Step;
use super::sysctl;
use crate::error::Result;
use crate::sys::process::{self, Namespaces};

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// The program, for [`super::step::Hands::program`].
pub fn program() -> Result<std::os::fd::OwnedFd> {
    process::sealed_file("pause", PROGRAM)
}

/// The namespaces that a pod's containers share (§19): not those of which the node's are asked for.
pub fn namespaces(pod: &PodSpec) -> Namespaces {
    let mut shared = Namespaces::empty();
    if pod.host_ipc != Some(true) {
        shared |= Namespaces::IPC;
    }
    if pod.host_network != Some(true) {
        shared |= Namespaces::NET | Namespaces::UTS;
    }
    if pod.share_process_namespace == Some(true) {
        shared |= Namespaces::PID;
    }
    shared
}

/// Whether the pod has a user namespace.
pub fn has_users(pod: &PodSpec) -> bool {
    pod.host_users == Some(false)
}

/// The plan of the pause. `scratch` is a directory to put its empty root on, in its own mount namespace.
///
/// Where the pod has a user namespace, the shared ones are made by a process in it, and so belong to it. The root of that may not go where
/// `scratch` is; but over /proc, which is no longer needed then, it may mount.
pub fn plan(pod: &PodSpec, hostname: &str, scratch: &Path) -> Plan {
    let shared = namespaces(pod);
    let users = has_users(pod);
    let made = shared | Namespaces::MOUNT;
    let mut steps = vec![Step::Hide, Step::NewSession, Step::IgnoreChildren, Step::OomScore(-998)];
    if users {
        let root = Step::User { uid: 0, gid: 0, groups: Vec::new(), umask: 0o022 };
        steps.extend([Step::JoinUsers, root, Step::Unshare(made - Namespaces::PID)]);
    }
    if shared.contains(Namespaces::UTS) {
        steps.push(Step::HostName(hostname.to_owned()));
    }
    if shared.contains(Namespaces::NET) {
        steps.push(Step::OpenNetwork { ping: !users });
    }
    steps.extend(sysctls(pod).map(|(name, value)| Step::Sysctl { name, value }));
    steps.extend([
        Step::LeaveHostMounts,
        Step::EmptyRoot { at: if users { "/proc".into() } else { scratch.to_owned() } },
        Step::SwitchRoot,
        Step::CloseDescriptors { first: 0, but_users: false },
        Step::BoundCapabilities(Vec::new()),
        Step::Capabilities(Vec::new()),
        Step::NoNewPrivileges,
        Step::DieWithSupervisor,
        Step::ExecutePause,
    ]);
    Plan { namespaces: if users { made & Namespaces::PID } else { made }, born_in: Namespaces::empty(), steps }
}

/// The pod's kernel settings, by their normalized names.
fn sysctls(pod: &PodSpec) -> impl Iterator<Item = (String, String)> {
    let all = pod.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    all.map(|sysctl| (sysctl::normalized(&sysctl.name), sysctl.value.clone()))
}
