//! What a run may leave behind, seen from outside: processes, mounts, cgroups, links, routes, firewall rules, files.
//! Each looker gives one line per thing that should not be there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A mounted cgroup hierarchy.
pub struct Hierarchy {
    pub mount: PathBuf,
    /// The controllers of a v1 hierarchy (its name, if it has none); `None` is cgroup2.
    pub controllers: Option<Vec<String>>,
}

/// All cgroup hierarchies that are mounted.
pub fn hierarchies() -> Vec<Hierarchy> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(hierarchy).collect()
}

fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (before, after) = line.split_once(" - ")?;
    let mount = PathBuf::from(before.split(' ').nth(4)?);
    let mut after = after.split(' ');
    match (after.next()?, after.nth(1)) {
        ("cgroup2", _) => Some(Hierarchy { mount, controllers: None }),
        ("cgroup", options) => {
            let words = options.unwrap_or_default().split(',').filter(|w| !["rw", "ro"].contains(w));
            Some(Hierarchy { mount, controllers: Some(words.map(str::to_owned).collect()) })
        }
        _ => None,
    }
}

/// The cgroups named `base`, and all below them, deepest first.
pub fn cgroups(base: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        walk(&hierarchy.mount.join(base), &mut found);
    }
    found
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        walk(&entry.path(), found);
    }
    found.push(dir.to_owned());
}

/// The processes of one world: in its cgroups, in its namespaces, or with its mark in their environment.
pub struct Marks {
    pub cgroup: String,
    /// Inodes of the world's mount and network namespace.
    pub namespaces: [u64; 2],
    /// An entry of the environment that only this world's commands have.
    pub entry: String,
    /// The process that holds the world's namespaces.
    pub holder: i32,
}

impl Marks {
    /// Processes of the world, with their command.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
        let ids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        ids.filter(|&pid| pid != self.holder && self.owns(pid)).map(|pid| (pid, command(pid))).collect()
    }

    fn owns(&self, pid: i32) -> bool {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let group = format!(":/{}", self.cgroup);
        let grouped = fs::read_to_string(dir.join("cgroup")).is_ok_and(|all| all.lines().any(|l| l.contains(&group)));
        let inode = |name: &str| fs::metadata(dir.join("ns").join(name)).map_or(0, |m| m.ino());
        let marked = || fs::read(dir.join("environ")).is_ok_and(|all| all.split(|&b| b == 0).any(|e| e == self.entry.as_bytes()));
        grouped || self.namespaces.contains(&inode("mnt")) || self.namespaces.contains(&inode("net")) || marked()
    }

    /// Kills every process of the world, by its cgroup where it has one, and removes the cgroups. For a case that failed.
    pub fn sweep(&self) {
        for group in cgroups(&self.cgroup) {
            // Only the top of cgroup2 has to be told, and only there is the file; all else are processes one by one.
            fs::write(group.join("cgroup.kill"), "1").ok();
        }
        let gone = crate::process::poll(crate::process::seconds(10), || {
            let left = self.processes();
            for (pid, _) in &left {
                kill(Pid::from_raw(*pid), Signal::SIGKILL).ok();
            }
            left.is_empty().then_some(())
        });
        if gone.is_some() {
            for group in cgroups(&self.cgroup) {
                fs::remove_dir(group).ok();
            }
        }
    }
}

fn command(pid: i32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&words).replace('\0', " ");
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{} ({})", name.trim_end(), line.trim_end().chars().take(80).collect::<String>())
}

/// The mount table that `pid` sees, a line per mount, without what changes by itself.
pub fn mounts(pid: i32) -> BTreeSet<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    table.lines().map(|line| line.split(' ').skip(2).collect::<Vec<_>>().join(" ")).collect()
}

/// Links other than loopback, and routes, in the network namespace of `pid`.
pub fn network(pid: i32) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let links = read("dev").lines().skip(2).filter_map(|l| l.split(':').next().map(|n| n.trim().to_owned())).collect::<Vec<_>>();
    let routes = read("route").lines().skip(1).map(|l| format!("route {}", l.split_whitespace().take(3).collect::<Vec<_>>().join(" "))).collect::<Vec<_>>();
    links.into_iter().filter(|name| name != "lo").map(|name| format!("link {name}")).chain(routes).collect()
}

/// Files of pods beneath a root: their directories, logs and address leases. The image store is not looked at.
pub fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for dir in ["lib/pods", "lib/jobs", "log/pods", "run/network/leases"] {
        list(&root.join(dir), &mut found);
    }
    // A namespace's directory may stay when it is empty; everything in it may not.
    found.retain(|path| !(path.is_dir() && (path.parent() == Some(&root.join("lib/pods")) || path.parent() == Some(&root.join("lib/jobs")))));
    found.iter().map(|path| format!("file {}", path.strip_prefix(root).unwrap_or(path).display())).collect()
}

fn list(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.is_symlink() {
            list(&path, found);
        }
        found.push(path);
    }
}
