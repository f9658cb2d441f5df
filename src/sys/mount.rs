//! Mounts, as steps of a container's start: each function is one deed on the mount namespace that we are in.
//!
//! A mount is made detached (fsopen/fsmount, open_tree) and then attached by descriptor (move_mount, 5.2), so that the
//! place it goes to is one that the kernel has resolved beneath the container's root, not a string. overlayfs alone is mounted
//! by mount(2): fsconfig(2) takes at most 255 bytes a value, and `lowerdir+` is only there since 6.7.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::error::{Error, Result};

fn failed(call: &'static str, object: impl std::fmt::Display) -> impl FnOnce(rustix::io::Errno) -> Error {
    move |errno| Error::call(call, object, errno.raw_os_error())
}

bitflags::bitflags! {
    /// What a mount forbids (mount(8)'s words: ro, nosuid, nodev, noexec).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Limits: u32 {
        const READ_ONLY = 1;
        const NO_SUID = 2;
        const NO_DEV = 4;
        const NO_EXEC = 8;
    }
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = [(Limits::READ_ONLY, "ro"), (Limits::NO_SUID, "nosuid"), (Limits::NO_DEV, "nodev"), (Limits::NO_EXEC, "noexec")];
        let set: Vec<_> = words.into_iter().filter(|(limit, _)| self.contains(*limit)).map(|(_, word)| word).collect();
        f.write_str(&if set.is_empty() { "rw".to_owned() } else { set.join(",") })
    }
}

/// Which mounts beneath a tree are seen on both sides (mount_namespaces(7)); always of the whole tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Propagation {
    /// None.
    #[default]
    Private,
    /// Those that are made on the other side later.
    Slave,
    /// Those of either side.
    Shared,
}

impl std::fmt::Display for Propagation {
    /// mount(8)'s words, which are the OCI spec's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Propagation::Private => "rprivate",
            Propagation::Slave => "rslave",
            Propagation::Shared => "rshared",
        })
    }
}

impl Limits {
    fn attributes(self) -> MountAttrFlags {
        let pairs = [
            (Limits::READ_ONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
            (Limits::NO_SUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (Limits::NO_DEV, MountAttrFlags::MOUNT_ATTR_NODEV),
            (Limits::NO_EXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        ];
        pairs.into_iter().filter(|(limit, _)| self.contains(*limit)).fold(MountAttrFlags::empty(), |all, (_, attribute)| all | attribute)
    }
}

/// Makes a file system (proc, sysfs, tmpfs, devpts, mqueue, cgroup2) with its options (`mode=755`), not attached yet. `source` is only what
/// /proc/mounts shows first.
pub fn new_filesystem(kind: &str, source: &str, options: &[(String, String)], limits: Limits) -> Result<OwnedFd> {
    let context = mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("fsopen", kind))?;
    mount::fsconfig_set_string(context.as_fd(), "source", source).map_err(failed("fsconfig", kind))?;
    for (key, value) in options {
        let set = if value.is_empty() {
            mount::fsconfig_set_flag(context.as_fd(), key.as_str())
        } else {
            mount::fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str())
        };
        set.map_err(failed("fsconfig", format!("{kind} {key}={value}")))?;
    }
    mount::fsconfig_create(context.as_fd()).map_err(failed("fsconfig", kind))?;
    mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, limits.attributes()).map_err(failed("fsmount", kind))
}

/// A copy of the tree of mounts at an open file or directory, not attached yet.
pub fn copy_tree(source: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    mount::open_tree(source.as_fd(), "", flags).map_err(failed("open_tree", ""))
}

/// Attaches a tree at an open file or directory.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    mount::move_mount(tree.as_fd(), "", target.as_fd(), "", flags).map_err(failed("move_mount", ""))
}

/// Adds limits to a tree, to all mounts in it if `recursive` (mount_setattr, 5.12).
pub fn limit(tree: impl AsFd, limits: Limits, recursive: bool) -> Result<()> {
    set_attributes(tree, libc::mount_attr { attr_set: u64::from(limits.attributes().bits()), ..NO_CHANGE }, recursive)
}

/// Sets the propagation of all mounts in a tree. To make a slave of a mount that is not shared changes nothing.
pub fn set_propagation(tree: impl AsFd, propagation: Propagation) -> Result<()> {
    let kind = match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    };
    set_attributes(tree, libc::mount_attr { propagation: kind, ..NO_CHANGE }, true)
}

/// Shows all files of a tree that is not attached yet with the ids of a user namespace: what belongs to 0 on disk belongs to its root, and
/// what its root makes belongs to 0. EINVAL: a file system in the tree cannot do it (most can since 5.12 to 5.19, tmpfs since 6.3, overlayfs
/// never); EPERM: the tree is shown with other ids already.
pub fn map_ids(tree: impl AsFd, users: impl AsFd) -> Result<()> {
    let userns_fd = users.as_fd().as_raw_fd() as u64;
    set_attributes(tree, libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, userns_fd, ..NO_CHANGE }, true)
}

const NO_CHANGE: libc::mount_attr = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: 0, userns_fd: 0 };

fn set_attributes(tree: impl AsFd, attributes: libc::mount_attr, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the attributes live over the call and their size is given.
    let done =
        unsafe { libc::syscall(libc::SYS_mount_setattr, tree.as_fd().as_raw_fd(), c"".as_ptr(), flags, &raw const attributes, size_of::<libc::mount_attr>()) };
    if done == 0 { Ok(()) } else { Err(Error::call("mount_setattr", "", super::process::last_errno())) }
}

/// The mount that a path is on: where it is mounted, and how it propagates (mountinfo's fields `shared:` and `master:`, proc(5)).
pub fn propagation_of(path: &Path) -> Result<(PathBuf, Propagation)> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let id = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).map_err(failed("statx", path.display()))?.stx_mnt_id.to_string();
    let table = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(table).map_err(|error| Error::io("read", table, &error))?;
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&id.as_str()));
    let fields = fields.filter(|fields| fields.len() > 6).ok_or_else(|| Error::said(format!("{table} has no mount for {}", path.display())))?;
    let options = || fields[6..].iter().take_while(|field| **field != "-");
    let propagation = match (options().any(|field| field.starts_with("shared:")), options().any(|field| field.starts_with("master:"))) {
        (true, _) => Propagation::Shared,
        (false, true) => Propagation::Slave,
        (false, false) => Propagation::Private,
    };
    Ok((fields[4].into(), propagation))
}

/// Makes every mount that we see our own: nothing that we mount reaches the host's table, and nothing keeps the host's
/// unmounts from us.
pub fn leave_host_propagation() -> Result<()> {
    // Slave, not private: a host path that is unmounted later is not kept busy by us.
    mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).map_err(failed("mount", "/"))
}

/// Puts an overlay of `layers` (names below `layers_dir`, bottom first) with `upper` and `work` on `target`. Changes the
/// working directory to `layers_dir`: the option string is one page, so the names in it must be short.
pub fn overlay(layers_dir: &Path, layers: &[String], upper: Option<(&Path, &Path)>, target: &Path) -> Result<()> {
    rustix::process::chdir(layers_dir).map_err(failed("chdir", layers_dir.display()))?;
    let lower = layers.iter().rev().map(String::as_str).collect::<Vec<_>>().join(":");
    let options = match upper {
        // volatile (5.10): the upper directory is thrown away with the container, so it is never synced to disk.
        Some((upper, work)) => format!("lowerdir={lower},upperdir={},workdir={},volatile", escaped(upper), escaped(work)),
        None => format!("lowerdir={lower}"),
    };
    let options = CString::new(options).map_err(|_| Error::said("a path holds a NUL byte"))?;
    mount::mount("overlay", target, "overlay", MountFlags::empty(), Some(options.as_c_str()))
        .map_err(failed("mount", format!("overlay on {}", target.display())))
}

/// overlayfs' own escapes for a path within its options.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace(',', "\\,").replace(':', "\\:")
}

/// Makes `root` (a mount point) the root of our mount namespace and drops the old one with all below it.
pub fn pivot_root(root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(&root).map_err(failed("fchdir", ""))?;
    // The same directory twice: the old root is stacked on the new one and can be taken off without a place of its own.
    rustix::process::pivot_root(".", ".").map_err(failed("pivot_root", ""))?;
    mount::unmount(".", UnmountFlags::DETACH).map_err(failed("umount2", ""))?;
    rustix::process::chdir("/").map_err(failed("chdir", "/"))
}

/// A tmpfs on a path that we trust, of at most `size` bytes. `source` is what `df` and /proc/mounts show first.
pub fn tmpfs(path: &Path, source: &str, size: Option<u64>, mode: u32) -> Result<()> {
    let mut options = vec![("mode".to_owned(), format!("{mode:o}"))];
    options.extend(size.map(|bytes| ("size".to_owned(), bytes.to_string())));
    // noswap (6.4): what is meant to be memory does not end up on a disk. Older kernels say EINVAL and go without.
    let with_noswap = [options.as_slice(), &[("noswap".to_owned(), String::new())]].concat();
    let new = |options: &[_]| new_filesystem("tmpfs", source, options, Limits::default());
    let tree = new(&with_noswap).or_else(|_| new(&options))?;
    let target = super::file::open(path, rustix::fs::OFlags::PATH)?;
    attach(tree, target).map_err(|e| e.doing(format_args!("mounting a tmpfs on {}", path.display())))
}

/// A hugetlbfs with pages of `page` bytes on a path that we trust, of at most `size` bytes. The pages are taken only when a file is mapped.
pub fn hugetlbfs(path: &Path, page: u64, size: Option<u64>, mode: u32) -> Result<()> {
    let mut options = vec![("pagesize".to_owned(), page.to_string()), ("mode".to_owned(), format!("{mode:o}"))];
    options.extend(size.map(|bytes| ("size".to_owned(), bytes.to_string())));
    let tree = new_filesystem("hugetlbfs", "nodev", &options, Limits::default())?;
    let target = super::file::open(path, rustix::fs::OFlags::PATH)?;
    attach(tree, target).map_err(|e| e.doing(format_args!("mounting a hugetlbfs on {}", path.display())))
}

/// Takes a mount off a path that we trust, as soon as nobody uses it any more.
pub fn unmount(path: &Path) -> Result<()> {
    mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(failed("umount2", path.display()))
}

/// A view of the directory `path` without anything that is mounted beneath it, attached nowhere: what is walked or removed
/// through it cannot lead into another file system.
pub fn bare_view(path: &Path) -> Result<OwnedFd> {
    mount::open_tree(rustix::fs::CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC).map_err(failed("open_tree", path.display()))
}
