//! Kernel settings that a pod may have of its own: those of its network and IPC namespaces that cannot hurt anybody else.
//!
//! The list is the kubelet's (`pkg/kubelet/sysctl/safe_sysctls.go`); what is not on it is refused when the pod is admitted.

use k8s_openapi::api::core::v1::PodSpec;

const OF_IPC: &[&str] = &["kernel.shm_rmid_forced"];
const OF_NETWORK: &[&str] = &[
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// A name with dots between its parts. Where the first separator is a slash, slashes and dots change places
/// (`net/ipv4/conf/eth0.1/mtu`), as in sysctl.d(5).
pub fn normalized(name: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('/') => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    }
}

/// Why a pod's settings are not allowed, in the kubelet's words; None if they are.
pub fn forbidden(pod: &PodSpec) -> Option<String> {
    let all = pod.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    all.map(|sysctl| normalized(&sysctl.name)).find_map(|name| {
        let why = match name.as_str() {
            ipc if OF_IPC.contains(&ipc) => (pod.host_ipc == Some(true)).then_some("not allowed with host IPC enabled"),
            net if OF_NETWORK.contains(&net) => (pod.host_network == Some(true)).then_some("not allowed with host Net enabled"),
            _ => Some("not allowlisted"),
        };
        why.map(|why| format!("forbidden sysctl: {name:?} {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_with_dots_or_slashes() {
        for (name, expected) in [
            ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("kernel/shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("net.ipv4.conf.eth0/1.mtu", "net.ipv4.conf.eth0/1.mtu"),
            ("net/ipv4/conf/eth0.1/mtu", "net.ipv4.conf.eth0/1.mtu"),
            ("plain", "plain"),
        ] {
            assert_eq!(normalized(name), expected);
        }
    }

    #[test]
    fn only_what_is_known_to_be_safe_is_allowed() {
        let pod = |value: serde_json::Value| serde_json::from_value::<PodSpec>(value).unwrap();
        let with = |name: &str, field: &str| {
            let mut spec = serde_json::json!({ "containers": [], "securityContext": { "sysctls": [{ "name": name, "value": "1" }] } });
            spec[field] = true.into();
            forbidden(&pod(spec))
        };
        assert_eq!(with("net/ipv4/tcp_syncookies", "hostPID"), None);
        assert_eq!(with("kernel.msgmax", "hostPID").as_deref(), Some("forbidden sysctl: \"kernel.msgmax\" not allowlisted"));
        assert_eq!(with("kernel/msgmax", "hostPID").as_deref(), Some("forbidden sysctl: \"kernel.msgmax\" not allowlisted"));
        assert_eq!(
            with("kernel.shm_rmid_forced", "hostIPC").as_deref(),
            Some("forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host IPC enabled")
        );
        assert!(with("net.ipv4.tcp_rmem", "hostNetwork").unwrap().ends_with("host Net enabled"));
    }
}
