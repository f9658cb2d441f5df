//! A container's whole: what the manifest, the image and the pod's own files come to as a spec and a plan.
//!
//! The same for a start and for `minipod explain`, so that what is explained is what is done.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType, Spec};
use rustix::fs::OFlags;

use super::attempt::{MESSAGE, UPPER, WORK};
use super::ground::{self, pod_spec};
use super::image_volumes;
use super::objects::environment::{self, Environment, Origin};
use super::{propagation, user, users};
use crate::cgroup;
use crate::container::plan::{self, Layers, Plan};
use crate::container::seccomp::{self, Profile};
use crate::container::spec::{self, Mount, Surroundings};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::sys::devices;
use crate::sys::file::{self, Within};
use crate::sys::user::{held_capabilities, kernel_version};
use crate::volume;

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
    /// Where the container's variables come from.
    pub origin: &'a Origin<'a>,
    /// Where a volume of the pod is.
    pub volumes: &'a dyn Fn(&str) -> Result<PathBuf>,
    pub pause: Option<u32>,
    /// The pid of a container whose PID namespace it joins.
    pub target: Option<u32>,
    /// The first of the machine's ids that the pod has for its own.
    pub users: Option<u32>,
    pub cgroup: &'a Path,
    /// Where the machine's cgroup2 is mounted.
    pub cgroup_mount: &'a Path,
    /// It has limits in v1 hierarchies.
    pub limited: bool,
    pub node_memory: u64,
    /// Where the profiles of seccompProfile type Localhost are.
    pub seccomp: &'a Path,
}

impl Whole<'_> {
    /// The OCI runtime spec, and the plan that it compiles to.
    pub fn compose(&self) -> Result<(Spec, Plan)> {
        let pod_spec = pod_spec(self.pod);
        let seccomp = self.seccomp_profile()?;
        let user = user::of(self.pod, self.container, self.image)?;
        self.users.map_or(Ok(()), |_| users::check(&user))?;
        let env = self.origin.environment(self.container)?;
        let around = Surroundings {
            image: self.image,
            user: &user,
            root: self.scene.join(ground::ROOT),
            env: &env,
            hostname: self.hostname,
            mounts: self.mounts(&env)?,
            pause: self.pause,
            target: self.target,
            users: self.users,
            cgroup: self.cgroup.to_owned(),
            oom_score_adj: Some(cgroup::limits::oom_score_adj(pod_spec, self.container, self.node_memory)),
            seccomp: seccomp.as_deref(),
            kernel: kernel_version(),
            capabilities: held_capabilities()?,
            devices: if spec::is_privileged(self.container) { host_devices()? } else { Vec::new() },
        };
        let spec = spec::compile(self.pod, self.container, &around)?;
        let names = std::iter::once(self.mount_points.to_owned()).chain(self.image.layers.iter().cloned()).collect();
        let dir = if self.users.is_some() { self.scene.join(ground::LAYERS) } else { self.image.layers_dir() };
        let layers = Layers { dir, names, upper: self.attempt.join(UPPER), work: self.attempt.join(WORK) };
        let plan = plan::compile(&spec, layers, self.limited)?;
        Ok((spec, plan))
    }

    /// The pod's own files, shared memory and volumes. A volume at the place of one of the pod's files is what the container sees.
    fn mounts(&self, env: &Environment) -> Result<Vec<Mount>> {
        let mut mounts = self.container.volume_mounts.iter().flatten().map(|wish| self.volume_mount(wish, env)).collect::<Result<Vec<_>>>()?;
        let own = |source: PathBuf, destination: &str| Mount { source, destination: destination.into(), ..Default::default() };
        // As containerd does with its own; /etc/hosts is the kubelet's, and stays writable (§18).
        let sealed = self.container.security_context.as_ref().is_some_and(|context| context.read_only_root_filesystem == Some(true));
        let runtimes = |source, destination| Mount { read_only: sealed, ..own(source, destination) };
        let message_path = self.container.termination_message_path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/dev/termination-log");
        // A privileged container is in the machine's cgroup namespace. A mount of its own there would set the options of the machine's, which are one
        // for all mounts: systemd's nsdelegate would be gone.
        let machines = spec::is_privileged(self.container).then(|| own(self.cgroup_mount.to_owned(), "/sys/fs/cgroup"));
        let pods = [
            own(self.scene.join(ground::HOSTS), "/etc/hosts"),
            runtimes(self.scene.join(ground::HOSTNAME), "/etc/hostname"),
            runtimes(self.scene.join(ground::RESOLV_CONF), "/etc/resolv.conf"),
            own(if pod_spec(self.pod).host_ipc == Some(true) { "/dev/shm".into() } else { self.scene.join(ground::SHM) }, "/dev/shm"),
            own(self.attempt.join(MESSAGE), message_path),
        ];
        for mount in pods.into_iter().chain(machines) {
            if !mounts.iter().any(|taken| taken.destination == mount.destination) {
                mounts.push(mount);
            }
        }
        Ok(mounts)
    }

    /// §20: one volumeMount. Kernels that mount recursively read-only are all that minipod runs on (5.12), so IfPossible is Enabled.
    fn volume_mount(&self, wish: &VolumeMount, env: &Environment) -> Result<Mount> {
        let sealed = pod_spec(self.pod).volumes.iter().flatten().any(|volume| volume.name == wish.name && volume::is_read_only(volume));
        let expression = wish.sub_path_expr.as_deref().filter(|expression| !expression.is_empty());
        let expanded = expression.map(|expression| environment::expanded_path(expression, env)).transpose()?;
        let image = image_volumes::of(pod_spec(self.pod), &wish.name).map(|_| image_volumes::place(self.scene, &wish.name));
        let (sealed, mapped) = (sealed || image.is_some(), self.users.is_some() && image.is_none());
        let source = image.map_or_else(|| (self.volumes)(&wish.name), Ok).map_err(|e| e.reason("CreateContainerConfigError"))?;
        let propagation = propagation::of(wish);
        propagation::check(pod_spec(self.pod), wish, &source)?;
        Ok(Mount {
            source: propagation::shared_source(pod_spec(self.pod), &wish.name, self.scene).unwrap_or(source),
            sub_path: expanded.or_else(|| wish.sub_path.clone()).filter(|path| !path.is_empty()),
            destination: Path::new("/").join(&wish.mount_path),
            read_only: wish.read_only == Some(true) || sealed,
            recursive_read_only: matches!(wish.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
            propagation,
            // The layers of an image are shown so already.
            mapped,
        })
    }

    /// §21: the container's seccompProfile over the pod's; none for a privileged container.
    fn seccomp_profile(&self) -> Result<Option<Cow<'static, Profile>>> {
        let of_container = self.container.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
        let of_pod = pod_spec(self.pod).security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
        match of_container.or(of_pod).filter(|_| !spec::is_privileged(self.container)) {
            Some(profile) if profile.type_ == "RuntimeDefault" => Ok(Some(Cow::Borrowed(seccomp::runtime_default()))),
            Some(profile) if profile.type_ == "Localhost" => {
                let name = profile.localhost_profile.as_deref().unwrap_or_default();
                local_profile(self.seccomp, name).map(|profile| Some(Cow::Owned(profile))).map_err(|e| e.reason("CreateContainerError"))
            }
            _ => Ok(None),
        }
    }
}

/// Reads a profile of the user, in containerd's words where it cannot. The name was written by somebody else and stays beneath `dir`.
fn local_profile(dir: &Path, name: &str) -> Result<Profile> {
    let path = dir.join(name);
    let opened = file::open_dir(dir).and_then(|dir| file::open_within(dir, name, Within::Beneath, OFlags::RDONLY, 0));
    let text = opened.and_then(|open| file::read_limited(open, &path, LARGEST_PROFILE));
    let text = text.map_err(|error| match error.is(libc::ENOENT) {
        true => Error::said(format!("cannot load seccomp profile {path:?}: open {}: no such file or directory", path.display())),
        false => error.doing(format_args!("cannot load seccomp profile {path:?}")),
    })?;
    Profile::parse(&text).map_err(|error| Error::said(format!("decoding seccomp profile failed {path:?}: {error}")))
}

/// Bytes; the largest in use have some 20 KiB.
const LARGEST_PROFILE: u64 = 1 << 20;

fn host_devices() -> Result<Vec<LinuxDevice>> {
    let device = |device: devices::Device| {
        LinuxDeviceBuilder::default()
            .path(device.path)
            .typ(if device.is_block { LinuxDeviceType::B } else { LinuxDeviceType::C })
            .major(device.number.0)
            .minor(device.number.1)
            .file_mode(device.mode)
            .uid(device.owner.0)
            .gid(device.owner.1)
            .build()
            .map_err(|error| Error::said(format!("the OCI runtime spec cannot be made: {error}")))
    };
    devices::of_host()?.into_iter().map(device).collect()
}
