//! What a machine must have for a case, by word. Judged once per run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::left;

/// What every case needs: it runs pods.
pub const BASE: &[&str] = &["root", "cgroup2", "overlay", "netns", "images"];

/// A throw-away machine, for what cannot be done in a namespace: its clock is set.
pub const OWN_MACHINE: &str = "own-machine";

/// What `scripts/cases --vm` meets, where its cases are run by `scripts/test`, and what other machines need not have.
pub const OF_THE_VM: &[&str] = &[OWN_MACHINE, "oom_score_adj"];

static KNOWN: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());

/// Is the need of this name met on this machine? Panics on a word that nobody defined.
pub fn met(word: &str) -> bool {
    let mut known = KNOWN.lock().expect("no need panics");
    if let Some(answer) = known.get(word) {
        return *answer;
    }
    let answer = look(word);
    known.insert(word.to_owned(), answer);
    answer
}

/// The image store that worlds borrow.
pub fn images() -> PathBuf {
    match std::env::var_os("MINIPOD_CASES_IMAGES") {
        Some(dir) => dir.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/cases/root/lib/images"),
    }
}

fn look(word: &str) -> bool {
    match word {
        OWN_MACHINE => std::env::var_os("MINIPOD_OWN_MACHINE").is_some(),
        "root" => nix::unistd::geteuid().is_root(),
        "cgroup2" => left::hierarchies().iter().any(|h| h.controllers.is_none()),
        "overlay" => std::fs::read_to_string("/proc/filesystems").is_ok_and(|all| all.lines().any(|l| l.trim() == "nodev\toverlay")),
        "netns" => works(&["unshare", "--mount", "--net", "ip", "link", "set", "lo", "up"]),
        "images" => std::fs::read_dir(images()).is_ok_and(|mut entries| entries.next().is_some()),
        "docker-registry" => crate::registry::debian_registry().is_some(),
        "unshare" => works(&["unshare", "--version"]),
        "setpriv" => works(&["setpriv", "--version"]),
        "cgroup.memory" | "cgroup.cpu" | "cgroup.pids" | "cgroup.hugetlb" => controller(&word["cgroup.".len()..]),
        "idmap" => idmap(),
        // Less than before takes CAP_SYS_RESOURCE, which not every machine gives to root.
        "oom_score_adj" => works(&["sh", "-c", "echo -997 >/proc/self/oom_score_adj"]),
        // What is written to a disk can be dropped from memory, what is written to a file system in memory cannot.
        "disk" => works(&["sh", "-c", "case $(stat -f -c %T ${TMPDIR:-/tmp}) in tmpfs|ramfs|overlayfs) exit 1; esac"]),
        "hugepages" => Reserved::pages(4).is_some(),
        "script" => works(&["script", "--version"]),
        _ => panic!("no such need: {word}"),
    }
}

/// Huge pages of 2 MiB that the machine keeps while this lives, beyond those it kept before.
pub struct Reserved(u64);

impl Reserved {
    const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

    fn now() -> Option<u64> {
        std::fs::read_to_string(Self::POOL).ok()?.trim().parse().ok()
    }

    /// None where memory is too scattered, or the kernel has no such pages.
    pub fn pages(count: u64) -> Option<Reserved> {
        let before = Reserved(Self::now()?);
        std::fs::write(Self::POOL, (before.0 + count).to_string()).ok()?;
        (Self::now()? >= before.0 + count).then_some(before)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::POOL, self.0.to_string());
    }
}

/// Can the image store, a directory of ours and a tmpfs be shown with other ids?
fn idmap() -> bool {
    let Ok(users) = minipod::sys::users::new_user_namespace(0x7000_0000, 65536) else { return false };
    let can = |path: PathBuf| {
        let tree = minipod::sys::file::open_dir(path).and_then(|dir| minipod::sys::mount::copy_tree(dir, false));
        tree.and_then(|tree| minipod::sys::mount::map_ids(tree, &users)).is_ok()
    };
    let tmpfs = minipod::sys::mount::new_filesystem("tmpfs", "tmpfs", &[], Default::default());
    can(images()) && can(std::env::temp_dir()) && tmpfs.and_then(|tree| minipod::sys::mount::map_ids(tree, &users)).is_ok()
}

/// Can groups of this controller be made, in either version?
fn controller(name: &str) -> bool {
    left::hierarchies().iter().any(|hierarchy| match &hierarchy.controllers {
        Some(v1) => v1.iter().any(|c| c == name),
        None => std::fs::read_to_string(hierarchy.mount.join("cgroup.controllers")).is_ok_and(|all| all.split_whitespace().any(|c| c == name)),
    })
}

fn works(words: &[&str]) -> bool {
    let status = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
