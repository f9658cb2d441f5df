//! Pod + container + image + mounts become the OCI runtime spec of one container.
//!
//! Pure: the same words give the same spec, which `minipod explain -o oci` prints and which is kept beside a running container for
//! `exec`. What Kubernetes says comes from the manifest and the image; what it leaves to the runtime (default mounts, masked
//! paths, capabilities) follows containerd.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext};
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDevice, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType,
    Mount as OciMount, MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::seccomp::Profile;
use crate::error::{Error, Result};
use crate::image::{Image, User};
use crate::manifest::expand;
use crate::sys::mount::Propagation;

/// A part of a bind mount's source that is resolved beneath it by the kernel; libmount's word for the same thing.
pub const SUB_DIRECTORY: &str = "X-mount.subdir=";

/// One more thing to mount into the container, beside what every container gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// A directory or file of the host (of the supervisor's mount namespace).
    pub source: PathBuf,
    /// A path beneath the source that somebody else may have written links into.
    pub sub_path: Option<String>,
    /// Where, in the container.
    pub destination: PathBuf,
    pub read_only: bool,
    /// What is mounted beneath the source is read-only as well.
    pub recursive_read_only: bool,
    pub propagation: Propagation,
    /// Its files are shown with the ids of the pod's user namespace: what belongs to 0 on disk, to its root.
    pub mapped: bool,
}

/// What a container's spec depends on beside the pod's words.
pub struct Surroundings<'a> {
    pub image: &'a Image,
    pub user: &'a User,
    /// Where the container's root file system is assembled.
    pub root: PathBuf,
    /// The variables that the manifest gives, resolved.
    pub env: &'a BTreeMap<String, String>,
    /// The name that HOSTNAME gets.
    pub hostname: &'a str,
    /// Volumes, /etc/hosts and the like. One at a default mount's place replaces it.
    pub mounts: Vec<Mount>,
    /// The pause's pid; None before there is one (`explain`).
    pub pause: Option<u32>,
    /// The main process of another container, if its PID namespace is to be joined.
    pub target: Option<u32>,
    /// The first of the machine's ids that are the pod's, if it has a user namespace.
    pub users: Option<u32>,
    /// The cgroup below the cgroup2 root.
    pub cgroup: PathBuf,
    pub oom_score_adj: Option<i32>,
    /// Which system calls it may make; None is all.
    pub seccomp: Option<&'a Profile>,
    /// The kernel's version, for the profile.
    pub kernel: (u32, u32),
    /// The capabilities that there are to give: `ALL` means these (names without `CAP_`).
    pub capabilities: Vec<String>,
    /// Nodes beside the usual ones: for a privileged container, all of the machine.
    pub devices: Vec<LinuxDevice>,
}

/// How many ids a user namespace has, from 0 on: the kubelet's number.
pub const USERS: u32 = 65536;

/// containerd's default capabilities, which Kubernetes' documentation assumes (14).
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Paths that tell of the machine or change it; hidden (KEP: procMount Default).
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The spec of a container. Errors: `no command specified` (CreateContainerError), an unknown capability.
pub fn compile(pod: &Pod, container: &Container, around: &Surroundings<'_>) -> Result<Spec> {
    let pod_spec = pod.spec.as_ref().expect("a validated pod has a spec");
    let env = environment(container, around);
    let args = command(container, around)?;
    let security = container.security_context.clone().unwrap_or_default();
    let privileged = is_privileged(container);
    // procMount Unmasked: /proc as it is, which a user namespace makes harmless.
    let open = privileged || security.proc_mount.as_deref() == Some("Unmasked");
    let bounding = bounding_set(&security, &around.capabilities);
    let process = ProcessBuilder::default()
        .terminal(container.tty.unwrap_or(false))
        .user(
            UserBuilder::default()
                .uid(around.user.uid)
                .gid(around.user.gid)
                .additional_gids(around.user.groups.clone())
                .umask(0o022u32)
                .build()
                .map_err(broken)?,
        )
        .args(args)
        .env(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())
        .cwd(working_dir(container, around.image))
        .capabilities(capabilities(&bounding, around.user.uid)?)
        .no_new_privileges(security.allow_privilege_escalation == Some(false));
    let process = match around.oom_score_adj {
        Some(score) => process.oom_score_adj(score),
        None => process,
    };
    let linux = LinuxBuilder::default()
        .namespaces(namespaces(pod_spec, privileged, around.pause, around.target)?)
        .cgroups_path(around.cgroup.clone())
        .masked_paths(unless(open, &MASKED))
        .readonly_paths(unless(open, &READ_ONLY))
        .devices(around.devices.clone())
        .rootfs_propagation("private");
    let linux = match around.users {
        Some(first) => linux.uid_mappings(mappings(first)?).gid_mappings(mappings(first)?),
        None => linux,
    };
    let linux = match around.seccomp {
        Some(profile) => linux.seccomp(profile.resolve(&bounding, around.kernel).map_err(|e| e.reason("CreateContainerError"))?),
        None => linux,
    };
    SpecBuilder::default()
        .version("1.2.0")
        .root(RootBuilder::default().path(around.root.clone()).readonly(security.read_only_root_filesystem.unwrap_or(false)).build().map_err(broken)?)
        .hostname(around.hostname)
        .mounts(mounts(&around.mounts, privileged)?)
        .process(process.build().map_err(broken)?)
        .linux(linux.build().map_err(broken)?)
        .build()
        .map_err(broken)
}

/// `privileged: true`: all of the machine, but for namespaces.
pub fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().is_some_and(|context| context.privileged == Some(true))
}

fn mappings(first: u32) -> Result<Vec<LinuxIdMapping>> {
    Ok(vec![LinuxIdMappingBuilder::default().container_id(0u32).host_id(first).size(USERS).build().map_err(broken)?])
}

fn unless(open: bool, paths: &[&str]) -> Vec<String> {
    if open { Vec::new() } else { paths.iter().map(|path| (*path).to_owned()).collect() }
}

/// The builders fail only when a required part is missing, which the code above shows not to happen.
fn broken(error: oci_spec::OciSpecError) -> Error {
    Error::said(format!("the OCI runtime spec cannot be made: {error}"))
}

/// §16: the image's environment first, then the manifest's; HOSTNAME, PATH, TERM and HOME only where nobody set them.
fn environment(container: &Container, around: &Surroundings<'_>) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    env.insert("PATH".into(), DEFAULT_PATH.into());
    env.insert("HOSTNAME".into(), around.hostname.into());
    env.insert("HOME".into(), around.user.home.clone());
    if container.tty == Some(true) {
        env.insert("TERM".into(), "xterm".into());
    }
    for pair in &around.image.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        env.insert(name.into(), value.into());
    }
    env.extend(around.env.clone());
    env
}

/// §17: command replaces entrypoint and cmd, args replaces cmd; `$(NAME)` is the manifest's environment.
fn command(container: &Container, around: &Surroundings<'_>) -> Result<Vec<String>> {
    let image = around.image;
    let expanded = |words: &[String]| words.iter().map(|word| expand(word, |name| around.env.get(name).map(String::as_str))).collect::<Vec<_>>();
    let (command, args) = (container.command.as_deref().unwrap_or(&[]), container.args.as_deref().unwrap_or(&[]));
    let words = match (command, args) {
        ([], []) => [image.entrypoint.as_slice(), image.cmd.as_slice()].concat(),
        ([], args) => [image.entrypoint.clone(), expanded(args)].concat(),
        (command, args) => [expanded(command), expanded(args)].concat(),
    };
    if words.is_empty() {
        return Err(Error::said("no command specified").reason("CreateContainerError"));
    }
    Ok(words)
}

fn working_dir(container: &Container, image: &Image) -> PathBuf {
    let wish = container.working_dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or(&image.working_dir);
    Path::new("/").join(wish)
}

/// §21: `ALL` in add, then `ALL` in drop, then single adds, then single drops; a privileged container has all. Without `CAP_`.
fn bounding_set(security: &SecurityContext, there_are: &[String]) -> Vec<String> {
    let all = || there_are.to_vec();
    if security.privileged == Some(true) {
        return all();
    }
    let wish = security.capabilities.clone().unwrap_or_default();
    let (add, drop) = (bare_names(wish.add), bare_names(wish.drop));
    let mut set: Vec<String> = if add.iter().any(|name| name == "ALL") { all() } else { DEFAULT_CAPABILITIES.map(str::to_owned).to_vec() };
    if drop.iter().any(|name| name == "ALL") {
        set.clear();
    }
    for name in add.iter().filter(|name| *name != "ALL" && !set.contains(name)).cloned().collect::<Vec<_>>() {
        set.push(name);
    }
    set.retain(|name| !drop.contains(name));
    set
}

/// A user other than root keeps them in the bounding set alone. Nothing is ever inheritable: a file with inheritable capabilities
/// would give them to any user (CVE-2022-24769).
fn capabilities(bounding: &[String], uid: u32) -> Result<oci_spec::runtime::LinuxCapabilities> {
    let known =
        |name: &String| name.parse::<Capability>().map_err(|_| Error::said(format!("{name:?} is not a capability")).reason("CreateContainerConfigError"));
    let bounding = bounding.iter().map(known).collect::<Result<std::collections::HashSet<_>>>()?;
    let held = if uid == 0 { bounding.clone() } else { Default::default() };
    LinuxCapabilitiesBuilder::default()
        .bounding(bounding)
        .permitted(held.clone())
        .effective(held)
        .inheritable(std::collections::HashSet::new())
        .ambient(std::collections::HashSet::new())
        .build()
        .map_err(broken)
}

fn bare_names(names: Option<Vec<String>>) -> Vec<String> {
    names.unwrap_or_default().iter().map(|name| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned()).collect()
}

/// Net, IPC and UTS are the pause's; PID too if the pod shares it, or that of a target; mount and cgroup are the container's own. hostNetwork
/// leaves net and UTS the host's (§18), hostPID and hostIPC those; a privileged container sees the host's cgroups.
fn namespaces(pod: &PodSpec, privileged: bool, pause: Option<u32>, target: Option<u32>) -> Result<Vec<oci_spec::runtime::LinuxNamespace>> {
    let pause = pause.map_or("<pause>".to_owned(), |pid| pid.to_string());
    let of_pause = |typ: LinuxNamespaceType, file: &str| LinuxNamespaceBuilder::default().typ(typ).path(format!("/proc/{pause}/ns/{file}")).build();
    let own = |typ: LinuxNamespaceType| LinuxNamespaceBuilder::default().typ(typ).build();
    let mut list = vec![own(LinuxNamespaceType::Mount)];
    if pod.host_users == Some(false) {
        list.push(of_pause(LinuxNamespaceType::User, "user"));
    }
    if !privileged {
        list.push(own(LinuxNamespaceType::Cgroup));
    }
    if pod.host_ipc != Some(true) {
        list.push(of_pause(LinuxNamespaceType::Ipc, "ipc"));
    }
    if pod.host_network != Some(true) {
        list.extend([of_pause(LinuxNamespaceType::Network, "net"), of_pause(LinuxNamespaceType::Uts, "uts")]);
    }
    match target {
        Some(pid) => list.push(LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Pid).path(format!("/proc/{pid}/ns/pid")).build()),
        None if pod.host_pid == Some(true) => {}
        None if pod.share_process_namespace == Some(true) => list.push(of_pause(LinuxNamespaceType::Pid, "pid")),
        None => list.push(own(LinuxNamespaceType::Pid)),
    }
    list.into_iter().collect::<std::result::Result<Vec<_>, _>>().map_err(broken)
}

/// As runc: what is mounted over /proc could pass for the kernel's word, to the container's programs and to whoever joins it
/// (CVE-2019-16884). A few files that only tell numbers may be replaced (lxcfs does).
fn is_in_proc(destination: &Path) -> bool {
    const REPLACEABLE: [&str; 11] =
        ["cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "net/dev", "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"];
    destination.strip_prefix("/proc").is_ok_and(|within| !REPLACEABLE.iter().any(|name| within == Path::new(name)))
}

/// The mounts that every container gets, less those whose place is taken, then the given ones: parents before children.
fn mounts(given: &[Mount], privileged: bool) -> Result<Vec<OciMount>> {
    let system = if privileged { "rw" } else { "ro" };
    let taken = |destination: &str| given.iter().any(|mount| mount.destination == Path::new(destination));
    let default = |destination: &str, kind: &str, options: &[&str]| {
        MountBuilder::default().destination(destination).typ(kind).source(kind).options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>()).build()
    };
    let mut list = Vec::new();
    for (destination, kind, options) in [
        ("/proc", "proc", &["nosuid", "noexec", "nodev"][..]),
        ("/dev", "tmpfs", &["nosuid", "noexec", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", &["nosuid", "noexec", "nodev", system]),
        ("/sys/fs/cgroup", "cgroup2", &["nosuid", "noexec", "nodev", system]),
    ] {
        if !taken(destination) {
            list.push(default(destination, kind, options).map_err(broken)?);
        }
    }
    if let Some(mount) = given.iter().find(|mount| is_in_proc(&mount.destination)) {
        let said = format!("{:?} cannot be mounted at {:?}, because it is inside /proc", mount.source, mount.destination);
        return Err(Error::said(said).reason("RunContainerError"));
    }
    let mut given: Vec<_> = given.iter().collect();
    given.sort_by_key(|mount| mount.destination.components().count());
    for mount in given {
        let access = match (mount.read_only, mount.recursive_read_only) {
            (false, _) => "rw",
            (true, false) => "ro",
            (true, true) => "rro",
        };
        let mut options = vec!["rbind".to_owned(), access.to_owned(), mount.propagation.to_string()];
        options.extend(mount.mapped.then(|| "ridmap".to_owned()));
        options.extend(mount.sub_path.iter().map(|sub| format!("{SUB_DIRECTORY}{sub}")));
        list.push(MountBuilder::default().destination(&mount.destination).typ("bind").source(&mount.source).options(options).build().map_err(broken)?);
    }
    Ok(list)
}
