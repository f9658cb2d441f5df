//! Names in a directory: making them, removing them, and what hangs on them (owner, mode, times, attributes).
//!
//! All of it is relative to a directory descriptor and takes one name, never a path: who wants a path resolves its parent
//! with [`crate::sys::file::open_within`] first. Nothing here follows a symlink in that last name.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, SeekFrom, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys::file;

fn failed(call: &'static str, name: &OsStr) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::call(call, name.display(), errno.raw_os_error())
}

/// What a name is, or None if the directory has no such name.
pub fn kind(dir: impl AsFd, name: &OsStr) -> Result<Option<fs::Stat>> {
    match file::stat_at(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.is(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// overlayfs' mark that a name of the layers below is gone: a character device 0:0.
pub fn is_whiteout(stat: &fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub fn make_directory(dir: impl AsFd, name: &OsStr) -> Result<()> {
    fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)).map_err(failed("mkdirat", name))
}

/// A new regular file for writing; a name that exists is EEXIST.
pub fn make_file(dir: impl AsFd, name: &OsStr) -> Result<std::fs::File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name, flags, Mode::from_raw_mode(0o600)).map(std::fs::File::from).map_err(failed("openat", name))
}

/// Of an open file: its owner, then its mode (see [`set_owner`]). By descriptor, so that the name is not looked up again for each.
pub fn set_owner_and_mode(file: impl AsFd, uid: u32, gid: u32, mode: u32) -> Result<()> {
    let failed = |call| move |errno: Errno| Error::call(call, "", errno.raw_os_error());
    fs::fchown(file.as_fd(), Some(fs::Uid::from_raw(uid)), Some(fs::Gid::from_raw(gid))).map_err(failed("fchown"))?;
    fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777)).map_err(failed("fchmod"))
}

/// As [`set_time`], of an open file.
pub fn set_time_of(file: impl AsFd, seconds: i64, nanoseconds: u32) -> Result<()> {
    fs::futimens(file, &times(seconds, nanoseconds)).map_err(|errno| Error::call("futimens", "", errno.raw_os_error()))
}

fn times(seconds: i64, nanoseconds: u32) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

pub fn make_symlink(dir: impl AsFd, name: &OsStr, target: &OsStr) -> Result<()> {
    fs::symlinkat(target, dir, name).map_err(failed("symlinkat", name))
}

/// A FIFO or a device; `device` is (major, minor) and counts only for devices.
pub fn make_node(dir: impl AsFd, name: &OsStr, kind: FileType, device: (u32, u32)) -> Result<()> {
    fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), fs::makedev(device.0, device.1)).map_err(failed("mknodat", name))
}

/// A further name for a file; a symlink is linked itself.
pub fn hard_link(old_dir: impl AsFd, old: &OsStr, new_dir: impl AsFd, new: &OsStr) -> Result<()> {
    fs::linkat(old_dir, old, new_dir, new, AtFlags::empty()).map_err(failed("linkat", new))
}

pub fn read_link(dir: impl AsFd, name: &OsStr) -> Result<OsString> {
    let target = fs::readlinkat(dir, name, Vec::new()).map_err(failed("readlinkat", name))?;
    Ok(OsString::from_vec(target.into_bytes()))
}

/// Removes a name that is no directory; EISDIR if it is one.
pub fn unlink(dir: impl AsFd, name: &OsStr) -> Result<()> {
    fs::unlinkat(dir, name, AtFlags::empty()).map_err(failed("unlinkat", name))
}

/// chown clears setuid bits and security.capability: it comes before both.
pub fn set_owner(dir: impl AsFd, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (fs::Uid::from_raw(uid), fs::Gid::from_raw(gid));
    fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed("fchownat", name))
}

/// The permission bits with setuid, setgid and sticky. Not for symlinks, which have none (fchmodat follows them).
pub fn set_mode(dir: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    fs::chmodat(dir, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty()).map_err(failed("fchmodat", name))
}

/// The modification time (and the access time, which nobody misses) in seconds and nanoseconds since 1970.
pub fn set_time(dir: impl AsFd, name: &OsStr, seconds: i64, nanoseconds: u32) -> Result<()> {
    fs::utimensat(dir, name, &times(seconds, nanoseconds), AtFlags::SYMLINK_NOFOLLOW).map_err(failed("utimensat", name))
}

pub fn set_attribute(dir: impl AsFd, name: &OsStr, key: &OsStr, value: &[u8]) -> Result<()> {
    fs::lsetxattr(path_in(dir, name), key, value, XattrFlags::empty()).map_err(|errno| Error::call("lsetxattr", key.display(), errno.raw_os_error()))
}

/// The value of an extended attribute of an open file; None if it has none or the file system knows none.
pub fn attribute(file: impl AsFd, key: &OsStr) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; 64 << 10];
    match fs::fgetxattr(file, key, value.as_mut_slice()) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(Error::call("fgetxattr", key.display(), errno.raw_os_error())),
    }
}

/// Takes all extended attributes from an open file but SELinux's, which says how the host treats the place on its disk.
pub fn clear_attributes(file: impl AsFd) -> Result<()> {
    const LABEL: &[u8] = b"security.selinux";
    let list = |names: &mut [u8]| match fs::flistxattr(file.as_fd(), names) {
        Err(Errno::NOTSUP) => Ok(0),
        other => other.map_err(|errno| Error::call("flistxattr", "", errno.raw_os_error())),
    };
    // Asked for the length first: most files have none.
    let mut names = vec![0; list(&mut [])?];
    let length = list(&mut names)?;
    for key in names[..length].split(|byte| *byte == 0).filter(|key| !key.is_empty() && *key != LABEL) {
        let key = OsStr::from_bytes(key);
        fs::fremovexattr(file.as_fd(), key).map_err(failed("fremovexattr", key))?;
    }
    Ok(())
}

/// All extended attributes of an open file, by name.
pub fn attributes(file: impl AsFd) -> Result<Vec<(OsString, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = match fs::flistxattr(file.as_fd(), names.as_mut_slice()) {
        Err(Errno::NOTSUP) => 0,
        other => other.map_err(|errno| Error::call("flistxattr", "", errno.raw_os_error()))?,
    };
    let mut found = Vec::new();
    for key in names[..length].split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        let key = OsStr::from_bytes(key);
        if let Some(value) = attribute(&file, key)? {
            found.push((key.to_owned(), value));
        }
    }
    Ok(found)
}

/// All extended attributes of a name, sorted: also of what cannot be opened (symlinks) or should not be (devices, FIFOs).
pub fn attributes_of(dir: impl AsFd, name: &OsStr) -> Result<Vec<(OsString, Vec<u8>)>> {
    let path = path_in(dir, name);
    let mut names = vec![0; 64 << 10];
    let length = match fs::llistxattr(&path, names.as_mut_slice()) {
        Err(Errno::NOTSUP) => 0,
        other => other.map_err(failed("llistxattr", name))?,
    };
    let mut found = Vec::new();
    for key in names[..length].split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        let key = OsStr::from_bytes(key);
        let mut value = vec![0; 64 << 10];
        let length = fs::lgetxattr(&path, key, value.as_mut_slice()).map_err(failed("lgetxattr", key))?;
        value.truncate(length);
        found.push((key.to_owned(), value));
    }
    found.sort();
    Ok(found)
}

/// What a tree takes of its disk, in bytes: blocks, each file once, without other file systems that are mounted below. 0 if there is none. Not
/// counted is what vanishes meanwhile, and what lies deeper than a path can say.
pub fn disk_use(path: impl AsRef<Path>) -> Result<u64> {
    let passed_over = |error: &Error| [libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::ENAMETOOLONG].iter().any(|errno| error.is(*errno));
    let root = match file::open_dir(path) {
        Err(error) if passed_over(&error) => return Ok(0),
        root => root?,
    };
    let device = file::stat(&root)?.st_dev;
    let (mut blocks, mut linked, mut todo) = (0, HashSet::new(), vec![PathBuf::from(".")]);
    // By path from the root, one directory open at a time: whoever wrote the tree may have nested more of them than we may open.
    while let Some(at) = todo.pop() {
        let dir = match file::open_within(&root, &at, file::Within::Beneath, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0) {
            Err(error) if passed_over(&error) => continue,
            dir => dir?,
        };
        blocks += file::stat(&dir)?.st_blocks as u64;
        for name in names(&dir)? {
            match kind(&dir, &name)? {
                Some(found) if found.st_dev != device => {}
                Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => todo.push(at.join(name)),
                Some(found) if found.st_nlink == 1 || linked.insert(found.st_ino) => blocks += found.st_blocks as u64,
                _ => {}
            }
        }
    }
    Ok(blocks * 512)
}

/// Opens a name as a directory that can be read; ENOTDIR or ELOOP if it is something else.
pub fn open_directory(dir: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    file::open_within(dir, name, file::Within::Beneath, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0)
}

/// The names in a directory that is open for reading.
pub fn names(dir: impl AsFd) -> Result<Vec<OsString>> {
    let failed = |errno: Errno| Error::call("getdents64", "", errno.raw_os_error());
    let (mut names, mut buffer) = (Vec::new(), Vec::with_capacity(4 << 10));
    fs::seek(dir.as_fd(), SeekFrom::Start(0)).map_err(|errno| Error::call("lseek", "", errno.raw_os_error()))?;
    let mut entries = fs::RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(failed)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Writes all that is dirty on a file system to its disk, so that a name that is given afterwards never shows half a content
/// after a power cut.
pub fn sync(file: impl AsFd) -> Result<()> {
    fs::syncfs(file).map_err(|errno| Error::call("syncfs", "", errno.raw_os_error()))
}

/// The calls for attributes have no *at form before 6.13; through /proc the last name is still not followed.
fn path_in(dir: impl AsFd, name: &OsStr) -> PathBuf {
    file::path_of(dir.as_fd()).join(name)
}
