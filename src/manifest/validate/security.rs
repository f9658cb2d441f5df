//! Who a container runs as, and which namespaces of the host it may share.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, PodSpec, SeccompProfile};

use crate::manifest::fault::Findings;
use crate::manifest::path::At;

pub fn pod(spec: &PodSpec, at: &At, findings: &mut Findings) {
    namespaces(spec, at, findings);
    let Some(context) = &spec.security_context else { return };
    let at = at.field("securityContext");
    windows(spec, context.windows_options.is_some(), &at, findings);
    for (field, id) in [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group), ("fsGroup", context.fs_group)] {
        self::id(id, &at.field(field), findings);
    }
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(Some(*group), &at.field("supplementalGroups").index(index), findings);
    }
    super::containers::word(context.fs_group_change_policy.as_deref(), &["OnRootMismatch", "Always"], &at.field("fsGroupChangePolicy"), findings);
    super::containers::word(context.supplemental_groups_policy.as_deref(), &["Merge", "Strict"], &at.field("supplementalGroupsPolicy"), findings);
    seccomp(context.seccomp_profile.as_ref(), &at.field("seccompProfile"), findings);
    apparmor(context.app_armor_profile.as_ref(), &at.field("appArmorProfile"), findings);
    sysctls(spec, &at.field("sysctls"), findings);
}

/// `validateLinux`: only a pod that says which system it is for can be wrong about it.
fn windows(spec: &PodSpec, set: bool, at: &At, findings: &mut Findings) {
    if set && spec.os.as_ref().is_some_and(|os| os.name == "linux") {
        findings.forbidden(&at.field("windowsOptions"), "windows options cannot be set for a linux pod");
    }
}

/// `validateSysctls` and `ValidateHostSysctl`. Which of them are safe is asked when the pod is admitted.
fn sysctls(spec: &PodSpec, at: &At, findings: &mut Findings) {
    let mut known = std::collections::HashSet::new();
    for (index, sysctl) in spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten()).enumerate() {
        let (name, place) = (sysctl.name.replace('/', "."), at.index(index));
        if name.is_empty() {
            findings.required(&place.field("name"), "");
        } else if sysctl.name.len() > 253 || !sysctl.name.split(['.', '/']).all(is_sysctl_part) {
            let said = format!("must have at most 253 characters and match regex {SYSCTL_NAME}");
            findings.invalid(&place.field("name"), &sysctl.name, said);
        } else if !known.insert(name.clone()) {
            findings.duplicate(&place.field("name"), &sysctl.name);
        }
        let of_ipc = name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
        for (of_host, field) in
            [(name.starts_with("net.") && spec.host_network == Some(true), "hostNetwork"), (of_ipc && spec.host_ipc == Some(true), "hostIPC")]
        {
            if of_host {
                findings.invalid(&place.field("name"), &sysctl.name, format!("may not be specified when '{field}' is true"));
            }
        }
    }
}

const SYSCTL_NAME: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn is_sysctl_part(part: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    part.chars().all(inner) && edge(part.chars().next()) && edge(part.chars().next_back())
}

const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(profile: Option<&SeccompProfile>, at: &At, findings: &mut Findings) {
    let Some(SeccompProfile { type_, localhost_profile }) = profile else { return };
    let place = at.field("localhostProfile");
    match (type_.as_str(), localhost_profile) {
        ("", _) => findings.required(&at.field("type"), "type is required when seccompProfile is set"),
        ("Localhost", None) => findings.required(&place, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(path)) if path.starts_with('/') => findings.invalid(&place, path, "must be a relative path"),
        ("Localhost", Some(path)) if path.split('/').any(|part| part == "..") => findings.invalid(&place, path, "must not contain '..'"),
        ("Localhost", Some(_)) => {}
        (_, Some(path)) => findings.invalid(&place, path, "can only be set when seccomp type is Localhost"),
        (type_, None) => super::containers::word(Some(type_), PROFILES, &at.field("type"), findings),
    }
}

fn apparmor(profile: Option<&AppArmorProfile>, at: &At, findings: &mut Findings) {
    let Some(AppArmorProfile { type_, localhost_profile }) = profile else { return };
    let place = at.field("localhostProfile");
    match (type_.as_str(), localhost_profile.as_deref()) {
        ("", _) => findings.required(&at.field("type"), "type is required when appArmorProfile is set"),
        ("Localhost", name) if name.is_none_or(|name| name.trim().is_empty()) => findings.required(&place, "must be set when AppArmor type is Localhost"),
        ("Localhost", Some(name)) if name.trim() != name => findings.invalid(&place, name, "must not be padded with whitespace"),
        ("Localhost", _) => {}
        (_, Some(name)) => findings.invalid(&place, name, "can only be set when AppArmor type is Localhost"),
        (type_, None) => super::containers::word(Some(type_), PROFILES, &at.field("type"), findings),
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
    windows(spec, context.windows_options.is_some(), &at, findings);
    id(context.run_as_user, &at.field("runAsUser"), findings);
    id(context.run_as_group, &at.field("runAsGroup"), findings);
    seccomp(context.seccomp_profile.as_ref(), &at.field("seccompProfile"), findings);
    apparmor(context.app_armor_profile.as_ref(), &at.field("appArmorProfile"), findings);
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
