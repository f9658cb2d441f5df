//! What a step says of itself: its sentence, for `explain` and for errors, and its system calls.

use std::ffi::CString;
use std::fmt;

use super::Step;
use crate::sys::mount::Propagation;

impl Step {
    /// The system calls of the step, as man pages are named: what `explain` teaches.
    pub fn calls(&self) -> &'static str {
        match self {
            Step::NewSession => "setsid",
            Step::IgnoreChildren => "sigaction",
            Step::Join(_) | Step::JoinUsers => "setns",
            Step::Unshare(_) => "unshare",
            Step::CreateAs { .. } => "setfsgid, setfsuid, capset",
            Step::EnterLimits { own_view: true } => "write, unshare",
            Step::EnterLimits { own_view: false } | Step::OomScore(_) | Step::OpenNetwork { .. } | Step::Sysctl { .. } => "write",
            Step::Share { .. } => "openat2, open_tree",
            Step::HostDevices(_) => "mknodat, fchownat, fchmodat",
            Step::Filter(_) => "seccomp",
            Step::HostName(_) => "sethostname",
            Step::LeaveHostMounts | Step::Root { .. } => "mount",
            Step::EmptyRoot { .. } | Step::Mount { .. } => "fsopen, fsmount, move_mount",
            Step::Devices => "mknodat, symlinkat",
            Step::Bind { .. } => "openat2, open_tree, mount_setattr, move_mount",
            Step::Mask(_) => "open_tree, move_mount",
            Step::ReadOnly(_) => "open_tree, mount_setattr, move_mount",
            Step::MakeDirectory(_) => "openat2, mkdirat",
            Step::ReadOnlyRoot => "mount_setattr",
            Step::SwitchRoot => "pivot_root, umount2",
            Step::Streams => "dup2",
            Step::Terminal { .. } => "openat2, ioctl, sendmsg, dup2",
            Step::WorkingDirectory(_) => "chdir",
            Step::Hide | Step::BoundCapabilities(_) | Step::NoNewPrivileges | Step::DieWithSupervisor => "prctl",
            Step::User { .. } => "setgroups, setresgid, setresuid",
            Step::Capabilities(_) => "capset",
            Step::CloseDescriptors { .. } => "close_range",
            Step::OwnStreams { .. } => "fchown",
            Step::Execute(_) => "execve",
            Step::ExecutePause => "execveat",
        }
    }
}

impl fmt::Display for Step {
    /// What the step does ("mounting ...").
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Hide => f.write_str("hiding from the container's processes"),
            Step::NewSession => f.write_str("starting a session of its own"),
            Step::IgnoreChildren => f.write_str("leaving its orphans to the kernel"),
            Step::Join(namespaces) => write!(f, "joining the namespaces {namespaces}"),
            Step::JoinUsers => f.write_str("joining the user namespace"),
            Step::Unshare(namespaces) => write!(f, "taking namespaces {namespaces} that belong to the user namespace"),
            Step::CreateAs { uid, .. } => write!(f, "making files as user {uid} of the machine, root of the user namespace"),
            Step::EnterLimits { .. } => f.write_str("entering the v1 cgroups of its limits"),
            Step::OomScore(score) => write!(f, "setting oom_score_adj to {score}"),
            Step::HostName(name) => write!(f, "setting the host name {name}"),
            Step::OpenNetwork { ping } => f.write_str(if *ping { "letting every user bind low ports and ping" } else { "letting every user bind low ports" }),
            Step::Sysctl { name, value } => write!(f, "setting {name} to {value}"),
            Step::Share { source, sub_path } => {
                write!(f, "sharing the mounts beneath {}", source.display())?;
                sub_path.iter().try_for_each(|path| write!(f, " (only {path} in it)"))
            }
            Step::LeaveHostMounts => f.write_str("leaving the host's mount propagation"),
            Step::Root { layers, at } => write!(f, "stacking {} layers as root at {}", layers.names.len(), at.display()),
            Step::EmptyRoot { at } => write!(f, "making an empty root at {}", at.display()),
            Step::Mount { kind, limits, at, options } => {
                write!(f, "mounting {kind} at {} ({limits}", at.display())?;
                options.iter().try_for_each(|(key, value)| write!(f, ",{key}={value}"))?;
                f.write_str(")")
            }
            Step::Devices => f.write_str("making the device nodes of /dev"),
            Step::HostDevices(devices) => write!(f, "making the machine's {} device nodes", devices.len()),
            Step::Bind { source, sub_path, at, access, propagation, mapped } => {
                write!(f, "mounting {}", source.display())?;
                if let Some(path) = sub_path {
                    write!(f, " (only {path} in it)")?;
                }
                write!(f, " at {} ({access}", at.display())?;
                if *propagation != Propagation::Private {
                    write!(f, ",{propagation}")?;
                }
                if *mapped {
                    f.write_str(",idmap")?;
                }
                f.write_str(")")
            }
            Step::Mask(path) => write!(f, "hiding {}", path.display()),
            Step::ReadOnly(path) => write!(f, "making {} read-only", path.display()),
            Step::MakeDirectory(path) => write!(f, "making the directory {} if it is missing", path.display()),
            Step::ReadOnlyRoot => f.write_str("making the root file system read-only"),
            Step::SwitchRoot => f.write_str("switching to the new root"),
            Step::Streams => f.write_str("taking stdin, stdout and stderr"),
            Step::Terminal { .. } => f.write_str("opening a terminal"),
            Step::WorkingDirectory(path) => write!(f, "entering the working directory {}", path.display()),
            Step::BoundCapabilities(keep) => write!(f, "bounding the capabilities to {}", capability_words(keep)),
            Step::User { uid, gid, groups, .. } => write!(f, "becoming user {uid}, group {gid}, groups {groups:?}"),
            Step::Capabilities(held) => write!(f, "holding the capabilities {}", capability_words(held)),
            Step::NoNewPrivileges => f.write_str("giving up new privileges"),
            Step::Filter(filter) => write!(f, "filtering system calls (seccomp, {} instructions)", filter.instructions.len()),
            Step::DieWithSupervisor => f.write_str("tying its life to the supervisor"),
            Step::CloseDescriptors { first, .. } => write!(f, "closing all descriptors from {first} on"),
            Step::OwnStreams { uid } => write!(f, "giving the streams to user {uid}"),
            Step::Execute(program) => write!(f, "executing {}", words(&program.args)),
            Step::ExecutePause => f.write_str("executing the pause program"),
        }
    }
}

fn capability_words(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        names => names.iter().map(|name| name.trim_start_matches("CAP_").to_ascii_lowercase()).collect::<Vec<_>>().join(","),
    }
}

/// A command on one line: long or multi-line words are cut.
fn words(args: &[CString]) -> String {
    let text = args.iter().map(|arg| arg.to_string_lossy().escape_debug().to_string()).collect::<Vec<_>>().join(" ");
    if text.chars().count() > 80 { format!("{}…", text.chars().take(80).collect::<String>()) } else { text }
}
