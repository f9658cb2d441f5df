//! Which mounts beneath a volume are seen on both sides (`mountPropagation`, §20).
//!
//! ```text
//! HostToContainer   host path ──slave──▶ supervisor ──slave──▶ container
//! Bidirectional     host path ◀─peers──▶ scene/shared/NAME ◀─peers──▶ container
//! ```
//!
//! The supervisor has left the host's propagation, so that nothing of a pod reaches the host by accident. For a volume that somebody mounts
//! `Bidirectional` a copy is taken in the host's mount namespace (of an emptyDir: in ours), which stays the host's peer, and is put in the
//! supervisor's scene; from there all containers of the pod have the volume.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PodSpec, VolumeMount};
use rustix::fs::OFlags;

use super::dir::make_dirs;
use super::ground::all_containers;
use crate::error::{Error, Result};
use crate::sys::mount::{self, Propagation};
use crate::sys::{file, process};

/// In the scene: the volumes that are shared with the host or between containers, by name.
const SHARED: &str = "shared";

pub fn of(mount: &VolumeMount) -> Propagation {
    match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => Propagation::Slave,
        Some("Bidirectional") => Propagation::Shared,
        _ => Propagation::Private,
    }
}

/// The volumes that a container of the pod mounts Bidirectional.
fn shared_volumes(pod: &PodSpec) -> impl Iterator<Item = &str> {
    let mounts = all_containers(pod).flat_map(|container| container.volume_mounts.iter().flatten());
    mounts.filter(|mount| of(mount) == Propagation::Shared).map(|mount| mount.name.as_str())
}

/// Where a volume is for this pod's containers, if it is shared.
pub fn shared_source(pod: &PodSpec, volume: &str, scene: &Path) -> Option<PathBuf> {
    shared_volumes(pod).any(|name| name == volume).then(|| scene.join(SHARED).join(volume))
}

fn is_host_path(pod: &PodSpec, volume: &str) -> bool {
    pod.volumes.iter().flatten().any(|known| known.name == volume && known.host_path.is_some())
}

/// Whether anything can propagate at all: as containerd, a mount that would silently see nothing is an error.
pub fn check(pod: &PodSpec, wish: &VolumeMount, source: &Path) -> Result<()> {
    let wanted = of(wish);
    if wanted == Propagation::Shared && pod.host_users == Some(false) {
        // The kernel lets nothing out of a mount namespace that belongs to another user namespace (mount_namespaces(7)).
        return Err(Error::said("mountPropagation Bidirectional does not work with hostUsers false").reason("CreateContainerError"));
    }
    if wanted == Propagation::Private || !is_host_path(pod, &wish.name) {
        return Ok(());
    }
    let (at, here) = mount::propagation_of(source)?;
    if here != Propagation::Private {
        return Ok(());
    }
    let what = if wanted == Propagation::Shared { "shared mount" } else { "shared or slave mount" };
    Err(Error::said(format!("path {source:?} is mounted on {at:?} but it is not a {what}")).reason("CreateContainerError"))
}

/// Puts the shared volumes of a pod in the scene. `source` is where a volume is; `host` the mount namespace that is the host's. What is
/// there already, from an earlier sandbox, stays.
pub fn share(pod: &PodSpec, scene: &Path, host: &OwnedFd, source: &dyn Fn(&str) -> Result<PathBuf>) -> Result<()> {
    for volume in shared_volumes(pod) {
        let (from, to) = (source(volume)?, scene.join(SHARED).join(volume));
        if to.exists() {
            continue;
        }
        let tree = match is_host_path(pod, volume) {
            true => copy_in_namespace(host, &from)?,
            false => {
                let tree = mount::copy_tree(file::open(&from, OFlags::PATH)?, true)?;
                mount::set_propagation(&tree, Propagation::Shared)?;
                tree
            }
        };
        match file::is_directory(&tree)? {
            true => make_dirs(&to)?,
            false => {
                make_dirs(&scene.join(SHARED))?;
                std::fs::write(&to, "").map_err(|e| Error::io("open", to.display(), &e))?;
            }
        }
        mount::attach(tree, file::open(&to, OFlags::PATH)?)?;
    }
    Ok(())
}

/// A copy of the tree at `path` as another mount namespace has it: its mounts are peers of those there.
fn copy_in_namespace(namespace: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let home = process::own_mount_namespace()?;
    process::join_namespace_fd(namespace)?;
    let tree = file::open(path, OFlags::PATH).and_then(|source| mount::copy_tree(source, true));
    // It was ours a moment ago. Were it refused, everything that follows would happen in the host's table, so nothing may.
    process::join_namespace_fd(&home).map_err(|error| error.doing("coming back from the host's mount namespace"))?;
    tree
}

/// Takes the shared volumes out of the scene without the host noticing: its own mounts beneath a path would go with ours.
pub fn unshare(scene: &Path) -> Vec<Error> {
    let entries = std::fs::read_dir(scene.join(SHARED)).into_iter().flatten().flatten();
    let leave = |path: &Path| mount::set_propagation(file::open(path, OFlags::PATH)?, Propagation::Private).and_then(|()| mount::unmount(path));
    entries.filter_map(|entry| leave(&entry.path()).err()).collect()
}
