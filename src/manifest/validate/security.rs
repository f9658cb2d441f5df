//! Who a container runs as, and which namespaces of the host it may share.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::manifest::fault::Findings;
use crate::manifest::path::At;

pub fn pod(spec: &PodSpec, at: &At, findings: &mut Findings) {
    namespaces(spec, at, findings);
    let Some(context) = &spec.security_context else { return };
    let at = at.field("securityContext");
    for (field, id) in [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group), ("fsGroup", context.fs_group)] {
        self::id(id, &at.field(field), findings);
    }
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(Some(*group), &at.field("supplementalGroups").index(index), findings);
    }
    let mut known = std::collections::HashSet::new();
    for (index, sysctl) in context.sysctls.iter().flatten().enumerate() {
        let (name, sysctls) = (sysctl.name.replace('/', "."), at.field("sysctls"));
        let place = sysctls.index(index);
        if name.is_empty() {
            findings.required(&place.field("name"), "");
        } else if !known.insert(name.clone()) {
            findings.duplicate(&place.field("name"), &sysctl.name);
        }
        if name.starts_with("net.") && spec.host_network == Some(true) {
            findings.invalid(&place.field("name"), &sysctl.name, "may not be specified when 'hostNetwork' is true");
        }
    }
}

fn namespaces(spec: &PodSpec, at: &At, findings: &mut Findings) {
    let (pid, ipc) = (spec.host_pid == Some(true), spec.host_ipc == Some(true));
    if pid && spec.share_process_namespace == Some(true) {
        findings.invalid(&at.field("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    if spec.host_users == Some(false) {
        for (field, set) in [("hostNetwork", spec.host_network == Some(true)), ("hostPID", pid), ("hostIPC", ipc)] {
            if set {
                findings.forbidden(&at.field(field), "when `hostUsers` is false");
            }
        }
    }
}

pub fn of(container: &Container, spec: &PodSpec, at: &At, findings: &mut Findings) {
    let Some(context) = &container.security_context else { return };
    let at = at.field("securityContext");
    id(context.run_as_user, &at.field("runAsUser"), findings);
    id(context.run_as_group, &at.field("runAsGroup"), findings);
    if let Some(mount) = &context.proc_mount {
        super::containers::word(Some(mount), &["Default", "Unmasked"], &at.field("procMount"), findings);
        if mount == "Unmasked" && spec.host_users != Some(false) {
            findings.invalid(&at.field("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    if context.allow_privilege_escalation == Some(false) {
        let mut added = context.capabilities.iter().flat_map(|all| all.add.iter().flatten());
        let admin = added.any(|name| matches!(name.as_str(), "CAP_SYS_ADMIN" | "SYS_ADMIN"));
        let value = serde_json::to_value(context).unwrap_or_default();
        for (set, said) in [
            (context.privileged == Some(true), "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"),
            (admin, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"),
        ] {
            if set {
                findings.invalid(&at, format_args!("{value}"), said);
            }
        }
    }
}

fn id(id: Option<i64>, at: &At, findings: &mut Findings) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        findings.invalid(at, id, format!("must be between 0 and {}, inclusive", i32::MAX));
    }
}
