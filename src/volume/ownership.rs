//! fsGroup: a volume that every process of the pod may write to (`pkg/volume/volume_linux.go`).
//!
//! Every file and directory gets the group and its permissions; directories also setgid, so that what is made in them later is
//! the group's as well. The pod's processes have the group among their supplementary ones.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Stat};

use crate::error::{Error, Result};
use crate::sys::{file, tree};

/// What the group may do with files and, with [`ENTER`], with directories.
const WRITE: u32 = 0o660;
pub(super) const READ: u32 = 0o440;
const ENTER: u32 = 0o2110;

/// Whether a volume whose root is as it should be is looked through all the same (`fsGroupChangePolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Change {
    #[default]
    Always,
    OnRootMismatch,
}

/// Gives all below `root`, and `root` itself last, to a group. `read_only` volumes become readable only. Links are given, not
/// followed, and nothing outside the volume is touched, whatever somebody has put in it.
pub fn give_to_group(root: &Path, group: i64, read_only: bool, change: Change) -> Result<()> {
    let group = u32::try_from(group).map_err(|_| Error::said(format!("fsGroup {group} is not a group id")))?;
    let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else { return Err(Error::said("the root directory is not a volume")) };
    let wanted = Wanted { group, permissions: if read_only { READ } else { WRITE } };
    let parent = file::open_dir(parent)?;
    let stat = file::stat_at(&parent, name)?;
    if change == Change::OnRootMismatch && wanted.is_met(&stat) {
        return Ok(());
    }
    wanted.give(&parent, name, &stat).map_err(|error| error.doing(format_args!("giving {} to group {group}", root.display())))
}

struct Wanted {
    group: u32,
    permissions: u32,
}

impl Wanted {
    fn is_met(&self, root: &Stat) -> bool {
        let bits = self.permissions | ENTER;
        FileType::from_raw_mode(root.st_mode) == FileType::Directory && root.st_gid == self.group && root.st_mode & bits == bits
    }

    /// A directory after what is in it: if it is interrupted, the root still shows that it must be done again.
    fn give(&self, parent: &OwnedFd, name: &OsStr, stat: &Stat) -> Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let dir = tree::open_directory(parent.as_fd(), name)?;
            for entry in tree::names(&dir)? {
                let stat = file::stat_at(&dir, &entry)?;
                self.give(&dir, &entry, &stat)?;
            }
        }
        tree::set_owner(parent, name, stat.st_uid, self.group)?;
        match kind {
            FileType::Symlink => Ok(()),
            FileType::Directory => tree::set_mode(parent, name, stat.st_mode | self.permissions | ENTER),
            _ => tree::set_mode(parent, name, stat.st_mode | self.permissions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn look(path: &Path) -> (u32, u32) {
        let metadata = std::fs::symlink_metadata(path).unwrap();
        (metadata.gid(), metadata.mode() & 0o7777)
    }

    fn volume() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("v");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        for (path, mode) in [("", 0o755), ("sub", 0o700), ("sub/file", 0o600), ("program", 0o4755)] {
            let path = root.join(path);
            if !path.exists() {
                std::fs::write(&path, "x").unwrap();
            }
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::write(dir.path().join("outside"), "x").unwrap();
        std::fs::set_permissions(dir.path().join("outside"), std::fs::Permissions::from_mode(0o600)).unwrap();
        symlink(dir.path().join("outside"), root.join("link")).unwrap();
        symlink(dir.path(), root.join("up")).unwrap();
        dir
    }

    #[test]
    fn the_group_gets_all_of_the_volume_and_nothing_outside() {
        let dir = volume();
        let root = dir.path().join("v");
        give_to_group(&root, 1234, false, Change::Always).unwrap();
        assert_eq!(look(&root), (1234, 0o2775));
        assert_eq!(look(&root.join("sub")), (1234, 0o2770));
        assert_eq!(look(&root.join("sub/file")), (1234, 0o660));
        assert_eq!(look(&root.join("link")).0, 1234);
        assert_eq!(look(&dir.path().join("outside")), (0, 0o600), "a link was followed");
        assert_eq!(look(dir.path()).0, 0, "a link was followed");
    }

    #[test]
    fn a_read_only_volume_can_be_read() {
        let dir = volume();
        give_to_group(&dir.path().join("v"), 1234, true, Change::Always).unwrap();
        assert_eq!(look(&dir.path().join("v/sub/file")), (1234, 0o640));
        assert_eq!(look(&dir.path().join("v/sub")), (1234, 0o2750));
    }

    #[test]
    fn a_root_that_is_right_spares_the_rest_if_that_is_wished() {
        let dir = volume();
        let root = dir.path().join("v");
        give_to_group(&root, 1234, false, Change::OnRootMismatch).unwrap();
        std::fs::write(root.join("new"), "x").unwrap();
        std::os::unix::fs::chown(root.join("new"), None, Some(0)).unwrap();
        give_to_group(&root, 1234, false, Change::OnRootMismatch).unwrap();
        assert_eq!(look(&root.join("new")).0, 0);
        give_to_group(&root, 1234, false, Change::Always).unwrap();
        assert_eq!(look(&root.join("new")).0, 1234);
    }
}
