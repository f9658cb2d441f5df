//! The cgroups of one pod: made, handed to its containers, removed.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::directory;
use super::group::{Cgroup, Usage};
use super::hierarchy::{Controller, Hierarchies, Home};
use super::limits::Limits;
use super::setting::{Setting, Version, Weight, Whose, no_other_huge_pages, settings};
use crate::error::{Error, Result};

/// Something the manifest asks for that this machine's cgroups cannot do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unenforced {
    /// `memory limit`, `cpu request`, …
    pub what: String,
    /// Why, and what to do about it.
    pub why: String,
    /// Only a request: worth a warning, never a reason to refuse the pod.
    pub is_request: bool,
}

impl std::fmt::Display for Unenforced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} is not enforced: {}", self.what, self.why)
    }
}

/// The cgroup of a pod, above those of its containers.
#[derive(Debug)]
pub struct PodCgroup {
    hierarchies: Hierarchies,
    base: PathBuf,
    uid: String,
    whole: Cgroup,
    /// The controllers that work for this pod's containers, with the pod's directory that hands them down.
    controllers: Vec<(Controller, Version, PathBuf)>,
    unenforced: Vec<Unenforced>,
}

impl PodCgroup {
    /// Makes the pod's cgroup in cgroup2, and in each v1 hierarchy that `pod` (its own limits) or `containers` (those of
    /// each container) need, no more: to enter a v1 cgroup costs an idle machine about 10 ms, a wait for RCU.
    ///
    /// `base` is a path below the mount points, made if it is missing. That a limit cannot be enforced is no error here;
    /// see [`PodCgroup::unenforced`].
    pub fn create(hierarchies: &Hierarchies, base: &str, uid: &str, pod: &Limits, containers: &[Limits]) -> Result<PodCgroup> {
        let base = checked(base, uid)?;
        let dir_in = |mount: &Path| mount.join(&base).join(pod_dir(uid));
        let path = dir_in(hierarchies.unified());
        make_pod_dir(&path)?;
        let (mut controllers, mut unenforced, mut twins) = (Vec::new(), Vec::new(), Vec::<(Controller, PathBuf)>::new());
        if hierarchies.home(Controller::Cpu) == Home::Unified {
            // Pods are weighed against each other, so each needs a weight, also one that asks for nothing. A failure is
            // told below, to a pod that does ask.
            let _ = hand_down(hierarchies.unified(), path.parent().unwrap_or(&path), Controller::Cpu);
        }
        for controller in Controller::ALL {
            let wanted: Vec<_> = containers.iter().chain([pod]).flat_map(|limits| told(limits, controller)).collect();
            if wanted.is_empty() {
                continue;
            }
            let ready = match hierarchies.home(controller) {
                Home::Unified => hand_down(hierarchies.unified(), &path, controller).map(|()| (controller, Version::V2, path.clone())),
                Home::V1(mount) => {
                    let twin = dir_in(mount);
                    let made = if twins.iter().any(|(_, dir)| *dir == twin) { Ok(()) } else { make_pod_dir(&twin) };
                    made.map(|()| {
                        twins.push((controller, twin.clone()));
                        (controller, Version::V1, twin)
                    })
                }
                Home::Nowhere => Err(nowhere(hierarchies, controller)),
            };
            match ready {
                Ok(ready) => controllers.push(ready),
                Err(error) => add(&mut unenforced, controller, &wanted, &error),
            }
        }
        for (controller, version, dir) in &controllers {
            apply(pod, *controller, Whose::Pod, *version, dir, &mut unenforced);
        }
        if !controllers.iter().any(|(controller, ..)| *controller == Controller::Cpu) && hierarchies.home(Controller::Cpu) == Home::Unified {
            apply(&Limits::default(), Controller::Cpu, Whose::Pod, Version::V2, &path, &mut unenforced);
        }
        let whole = Cgroup::open(path, twins).inspect_err(|_| drop(clear(hierarchies, &base, uid, Duration::ZERO)))?;
        Ok(PodCgroup { hierarchies: hierarchies.clone(), base, uid: uid.to_owned(), whole, controllers, unenforced })
    }

    /// The pod as a whole: to kill it, to see what it uses. No process lives in this cgroup itself.
    pub fn whole(&self) -> &Cgroup {
        &self.whole
    }

    /// What the manifest asks for and this machine cannot do. To be an error before anything starts, unless the user allows it.
    pub fn unenforced(&self) -> &[Unenforced] {
        &self.unenforced
    }

    /// A cgroup for one start of a container, never used before, with its limits set; and what of them could not be set,
    /// beyond what the pod has told already.
    pub fn container(&self, name: &str, attempt: u32, limits: &Limits) -> Result<(Cgroup, Vec<Unenforced>)> {
        let leaf = format!("{name}-{attempt}");
        is_name(&leaf)?;
        let path = self.whole.path().join(&leaf);
        directory::make_fresh(&path)?;
        let (mut twins, mut unenforced) = (Vec::<(Controller, PathBuf)>::new(), Vec::new());
        for controller in Controller::ALL {
            let Some((_, version, above)) = self.controllers.iter().find(|(of, ..)| *of == controller) else {
                add(&mut unenforced, controller, &told(limits, controller), &Error::said("the pod was started without it"));
                continue;
            };
            let dir = above.join(&leaf);
            if *version == Version::V1 {
                let made = if twins.iter().any(|(_, twin)| *twin == dir) { Ok(()) } else { directory::make_fresh(&dir) };
                match made {
                    Ok(()) => twins.push((controller, dir.clone())),
                    Err(error) => {
                        add(&mut unenforced, controller, &told(limits, controller), &error);
                        continue;
                    }
                }
            }
            apply(limits, controller, Whose::Container, *version, &dir, &mut unenforced);
        }
        unenforced.retain(|new| !self.unenforced.iter().any(|old| old.what == new.what));
        Ok((Cgroup::open(path, twins)?, unenforced))
    }

    /// Makes a controller work for containers that run already. v2 hands it down to them; into a v1 hierarchy they would have to move.
    pub fn enable(&mut self, controller: Controller) -> Result<()> {
        if self.controllers.iter().any(|(of, ..)| *of == controller) {
            return Ok(());
        }
        match self.hierarchies.home(controller) {
            Home::Unified => {
                let dir = self.whole.path().to_owned();
                hand_down(self.hierarchies.unified(), &dir, controller)?;
                self.controllers.push((controller, Version::V2, dir));
                Ok(())
            }
            Home::V1(mount) => Err(Error::said(format!(
                "the pod was started without any {0} request or limit, so its processes are not in the v1 hierarchy {1}; start it with one to resize it later",
                controller.name(),
                mount.display()
            ))),
            Home::Nowhere => Err(nowhere(&self.hierarchies, controller)),
        }
    }

    /// Changes the limits of the pod as a whole. Tells what could not be set, having gone on.
    pub fn resize(&self, limits: &Limits) -> Vec<Error> {
        let dirs = self.controllers.iter().map(|(controller, version, dir)| (*controller, *version, dir.clone()));
        dirs.flat_map(|(controller, version, dir)| change(limits, controller, Whose::Pod, version, &dir)).collect()
    }

    /// The same for one of its containers, whose cgroup this is.
    pub fn resize_container(&self, container: &Cgroup, limits: &Limits) -> Vec<Error> {
        let Some(leaf) = container.path().file_name() else { return Vec::new() };
        let dirs = self.controllers.iter().map(|(controller, version, above)| (*controller, *version, above.join(leaf)));
        dirs.flat_map(|(controller, version, dir)| change(limits, controller, Whose::Container, version, &dir)).collect()
    }

    /// The cgroup of the pause, in cgroup2 alone: it uses next to nothing, so it is not limited.
    pub fn pause(&self) -> Result<Cgroup> {
        let path = self.whole.path().join("pause");
        directory::make_fresh(&path)?;
        Cgroup::open(path, Vec::new())
    }

    /// Kills what is left in the pod and removes all of its cgroups.
    pub fn remove(self, within: Duration) -> Vec<Error> {
        clear(&self.hierarchies, &self.base, &self.uid, within)
    }
}

/// What one start of a container of a running pod uses; None if it is not there (any more). Where no memory controller counts, the working set
/// is what its processes hold.
pub fn usage_of(hierarchies: &Hierarchies, base: &str, uid: &str, name: &str, attempt: u32) -> Result<Option<Usage>> {
    let leaf = format!("{name}-{attempt}");
    is_name(&leaf)?;
    let below = checked(base, uid)?.join(pod_dir(uid)).join(leaf);
    let twin = match hierarchies.home(Controller::Memory) {
        Home::V1(mount) => Some((Controller::Memory, mount.join(&below))).filter(|(_, dir)| dir.exists()),
        _ => None,
    };
    let cgroup = match Cgroup::open(hierarchies.unified().join(&below), twin.into_iter().collect()) {
        Err(error) if error.is(libc::ENOENT) => return Ok(None),
        cgroup => cgroup?,
    };
    let mut usage = cgroup.usage()?;
    if usage.working_set_bytes.is_none() {
        usage.working_set_bytes = Some(cgroup.processes()?.into_iter().map(held_by).sum());
    }
    Ok(Some(usage))
}

/// The memory of a process in bytes, pages that it shares by its share of them; 0 if it has ended. Since 4.14.
fn held_by(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The uids of all pods that have a cgroup below `base` in any hierarchy, running or left over.
pub fn list_pods(hierarchies: &Hierarchies, base: &str) -> Result<Vec<String>> {
    let base = is_path(base)?;
    let mut uids = Vec::new();
    for mount in mounts(hierarchies) {
        match directory::children(&mount.join(&base)) {
            Ok(dirs) => uids.extend(dirs.iter().filter_map(|dir| Some(dir.file_name()?.to_str()?.strip_prefix("pod")?.to_owned()))),
            Err(error) if error.is(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    uids.sort();
    uids.dedup();
    Ok(uids)
}

/// Kills and removes a pod of which only the uid is known: what a supervisor that died has left.
pub fn clear_pod(hierarchies: &Hierarchies, base: &str, uid: &str, within: Duration) -> Vec<Error> {
    match checked(base, uid) {
        Ok(base) => clear(hierarchies, &base, uid, within),
        Err(error) => vec![error],
    }
}

fn clear(hierarchies: &Hierarchies, base: &Path, uid: &str, within: Duration) -> Vec<Error> {
    let dir_in = |mount: &Path| mount.join(base).join(pod_dir(uid));
    let mut errors: Vec<Error> = directory::kill(&dir_in(hierarchies.unified())).err().into_iter().collect();
    errors.extend(mounts(hierarchies).iter().flat_map(|mount| directory::remove_tree(&dir_in(mount), within)));
    errors
}

/// Removes `base` itself, in each hierarchy where no pod is left. Settings that somebody made on it are lost with it.
pub fn remove_base(hierarchies: &Hierarchies, base: &str) -> Result<()> {
    let base = is_path(base)?;
    for dir in mounts(hierarchies).iter().map(|mount| mount.join(&base)) {
        match std::fs::remove_dir(&dir) {
            Err(e) if !matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EBUSY | libc::ENOTEMPTY)) => return Err(Error::io("rmdir", dir.display(), &e)),
            _ => {}
        }
    }
    Ok(())
}

/// All mount points, cgroup2 first: only there it can be seen, and waited for, that a cgroup is empty.
fn mounts(hierarchies: &Hierarchies) -> Vec<&Path> {
    [hierarchies.unified()].into_iter().chain(hierarchies.v1()).collect()
}

/// The kubelet's name for it, with its cgroupfs driver.
fn pod_dir(uid: &str) -> String {
    format!("pod{uid}")
}

fn checked(base: &str, uid: &str) -> Result<PathBuf> {
    is_name(uid)?;
    is_path(base)
}

/// A uid may stand in the manifest, and a base on the command line: neither may lead elsewhere.
fn is_name(name: &str) -> Result<()> {
    match name.is_empty() || name == "." || name == ".." || name.contains(['/', '\n', '\0']) {
        true => Err(Error::said(format!("{name:?} cannot be part of a cgroup's name"))),
        false => Ok(()),
    }
}

fn is_path(base: &str) -> Result<PathBuf> {
    let base = Path::new(base);
    let plain = base.components().all(|component| matches!(component, Component::Normal(_)));
    match plain && !base.as_os_str().is_empty() {
        true => Ok(base.to_owned()),
        false => Err(Error::said(format!("{base:?} is no cgroup below a mount point: give a name, or a path without a leading / and without .."))),
    }
}

/// Makes the pod's directory; the base above it too, where it is missing or just vanished with the last pod.
fn make_pod_dir(path: &Path) -> Result<()> {
    match directory::make_fresh(path) {
        Err(error) if error.is(libc::ENOENT) => {
            let base = path.parent().unwrap_or(path);
            std::fs::create_dir_all(base).map_err(|e| Error::io("mkdir", base.display(), &e))?;
            directory::make_fresh(path)
        }
        result => result,
    }
}

/// The settings of a controller whose failure must be told.
fn told(limits: &Limits, controller: Controller) -> Vec<Weight> {
    settings(limits, controller, Whose::Container, Version::V2).iter().map(|setting| setting.weight).filter(|weight| *weight != Weight::Nicety).collect()
}

/// Writes what `limits` mean for one controller into one directory.
fn apply(limits: &Limits, controller: Controller, whose: Whose, version: Version, dir: &Path, unenforced: &mut Vec<Unenforced>) {
    let mut settings = settings(limits, controller, whose, version);
    if controller == Controller::Hugetlb {
        let files = directory::files(dir).unwrap_or_default();
        settings.extend(no_other_huge_pages(limits, files.iter().map(String::as_str), version));
    }
    for setting in settings {
        if let Err(error) = directory::write(dir, &setting.file, &setting.value) {
            add(unenforced, controller, &[setting.weight], &error);
        }
    }
}

/// As [`apply`], for values that are set already. Of memory alone, and memory with swap, the larger must never be below the other: going up
/// the one written last here has to be written first, and so is tried again.
fn change(limits: &Limits, controller: Controller, whose: Whose, version: Version, dir: &Path) -> Vec<Error> {
    let mut settings = settings(limits, controller, whose, version);
    let write = |setting: &Setting| directory::write(dir, &setting.file, &setting.value);
    settings.retain(|setting| write(setting).is_err());
    settings.reverse();
    settings.retain(|setting| write(setting).is_err());
    let matter = settings.iter().filter(|setting| setting.weight != Weight::Nicety);
    matter.filter_map(|setting| write(setting).err()).collect()
}

/// Adds to the list what is not there yet.
fn add(unenforced: &mut Vec<Unenforced>, controller: Controller, weights: &[Weight], error: &Error) {
    for weight in weights.iter().filter(|weight| **weight != Weight::Nicety) {
        let is_request = *weight == Weight::Request;
        let what = format!("{} {}", controller.name(), if is_request { "request" } else { "limit" });
        if !unenforced.iter().any(|old| old.what == what) {
            unenforced.push(Unenforced { what, why: error.to_string(), is_request });
        }
    }
}

/// Gives the children of `dir`, a directory of cgroup2 at or below `top`, the files of a controller (`cgroup.subtree_control`
/// of each level in turn). It stays so: other pods may need it.
fn hand_down(top: &Path, dir: &Path, controller: Controller) -> Result<()> {
    let has = |file| Ok(directory::read(dir, file)?.split_whitespace().any(|word| word == controller.name()));
    if has("cgroup.subtree_control")? {
        return Ok(());
    }
    if dir != top && !has("cgroup.controllers")? {
        hand_down(top, dir.parent().unwrap_or(top), controller)?;
    }
    // The kernel would take cpu and pids all the same, and turn the cgroup into the root of a threaded tree, in which no
    // container can start. Only the root of the machine, which has no type, may keep its processes.
    if dir.join("cgroup.type").exists() && !directory::read(dir, "cgroup.procs")?.is_empty() {
        return Err(inhabited(dir, controller));
    }
    match directory::write(dir, "cgroup.subtree_control", format!("+{}", controller.name())) {
        Err(error) if error.is(libc::EBUSY) => Err(inhabited(dir, controller)),
        result => result,
    }
}

fn inhabited(dir: &Path, controller: Controller) -> Error {
    let (dir, name) = (dir.display(), controller.name());
    Error::said(format!(
        "processes live in {dir} itself, so it cannot hand its {name} controller down; move them into a child first: \
         mkdir {dir}/own && for p in $(cat {dir}/cgroup.procs); do echo $p > {dir}/own/cgroup.procs; done"
    ))
}

fn nowhere(hierarchies: &Hierarchies, controller: Controller) -> Error {
    let (file, name) = (hierarchies.unified().join("cgroup.controllers"), controller.name());
    let boot = if controller == Controller::Memory { "; some machines need cgroup_enable=memory on the kernel's command line" } else { "" };
    Error::said(format!("this machine has no {name} controller, neither in {} nor in a v1 hierarchy{boot}", file.display()))
}
