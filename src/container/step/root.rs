//! The steps that put a root file system together, from outside: each place in it is resolved by the kernel beneath its descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{FileType, OFlags};

use super::Access;
use crate::error::Result;
use crate::sys::file::{self, Within};
use crate::sys::mount::{self, Limits, Propagation};
use crate::sys::tree;
use crate::volume;

/// /proc and /sys must be ordinary directories of the image: a link there would move what the masks are for.
pub(super) fn mount_filesystem(root: BorrowedFd<'_>, kind: &str, options: &[(String, String)], limits: Limits, at: &Path) -> Result<()> {
    let tree = mount::new_filesystem(kind, kind, options, limits)?;
    file::make_dirs_within(root, at, Within::RootWithoutLinks, 0o755)?;
    let target = file::open_within(root, at, Within::RootWithoutLinks, OFlags::PATH, 0)?;
    mount::attach(tree, target)
}

/// runtime-spec, "Default Devices" and "Dev symbolic links".
pub(super) fn make_devices(root: BorrowedFd<'_>) -> Result<()> {
    let dev = file::open_within(root, "dev", Within::RootWithoutLinks, OFlags::PATH | OFlags::DIRECTORY, 0)?;
    for (name, major, minor) in [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)] {
        file::make_char_device(&dev, name, (major, minor), 0o666)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
        ("core", "/proc/kcore"),
    ] {
        file::make_symlink(&dev, name, target)?;
    }
    Ok(())
}

/// As runc: the same names, numbers, modes and owners. What is there already stays.
pub(super) fn make_host_devices(root: BorrowedFd<'_>, devices: &[LinuxDevice]) -> Result<()> {
    for device in devices {
        let (Some(parent), Some(name)) = (device.path().parent(), device.path().file_name()) else { continue };
        let dir = file::make_dirs_within(root, parent, Within::RootWithoutLinks, 0o755)?;
        let kind = if device.typ() == LinuxDeviceType::B { FileType::BlockDevice } else { FileType::CharacterDevice };
        match tree::make_node(&dir, name, kind, (device.major() as u32, device.minor() as u32)) {
            Err(error) if error.is(libc::EEXIST) => continue,
            made => made?,
        }
        tree::set_owner(&dir, name, device.uid().unwrap_or(0), device.gid().unwrap_or(0))?;
        tree::set_mode(&dir, name, device.file_mode().unwrap_or(0o600))?;
    }
    Ok(())
}

pub(super) fn open_source(source: &Path, sub_path: Option<&str>) -> Result<OwnedFd> {
    match sub_path {
        Some(path) => volume::open_sub_path(file::open(source, OFlags::PATH | OFlags::DIRECTORY)?.as_fd(), path),
        None => file::open(source, OFlags::PATH),
    }
}

pub(super) fn bind(root: BorrowedFd<'_>, tree: OwnedFd, at: &Path, access: Access, propagation: Propagation) -> Result<()> {
    let is_file = !file::is_directory(&tree)?;
    if propagation != Propagation::Shared {
        mount::set_propagation(&tree, propagation)?;
    }
    if access != Access::ReadWrite {
        mount::limit(&tree, Limits::READ_ONLY, access == Access::AllReadOnly)?;
    }
    mount::attach(tree, file::make_mountpoint(root, at, is_file)?)
}

/// A directory is covered by an empty read-only one, a file by /dev/null; what does not exist needs no cover.
pub(super) fn mask(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let Some(target) = existing(root, path)? else { return Ok(()) };
    let cover = match file::is_directory(&target)? {
        true => mount::new_filesystem("tmpfs", "tmpfs", &[("size".into(), "4k".into())], Limits::READ_ONLY)?,
        false => {
            // The host's own node: through a writable mount of it the container's root could change its mode for everybody.
            let null = mount::copy_tree(file::open("/dev/null", OFlags::PATH)?, false)?;
            mount::limit(&null, Limits::READ_ONLY, false)?;
            null
        }
    };
    mount::attach(cover, target)
}

pub(super) fn make_read_only(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let Some(target) = existing(root, path)? else { return Ok(()) };
    let tree = mount::copy_tree(&target, true)?;
    mount::limit(&tree, Limits::READ_ONLY | Limits::NO_SUID | Limits::NO_DEV | Limits::NO_EXEC, true)?;
    mount::attach(tree, target)
}

fn existing(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>> {
    match file::open_within(root, path, Within::RootWithoutLinks, OFlags::PATH, 0) {
        Err(error) if error.is(libc::ENOENT) || error.is(libc::ENOTDIR) => Ok(None),
        found => found.map(Some),
    }
}
