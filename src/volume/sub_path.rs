//! subPath: a part of a volume instead of its root.
//!
//! The containers of the pod may write to the volume, and swap a directory for a symlink at any moment. So the part is
//! opened once, beneath the volume's own descriptor and resolved by the kernel, and what is mounted is that descriptor:
//! nothing that happens to the path afterwards matters.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::sys::file::{self, Within};

/// Opens `sub_path` beneath the volume (`O_PATH`): a file, a directory, or whatever it is. A missing one is made as a
/// directory with the mode of the volume's root, setgid and sticky bit included; its group comes by setgid.
pub fn open_sub_path(volume: BorrowedFd<'_>, sub_path: &str) -> Result<OwnedFd> {
    let path = Path::new(sub_path);
    if path.is_absolute() || path.components().any(|component| component == Component::ParentDir) {
        return Err(Error::said(format!("subPath {sub_path:?} must be relative and without ..")));
    }
    match file::open_within(volume, path, Within::Beneath, OFlags::PATH, 0) {
        Err(error) if error.is(libc::ENOENT) => {}
        found => return found,
    }
    // A second look through the descriptor: O_PATH, as the volume itself may be given, can be asked for its mode but not walked.
    let mode = file::stat(volume)?.st_mode & 0o7777;
    file::make_dirs_within(volume.as_fd(), path, Within::Beneath, mode)
}

/// The same, for the mount of volume `mount` into a container, told as Kubernetes tells it.
pub fn prepare_sub_path(volume: BorrowedFd<'_>, sub_path: &str, mount: &str, container: &str) -> Result<OwnedFd> {
    open_sub_path(volume, sub_path).map_err(|error| {
        error
            .doing(format!("failed to prepare subPath for volumeMount {mount:?} of container {container:?}"))
            .container(container)
            .reason("CreateContainerConfigError")
    })
}
