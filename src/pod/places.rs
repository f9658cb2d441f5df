//! Where minipod keeps what, by the Filesystem Hierarchy Standard; all below one directory with `--root`.

use std::path::{Path, PathBuf};

use crate::image::registries::Settings;

/// The three trees, and the name below which cgroups are made.
#[derive(Debug, Clone)]
pub struct Places {
    /// Outlives a reboot: the image store, the pods, the jobs, the objects that they use.
    pub lib: PathBuf,
    /// Does not: address leases.
    pub run: PathBuf,
    /// The containers' output.
    pub log: PathBuf,
    /// A directory of this name in each cgroup hierarchy.
    pub cgroup: String,
    /// The addresses that pods get, as CIDR.
    pub pod_range: String,
    /// How images are pulled.
    pub registries: Settings,
}

impl Places {
    /// `/var/lib/minipod`, `/run/minipod` and `/var/log/minipod`, or `lib`, `run` and `log` below `root`.
    pub fn new(root: Option<&Path>, cgroup: String, pod_range: String) -> Places {
        let [lib, run, log] = match root {
            Some(root) => ["lib", "run", "log"].map(|name| root.join(name)),
            None => ["/var/lib/minipod", "/run/minipod", "/var/log/minipod"].map(PathBuf::from),
        };
        Places { lib, run, log, cgroup, pod_range, registries: Settings::default() }
    }

    pub fn images(&self) -> PathBuf {
        self.lib.join("images")
    }

    /// Profiles that a manifest may name with seccompProfile type Localhost; the administrator's.
    pub fn seccomp(&self) -> PathBuf {
        self.lib.join("seccomp")
    }

    pub fn pods(&self) -> PathBuf {
        self.lib.join("pods")
    }

    pub fn jobs(&self) -> PathBuf {
        self.lib.join("jobs")
    }

    pub fn objects(&self) -> PathBuf {
        self.lib.join("objects")
    }

    /// What claims hold, in a directory each: `NAMESPACE/NAME`.
    pub fn claims(&self) -> PathBuf {
        self.lib.join("claims")
    }

    pub fn network(&self) -> PathBuf {
        self.run.join("network")
    }

    /// The kubelet's layout: `NS_NAME_UID/CONTAINER/N.log`.
    pub fn logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.log.join("pods").join(format!("{namespace}_{name}_{uid}"))
    }
}
