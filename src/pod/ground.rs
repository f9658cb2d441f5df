//! What of the machine a pod stands on, from before its first container until after its last: cgroups, volumes, shared
//! memory, device rules. Made whole before the pod is accepted, or not at all.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

use super::dir::{PodDir, make_apart, make_dirs};
use super::image_volumes;
use super::objects::downward::Allocatable;
use super::places::Places;
use super::propagation;
use super::users::Users;
use crate::cgroup::{self, Cgroup, DeviceProgram, Devices, Hierarchies, Limits, PodCgroup, Unenforced};
use crate::container::log;
use crate::container::pause::has_users;
use crate::container::spec::is_privileged;
use crate::error::{Error, Result};
use crate::image::Store;
use crate::network::files::{Hostname, hostname_of};
use crate::network::{Network, PodName};
use crate::sys::{file, mount, removal};

/// How long the kernel may take to empty a cgroup whose processes are dead.
pub const CGROUP_PATIENCE: Duration = Duration::from_secs(2);
/// The pod's /dev/shm (containerd's size).
const SHM_BYTES: u64 = 64 << 20;
/// What the pod's own small files may take together; containers can write to some of them.
const SCENE_BYTES: u64 = 1 << 20;

/// A tmpfs over this directory, in the supervisor's mount namespace alone, holds what nobody needs after the supervisor: it costs no disk
/// operation, is in no table of the host, and goes by itself.
pub const SCENE: &str = "scene";
/// In it: where root file systems are assembled (one place for all, as each start has its own mount namespace), shared memory, files.
pub const ROOT: &str = "root";
pub const SHM: &str = "shm";
/// The store's layers, with the ids of the pod's user namespace.
pub const LAYERS: &str = "layers";
pub const HOSTS: &str = "hosts";
pub const HOSTNAME: &str = "hostname";
pub const RESOLV_CONF: &str = "resolv.conf";

pub struct Ground {
    pub dir: PodDir,
    pub places: Places,
    pub store: Store,
    pub network: Network,
    pub name: PodName,
    pub hostname: Hostname,
    /// Its own ids, with hostUsers false.
    pub users: Option<Users>,
    pub image_volumes: image_volumes::Shown,
    pub hierarchies: Hierarchies,
    pub cgroup: PodCgroup,
    devices: DeviceProgram,
    /// The mount namespace that we have left.
    pub host_mounts: OwnedFd,
    pub logs: PathBuf,
    pub machine: Allocatable,
}

impl Ground {
    /// Finds out what this machine has, makes the pod's cgroup and its shared memory. What the manifest asks for and the
    /// machine cannot enforce is an error, unless `allow_unenforced`; then, as with requests, it comes back as a warning.
    pub fn prepare(places: &Places, dir: &PodDir, pod: &Pod, host_mounts: OwnedFd, allow_unenforced: bool) -> Result<(Ground, Vec<Unenforced>)> {
        let spec = pod_spec(pod);
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let hierarchies = Hierarchies::detect()?;
        let devices = DeviceProgram::load(&Devices::of_containers()).map_err(|e| e.doing("making the device rules"))?;
        let store = Store::open(places.images())?;
        let network = Network::open(&places.run, places.pod_range.parse()?)?;
        let users = has_users(spec).then(|| Users::take(&places.run)).transpose()?;
        let all_logs = places.log.join("pods");
        make_apart(&all_logs, 0o755)?;
        let logs = log::pod_dir(&all_logs, &dir.namespace, &dir.name, uid)?;
        let hostname = hostname_of(pod)?;
        let limits: Vec<Limits> = all_containers(spec).map(|container| cgroup::limits::of_container(spec, container)).collect();
        let pod_cgroup = PodCgroup::create(&hierarchies, &places.cgroup, uid, &cgroup::limits::of_pod(spec), &limits)?;
        let unenforced = pod_cgroup.unenforced().to_vec();
        if let Some(first) = unenforced.iter().find(|missing| !missing.is_request && !allow_unenforced) {
            let error = Error::said(format!("{first}; run with --allow-unenforced to go without"));
            pod_cgroup.remove(CGROUP_PATIENCE);
            let _ = cgroup::remove_base(&hierarchies, &places.cgroup);
            return Err(error);
        }
        let name = PodName {
            namespace: dir.namespace.clone(),
            name: dir.name.clone(),
            uid: uid.to_owned(),
            hostname: hostname.in_dns.clone(),
            subdomain: spec.subdomain.clone().filter(|subdomain| !subdomain.is_empty()),
        };
        let ground = Ground {
            dir: dir.clone(),
            places: places.clone(),
            store,
            network,
            name,
            hostname,
            users,
            image_volumes: Default::default(),
            hierarchies,
            cgroup: pod_cgroup,
            devices,
            host_mounts,
            logs,
            machine: machine(places),
        };
        if let Err(error) = ground.furnish() {
            ground.clear();
            return Err(error);
        }
        Ok((ground, unenforced))
    }

    fn furnish(&self) -> Result<()> {
        make_dirs(&self.scene())?;
        mount::tmpfs(&self.scene(), "minipod", Some(SCENE_BYTES), 0o700)?;
        make_dirs(&self.scene().join(ROOT))?;
        make_dirs(&self.scene().join(SHM))?;
        mount::tmpfs(&self.scene().join(SHM), "shm", Some(SHM_BYTES), 0o1777)?;
        self.give_to_pod(&self.scene().join(SHM))?;
        match &self.users {
            Some(users) => users.show(&self.store.layers_dir(), &self.scene().join(LAYERS)),
            None => Ok(()),
        }
    }

    /// What a container finds as its own, and nobody else needs, belongs to its root.
    pub fn give_to_pod(&self, path: &Path) -> Result<()> {
        self.users.as_ref().map_or(Ok(()), |users| file::set_owner(path, users.first, users.first))
    }

    /// The user and the group of a container's root on the machine.
    pub fn root_of_pod(&self) -> u32 {
        self.users.as_ref().map_or(0, |users| users.first)
    }

    /// Which devices a container may use: those of every container; a privileged one, all.
    pub fn hold_to_devices(&self, container: &Container, cgroup: &Cgroup) -> Result<()> {
        if is_privileged(container) { Ok(()) } else { self.devices.attach(cgroup.dir()) }
    }

    pub fn scene(&self) -> PathBuf {
        self.dir.path().join(SCENE)
    }

    /// Where the pod's volumes are.
    pub fn volumes(&self) -> PathBuf {
        self.dir.path().join("volumes")
    }

    /// What one start of a container keeps on disk: what it writes, its spec, its last words.
    pub fn attempt(&self, container: &str, attempt: u32) -> PathBuf {
        self.dir.path().join("containers").join(attempt_name(container, attempt))
    }

    /// Kills whatever is left of the pod and removes what was made of the machine. Collects errors and goes on.
    pub fn clear(self) -> Vec<Error> {
        let scene = self.scene();
        let mut errors = self.cgroup.remove(CGROUP_PATIENCE);
        errors.extend(cgroup::remove_base(&self.hierarchies, &self.places.cgroup).err());
        errors.extend(propagation::unshare(&scene));
        errors.extend(image_volumes::clear(&scene, &self.image_volumes));
        let layers = self.users.is_some().then(|| scene.join(LAYERS)).filter(|layers| layers.exists());
        errors.extend(layers.into_iter().chain([scene.join(SHM), scene]).collect::<Vec<_>>().iter().filter_map(|at| mount::unmount(at).err()));
        errors
    }
}

/// One directory a start, not two: with each, making and removing cost the disk. Container names have no dot.
pub fn attempt_name(container: &str, attempt: u32) -> String {
    format!("{container}.{attempt}")
}

/// Removes what a pod keeps on disk beside its object: everything but pod.json, events.json and the logs.
pub fn clear_directory(dir: &Path) -> Vec<Error> {
    ["containers", "volumes", SCENE, "control"]
        .iter()
        .filter_map(|name| {
            let path = dir.join(name);
            if path.is_dir() {
                removal::remove_tree(&path)
            } else {
                std::fs::remove_file(&path).or_else(ignore_missing).map_err(|e| Error::io("unlink", path.display(), &e))
            }
            .err()
        })
        .collect()
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// A validated pod has a spec.
pub fn pod_spec(pod: &Pod) -> &PodSpec {
    static NONE: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&NONE)
}

/// Inits first, as the engine counts them.
pub fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// A container of any kind, by its name.
pub fn find_container(spec: &PodSpec, name: &str) -> Option<Container> {
    let ephemerals = spec.ephemeral_containers.iter().flatten().map(of_ephemeral);
    all_containers(spec).cloned().chain(ephemerals).find(|container| container.name == name)
}

/// An ephemeral container has all the fields of a container, and a target.
pub fn of_ephemeral(ephemeral: &EphemeralContainer) -> Container {
    let from = ephemeral.clone();
    Container {
        args: from.args,
        command: from.command,
        env: from.env,
        env_from: from.env_from,
        image: from.image,
        image_pull_policy: from.image_pull_policy,
        lifecycle: from.lifecycle,
        liveness_probe: from.liveness_probe,
        name: from.name,
        ports: from.ports,
        readiness_probe: from.readiness_probe,
        resize_policy: from.resize_policy,
        resources: from.resources,
        restart_policy: from.restart_policy,
        restart_policy_rules: from.restart_policy_rules,
        security_context: from.security_context,
        startup_probe: from.startup_probe,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        termination_message_path: from.termination_message_path,
        termination_message_policy: from.termination_message_policy,
        tty: from.tty,
        volume_devices: from.volume_devices,
        volume_mounts: from.volume_mounts,
        working_dir: from.working_dir,
    }
}

/// What this machine has; 0 of what cannot be told.
pub fn machine(places: &Places) -> Allocatable {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    // A line `cpuN` for each that is online.
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let cpus = stat.lines().filter(|line| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))).count();
    Allocatable { cpus: cpus as u64, memory: kib.unwrap_or(0) * 1024, storage: file::capacity(&places.lib).unwrap_or(0) }
}
