//! An OCI runtime spec becomes a plan: the list of small steps that the child walks between clone3 and execve.
//!
//! Pure. `minipod explain` prints a plan; `launch` walks one. The order is the whole secret, so it is told here once:
//!
//! 1. into the shared namespaces and the resource cgroups, while we are still root on the host's files;
//! 2. the root file system is put together from outside: nothing of the container runs yet, and each place in it is found by the
//!    kernel beneath the new root;
//! 3. the old root is dropped; from here on no path leads to the host;
//! 4. the streams, and every other descriptor is closed: only then is anything resolved that the container controls;
//! 5. the working directory, then rights are given up: bounding set, user, sets, no_new_privs.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount as OciMount, Process, Spec};

use super::spec::SUB_DIRECTORY;
use super::step::Step;
use crate::error::{Error, Result};
use crate::sys::file::c_string;
use crate::sys::mount::Limits;
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

/// The plan of a container's main process. `limited` tells that it must also enter v1 cgroups.
pub fn compile(spec: &Spec, layers: Layers, limited: bool) -> Result<Plan> {
    let process = spec.process().as_ref().ok_or_else(|| Error::said("the spec has no process"))?;
    let linux = spec.linux().as_ref().ok_or_else(|| Error::said("the spec has no linux part"))?;
    let root = spec.root().as_ref().ok_or_else(|| Error::said("the spec has no root"))?;
    let (made, joined) = namespaces(linux.namespaces().as_deref().unwrap_or(&[]));

    let mut steps = vec![Step::Hide, Step::NewSession, Step::Join(joined - Namespaces::PID)];
    if limited {
        steps.push(Step::EnterLimits);
    }
    steps.extend(process.oom_score_adj().map(Step::OomScore));
    steps.extend([Step::LeaveHostMounts, Step::Root { layers, at: root.path().clone() }]);
    for mount in spec.mounts().iter().flatten() {
        steps.push(mount_step(mount)?);
        if mount.destination() == Path::new("/dev") && mount.typ().as_deref() == Some("tmpfs") {
            steps.push(Step::Devices);
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
    steps.extend(rights(process));
    // After the change of user, which would take it away again.
    steps.extend([Step::DieWithSupervisor, Step::Execute(program(process)?)]);
    Ok(Plan { namespaces: made, born_in: joined & Namespaces::PID, steps })
}

/// The plan of a further process in a running container, whose spec's process part is given with the command replaced. It is born in the
/// container's mount and PID namespaces, where no file of the host is; the cgroup namespace is left to the child, as clone3 must still
/// see the cgroup from outside.
pub fn compile_exec(process: &Process, limited: bool) -> Result<Plan> {
    let mut steps = vec![Step::Hide, Step::NewSession];
    if limited {
        steps.push(Step::EnterLimits);
    }
    steps.push(Step::Join(Namespaces::NET | Namespaces::IPC | Namespaces::UTS | Namespaces::CGROUP));
    steps.push(if process.terminal() == Some(true) { Step::Terminal { console: false } } else { Step::Streams });
    steps.extend(rights(process));
    steps.push(Step::Execute(program(process)?));
    Ok(Plan { namespaces: Namespaces::empty(), born_in: Namespaces::MOUNT | Namespaces::PID, steps })
}

/// The plan of a visit: a child of ours that does its work with a container's files and rights, and executes nothing
/// ([`super::launch::launch_visit`]). It joins the mount namespace alone: nobody in there can see its process, let alone trace or signal it.
pub fn compile_visit(process: &Process, limited: bool) -> Plan {
    let mut steps = vec![Step::Hide, Step::NewSession];
    if limited {
        steps.push(Step::EnterLimits);
    }
    steps.extend([Step::Join(Namespaces::MOUNT), Step::Streams]);
    steps.extend(rights(process));
    Plan { namespaces: Namespaces::empty(), born_in: Namespaces::empty(), steps }
}

/// What is ours is closed; the working directory; then rights are given up: the same for a main process and an exec.
fn rights(process: &Process) -> Vec<Step> {
    let names = |set: &Option<oci_spec::runtime::Capabilities>| {
        let mut names: Vec<_> = set.iter().flatten().map(|cap| format!("CAP_{}", cap.to_string().trim_start_matches("CAP_"))).collect();
        names.sort();
        names
    };
    let user = process.user();
    let user =
        Step::User { uid: user.uid(), gid: user.gid(), groups: user.additional_gids().clone().unwrap_or_default(), umask: user.umask().unwrap_or(0o022) };
    let mut steps = vec![Step::CloseDescriptors { first: 3 }, Step::OwnStreams { uid: process.user().uid() }, Step::WorkingDirectory(process.cwd().clone())];
    match process.capabilities() {
        Some(sets) => steps.extend([Step::BoundCapabilities(names(sets.bounding())), user, Step::Capabilities(names(sets.permitted()))]),
        None => steps.push(user),
    }
    if process.no_new_privileges() == Some(true) {
        steps.push(Step::NoNewPrivileges);
    }
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
            // Not made by `spec`: minipod has no user or time namespace of a container yet.
            LinuxNamespaceType::User | LinuxNamespaceType::Time => continue,
        };
        if namespace.path().is_some() { sets.1 |= bit } else { sets.0 |= bit }
    }
    sets
}

fn mount_step(mount: &OciMount) -> Result<Step> {
    let kind = mount.typ().clone().unwrap_or_default();
    let (mut limits, mut options, mut sub_path) = (Limits::default(), Vec::new(), None);
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            "ro" => limits |= Limits::READ_ONLY,
            "nosuid" => limits |= Limits::NO_SUID,
            "nodev" => limits |= Limits::NO_DEV,
            "noexec" => limits |= Limits::NO_EXEC,
            // Said by the kind of step, or what devpts is anyway since 4.7.
            "rw" | "rbind" | "rprivate" | "newinstance" => {}
            other => match (other.strip_prefix(SUB_DIRECTORY), other.split_once('=')) {
                (Some(path), _) => sub_path = Some(path.to_owned()),
                (None, Some((key, value))) => options.push((key.to_owned(), value.to_owned())),
                (None, None) => options.push((other.to_owned(), String::new())),
            },
        }
    }
    let at = mount.destination().clone();
    if kind == "bind" {
        let source = mount.source().clone().ok_or_else(|| Error::said(format!("the bind mount at {} has no source", at.display())))?;
        return Ok(Step::Bind { source, sub_path, at, read_only: limits.contains(Limits::READ_ONLY) });
    }
    Ok(Step::Mount { kind, options, limits, at })
}
