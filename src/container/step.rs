//! One step of a plan: what it does in words, the calls it makes, and making them.
//!
//! A step runs in the child, between clone3 and execve. When it fails, eight bytes go to the parent: the step's number, the
//! call's number in [`CALLS`], and the errno; the parent holds the same plan and tells the rest in words.

mod root;
mod words;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxDevice;
use rustix::fs::OFlags;

use super::plan::Layers;
use super::seccomp::Filter;
use crate::error::{Error, Result};
use crate::sys::file::{self, Within};
use crate::sys::mount::{self, Limits, Propagation};
use crate::sys::process::{self, Namespaces, Program};
use crate::sys::{seccomp, socket, tty, user};

/// The calls that a step may fail in, by number in the message of eight bytes. The first stands for "none: a rule was broken".
pub const CALLS: &[&str] = &[
    "",
    "setns",
    "unshare",
    "setsid",
    "write",
    "open",
    "openat",
    "openat2",
    "mkdirat",
    "mknodat",
    "symlinkat",
    "fchmod",
    "fchown",
    "fchmodat",
    "fchownat",
    "fstat",
    "fstatat",
    "mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "pivot_root",
    "umount2",
    "chdir",
    "fchdir",
    "prctl",
    "capset",
    "setgroups",
    "setresgid",
    "setresuid",
    "setfsuid",
    "dup2",
    "fcntl",
    "ioctl",
    "grantpt",
    "unlockpt",
    "sendmsg",
    "close_range",
    "sigaction",
    "sigprocmask",
    "sethostname",
    "execve",
    "execveat",
    "read",
    "seccomp",
];

/// What a child does before it becomes the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nobody in the container may look into the child, whose memory and files are ours, until the exec.
    Hide,
    /// Its own session: a signal from our terminal does not reach it.
    NewSession,
    /// Orphans that end are reaped by the kernel; holds over the exec (pause).
    IgnoreChildren,
    /// The namespaces that the pause (or, for exec, the container) holds.
    Join(Namespaces),
    /// The pod's user namespace (user_namespaces(7)): all capabilities within it, none outside.
    JoinUsers,
    /// Namespaces of its own, which the user namespace that it is in owns.
    Unshare(Namespaces),
    /// What it makes from here on belongs to this user and group, though it keeps the rights of the machine's root.
    CreateAs {
        uid: u32,
        gid: u32,
    },
    /// Into the v1 cgroups that hold its limits, where cgroup2 has no controllers; then all paths of cgroups are cut off there, if it has
    /// a view of its own.
    EnterLimits {
        own_view: bool,
    },
    OomScore(i32),
    /// The name that the pod's UTS namespace shows (pause).
    HostName(String),
    /// What containerd gives each new network namespace: ports below 1024 and ping for everybody in it (pause). In a user namespace ping
    /// is left out, as there: its groups do not have all numbers.
    OpenNetwork {
        ping: bool,
    },
    /// A kernel setting of the pod's network or IPC namespace (pause).
    Sysctl {
        name: String,
        value: String,
    },
    /// A volume in which the host is to see what the container mounts, taken while we still have the host's mounts in common.
    Share {
        source: PathBuf,
        sub_path: Option<String>,
    },
    /// A copy of the host's mounts that the host no longer sees.
    LeaveHostMounts,
    /// The image's layers and a fresh upper directory become the root file system.
    Root {
        layers: Layers,
        at: PathBuf,
    },
    /// A root with nothing in it (pause).
    EmptyRoot {
        at: PathBuf,
    },
    /// A file system of the kernel's.
    Mount {
        kind: String,
        options: Vec<(String, String)>,
        limits: Limits,
        at: PathBuf,
    },
    /// The usual device nodes and links of /dev.
    Devices,
    /// The nodes of the machine's own /dev (privileged).
    HostDevices(Vec<LinuxDevice>),
    /// A directory or file of the host, or a part of a volume.
    Bind {
        source: PathBuf,
        sub_path: Option<String>,
        at: PathBuf,
        access: Access,
        propagation: Propagation,
        /// The ids of its files are those of the pod's user namespace.
        mapped: bool,
    },
    /// A path of /proc or /sys that tells of the machine is covered.
    Mask(PathBuf),
    /// A path of /proc that changes the machine is made read-only.
    ReadOnly(PathBuf),
    /// The working directory, if the image lacks it: as every OCI runtime does.
    MakeDirectory(PathBuf),
    ReadOnlyRoot,
    /// The new root becomes /, the host's is dropped.
    SwitchRoot,
    /// stdin, stdout and stderr are the pipes that the supervisor gave.
    Streams,
    /// stdin, stdout and stderr are a terminal of the container; its other end goes to the parent.
    Terminal {
        console: bool,
    },
    WorkingDirectory(PathBuf),
    BoundCapabilities(Vec<String>),
    User {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
        umask: u32,
    },
    Capabilities(Vec<String>),
    NoNewPrivileges,
    /// From here on only the system calls of a seccomp profile.
    Filter(Filter),
    /// Nothing of a pod outlives its supervisor.
    DieWithSupervisor,
    /// From here on no path, of /proc or otherwise, leads to a file of ours. Before anything that the container controls is resolved.
    CloseDescriptors {
        first: u32,
        /// But the way into the user namespace, which leads to no file.
        but_users: bool,
    },
    /// The streams are the user's, so that he can open /dev/stdout anew.
    OwnStreams {
        uid: u32,
    },
    Execute(Program),
    /// The pause program, from memory.
    ExecutePause,
}

/// Who may write beneath a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    ReadOnly,
    /// Also to what is mounted beneath it.
    AllReadOnly,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::ReadWrite => "rw",
            Access::ReadOnly => "ro",
            Access::AllReadOnly => "rro",
        })
    }
}

/// What the child has in its hands: descriptors that the parent opened for it.
#[derive(Default)]
pub struct Hands<'a> {
    /// The process whose namespaces are joined.
    pub holder: Option<BorrowedFd<'a>>,
    /// The process into whose PID namespace the child is born instead, and into nothing else of it.
    pub pid_holder: Option<BorrowedFd<'a>>,
    /// The pod's user namespace; without it, that of the holder is joined.
    pub users: Option<BorrowedFd<'a>>,
    /// stdin, stdout, stderr; none is /dev/null, the container's own: the host's could be chmod'ed through its descriptor.
    pub streams: [Option<BorrowedFd<'a>>; 3],
    /// Where the parent waits for the terminal's end.
    pub terminal: Option<BorrowedFd<'a>>,
    /// How large the terminal is to be; the program finds it so from its first moment.
    pub size: Option<tty::Size>,
    /// `cgroup.procs` of v1 cgroups, open for writing.
    pub limits: &'a [OwnedFd],
    /// The pause program.
    pub program: Option<BorrowedFd<'a>>,
}

/// The child's walk: its hands, and the root that it is putting together.
pub struct Walk<'a> {
    pub hands: &'a Hands<'a>,
    /// The pipe to the parent.
    report: BorrowedFd<'a>,
    root: Option<OwnedFd>,
    /// What [`Step::Share`] has taken, in the order in which it is mounted.
    shared: std::collections::VecDeque<OwnedFd>,
}

impl<'a> Walk<'a> {
    pub fn new(hands: &'a Hands<'a>, report: BorrowedFd<'a>) -> Walk<'a> {
        Walk { hands, report, root: None, shared: Default::default() }
    }

    fn root(&self) -> Result<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(|| Error::said("the plan has no root yet"))
    }

    fn hand<T: Copy>(hand: Option<T>, name: &str) -> Result<T> {
        hand.ok_or_else(|| Error::said(format!("the child was given no {name}")))
    }
}

impl Step {
    /// Makes the step's calls.
    pub fn run(&self, walk: &mut Walk<'_>) -> Result<()> {
        match self {
            Step::Hide => process::hide(),
            Step::NewSession => process::new_session(),
            Step::IgnoreChildren => process::ignore_children(),
            Step::Join(namespaces) => process::join_namespaces(Walk::hand(walk.hands.holder, "namespaces")?, *namespaces),
            Step::JoinUsers => match walk.hands.users {
                Some(users) => process::join_namespace_fd(users),
                None => process::join_namespaces(Walk::hand(walk.hands.holder, "namespaces")?, Namespaces::USER),
            },
            Step::Unshare(namespaces) => process::unshare(*namespaces),
            Step::CreateAs { uid, gid } => user::create_as(*uid, *gid),
            Step::EnterLimits { own_view } => enter_limits(walk.hands.limits, *own_view),
            Step::OomScore(score) => set_oom_score(*score),
            Step::HostName(name) => user::set_host_name(name),
            Step::OpenNetwork { ping } => open_network(*ping),
            Step::Sysctl { name, value } => write_sysctl(name, value),
            Step::Share { source, sub_path } => {
                walk.shared.push_back(mount::copy_tree(root::open_source(source, sub_path.as_deref())?, true)?);
                Ok(())
            }
            Step::LeaveHostMounts => mount::leave_host_propagation(),
            Step::Root { layers, at } => walk.take_root(at, || mount::overlay(&layers.dir, &layers.names, Some((&layers.upper, &layers.work)), at)),
            Step::EmptyRoot { at } => walk.take_root(at, || mount::tmpfs(at, "tmpfs", Some(4096), 0o755)),
            Step::Mount { kind, options, limits, at } => root::mount_filesystem(walk.root()?, kind, options, *limits, at),
            Step::Devices => root::make_devices(walk.root()?),
            Step::HostDevices(devices) => root::make_host_devices(walk.root()?, devices),
            Step::Bind { source, sub_path, at, access, propagation, mapped } => {
                let tree = match propagation {
                    Propagation::Shared => walk.shared.pop_front().ok_or_else(|| Error::said("the volume was not shared before"))?,
                    _ => mount::copy_tree(root::open_source(source, sub_path.as_deref())?, true)?,
                };
                if *mapped {
                    mount::map_ids(&tree, Walk::hand(walk.hands.users, "user namespace")?)?;
                }
                root::bind(walk.root()?, tree, at, *access, *propagation)
            }
            Step::Mask(path) => root::mask(walk.root()?, path),
            Step::ReadOnly(path) => root::make_read_only(walk.root()?, path),
            Step::MakeDirectory(path) => file::make_dirs_within(walk.root()?, path, Within::Root, 0o755).map(drop),
            Step::ReadOnlyRoot => mount::limit(walk.root()?, Limits::READ_ONLY, false),
            Step::SwitchRoot => mount::pivot_root(walk.root()?).map(|()| walk.root = None),
            Step::Streams => place_streams(walk.hands.streams),
            Step::Terminal { console } => open_terminal(Walk::hand(walk.hands.terminal, "terminal")?, walk.hands.size, *console),
            Step::WorkingDirectory(path) => file::change_directory(path),
            Step::BoundCapabilities(keep) => user::bound_capabilities(keep),
            Step::User { uid, gid, groups, umask } => {
                user::set_umask(*umask);
                user::become_user(*uid, *gid, groups)
            }
            Step::Capabilities(held) => user::set_capabilities(held),
            Step::NoNewPrivileges => user::no_new_privileges(),
            Step::Filter(filter) => seccomp::install(&filter.instructions, filter.flags),
            Step::DieWithSupervisor => process::die_with_parent(),
            Step::CloseDescriptors { first, but_users } => {
                let users = walk.hands.users.or(walk.hands.holder).filter(|_| *but_users);
                let keep: Vec<_> = walk.hands.program.into_iter().chain(users).chain([walk.report]).collect();
                process::close_others(*first, &keep);
                Ok(())
            }
            Step::OwnStreams { uid } => own_streams(*uid),
            Step::Execute(program) => Err(process::execute(program)),
            Step::ExecutePause => Err(process::execute_fd(Walk::hand(walk.hands.program, "program")?, &[c"/pause".into()])),
        }
    }

    /// The Kubernetes reason of a container that failed here (§10).
    pub fn reason(&self) -> &'static str {
        match self {
            // The kubelet prepares sub paths itself, before it asks the runtime for anything.
            Step::Bind { sub_path: Some(_), .. } | Step::Share { sub_path: Some(_), .. } => "CreateContainerConfigError",
            _ => "RunContainerError",
        }
    }
}

impl Walk<'_> {
    fn take_root(&mut self, at: &Path, assemble: impl FnOnce() -> Result<()>) -> Result<()> {
        user::set_umask(0);
        assemble()?;
        self.root = Some(file::open(at, OFlags::PATH | OFlags::DIRECTORY)?);
        Ok(())
    }
}

/// "0" is the writer itself. The cgroup namespace that clone3 made has its root in cgroup2 already; a new one is needed so that
/// the v1 paths are cut as well.
fn enter_limits(limits: &[OwnedFd], own_view: bool) -> Result<()> {
    limits.iter().try_for_each(|procs| tty::write_all(procs, b"0"))?;
    if own_view { process::unshare(Namespaces::CGROUP) } else { Ok(()) }
}

/// Lowering it needs CAP_SYS_RESOURCE, which root in a privileged container may lack: then the score stays what it is.
fn set_oom_score(score: i32) -> Result<()> {
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => Err(Error::io("write", "/proc/self/oom_score_adj", &error)),
        _ => Ok(()),
    }
}

/// §19: sysctls of the network namespace that we are in. One that this kernel lacks is not missed.
fn open_network(ping: bool) -> Result<()> {
    let ping = ping.then_some(("ping_group_range", "0 2147483647"));
    for (name, value) in [("ip_unprivileged_port_start", "0")].into_iter().chain(ping) {
        let path = Path::new("/proc/sys/net/ipv4").join(name);
        match std::fs::write(&path, value) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("write", path.display(), &error)),
            _ => {}
        }
    }
    Ok(())
}

/// A setting of the namespaces that we are in, by its normalized name (dots between parts; a dot within a part is a slash).
fn write_sysctl(name: &str, value: &str) -> Result<()> {
    let path: String = name
        .chars()
        .map(|c| {
            if c == '.' {
                '/'
            } else if c == '/' {
                '.'
            } else {
                c
            }
        })
        .collect();
    let path = Path::new("/proc/sys").join(path);
    std::fs::write(&path, value).map_err(|error| Error::io("write", path.display(), &error))
}

fn place_streams(streams: [Option<BorrowedFd<'_>>; 3]) -> Result<()> {
    let root = file::open_dir("/")?;
    streams.into_iter().zip(0..).try_for_each(|(stream, number)| match stream {
        Some(stream) => process::place_descriptor(stream, number),
        None => process::place_descriptor(file::open_within(&root, "dev/null", Within::RootWithoutLinks, OFlags::RDWR, 0)?, number),
    })
}

/// /dev/null is everybody's in the container, and stays root's.
fn own_streams(uid: u32) -> Result<()> {
    [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()].into_iter().try_for_each(|stream| match file::is_null_device(stream)? {
        true => Ok(()),
        false => file::give_to_user(stream, uid),
    })
}

fn open_terminal(parent: BorrowedFd<'_>, size: Option<tty::Size>, console: bool) -> Result<()> {
    let (ours, theirs) = tty::new_terminal()?;
    size.map_or(Ok(()), |size| tty::set_size(&ours, size))?;
    socket::send(parent, b"terminal", &[ours.as_fd()])?;
    tty::take_as_controlling(&theirs)?;
    if console {
        // Within /dev, whatever the image or a volume in its place has put there: the terminal must not cover a file of /proc (CVE-2025-52565).
        let dev = file::open_within(file::open_dir("/")?, "dev", Within::RootWithoutLinks, OFlags::PATH | OFlags::DIRECTORY, 0)?;
        let target = file::make_mountpoint(&dev, "console", true)?;
        mount::attach(mount::copy_tree(&theirs, false)?, target)?;
    }
    (0..3).try_for_each(|number| process::place_descriptor(&theirs, number))
}
