//! Volumes that are made of something: files that appear, and change, all at once.
//!
//! ```text
//! ..2026_03_07_10_00_00.1234567890/   the files, whole before anybody sees them
//! ..data   -> ..2026_03_07_…          swapped by one rename
//! one      -> ..data/one              one link for each name at the top
//! ```
//!
//! The layout of the kubelet's `pkg/volume/util/atomic_writer.go`, on which programs rely that wait for `..data` to change. A
//! container that has a part of the volume by subPath keeps the old file: the mount holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use jiff::Timestamp;
use rustix::fs::OFlags;

use super::ownership::{Change, READ, give_to_group};
use crate::error::{Error, Result};
use crate::sys::file::{self, Within};
use crate::sys::{process, removal, tree};

/// One file of such a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    /// Permission bits, set exactly.
    pub mode: u32,
    /// The user that it is given to; root where none is.
    pub owner: Option<u32>,
}

/// All files of a volume, by their paths below its root.
pub type Payload = BTreeMap<String, File>;

const DATA: &str = "..data";
/// Where the next `..data` is made.
const NEXT: &str = "..data_tmp";
/// Upstream's bounds, which are the kernel's.
const LONGEST_PATH: usize = 4096;
const LONGEST_NAME: usize = 255;

/// Makes the volume's content what `payload` says; a reader sees the old files or the new ones. False: it is so already.
///
/// With fsGroup all of it is the group's to read.
pub fn write(volume: BorrowedFd<'_>, payload: &Payload, group: Option<i64>) -> Result<bool> {
    payload.keys().try_for_each(|path| check(path))?;
    let old = match tree::read_link(volume, OsStr::new(DATA)) {
        Ok(old) => Some(old),
        Err(error) if error.is(libc::ENOENT) => None,
        Err(error) => return Err(error),
    };
    if let Some(old) = &old
        && holds(&open_dir(volume, Path::new(old))?, payload, group)?
    {
        return Ok(false);
    }
    let name = name()?;
    if let Err(error) = fill(volume, &name, payload, group).and_then(|()| swap(volume, &name)) {
        let _ = removal::remove(volume, OsStr::new(NEXT));
        let _ = removal::remove(volume, OsStr::new(&name));
        return Err(error);
    }
    let tops: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    let known = tree::names(open_dir(volume, Path::new("."))?)?;
    for top in &tops {
        if !known.iter().any(|name| name == top) {
            file::make_symlink(volume, top, &format!("{DATA}/{top}"))?;
        }
    }
    for stale in known.iter().filter(|name| !is_own(name) && !name.to_str().is_some_and(|name| tops.contains(name))) {
        removal::remove(volume, stale)?;
    }
    old.map_or(Ok(()), |old| removal::remove(volume, &old)).map(|()| true)
}

/// A path that stays below the root and is none of the writer's own. Objects on disk may have been written by any hand.
fn check(path: &str) -> Result<()> {
    let plain = !path.is_empty() && Path::new(path).components().all(|component| matches!(component, Component::Normal(_)));
    if !plain || path.starts_with("..") || path.contains('\0') || path.len() > LONGEST_PATH || path.split('/').any(|name| name.len() > LONGEST_NAME) {
        return Err(Error::said(format!("{path:?} cannot be the path of a file in a volume")));
    }
    Ok(())
}

fn is_own(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"..")
}

/// `..2026_03_07_10_00_00.1234567890`
fn name() -> Result<String> {
    let now = Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    Ok(format!("{now}.{}", u32::from_ne_bytes(process::random_bytes::<4>()?)))
}

fn open_dir(volume: impl AsFd, path: &Path) -> Result<OwnedFd> {
    file::open_within(volume, path, Within::Beneath, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0)
}

/// Writes all files into a new directory that nothing leads to yet.
fn fill(volume: BorrowedFd<'_>, name: &str, payload: &Payload, group: Option<i64>) -> Result<()> {
    let dir = file::make_dirs_within(volume, name, Within::Beneath, 0o755)?;
    for (path, content) in payload {
        let parent = Path::new(path).parent().unwrap_or(Path::new(""));
        file::make_dirs_within(&dir, parent, Within::Beneath, 0o755)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
        let mut made = std::fs::File::from(file::open_within(&dir, path, Within::Beneath, flags, 0o600)?);
        made.write_all(&content.bytes).map_err(|e| Error::io("write", path, &e))?;
        made.set_permissions(PermissionsExt::from_mode(content.mode)).map_err(|e| Error::io("fchmod", path, &e))?;
        content.owner.map_or(Ok(()), |owner| file::give_to_user(&made, owner))?;
    }
    // Before the swap: nobody sees a file that is not whole.
    group.map_or(Ok(()), |group| give_to_group(&file::path_of(volume).join(name), group, true, Change::Always))
}

/// From now on the volume is what is in `name`.
fn swap(volume: BorrowedFd<'_>, name: &str) -> Result<()> {
    // Of a writer that was killed.
    let _ = tree::unlink(volume, OsStr::new(NEXT));
    file::make_symlink(volume, NEXT, name)?;
    let root = file::path_of(volume);
    std::fs::rename(root.join(NEXT), root.join(DATA)).map_err(|e| Error::io("rename", DATA, &e))
}

/// Whether a directory holds these files and no other.
fn holds(dir: &OwnedFd, payload: &Payload, group: Option<i64>) -> Result<bool> {
    let readable = if group.is_some() { READ } else { 0 };
    for (path, content) in payload {
        let found = match file::open_within(dir, path, Within::Beneath, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, 0) {
            Err(error) if error.is(libc::ENOENT) || error.is(libc::ENOTDIR) => return Ok(false),
            found => found?,
        };
        let stat = file::stat(&found)?;
        let as_asked = stat.st_mode & 0o777 == content.mode | readable && stat.st_uid == content.owner.unwrap_or(0);
        if file::is_directory(&found)? || !as_asked || file::read_whole(&found, path)? != content.bytes {
            return Ok(false);
        }
    }
    Ok(count(dir)? == payload.len())
}

/// How many files are in a tree of our own making.
fn count(dir: &OwnedFd) -> Result<usize> {
    let mut files = 0;
    for name in tree::names(dir)? {
        match tree::open_directory(dir, &name) {
            Ok(below) => files += count(&below)?,
            Err(_) => files += 1,
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str, u32)]) -> Payload {
        files.iter().map(|(path, text, mode)| ((*path).to_owned(), File { bytes: text.as_bytes().to_vec(), mode: *mode, owner: None })).collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_files_change_all_at_once_and_what_is_old_goes() {
        let dir = tempfile::tempdir().unwrap();
        let root = file::open_dir(dir.path()).unwrap();
        assert!(write(root.as_fd(), &payload(&[("one", "first", 0o400), ("sub/two", "second", 0o644)]), None).unwrap());
        let stamp = std::fs::read_link(dir.path().join("..data")).unwrap();
        assert!(stamp.to_str().unwrap().starts_with("..2"), "{stamp:?}");
        assert_eq!(names(dir.path()), [stamp.to_str().unwrap(), "..data", "one", "sub"]);
        assert_eq!(std::fs::read_link(dir.path().join("sub")).unwrap(), Path::new("..data/sub"));
        assert_eq!(std::fs::read_to_string(dir.path().join("sub/two")).unwrap(), "second");
        assert_eq!(std::fs::metadata(dir.path().join("one")).unwrap().permissions().mode() & 0o7777, 0o400);
        assert_eq!(std::fs::metadata(dir.path().join(&stamp)).unwrap().permissions().mode() & 0o7777, 0o755);

        assert!(!write(root.as_fd(), &payload(&[("one", "first", 0o400), ("sub/two", "second", 0o644)]), None).unwrap(), "nothing has changed");
        assert_eq!(std::fs::read_link(dir.path().join("..data")).unwrap(), stamp);
        for changed in [payload(&[("one", "first", 0o400)]), payload(&[("one", "first", 0o440)]), payload(&[("three", "", 0o644)]), payload(&[])] {
            assert!(write(root.as_fd(), &changed, None).unwrap(), "{changed:?}");
            let mut expected: Vec<String> = changed.keys().cloned().collect();
            expected.splice(0..0, [std::fs::read_link(dir.path().join("..data")).unwrap().to_str().unwrap().to_owned(), "..data".to_owned()]);
            assert_eq!(names(dir.path()), expected);
        }
    }

    #[test]
    fn a_group_may_read_all_of_it_and_what_has_not_changed_is_not_written_again() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let root = file::open_dir(dir.path()).unwrap();
        let files = payload(&[("a/b", "x", 0o400)]);
        assert!(write(root.as_fd(), &files, Some(123)).unwrap());
        let of = std::fs::metadata(dir.path().join("a/b")).unwrap();
        assert_eq!((of.gid(), of.mode() & 0o7777), (123, 0o440));
        assert!(!write(root.as_fd(), &files, Some(123)).unwrap());
    }

    #[test]
    fn a_file_may_be_given_to_a_user() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let root = file::open_dir(dir.path()).unwrap();
        let files = |owner| Payload::from([("t".to_owned(), File { bytes: b"x".to_vec(), mode: 0o600, owner })]);
        assert!(write(root.as_fd(), &files(Some(77)), None).unwrap());
        let of = std::fs::metadata(dir.path().join("t")).unwrap();
        assert_eq!((of.uid(), of.mode() & 0o777), (77, 0o600));
        assert!(!write(root.as_fd(), &files(Some(77)), None).unwrap());
        assert!(write(root.as_fd(), &files(None), None).unwrap(), "it is root's again");
    }

    #[test]
    fn a_path_that_leads_out_is_refused_and_a_failure_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = file::open_dir(dir.path()).unwrap();
        let long = "a".repeat(256);
        for path in ["", "/etc/passwd", "../up", "a/../../b", "..data", "..x/y", ".", "a\0b", &long] {
            assert!(write(root.as_fd(), &payload(&[(path, "x", 0o644)]), None).is_err(), "{path:?}");
        }
        assert!(write(root.as_fd(), &payload(&[("a", "x", 0o644), ("a/b", "x", 0o644)]), None).is_err(), "a is a file and a directory");
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_link_that_is_planted_in_the_volume_leads_nowhere() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = file::open_dir(dir.path()).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("..data")).unwrap();
        assert!(write(root.as_fd(), &payload(&[("a", "x", 0o644)]), None).is_err());
        std::fs::remove_file(dir.path().join("..data")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("sub")).unwrap();
        write(root.as_fd(), &payload(&[("sub/a", "x", 0o644)]), None).unwrap();
        assert_eq!(names(outside.path()), Vec::<String>::new());
    }
}
