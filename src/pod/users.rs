//! The user namespace of a pod (`hostUsers: false`, KEP-127): 65536 of the machine's ids that no other pod has, as long as it runs.
//!
//! ```text
//! RUN/users      byte n of this file is locked    by the supervisor of the pod that has
//!                                                 the ids 0x70000000 + n * 65536 and on
//! ```
//!
//! The file is empty. A lock goes with the process that has it, however it ends, so no range is ever left behind. Where the search for a free one
//! begins is left to chance: what became free rests, and pods of another root, whose locks we do not see, are hardly ever met.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;

use super::dir::make_dirs;
use crate::container::spec::USERS;
use crate::error::{Error, Result};
use crate::image::User;
use crate::sys::{file, mount, process, users};

/// Above all that machines give to users, to subordinate ids (subuid(5)) and to systemd's containers, and below the ids that some programs take
/// for negative numbers ("Users, Groups, UIDs and GIDs on systemd Systems" has no use for them).
pub const FIRST: u32 = 0x7000_0000;
const RANGES: u32 = 0x1000_0000 / USERS;

/// What a pod has of the machine's ids.
#[derive(Debug)]
pub struct Users {
    /// The machine's id of its root.
    pub first: u32,
    namespace: OwnedFd,
    _lease: OwnedFd,
}

impl Users {
    /// Takes a free range, and makes the namespace. `run` is where all pods of this root look.
    pub fn take(run: &Path) -> Result<Users> {
        make_dirs(run)?;
        let path = run.join("users");
        let lease = file::open(&path, OFlags::CREATE | OFlags::RDWR)?;
        let start = u32::from_ne_bytes(process::random_bytes()?) % RANGES;
        for number in (0..RANGES).map(|n| (start + n) % RANGES) {
            if file::try_lock_byte(&lease, i64::from(number))? {
                let first = FIRST + number * USERS;
                let namespace = users::new_user_namespace(first, USERS).map_err(|error| error.doing("making the user namespace (hostUsers: false)"))?;
                return Ok(Users { first, namespace, _lease: lease });
            }
        }
        Err(Error::said(format!("hostUsers: false: all {RANGES} ranges of user ids are taken; {} tells who has them", path.display())))
    }

    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Shows the directory `from` at `at` with the pod's ids, in the mount namespace that we are in.
    pub fn show(&self, from: &Path, at: &Path) -> Result<()> {
        let tree = mount::copy_tree(file::open_dir(from)?, false)?;
        mount::map_ids(&tree, &self.namespace).map_err(|error| not_mapped(error, from))?;
        make_dirs(at)?;
        mount::attach(tree, file::open(at, OFlags::PATH)?)
    }
}

/// The kernel takes no id that the namespace does not have.
pub fn check(user: &User) -> Result<()> {
    match std::iter::once(user.uid).chain([user.gid]).chain(user.groups.iter().copied()).find(|id| *id >= USERS) {
        Some(id) => Err(Error::said(format!("with hostUsers false there are the user and group ids 0 to {}; {id} is not one", USERS - 1))
            .reason("CreateContainerConfigError")),
        None => Ok(()),
    }
}

/// In words, what is behind a number that could mean anything.
fn not_mapped(error: Error, path: &Path) -> Error {
    match error.is(libc::EINVAL) {
        true => Error::said(format!(
            "hostUsers: false needs id-mapped mounts, which the file system of {} lacks (tmpfs has them since Linux 6.3, overlayfs never)",
            path.display()
        )),
        false => error.doing(format_args!("showing {} with the pod's ids", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_disjoint_aligned_and_free_again_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pods: Vec<Users> = (0..20).map(|_| Users::take(dir.path()).unwrap()).collect();
        let firsts: std::collections::BTreeSet<u32> = pods.iter().map(|pod| pod.first).collect();
        assert_eq!(firsts.len(), 20);
        assert!(firsts.iter().all(|first| *first % USERS == 0 && (FIRST..=0x7fff_0000).contains(first)));
        let lock = file::open(dir.path().join("users"), OFlags::RDWR).unwrap();
        let number = i64::from((pods[0].first - FIRST) / USERS);
        assert!(!file::try_lock_byte(&lock, number).unwrap());
        drop(pods);
        assert!(file::try_lock_byte(&lock, number).unwrap());
    }
}
