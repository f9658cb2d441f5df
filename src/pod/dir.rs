//! The directory of a pod or a job: claimed by one process that looks after it, read by everybody.
//!
//! Claiming is taking the lock of the file `lock`. The claim goes over to the forked supervisor with the descriptor, and ends when its
//! last copy is closed, however that process ends.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use rustix::fs::OFlags;

use super::places::Places;
use crate::error::{Error, Result};
use crate::sys::notify::Notify;
use crate::sys::{file, published, removal};

/// A directory that one process at a time looks after; holding one claims nothing.
#[derive(Debug, Clone)]
pub struct Dir {
    pub namespace: String,
    pub name: String,
    path: PathBuf,
}

/// The directory of one pod, with its `pod.json`.
#[derive(Debug, Clone)]
pub struct PodDir(Dir);

/// The directory of one job, with its `job.json`. Its pods have directories of their own.
#[derive(Debug, Clone)]
pub struct JobDir(Dir);

/// The right to look after the object: to be the pod's supervisor, the job's runner.
#[derive(Debug)]
pub struct Claim {
    lock: OwnedFd,
}

/// What can be known of a pod without asking anybody.
#[derive(Debug, Clone)]
pub struct Known {
    pub pod: Pod,
    /// A supervisor looks after it now.
    pub supervised: bool,
}

/// What can be known of a job without asking anybody.
#[derive(Debug, Clone)]
pub struct KnownJob {
    pub job: Job,
    /// A runner looks after it now.
    pub supervised: bool,
}

impl Deref for PodDir {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        &self.0
    }
}

impl Deref for JobDir {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        &self.0
    }
}

impl PodDir {
    pub fn new(places: &Places, namespace: &str, name: &str) -> PodDir {
        PodDir(Dir::below(&places.pods(), namespace, name))
    }

    pub fn exists(&self) -> bool {
        self.path.join("pod.json").exists()
    }

    /// The pod as it was last written; None if there is none.
    pub fn read(&self) -> Result<Option<Known>> {
        // In this order: a supervisor that ends in between has written its last word before it let go.
        let supervised = self.is_supervised();
        let Some(pod) = read_json::<Pod>(&self.path.join("pod.json"))? else { return Ok(None) };
        Ok(Some(Known { pod, supervised }))
    }

    pub fn write_pod(&self, pod: &Pod) -> Result<()> {
        write_json(&self.path.join("pod.json"), pod)
    }
}

impl JobDir {
    pub fn new(places: &Places, namespace: &str, name: &str) -> JobDir {
        JobDir(Dir::below(&places.jobs(), namespace, name))
    }

    /// The job as it was last written; None if there is none.
    pub fn read(&self) -> Result<Option<KnownJob>> {
        let supervised = self.is_supervised();
        let Some(job) = read_json::<Job>(&self.path.join("job.json"))? else { return Ok(None) };
        Ok(Some(KnownJob { job, supervised }))
    }

    pub fn write_job(&self, job: &Job) -> Result<()> {
        write_json(&self.path.join("job.json"), job)
    }
}

impl Dir {
    fn below(parent: &Path, namespace: &str, name: &str) -> Dir {
        Dir { namespace: namespace.into(), name: name.into(), path: parent.join(namespace).join(name) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory and claims it. None: somebody else has it.
    pub fn claim(&self) -> Result<Option<Claim>> {
        loop {
            make_apart(self.path.parent().unwrap_or(&self.path), 0o700)?;
            make_dirs(&self.path)?;
            let lock = match file::open(self.path.join("lock"), OFlags::RDWR | OFlags::CREATE) {
                // Whoever removed the pod a moment ago took the directory with it.
                Err(error) if error.is(libc::ENOENT) => continue,
                lock => lock?,
            };
            if !file::try_lock(&lock)? {
                return Ok(None);
            }
            // The lock may be that of a directory that was removed between open and lock.
            let here = std::fs::metadata(self.path.join("lock")).ok();
            let ours = file::stat(&lock)?;
            if here.is_some_and(|here| std::os::unix::fs::MetadataExt::ino(&here) == ours.st_ino) {
                return Ok(Some(Claim { lock }));
            }
        }
    }

    /// Whether a supervisor holds the claim.
    pub fn is_supervised(&self) -> bool {
        match file::open(self.path.join("lock"), OFlags::RDWR) {
            Ok(lock) => file::is_locked(lock).unwrap_or(false),
            Err(_) => false,
        }
    }

    /// Waits until nobody looks after the object any more: its supervisor or runner has removed what there was to remove.
    pub fn wait_until_gone(&self) -> Result<()> {
        match file::open(self.path.join("lock"), OFlags::RDWR) {
            Err(error) if error.is(libc::ENOENT) => Ok(()),
            lock => file::lock(lock?),
        }
    }

    pub fn events(&self) -> Result<Vec<Event>> {
        Ok(read_json(&self.path.join("events.json"))?.unwrap_or_default())
    }

    pub fn write_events(&self, events: &[Event]) -> Result<()> {
        write_json(&self.path.join("events.json"), &events)
    }

    /// Removes the directory with all below it. The claim is let go last, by whoever holds it.
    pub fn remove(&self) -> Result<()> {
        // The lock goes last: without it another run could claim the directory, and then lose its files to us.
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten().filter(|entry| entry.file_name() != "lock") {
            removal::remove_tree(entry.path())?;
        }
        removal::remove_tree(&self.path)?;
        // The namespace's directory goes when it is empty; ENOTEMPTY is the normal case.
        let _ = self.path.parent().map(std::fs::remove_dir);
        Ok(())
    }
}

impl Claim {
    /// Writes our pid into the lock, once we are the process that looks after it.
    pub fn sign(&self, dir: &Dir) -> Result<()> {
        std::fs::write(dir.path.join("lock"), format!("{}\n", std::process::id())).map_err(|e| Error::io("write", dir.path.join("lock").display(), &e))
    }
}

impl AsFd for Claim {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// Every pod that has a directory, by namespace and name.
pub fn all(places: &Places) -> Result<Vec<PodDir>> {
    Ok(dirs(&places.pods())?.into_iter().map(PodDir).collect())
}

/// Every job that has a directory, by namespace and name.
pub fn all_jobs(places: &Places) -> Result<Vec<JobDir>> {
    Ok(dirs(&places.jobs())?.into_iter().map(JobDir).collect())
}

fn dirs(parent: &Path) -> Result<Vec<Dir>> {
    let mut found = Vec::new();
    for namespace in names(parent)? {
        for name in names(&parent.join(&namespace))? {
            found.push(Dir::below(parent, &namespace, &name));
        }
    }
    Ok(found)
}

/// Watches all that [`all`] reads.
pub fn watch(places: &Places, notify: &Notify) -> Result<()> {
    watch_below(&places.pods(), notify)
}

/// Watches all that [`all_jobs`] reads.
pub fn watch_jobs(places: &Places, notify: &Notify) -> Result<()> {
    watch_below(&places.jobs(), notify)
}

/// Each directory is watched before what is in it is listed, so that nothing is missed in between. One that vanishes meanwhile is told
/// by the watch of its parent.
fn watch_below(parent: &Path, notify: &Notify) -> Result<()> {
    make_dirs(parent)?;
    notify.watch_dir(parent)?;
    for namespace in names(parent)? {
        let namespace = parent.join(namespace);
        let _ = notify.watch_dir(&namespace);
        for name in names(&namespace)? {
            let _ = notify.watch_dir(namespace.join(name));
        }
    }
    Ok(())
}

pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| Error::io("open", dir.display(), &e))?,
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Directories for root alone: below are volumes that anybody in a container may write to, and setuid files of images.
pub fn make_dirs(path: &Path) -> Result<()> {
    make_dirs_with(path, 0o700)
}

/// Makes a directory of what has nothing to do with one another: the file system places what is in it apart.
pub fn make_apart(path: &Path, mode: u32) -> Result<()> {
    if !path.exists() {
        make_dirs_with(path, mode)?;
        file::spread(path);
    }
    Ok(())
}

fn make_dirs_with(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|e| Error::io("mkdir", path.display(), &e))
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match published::read(path) {
        Err(error) if error.is(libc::ENOENT) => return Ok(None),
        bytes => bytes?,
    };
    // Through a Value: Kubernetes' types are compiled for one deserializer only.
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| Error::said(format!("{} is damaged: {e}", path.display())))?;
    serde_json::from_value(value).map(Some).map_err(|e| Error::said(format!("{} is damaged: {e}", path.display())))
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    // In one line: it is written several times at each start, and `get -o json` shows it to people.
    let text = serde_json::to_vec(value).map_err(|e| Error::said(format!("{}: {e}", path.display())))?;
    published::write(path, &text, 0o644)
}
