//! Removing a tree that somebody else has made.
//!
//! ```text
//! root/a/b/c/…/x        x lies deeper than DEEPEST: it is moved up, and emptied from there
//! root/removed-0 ◀───┘
//! ```
//!
//! A container may have nested ten thousand directories, deeper than a path can say and than descriptors can be opened: what is removed
//! keeps one open for each level, so the levels are bounded and the rest is brought nearer. No symlink is followed.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::tree;
use crate::error::{Error, Result};

/// How many directories are open at once; 1024 descriptors are what a process usually may have.
const DEEPEST: usize = 100;

/// Removes a path with all that is beneath it; a missing one is fine. Goes on behind what cannot be removed, and tells the first of it.
pub fn remove_tree(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    remove(CWD, path.as_os_str()).map_err(|error| error.doing(format!("removing {}", path.display())))
}

/// The same for a name in a directory.
pub fn remove(dir: impl AsFd, name: &OsStr) -> Result<()> {
    match remove_one(dir.as_fd(), name) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        other => return other.map_err(failed("unlinkat", name.display())),
    }
    empty(open(dir.as_fd(), name)?)?;
    remove_one(dir.as_fd(), name).map_err(failed("unlinkat", name.display()))
}

/// Removes all that is in a directory which is open for reading.
pub fn empty(dir: impl AsFd) -> Result<()> {
    empty_some(dir, usize::MAX).map(drop)
}

/// The same, but looks at no more than `most` names. Whether it is empty now: for whoever has more to do than to wait for a disk.
pub fn empty_some(dir: impl AsFd, most: usize) -> Result<bool> {
    let mut removal = Removal { top: dir.as_fd(), moved: 0, left: most };
    loop {
        let before = removal.moved;
        let emptied = removal.empty(removal.top, 0);
        // What was moved up lies in the top directory now. Each round takes DEEPEST levels from the deepest: it ends.
        if removal.left == 0 || removal.moved == before {
            return emptied.map(|()| removal.left > 0);
        }
    }
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    /// How many directories were moved up.
    moved: u64,
    /// How many names may still be looked at.
    left: usize,
}

impl Removal<'_> {
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> Result<()> {
        let mut outcome = Ok(());
        for name in tree::names(dir)? {
            let Some(left) = self.left.checked_sub(1) else { break };
            self.left = left;
            let removed = match remove_one(dir, &name) {
                Err(Errno::NOTEMPTY | Errno::EXIST) if depth < DEEPEST => self.remove_full(dir, &name, depth),
                Err(Errno::NOTEMPTY | Errno::EXIST) => self.move_up(dir, &name),
                other => other.map_err(failed("unlinkat", name.display())),
            };
            outcome = outcome.and(removed);
        }
        outcome
    }

    fn remove_full(&mut self, dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<()> {
        self.empty(open(dir, name)?.as_fd(), depth + 1)?;
        match remove_one(dir, name) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.left == 0 => Ok(()),
            other => other.map_err(failed("unlinkat", name.display())),
        }
    }

    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        loop {
            let new = OsString::from(format!("removed-{}", self.moved));
            self.moved += 1;
            match fs::renameat_with(dir, name, self.top, &new, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                other => return other.map_err(failed("renameat2", name.display())),
            }
        }
    }
}

/// A name that is no directory, or an empty one; NOTEMPTY or EXIST if it is a full one.
fn remove_one(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    let removed = match fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => fs::unlinkat(dir, name, AtFlags::REMOVEDIR),
        other => other,
    };
    if removed == Err(Errno::NOENT) { Ok(()) } else { removed }
}

fn open(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name, flags, Mode::empty()).map_err(failed("openat", name.display()))
}

fn failed(call: &'static str, name: impl Display) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::call(call, name, errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A chain of directories below `path`, each with a file in it.
    fn nest(path: &Path, levels: usize) {
        let mut dir = open(CWD, path.as_os_str()).unwrap();
        for _ in 0..levels {
            tree::make_directory(&dir, OsStr::new("d")).unwrap();
            tree::make_file(&dir, OsStr::new("removed-0")).unwrap();
            dir = open(dir.as_fd(), OsStr::new("d")).unwrap();
        }
    }

    #[test]
    fn a_tree_of_any_depth_goes_with_a_hundred_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for chain in ["a", "b/c"] {
            std::fs::create_dir_all(root.join(chain)).unwrap();
            nest(&root.join(chain), 5000);
        }
        remove_tree(&root).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        remove_tree(&root).unwrap();
    }

    #[test]
    fn what_is_too_much_for_one_turn_goes_in_several() {
        let dir = tempfile::tempdir().unwrap();
        for (name, files) in [("a", 10), ("b/c", 10), ("d", 0)] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
            (0..files).for_each(|n| std::fs::write(dir.path().join(name).join(n.to_string()), "").unwrap());
        }
        let open = open(CWD, dir.path().as_os_str()).unwrap();
        let turns = (0..).take_while(|_| !empty_some(&open, 5).unwrap()).count();
        assert!((4..=10).contains(&turns), "{turns}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(empty_some(&open, 1).unwrap());
    }

    #[test]
    fn what_links_lead_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/sub")).unwrap();
        std::fs::create_dir_all(dir.path().join("outside/kept")).unwrap();
        symlink(dir.path().join("outside"), dir.path().join("root/sub/link")).unwrap();
        symlink(dir.path().join("outside"), dir.path().join("top")).unwrap();
        remove_tree(dir.path().join("root")).unwrap();
        remove_tree(dir.path().join("top")).unwrap();
        assert!(dir.path().join("outside/kept").is_dir() && std::fs::read_dir(dir.path()).unwrap().count() == 1);
    }

    #[test]
    fn what_cannot_be_removed_is_named() {
        let error = remove_tree("/proc/self/task").unwrap_err().to_string();
        assert!(error.starts_with("removing /proc/self/task: ") && error.contains("EPERM"), "{error}");
    }
}
