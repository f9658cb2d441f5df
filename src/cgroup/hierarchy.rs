//! Where this machine keeps its cgroups.
//!
//! Three layouts are met in the wild, and all are read from one file, `/proc/self/mountinfo`:
//!
//! ```text
//! pure v2   /sys/fs/cgroup            cgroup2, every controller in cgroup.controllers
//! hybrid    /sys/fs/cgroup/unified    cgroup2, tracks processes, few or no controllers
//!           /sys/fs/cgroup/memory     cgroup, "memory"; one mount per controller or group of them (cpu,cpuacct)
//! pure v1   no cgroup2 at all: refused, as nothing else starts a process inside its cgroup
//! ```
//!
//! A controller belongs to one hierarchy at a time: what a v1 mount has, cgroup2 does not list.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A kernel controller that a pod's resources need.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Controller {
    Cpu,
    Memory,
    Pids,
    Hugetlb,
}

impl Controller {
    pub const ALL: [Controller; 4] = [Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Hugetlb];

    /// The kernel's word for it, in mount options and in `cgroup.subtree_control`.
    pub fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Hugetlb => "hugetlb",
        }
    }
}

/// The hierarchy that has a controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home<'a> {
    Unified,
    /// The mount point of the v1 hierarchy.
    V1(&'a Path),
    Nowhere,
}

/// The cgroup file systems of this machine, as this mount namespace sees them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hierarchies {
    unified: PathBuf,
    /// The controllers that `cgroup.controllers` of the cgroup2 mount lists.
    listed: Vec<Controller>,
    v1: Vec<(Controller, PathBuf)>,
}

impl Hierarchies {
    /// Reads the mount table of this process and the controllers of cgroup2.
    pub fn detect() -> Result<Hierarchies> {
        let table = "/proc/self/mountinfo";
        let text = std::fs::read(table).map_err(|e| Error::io("read", table, &e))?;
        let mut found = Hierarchies::of_mountinfo(&text)?;
        let file = found.unified.join("cgroup.controllers");
        found.list(&std::fs::read_to_string(&file).map_err(|e| Error::io("read", file.display(), &e))?);
        Ok(found)
    }

    /// The hierarchies that a mountinfo table shows (proc_pid_mountinfo(5)); cgroup2's controllers are still unknown.
    pub fn of_mountinfo(table: &[u8]) -> Result<Hierarchies> {
        let mounts: Vec<Mount> = table.split(|&byte| byte == b'\n').filter_map(Mount::parse).collect();
        // A container runtime's own bind mounts of the same hierarchy are longer paths, and show only a part of it (root is not /).
        let best = |fits: &dyn Fn(&Mount) -> bool| {
            let rank = |mount: &&Mount| (mount.root != b"/", mount.point.as_os_str().len());
            mounts.iter().filter(|mount| fits(mount) && !mount.is_hidden(&mounts)).min_by_key(rank).map(|mount| mount.point.clone())
        };
        let Some(unified) = best(&|mount| mount.kind == b"cgroup2") else {
            return Err(Error::said(
                "no cgroup2 file system is mounted, and minipod starts and kills containers by it; mount it with \
                 `mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`",
            ));
        };
        let of_v1 = |controller: Controller| {
            let has = move |mount: &Mount| mount.kind == b"cgroup" && mount.options.split(|&b| b == b',').any(|option| option == controller.name().as_bytes());
            best(&has).map(|point| (controller, point))
        };
        Ok(Hierarchies { unified, listed: Vec::new(), v1: Controller::ALL.into_iter().filter_map(of_v1).collect() })
    }

    /// Takes the text of the cgroup2 mount's `cgroup.controllers`.
    pub fn list(&mut self, controllers: &str) {
        self.listed = Controller::ALL.into_iter().filter(|controller| controllers.split_whitespace().any(|word| word == controller.name())).collect();
    }

    /// The mount point of cgroup2.
    pub fn unified(&self) -> &Path {
        &self.unified
    }

    pub fn home(&self, controller: Controller) -> Home<'_> {
        if let Some((_, point)) = self.v1.iter().find(|(of, _)| *of == controller) {
            return Home::V1(point);
        }
        if self.listed.contains(&controller) { Home::Unified } else { Home::Nowhere }
    }

    /// The mount points of all v1 hierarchies that have a controller of ours, each once (cpu and cpuacct share one).
    pub fn v1(&self) -> Vec<&Path> {
        let mut points: Vec<&Path> = self.v1.iter().map(|(_, point)| point.as_path()).collect();
        points.sort();
        points.dedup();
        points
    }
}

/// One line of the mount table.
struct Mount<'a> {
    id: &'a [u8],
    parent: &'a [u8],
    root: &'a [u8],
    point: PathBuf,
    kind: &'a [u8],
    options: &'a [u8],
}

impl<'a> Mount<'a> {
    /// `36 35 98:0 /root /point rw,noatime [optional fields] - kind source options`
    fn parse(line: &'a [u8]) -> Option<Mount<'a>> {
        let mut fields = line.split(|&byte| byte == b' ');
        let (id, parent, _device, root, point) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        fields.find(|field| *field == b"-")?;
        let (kind, _source, options) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Mount { id, parent, root, point: PathBuf::from(OsString::from_vec(unescaped(point))), kind, options })
    }

    /// Whether another mount covers this one, or one that it lies in (a container in a container mounts its own over `/sys/fs/cgroup`).
    fn is_hidden(&self, all: &[Mount]) -> bool {
        let covered = |mount: &Mount| all.iter().any(|other| other.parent == mount.id && other.id != mount.id && other.point == mount.point);
        let mut here = self;
        if covered(here) {
            return true;
        }
        // A well-formed table has no cycle; a broken one ends the walk all the same.
        for _ in 0..all.len() {
            let Some(parent) = all.iter().find(|other| other.id == here.parent && other.id != here.id) else { return false };
            // Where we came from may be the cover itself; then we lie on top.
            if parent.point != here.point && covered(parent) {
                return true;
            }
            here = parent;
        }
        false
    }
}

/// Mount tables write space, tab, newline and backslash as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(value) if byte == b'\\' => {
                plain.push(value);
                rest = &tail[3..];
            }
            _ => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str, controllers: &str) -> Hierarchies {
        let mut found = Hierarchies::of_mountinfo(table.as_bytes()).unwrap();
        found.list(controllers);
        found
    }

    #[test]
    fn pure_v2_has_its_controllers_in_one_mount() {
        let table = "22 1 0:20 / /sys rw shared:7 - sysfs sysfs rw\n\
                     30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        let found = read(table, "cpuset cpu io memory hugetlb\n");
        assert_eq!(found.unified(), Path::new("/sys/fs/cgroup"));
        assert_eq!((found.home(Controller::Cpu), found.home(Controller::Memory), found.home(Controller::Pids)), (Home::Unified, Home::Unified, Home::Nowhere));
        assert!(found.v1().is_empty());
    }

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                          32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                          34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n\
                          35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                          40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn hybrid_takes_controllers_from_v1_and_processes_from_unified() {
        let found = read(HYBRID, "\n");
        assert_eq!(found.unified(), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(found.home(Controller::Cpu), Home::V1(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(found.home(Controller::Memory), Home::V1(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(found.home(Controller::Pids), Home::Nowhere);
        assert_eq!(found.v1().len(), 2);
    }

    #[test]
    fn a_mount_under_another_is_not_taken() {
        // Docker in docker: the outer cgroup2, a tmpfs over it, and hierarchies mounted anew.
        let table = format!("29 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro\n{}", HYBRID.replace("31 23 ", "31 29 "));
        assert_eq!(read(&table, "").unified(), Path::new("/sys/fs/cgroup/unified"));
        let covered = format!("{HYBRID}50 31 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n");
        let found = read(&covered, "memory\n");
        assert_eq!((found.unified(), found.home(Controller::Memory)), (Path::new("/sys/fs/cgroup"), Home::Unified));
    }

    #[test]
    fn a_containers_bind_mount_of_a_part_is_not_taken() {
        let table =
            format!("28 1 0:38 /ct/1 /c rw - cgroup2 cgroup2 rw\n{HYBRID}60 1 0:38 / /var/lib/ct/rootfs/sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        assert_eq!(read(&table, "").unified(), Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn only_a_part_is_better_than_none() {
        assert_eq!(read("28 1 0:38 /ct/1 /my\\040cgroup rw - cgroup2 cgroup2 rw\n", "").unified(), Path::new("/my cgroup"));
    }

    #[test]
    fn without_cgroup2_it_says_how_to_mount_it() {
        let v1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\nbroken line\n";
        let error = Hierarchies::of_mountinfo(v1.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("no cgroup2") && error.contains("mount -t cgroup2"), "{error}");
    }
}
