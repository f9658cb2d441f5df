//! A container's whole: what the manifest, the image and the pod's own files come to as a spec and a plan.
//!
//! The same for a start and for `minipod explain`, so that what is explained is what is done.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use oci_spec::runtime::Spec;

use super::ground::{self, pod_spec};
use crate::cgroup;
use crate::container::plan::{self, Layers, Plan};
use crate::container::spec::{self, Mount, Surroundings};
use crate::error::Result;
use crate::image::{Image, User};

/// What a container writes to its root, in the directory of its start.
pub const UPPER: &str = "upper";
/// overlayfs' own.
pub const WORK: &str = "work";
/// Its last words (§24).
pub const MESSAGE: &str = "termination-log";

/// All that a container's plan depends on.
pub struct Whole<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub image: &'a Image,
    /// The layer below the image's.
    pub mount_points: &'a str,
    /// Where the pod's own files are.
    pub scene: &'a Path,
    /// The directory of this start.
    pub attempt: &'a Path,
    pub hostname: &'a str,
    /// Where a volume of the pod is.
    pub volumes: &'a dyn Fn(&str) -> Result<PathBuf>,
    pub pause: Option<u32>,
    /// The pid of a container whose PID namespace it joins.
    pub target: Option<u32>,
    pub cgroup: &'a Path,
    /// It has limits in v1 hierarchies.
    pub limited: bool,
    pub node_memory: u64,
}

impl Whole<'_> {
    /// The OCI runtime spec, and the plan that it compiles to.
    pub fn compose(&self) -> Result<(Spec, Plan)> {
        let pod_spec = pod_spec(self.pod);
        let around = Surroundings {
            image: self.image,
            user: &user_of(pod_spec, self.container, self.image)?,
            root: self.scene.join(ground::ROOT),
            hostname: self.hostname,
            mounts: self.mounts()?,
            pause: self.pause,
            target: self.target,
            cgroup: self.cgroup.to_owned(),
            oom_score_adj: Some(cgroup::limits::oom_score_adj(pod_spec, self.container, self.node_memory)),
        };
        let spec = spec::compile(self.pod, self.container, &around)?;
        let names = std::iter::once(self.mount_points.to_owned()).chain(self.image.layers.iter().cloned()).collect();
        let layers = Layers { dir: self.image.layers_dir(), names, upper: self.attempt.join(UPPER), work: self.attempt.join(WORK) };
        let plan = plan::compile(&spec, layers, self.limited)?;
        Ok((spec, plan))
    }

    /// The pod's own files, shared memory and volumes. A volume at the place of one of the pod's files is what the container sees.
    fn mounts(&self) -> Result<Vec<Mount>> {
        let wishes = self.container.volume_mounts.iter().flatten().map(|wish| {
            Ok(Mount {
                source: (self.volumes)(&wish.name).map_err(|e| e.reason("CreateContainerConfigError"))?,
                sub_path: wish.sub_path.clone().filter(|path| !path.is_empty()),
                destination: Path::new("/").join(&wish.mount_path),
                read_only: wish.read_only == Some(true),
            })
        });
        let mut mounts = wishes.collect::<Result<Vec<_>>>()?;
        let own = |source: PathBuf, destination: &str| Mount { source, sub_path: None, destination: destination.into(), read_only: false };
        // As containerd does with its own; /etc/hosts is the kubelet's, and stays writable (§18).
        let sealed = self.container.security_context.as_ref().is_some_and(|context| context.read_only_root_filesystem == Some(true));
        let runtimes = |source, destination| Mount { read_only: sealed, ..own(source, destination) };
        let message_path = self.container.termination_message_path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/dev/termination-log");
        for mount in [
            own(self.scene.join(ground::HOSTS), "/etc/hosts"),
            runtimes(self.scene.join(ground::HOSTNAME), "/etc/hostname"),
            runtimes(self.scene.join(ground::RESOLV_CONF), "/etc/resolv.conf"),
            own(self.scene.join(ground::SHM), "/dev/shm"),
            own(self.attempt.join(MESSAGE), message_path),
        ] {
            if !mounts.iter().any(|taken| taken.destination == mount.destination) {
                mounts.push(mount);
            }
        }
        Ok(mounts)
    }
}

/// §21: runAsUser and runAsGroup over the image's USER, container over pod; groups of the image's /etc/group, then supplementalGroups.
fn user_of(pod: &PodSpec, container: &Container, image: &Image) -> Result<User> {
    let (of_pod, of_container) = (pod.security_context.clone().unwrap_or_default(), container.security_context.clone().unwrap_or_default());
    let group = of_container.run_as_group.or(of_pod.run_as_group).map(|gid| gid as u32);
    let mut user = match of_container.run_as_user.or(of_pod.run_as_user) {
        Some(uid) => image.user_by_id(uid as u32, group),
        None => image.user(&image.user).map_err(|e| e.reason("CreateContainerError"))?,
    };
    user.gid = group.unwrap_or(user.gid);
    for gid in of_pod.supplemental_groups.iter().flatten() {
        let gid = *gid as u32;
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}
