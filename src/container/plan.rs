//! An OCI runtime spec becomes a plan: the list of small steps that the child walks between clone3 and execve.
//!
//! Pure. `minipod explain` prints a plan; `launch` walks one. The order is the whole secret, so it is told here once:
//!
//! 1. into the shared namespaces and the resource cgroups, while we are still root on the host's files;
//! 2. the root file system is put together from outside: nothing of the container runs yet, and each place in it is found by the
//!    kernel beneath the new root;
//! 3. the old root is dropped; from here on no path leads to the host;
//! 4. the streams, and every other descriptor is closed: only then is anything resolved that the container controls;
//! 5. the working directory, then rights are given up: bounding set, user, sets, no_new_privs. The seccomp filter comes last of all; without
//!    no_new_privs it takes root to install one, so then it comes just before the change of user.
//!
//! A pod with a user namespace (`hostUsers: false`) goes the same way as the machine's root, which alone may stack layers, make device nodes and
//! show files with other ids; only what it makes belongs to the root within. It joins the user namespace where rights are given up, and takes a
//! copy of the finished mounts that belongs to that: the kernel then holds together what it was given, so that not even CAP_SYS_ADMIN
//! within takes a mask off or makes a read-only mount writable.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount as OciMount, Process, Spec};

use super::seccomp::{self, Filter};
use super::spec::SUB_DIRECTORY;
use super::step::{Access, Step};
use crate::error::{Error, Result};
use crate::sys::file::c_string;
use crate::sys::mount::{Limits, Propagation};
use crate::sys::process::{Namespaces, Program};

/// The stacked layers that a root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// The directory that the names are in.
    pub dir: PathBuf,
    /// Bottom first.
    pub names: Vec<String>,
    /// What the container writes goes to `upper`; `work` is overlayfs' own.
    pub upper: PathBuf,
    pub work: PathBuf,
}

/// What a child does from its birth to its program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Namespaces that clone3 makes.
    pub namespaces: Namespaces,
    /// Namespaces of the holder that the parent enters for the moment of the birth: a PID namespace takes only children, and in a mount
    /// namespace the child should never have been elsewhere.
    pub born_in: Namespaces,
    pub steps: Vec<Step>,
}

impl Plan {
    /// What the process may ask the kernel, if not all.
    pub fn filter(&self) -> Option<&Filter> {
        self.steps.iter().find_map(|step| if let Step::Filter(filter) = step { Some(filter) } else { None })
    }
}

/// The plan of a container's main process. `limited` tells that it must also enter v1 cgroups.
pub fn compile(spec: &Spec, layers: Layers, limited: bool) -> Result<Plan> {
    let process = spec.process().as_ref().ok_or_else(|| Error::said("the spec has no process"))?;
    let linux = spec.linux().as_ref().ok_or_else(|| Error::said("the spec has no linux part"))?;
    let root = spec.root().as_ref().ok_or_else(|| Error::said("the spec has no root"))?;
    let (made, joined) = namespaces(linux.namespaces().as_deref().unwrap_or(&[]));
    let users = host_root(spec);

    let filter = linux.seccomp().as_ref().map(seccomp::compile).transpose().map_err(|e| e.reason("CreateContainerError"))?;
    let mounts = spec.mounts().iter().flatten().map(|mount| mount_step(mount, users)).collect::<Result<Vec<_>>>()?;

    let mut steps = vec![Step::Hide, Step::NewSession];
    steps.extend(join(joined - Namespaces::PID - Namespaces::USER));
    if limited {
        steps.push(Step::EnterLimits { own_view: made.contains(Namespaces::CGROUP) });
    }
    steps.extend(process.oom_score_adj().map(Step::OomScore));
    steps.extend(mounts.iter().filter_map(shared));
    steps.extend([Step::LeaveHostMounts, Step::Root { layers, at: root.path().clone() }]);
    steps.extend(users.map(|first| Step::CreateAs { uid: first, gid: first }));
    for mount in mounts {
        let is_dev = matches!(&mount, Step::Mount { kind, at, .. } if kind == "tmpfs" && at == Path::new("/dev"));
        steps.push(mount);
        if is_dev {
            steps.push(Step::Devices);
            steps.extend(linux.devices().as_ref().filter(|devices| !devices.is_empty()).map(|devices| Step::HostDevices(devices.clone())));
        }
    }
    steps.extend(linux.masked_paths().iter().flatten().map(|path| Step::Mask(path.into())));
    steps.extend(linux.readonly_paths().iter().flatten().map(|path| Step::ReadOnly(path.into())));
    steps.push(Step::MakeDirectory(process.cwd().clone()));
    if root.readonly() == Some(true) {
        steps.push(Step::ReadOnlyRoot);
    }
    steps.push(Step::SwitchRoot);
    steps.push(if process.terminal() == Some(true) { Step::Terminal { console: true } } else { Step::Streams });
    // After the change of user, which would take it away again.
    let users = users.map(|first| Users { first, own: made & (Namespaces::MOUNT | Namespaces::CGROUP) });
    steps.extend(rights(process, users, filter, Some(Step::DieWithSupervisor)));
    steps.push(Step::Execute(program(process)?));
    Ok(Plan { namespaces: made, born_in: joined & Namespaces::PID, steps })
}

/// The plan of a further process in a running container, whose spec's process part is given with the command replaced, and its filter: what
/// the container may not ask the kernel, it may not either. It is born in the container's mount and PID namespaces, where no file of the
/// host is; the cgroup namespace is left to the child, as clone3 must still see the cgroup from outside.
/// `users` is the [`host_root`] of the container's spec.
pub fn compile_exec(process: &Process, users: Option<u32>, filter: Option<&Filter>, limited: bool) -> Result<Plan> {
    let mut steps = vec![Step::Hide, Step::NewSession];
    if limited {
        steps.push(Step::EnterLimits { own_view: false });
    }
    steps.push(Step::Join(Namespaces::NET | Namespaces::IPC | Namespaces::UTS | Namespaces::CGROUP));
    steps.push(if process.terminal() == Some(true) { Step::Terminal { console: false } } else { Step::Streams });
    steps.extend(rights(process, users.map(Users::of_others), filter.cloned(), None));
    steps.push(Step::Execute(program(process)?));
    Ok(Plan { namespaces: Namespaces::empty(), born_in: Namespaces::MOUNT | Namespaces::PID, steps })
}

/// The plan of a visit: a child of ours that does its work with a container's files and rights, and executes nothing
/// ([`super::launch::launch_visit`]). It joins the mount namespace alone: nobody in there can see its process, let alone trace or signal it.
pub fn compile_visit(process: &Process, users: Option<u32>, limited: bool) -> Plan {
    let mut steps = vec![Step::Hide, Step::NewSession];
    if limited {
        steps.push(Step::EnterLimits { own_view: false });
    }
    steps.extend([Step::Join(Namespaces::MOUNT), Step::Streams]);
    steps.extend(rights(process, users.map(Users::of_others), None, None));
    Plan { namespaces: Namespaces::empty(), born_in: Namespaces::empty(), steps }
}

/// The machine's id of the root of the container's user namespace, if it has one.
pub fn host_root(spec: &Spec) -> Option<u32> {
    spec.linux().as_ref()?.uid_mappings().as_ref()?.iter().find(|map| map.container_id() == 0).map(|map| map.host_id())
}

/// The user namespace that a process joins where it gives up its rights.
#[derive(Clone, Copy)]
struct Users {
    /// The machine's id of its root.
    first: u32,
    /// Which of its namespaces are to belong to it.
    own: Namespaces,
}

impl Users {
    /// A further process comes into namespaces that do already.
    fn of_others(first: u32) -> Users {
        Users { first, own: Namespaces::empty() }
    }
}

/// What is ours is closed; the working directory; then rights are given up: the same for a main process and an exec. `tie` is done after
/// the change of user.
fn rights(process: &Process, users: Option<Users>, filter: Option<Filter>, tie: Option<Step>) -> Vec<Step> {
    let names = |set: &Option<oci_spec::runtime::Capabilities>| {
        let mut names: Vec<_> = set.iter().flatten().map(|cap| format!("CAP_{}", cap.to_string().trim_start_matches("CAP_"))).collect();
        names.sort();
        names
    };
    let user = process.user();
    let user =
        Step::User { uid: user.uid(), gid: user.gid(), groups: user.additional_gids().clone().unwrap_or_default(), umask: user.umask().unwrap_or(0o022) };
    let no_new_privileges = process.no_new_privileges() == Some(true);
    let filter = filter.map(Step::Filter);
    let (early, late) = if no_new_privileges { (None, filter) } else { (filter, None) };
    // The streams are ours, and nobody within may give them away: so it is done before, by the machine's number.
    let streams = Step::OwnStreams { uid: users.map_or(0, |users| users.first) + process.user().uid() };
    let mut steps = vec![Step::CloseDescriptors { first: 3, but_users: users.is_some() }, streams, Step::WorkingDirectory(process.cwd().clone())];
    if let Some(users) = users {
        steps.push(Step::JoinUsers);
        steps.extend((!users.own.is_empty()).then_some(Step::Unshare(users.own)));
    }
    let sets = process.capabilities().as_ref();
    steps.extend(sets.map(|sets| Step::BoundCapabilities(names(sets.bounding()))));
    steps.extend(early);
    steps.push(user);
    steps.extend(sets.map(|sets| Step::Capabilities(names(sets.permitted()))));
    steps.extend(no_new_privileges.then_some(Step::NoNewPrivileges));
    steps.extend(tie);
    steps.extend(late);
    steps
}

/// execve's arguments. A name without a slash is tried in each directory of the container's PATH, as execvp(3) does.
fn program(process: &Process) -> Result<Program> {
    let args = process.args().clone().unwrap_or_default();
    let env = process.env().clone().unwrap_or_default();
    let name = args.first().filter(|name| !name.is_empty()).ok_or_else(|| Error::said("no command specified").reason("CreateContainerError"))?;
    let path = env.iter().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or("");
    let paths: Vec<CString> = match name.contains('/') {
        true => vec![c_string(name)?],
        false => path.split(':').map(|dir| c_string(format!("{}/{name}", if dir.is_empty() { "." } else { dir }))).collect::<Result<_>>()?,
    };
    let strings = |words: &[String]| words.iter().map(c_string).collect::<Result<Vec<_>>>();
    Ok(Program { paths, args: strings(&args)?, env: strings(&env)? })
}

/// Those to make, those to join (they have a path).
fn namespaces(list: &[oci_spec::runtime::LinuxNamespace]) -> (Namespaces, Namespaces) {
    let mut sets = (Namespaces::empty(), Namespaces::empty());
    for namespace in list {
        let bit = match namespace.typ() {
            LinuxNamespaceType::Mount => Namespaces::MOUNT,
            LinuxNamespaceType::Pid => Namespaces::PID,
            LinuxNamespaceType::Network => Namespaces::NET,
            LinuxNamespaceType::Ipc => Namespaces::IPC,
            LinuxNamespaceType::Uts => Namespaces::UTS,
            LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
            LinuxNamespaceType::User => Namespaces::USER,
            // Not made by `spec`.
            LinuxNamespaceType::Time => continue,
        };
        if namespace.path().is_some() { sets.1 |= bit } else { sets.0 |= bit }
    }
    sets
}

/// The step that joins namespaces; setns(2) refuses none at all.
fn join(namespaces: Namespaces) -> Option<Step> {
    (!namespaces.is_empty()).then_some(Step::Join(namespaces))
}

/// What must be done before the host's mounts are left for a mount whose changes the host is to see.
fn shared(mount: &Step) -> Option<Step> {
    match mount {
        Step::Bind { source, sub_path, propagation: Propagation::Shared, .. } => Some(Step::Share { source: source.clone(), sub_path: sub_path.clone() }),
        _ => None,
    }
}

/// `users` is the machine's id of the container's root.
fn mount_step(mount: &OciMount, users: Option<u32>) -> Result<Step> {
    let kind = mount.typ().clone().unwrap_or_default();
    let (mut limits, mut options, mut sub_path) = (Limits::default(), Vec::new(), None);
    let (mut below, mut propagation, mut mapped) = (false, Propagation::Private, false);
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            "ro" => limits |= Limits::READ_ONLY,
            "nosuid" => limits |= Limits::NO_SUID,
            "nodev" => limits |= Limits::NO_DEV,
            "noexec" => limits |= Limits::NO_EXEC,
            "ridmap" => mapped = true,
            "rro" => (limits, below) = (limits | Limits::READ_ONLY, true),
            "rslave" => propagation = Propagation::Slave,
            "rshared" => propagation = Propagation::Shared,
            // Said by the kind of step, or what devpts is anyway since 4.7.
            "rw" | "rbind" | "rprivate" | "newinstance" => {}
            other => match (other.strip_prefix(SUB_DIRECTORY), other.split_once('=')) {
                (Some(path), _) => sub_path = Some(path.to_owned()),
                // Of the pod's users; but it is the machine's root who mounts.
                (None, Some(("gid", group))) => {
                    let group: u32 = group.parse().map_err(|_| Error::said(format!("the mount option {other:?} has no number")))?;
                    options.push(("gid".to_owned(), (users.unwrap_or(0) + group).to_string()));
                }
                (None, Some((key, value))) => options.push((key.to_owned(), value.to_owned())),
                (None, None) => options.push((other.to_owned(), String::new())),
            },
        }
    }
    let at = mount.destination().clone();
    if kind == "bind" {
        let source = mount.source().clone().ok_or_else(|| Error::said(format!("the bind mount at {} has no source", at.display())))?;
        let access = match (limits.contains(Limits::READ_ONLY), below) {
            (false, _) => Access::ReadWrite,
            (true, false) => Access::ReadOnly,
            (true, true) => Access::AllReadOnly,
        };
        return Ok(Step::Bind { source, sub_path, at, access, propagation, mapped });
    }
    Ok(Step::Mount { kind, options, limits, at })
}
