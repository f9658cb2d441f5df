//! Volumes: what a pod's containers share, before anything is mounted into one of them.
//!
//! ```text
//! <dir>/kubernetes.io~empty-dir/NAME     emptyDir, on disk, or a tmpfs or a hugetlbfs on that directory (medium: Memory, HugePages)
//! <dir>/kubernetes.io~configmap/NAME     configMap, on disk
//! <dir>/kubernetes.io~secret/NAME        secret, on a tmpfs; likewise ~downward-api and ~projected
//! the path itself                        hostPath, after the check of its type; the directory of a claim, which outlives the pod
//! ```
//!
//! All volumes are set up before the pod's first process and stay until the pod is gone; a restart of a container finds
//! them as they were. A tmpfs is mounted in the mount namespace of the caller, which the host does not see and the
//! containers, cloned later, inherit. Where the files of a volume come from (objects, the pod itself) is the caller's to know.
//!
//! Not here: the mounts inside a container (its child makes them, from [`Volumes::source`] or [`open_sub_path`]); the
//! sizeLimit of an emptyDir on disk, which no file system enforces (Kubernetes evicts the pod instead, from [`Volumes::bounded`]).

mod host_path;
mod ownership;
mod payload;
mod sub_path;

use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec, Volume};

use crate::error::{Error, Result};
use crate::manifest::huge_pages;
use crate::manifest::quantity::Quantity;
use crate::sys::{file, mount, removal};

pub use ownership::{Change, give_to_group};
pub use payload::{File, Payload};
pub use sub_path::{open_sub_path, prepare_sub_path};

/// The kubelet's directory for the plugin, which tools that look into a pod's directory know.
const EMPTY_DIR: &str = "kubernetes.io~empty-dir";

/// What the volumes are that are made of files, with the kubelet's directories for their plugins, and whether they are kept in memory.
const MADE: [(&str, bool); 4] =
    [("kubernetes.io~configmap", false), ("kubernetes.io~secret", true), ("kubernetes.io~downward-api", true), ("kubernetes.io~projected", true)];

/// The files of a volume that is made of some.
pub type Contents<'a> = dyn Fn(&Volume) -> Result<Payload> + 'a;

/// The directory of the claim that a volume names or makes.
pub type ClaimDirectory<'a> = dyn Fn(&Volume) -> Result<PathBuf> + 'a;

/// The volumes of one pod, set up.
#[derive(Debug)]
pub struct Volumes {
    dir: PathBuf,
    set_up: Vec<Source>,
    /// fsGroup.
    group: Option<i64>,
    /// For what outlives the pod; all else is new to it.
    change: Change,
}

#[derive(Debug)]
struct Source {
    name: String,
    path: PathBuf,
    /// Whether a file system of ours is mounted on it.
    mounted: bool,
    /// Whether we made the directory in this set-up.
    new: bool,
}

/// A volume that may not grow beyond a limit, which nothing but its owner's watch keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounded {
    pub name: String,
    pub path: PathBuf,
    /// As the manifest has it.
    pub limit: String,
    pub bytes: u64,
}

impl Volumes {
    /// Sets all volumes of the pod up below `dir`. What an earlier try has made on disk is kept as it is, so this can be
    /// repeated until it succeeds; a failure takes back what this call made.
    ///
    /// `memory` is the most that a tmpfs may hold, in bytes: the pod's memory limit if it has one, or what the machine has.
    /// Errors have the reason `FailedMount` and Kubernetes' text; the pod waits in ContainerCreating with them.
    pub fn set_up(pod: &PodSpec, dir: &Path, memory: Option<u64>, contents: &Contents<'_>, claim: &ClaimDirectory<'_>) -> Result<Volumes> {
        let context = pod.security_context.as_ref();
        let group = context.and_then(|context| context.fs_group);
        let change = match context.and_then(|context| context.fs_group_change_policy.as_deref()) {
            Some("OnRootMismatch") => Change::OnRootMismatch,
            _ => Change::Always,
        };
        let mut volumes = Volumes { dir: dir.to_owned(), set_up: Vec::new(), group, change };
        // An image is a container's to find, and nothing of it is the pod's own.
        for volume in pod.volumes.iter().flatten().filter(|volume| volume.image.is_none()) {
            match volumes.add(pod, volume, memory, contents, claim) {
                Ok(source) => volumes.set_up.push(source),
                Err(error) => {
                    volumes.set_up.iter().rev().for_each(Source::take_back);
                    return Err(error.doing(format!("MountVolume.SetUp failed for volume {:?} ", volume.name)).reason("FailedMount"));
                }
            }
        }
        Ok(volumes)
    }

    fn add(&self, pod: &PodSpec, volume: &Volume, memory: Option<u64>, contents: &Contents<'_>, claim: &ClaimDirectory<'_>) -> Result<Source> {
        let name = volume.name.clone();
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
            return Err(Error::said("the name cannot be that of a directory"));
        }
        if let Some(host) = &volume.host_path {
            return Ok(Source { name, path: host_path::checked(host)?, mounted: false, new: false });
        }
        if is_claim(volume) {
            return self.add_claim(name, claim(volume)?, !is_read_only(volume));
        }
        if let Some((plugin, in_memory)) = made(volume) {
            // Before anything is made: what is not there is the usual failure.
            let payload = contents(volume)?;
            let mut source = Source::make(name, self.dir.join(plugin))?;
            return source.fill_with(&payload, in_memory, self.group).map(|()| source);
        }
        let unset = EmptyDirVolumeSource::default();
        let source = match (&volume.empty_dir, kind_of(volume)) {
            (Some(source), _) => source,
            // A volume without a source is an emptyDir (SetDefaults_Volume).
            (None, None) => &unset,
            (None, Some(kind)) => return Err(Error::said(format!("volumes of kind {kind} are not supported"))),
        };
        let mut made = Source::make(name, self.dir.join(EMPTY_DIR))?;
        match made.fill(source, self.group, pod, memory) {
            Ok(()) => Ok(made),
            Err(error) => {
                made.take_back();
                Err(error)
            }
        }
    }

    /// Another pod may be using it at this moment: a failure takes nothing of it back.
    fn add_claim(&self, name: String, path: PathBuf, writable: bool) -> Result<Source> {
        make_dir(&path)?;
        if let Some(group) = self.group.filter(|_| writable) {
            give_to_group(&path, group, false, self.change)?;
        }
        Ok(Source { name, path, mounted: false, new: false })
    }

    /// Brings the files of a volume that is made of some up to date; all at once, and only if they changed.
    pub fn update(&self, name: &str, payload: &Payload) -> Result<()> {
        payload::write(file::open_dir(self.source(name)?)?.as_fd(), payload, self.group).map(drop)
    }

    /// The path on this machine that is mounted into containers: a directory, or what a hostPath is.
    pub fn source(&self, name: &str) -> Result<&Path> {
        let found = self.set_up.iter().find(|source| source.name == name);
        found.map(|source| source.path.as_path()).ok_or_else(|| Error::said(format!("the pod has no volume {name:?}")))
    }

    /// The emptyDirs on disk that have a sizeLimit.
    pub fn bounded(&self, pod: &PodSpec) -> Vec<Bounded> {
        let on_disk = |source: &&EmptyDirVolumeSource| source.medium.as_deref().unwrap_or_default().is_empty();
        let bounded = pod.volumes.iter().flatten().filter_map(|volume| {
            let source = volume.empty_dir.as_ref().filter(on_disk)?;
            let (bytes, limit) = (size_limit(source)?, source.size_limit.as_ref()?.0.clone());
            Some(Bounded { name: volume.name.clone(), path: self.source(&volume.name).ok()?.to_owned(), limit, bytes })
        });
        bounded.collect()
    }

    /// Removes all that is the pod's own; paths of the host stay untouched. Goes on where it can, returns what went wrong.
    pub fn tear_down(self) -> Vec<Error> {
        let mounted = self.set_up.iter().filter(|source| source.mounted);
        let mut errors: Vec<Error> = mounted.filter_map(|source| mount::unmount(&source.path).err()).collect();
        errors.extend(remove_dirs(&self.dir));
        errors
    }
}

impl Source {
    fn make(name: String, parent: PathBuf) -> Result<Source> {
        let path = parent.join(&name);
        let new = make_dir(&path)?;
        Ok(Source { name, path, mounted: false, new })
    }

    /// Writes the first files. What holds secrets is never on a disk.
    fn fill_with(&mut self, payload: &Payload, in_memory: bool, group: Option<i64>) -> Result<()> {
        let filled = (|| {
            if in_memory {
                mount::tmpfs(&self.path, "tmpfs", None, 0o1777)?;
                self.mounted = true;
            }
            payload::write(file::open_dir(&self.path)?.as_fd(), payload, group)?;
            group.map_or(Ok(()), |group| give_to_group(&self.path, group, true, Change::Always))
        })();
        if filled.is_err() {
            self.take_back();
        }
        filled
    }

    /// Gives the directory of an emptyDir its medium and its owner.
    fn fill(&mut self, source: &EmptyDirVolumeSource, group: Option<i64>, pod: &PodSpec, memory: Option<u64>) -> Result<()> {
        match source.medium.as_deref().unwrap_or("") {
            "" => {}
            "Memory" => {
                mount::tmpfs(&self.path, "tmpfs", tmpfs_size(source, memory), 0o1777)?;
                self.mounted = true;
            }
            medium if huge_pages::is_medium(medium) => {
                let page = huge_pages::page_size_of_medium(pod, medium).map_err(Error::said)?;
                // Without a sizeLimit the cgroups alone bound it. A file system with a size of its own loses a page of it, until it is unmounted,
                // each time a cgroup refuses one (seen on 6.18).
                mount::hugetlbfs(&self.path, page, size_limit(source), 0o777)?;
                self.mounted = true;
            }
            other => return Err(Error::said(format!("unknown storage medium {other:?}"))),
        }
        // The kubelet passes no fsGroupChangePolicy on for an emptyDir.
        group.map_or(Ok(()), |group| give_to_group(&self.path, group, false, Change::Always))
    }

    /// Undoes a set-up that failed half-way; nothing runs yet, so what is new holds nothing but what we wrote.
    fn take_back(&self) {
        if self.mounted {
            let _ = mount::unmount(&self.path);
        }
        if self.new {
            let _ = removal::remove_tree(&self.path);
        }
    }
}

/// Where a volume of the pod that is no claim is, or would be: nothing is made and nothing is checked.
pub fn source_of(pod: &PodSpec, dir: &Path, name: &str) -> Result<PathBuf> {
    let volume = pod.volumes.iter().flatten().find(|volume| volume.name == name);
    let volume = volume.ok_or_else(|| Error::said(format!("the pod has no volume {name:?}")))?;
    let own = || dir.join(made(volume).map_or(EMPTY_DIR, |(plugin, _)| plugin)).join(name);
    Ok(volume.host_path.as_ref().map_or_else(own, |host| PathBuf::from(&host.path)))
}

/// Where a volume is kept that is made of files; whether in memory. Nobody may write to it but us.
fn made(volume: &Volume) -> Option<(&'static str, bool)> {
    let is = [volume.config_map.is_some(), volume.secret.is_some(), volume.downward_api.is_some(), volume.projected.is_some()];
    MADE.into_iter().zip(is).find(|(_, is)| *is).map(|(made, _)| made)
}

/// Whether a volume is made of files that may change.
pub fn is_made(volume: &Volume) -> bool {
    made(volume).is_some()
}

/// Whether a volume is a claim's directory.
pub fn is_claim(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
}

/// Whether containers can only read a volume, whatever their mounts say.
pub fn is_read_only(volume: &Volume) -> bool {
    is_made(volume) || volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.read_only == Some(true))
}

/// Removes all that is the pod's own below `dir`; also those of a pod whose supervisor is gone, and its tmpfs with it.
///
/// A container with Bidirectional propagation may have mounted a part of the host inside: the removal works through a view
/// in which nothing is mounted, so it cannot delete what is not the pod's.
pub fn remove_dirs(dir: &Path) -> Vec<Error> {
    MADE.iter().map(|(plugin, _)| *plugin).chain([EMPTY_DIR]).flat_map(|plugin| remove_dirs_in(&dir.join(plugin))).collect()
}

/// Removes the directory of a claim, likewise through a view without mounts. One that is not there is fine.
pub fn remove(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Error::said("the root directory is not a volume")) };
    match mount::bare_view(parent) {
        Err(error) if error.is(libc::ENOENT) => Ok(()),
        view => removal::remove(view?, name).map_err(|error| error.doing(format!("removing {}", path.display()))),
    }
}

fn remove_dirs_in(all: &Path) -> Vec<Error> {
    let failed = |call| move |e: std::io::Error| Error::io(call, all.display(), &e);
    let view = match mount::bare_view(all) {
        Err(error) if error.is(libc::ENOENT) => return Vec::new(),
        Err(error) => return vec![error],
        Ok(view) => view,
    };
    let entries = match std::fs::read_dir(file::path_of(view.as_fd())) {
        Err(error) => return vec![failed("readdir")(error)],
        Ok(entries) => entries,
    };
    let remove = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.map_err(failed("readdir"))?.file_name();
        removal::remove(&view, &name).map_err(|error| error.doing(format!("removing {}", all.join(&name).display())))
    };
    let mut errors: Vec<Error> = entries.filter_map(|entry| remove(entry).err()).collect();
    if errors.is_empty() {
        errors.extend(std::fs::remove_dir(all).map_err(failed("rmdir")).err());
    }
    errors
}

/// The field that says where the volume comes from; all its other fields than `name` do.
fn kind_of(volume: &Volume) -> Option<String> {
    let fields = serde_json::to_value(volume).ok()?;
    fields.as_object()?.keys().find(|key| *key != "name").cloned()
}

/// The smaller of sizeLimit and `memory`. Zero is no limit, to Kubernetes as to tmpfs.
fn tmpfs_size(source: &EmptyDirVolumeSource, memory: Option<u64>) -> Option<u64> {
    size_limit(source).into_iter().chain(memory).min()
}

/// In bytes. Zero is no limit.
fn size_limit(source: &EmptyDirVolumeSource) -> Option<u64> {
    let limit = u64::try_from(Quantity::parse(&source.size_limit.as_ref()?.0).ok()?.bytes()).ok();
    limit.filter(|size| *size > 0)
}

/// Makes the directory of an emptyDir, open to every user of every container. False if it was there.
fn make_dir(path: &Path) -> Result<bool> {
    let parent = path.parent().unwrap_or(path);
    // Closed to the users of this machine: containers enter by a mount, and what they leave may be setuid.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|e| Error::io("mkdir", parent.display(), &e))?;
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::io("mkdir", path.display(), &error)),
        Ok(()) => {
            // Exactly, whatever the umask.
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).map_err(|e| Error::io("chmod", path.display(), &e))?;
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(value: serde_json::Value) -> Volume {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_size_of_a_tmpfs_is_the_smallest_bound() {
        for (limit, memory, size) in [
            (Some("10Mi"), None, Some(10 << 20)),
            (Some("10Mi"), Some(4 << 20), Some(4 << 20)),
            (Some("1Mi"), Some(4 << 20), Some(1 << 20)),
            (Some("0"), Some(4 << 20), Some(4 << 20)),
            (Some("0"), None, None),
            (None, None, None),
        ] {
            let source = EmptyDirVolumeSource { medium: None, size_limit: limit.map(|limit: &str| serde_json::from_value(limit.into()).unwrap()) };
            assert_eq!(tmpfs_size(&source, memory), size, "{limit:?} {memory:?}");
        }
    }

    #[test]
    fn the_kind_is_the_field_that_is_set() {
        assert_eq!(kind_of(&volume(serde_json::json!({"name": "v"}))), None);
        assert_eq!(kind_of(&volume(serde_json::json!({"name": "v", "nfs": {"server": "s", "path": "/"}}))).as_deref(), Some("nfs"));
    }
}
