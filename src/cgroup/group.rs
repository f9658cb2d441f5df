//! A cgroup of ours that exists: a container's, the pause's, or the whole pod's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::directory;
use super::hierarchy::Controller;
use crate::error::{Error, Result};
use crate::sys::file;

/// A directory in cgroup2, by which processes are started, found and killed, and its twins in those v1 hierarchies whose
/// controllers the pod needs. All files are read anew at each question.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    dir: OwnedFd,
    twins: Vec<(Controller, PathBuf)>,
}

/// What the processes of a cgroup use and have used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Processor time since the cgroup was made; cgroup2 counts it without any controller.
    pub cpu_usec: u64,
    /// Only where a memory controller counts, which is where a memory limit was set.
    pub memory_bytes: Option<u64>,
    /// Without files that were read long ago and can be dropped: what the kubelet calls the working set.
    pub working_set_bytes: Option<u64>,
    /// The most at any time; on v2 since 5.19.
    pub memory_peak_bytes: Option<u64>,
}

impl Cgroup {
    pub(super) fn open(path: PathBuf, twins: Vec<(Controller, PathBuf)>) -> Result<Cgroup> {
        let dir = file::open_dir(&path)?;
        Ok(Cgroup { path, dir, twins })
    }

    /// The path in cgroup2.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory in cgroup2, for CLONE_INTO_CGROUP (clone(2), since 5.7) and for device rules.
    ///
    /// The kernel takes a difference between the kills of the caller's cgroup and those of the child's for a kill on the way
    /// (6.1 to 6.18 at least): a caller whose own cgroup got cgroup.kill before it came must move elsewhere first, or each
    /// child dies at once by SIGKILL. A fork without CLONE_INTO_CGROUP lives.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// `cgroup.procs` of the v1 twins, open for writing: the child writes "0" to each before exec, as v1 has no clone into a
    /// cgroup. Often none. Opened anew for each start or exec, so that they are not kept for the container's life.
    pub fn join_files(&self) -> Result<Vec<OwnedFd>> {
        self.twin_dirs().iter().map(|dir| file::open(dir.join("cgroup.procs"), OFlags::WRONLY)).collect()
    }

    /// The twins, each once: two controllers may be mounted together.
    fn twin_dirs(&self) -> Vec<&Path> {
        let mut dirs: Vec<&Path> = self.twins.iter().map(|(_, dir)| dir.as_path()).collect();
        dirs.sort();
        dirs.dedup();
        dirs
    }

    fn twin(&self, controller: Controller) -> Option<&Path> {
        self.twins.iter().find(|(of, _)| *of == controller).map(|(_, dir)| dir.as_path())
    }

    /// SIGKILL to all processes in it. Nothing can be started in it afterwards (see [`directory::make_fresh`]).
    pub fn kill(&self) -> Result<()> {
        directory::kill(&self.path)
    }

    /// Stops all processes in it and waits until they stand. Frozen ones can still be killed.
    pub fn freeze(&self, within: Duration) -> Result<()> {
        directory::write(&self.path, "cgroup.freeze", "1")?;
        match directory::wait(&self.path, "frozen", 1, within)? {
            true => Ok(()),
            false => Err(Error::said(format!("{} does not freeze: a process in it waits for a device or file system", self.path.display()))),
        }
    }

    pub fn thaw(&self) -> Result<()> {
        directory::write(&self.path, "cgroup.freeze", "0")
    }

    /// The processes in it and in cgroups that they made beneath it.
    pub fn processes(&self) -> Result<Vec<u32>> {
        directory::processes(&self.path)
    }

    /// Whether a process lives in it or beneath it. Zombies do not count.
    pub fn is_populated(&self) -> Result<bool> {
        Ok(directory::keyed(&self.path, "cgroup.events", "populated")? == Some(1))
    }

    /// How many of its processes died because memory ran out, of the cgroup or of the machine. Good for "more than before"
    /// only: where the whole container dies at once, v2 counts the first victim twice. 0 where nothing counts.
    pub fn oom_kills(&self) -> Result<u64> {
        let count = match self.twin(Controller::Memory) {
            Some(dir) => directory::keyed(dir, "memory.oom_control", "oom_kill")?,
            None => directory::keyed(&self.path, "memory.events", "oom_kill")?,
        };
        Ok(count.unwrap_or(0))
    }

    pub fn usage(&self) -> Result<Usage> {
        let (dir, now, peak, inactive) = match self.twin(Controller::Memory) {
            Some(dir) => (dir, "memory.usage_in_bytes", "memory.max_usage_in_bytes", "total_inactive_file"),
            None => (self.path.as_path(), "memory.current", "memory.peak", "inactive_file"),
        };
        let memory_bytes = directory::number(dir, now)?;
        let inactive = directory::keyed(dir, "memory.stat", inactive)?.unwrap_or(0);
        Ok(Usage {
            cpu_usec: directory::keyed(&self.path, "cpu.stat", "usage_usec")?.unwrap_or(0),
            memory_bytes,
            working_set_bytes: memory_bytes.map(|bytes| bytes.saturating_sub(inactive)),
            memory_peak_bytes: directory::number(dir, peak)?,
        })
    }

    /// Removes it everywhere once it is empty, waiting for its last process. Goes on where it can; returns what went wrong.
    pub fn remove(self, within: Duration) -> Vec<Error> {
        let mut errors = directory::remove_tree(&self.path, within);
        errors.extend(self.twin_dirs().iter().flat_map(|dir| directory::remove_tree(dir, within)));
        errors
    }
}
