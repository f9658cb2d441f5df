//! Files by descriptor, and paths that cannot leave their root.
//!
//! A path inside a root file system or a volume was written by somebody else. It is never joined to a host path as a
//! string: the kernel resolves it beneath a directory descriptor (openat2(2), since 5.6), so that no `..`, no symlink
//! and no race with another container leads out.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use nix::fcntl::FcntlArg;
use rustix::fs::{self, AtFlags, Mode, OFlags, ResolveFlags};

use crate::error::{Error, Result};

fn failed(call: &'static str, path: impl AsRef<Path>) -> impl FnOnce(rustix::io::Errno) -> Error {
    move |errno| Error::call(call, path.as_ref().display(), errno.raw_os_error())
}

/// Opens a host path that we trust (our own state, a path the user named), close-on-exec.
pub fn open(path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
    fs::open(path.as_ref(), flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600)).map_err(failed("open", path.as_ref()))
}

/// A directory that we trust, as the root of later lookups.
pub fn open_dir(path: impl AsRef<Path>) -> Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// How a path beneath a root treats `..` and absolute symlinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Within {
    /// As if the root were `/` (chroot): for paths inside a container's root file system.
    Root,
    /// The same, and a symlink anywhere on the way is ELOOP: for places that must be what they seem (/proc, /sys).
    RootWithoutLinks,
    /// Whatever would leave the root is EXDEV: for subPath, where Kubernetes refuses an escape.
    Beneath,
}

impl Within {
    fn flags(self) -> ResolveFlags {
        ResolveFlags::NO_MAGICLINKS
            | match self {
                Within::Root => ResolveFlags::IN_ROOT,
                Within::RootWithoutLinks => ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
                Within::Beneath => ResolveFlags::BENEATH,
            }
    }
}

/// Opens `path` within `root`. `mode` counts only with `OFlags::CREATE`. With `Beneath` a leading `/` is EXDEV.
pub fn open_within(root: impl AsFd, path: impl AsRef<Path>, within: Within, flags: OFlags, mode: u32) -> Result<OwnedFd> {
    let path = if path.as_ref().as_os_str().is_empty() { Path::new(".") } else { path.as_ref() };
    // openat2 refuses a mode without O_CREAT or O_TMPFILE (EINVAL).
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(mode) } else { Mode::empty() };
    loop {
        match fs::openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, mode, within.flags()) {
            // The kernel says EAGAIN when a rename or mount raced with the walk of a `..`.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
            result => return result.map_err(failed("openat2", path)),
        }
    }
}

/// Makes the directories of `path` within `root` that are missing, with `mode` (exactly, whatever the umask), and opens
/// the last one as `O_PATH`. Each step is resolved by the kernel, so a symlink planted on the way cannot lead out.
pub fn make_dirs_within(root: impl AsFd, path: impl AsRef<Path>, within: Within, mode: u32) -> Result<OwnedFd> {
    match open_within(&root, &path, within, OFlags::PATH | OFlags::DIRECTORY, 0) {
        Err(error) if error.is(libc::ENOENT) => {}
        found => return found,
    }
    let mut sofar = std::path::PathBuf::new();
    let mut dir = open_within(&root, ".", within, OFlags::PATH | OFlags::DIRECTORY, 0)?;
    for component in path.as_ref().components() {
        match component {
            Component::RootDir | Component::CurDir => continue,
            Component::Prefix(_) => unreachable!("no prefixes on Linux"),
            Component::ParentDir => sofar.push(".."),
            Component::Normal(name) => {
                sofar.push(name);
                make_dir_at(&dir, name, mode)?;
            }
        }
        dir = open_within(&root, &sofar, within, OFlags::PATH | OFlags::DIRECTORY, 0)?;
    }
    Ok(dir)
}

/// mkdirat with an exact mode; a thing that is already there is left as it is.
fn make_dir_at(dir: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    match fs::mkdirat(dir.as_fd(), name, Mode::from_raw_mode(mode)) {
        Ok(()) => {
            let made = open_within(&dir, name, Within::Beneath, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0)?;
            fs::fchmod(made, Mode::from_raw_mode(mode)).map_err(failed("fchmod", name))
        }
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(failed("mkdirat", name)(errno)),
    }
}

/// Makes sure that `path` exists within `root` as a thing that a mount can be put on: a directory, or an empty file if
/// `file` is set. Missing parents are made (0755). Returns it as `O_PATH`.
pub fn make_mountpoint(root: impl AsFd, path: impl AsRef<Path>, file: bool) -> Result<OwnedFd> {
    let path = path.as_ref();
    match open_within(&root, path, Within::Root, OFlags::PATH, 0) {
        Err(error) if error.is(libc::ENOENT) => {}
        found => return found,
    }
    if !file {
        return make_dirs_within(&root, path, Within::Root, 0o755);
    }
    let name = path.file_name().ok_or_else(|| Error::call("openat2", path.display(), libc::EISDIR))?;
    let parent = make_dirs_within(&root, path.parent().unwrap_or(Path::new("/")), Within::Root, 0o755)?;
    // O_PATH of the parent serves as a dirfd; O_EXCL does not follow a dangling symlink out of it.
    fs::openat(&parent, name, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o644)).map_err(failed("openat", path))?;
    open_within(&root, path, Within::Root, OFlags::PATH, 0)
}

/// The whole of an open file, but at most `limit` bytes of it; more is EFBIG.
pub fn read_limited(file: OwnedFd, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
    // Where the size is known, one read gets it all, and the next one its end.
    let size = u64::try_from(stat(&file)?.st_size).unwrap_or(0).min(limit);
    let mut bytes = Vec::with_capacity(size as usize + 1);
    std::fs::File::from(file).take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path.as_ref().display(), &e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::call("read", path.as_ref().display(), libc::EFBIG));
    }
    Ok(bytes)
}

/// The whole of a regular file, wherever its descriptor's position is, which it may share with others.
pub fn read_whole(file: impl AsFd, name: &str) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(stat(&file)?.st_size).unwrap_or(0)];
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pread(&file, &mut bytes[done..], done as u64).map_err(failed("pread64", name))? {
            0 => bytes.truncate(done),
            n => done += n,
        }
    }
    Ok(bytes)
}

/// Replaces a file so that a reader sees the old or the new content, whole. Not synced: it outlives a crash of ours, and
/// ext4, xfs and btrfs order the data of a replacing rename themselves.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
    write_beside(path.as_ref(), bytes, mode, |next, path| fs::rename(next, path))
}

/// Makes a file that is whole when it appears, and stays as it is if another process was quicker.
pub fn write_once(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
    write_beside(path.as_ref(), bytes, mode, |next, path| match fs::link(next, path) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => fs::unlink(next),
        failed => failed,
    })
}

/// A file without a name, which is gone when it is closed, even by a kill. ENOTSUP on a few network file systems.
pub fn nameless(dir: impl AsRef<Path>) -> Result<std::fs::File> {
    open(dir, OFlags::TMPFILE | OFlags::RDWR).map(std::fs::File::from)
}

/// As [`write_atomically`], of what comes piece by piece, for root alone. A kill on the way leaves nothing where the file system knows files
/// without a name.
pub fn write_atomically_by(path: impl AsRef<Path>, write: impl FnOnce(&std::fs::File) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}~", std::process::id()));
    let next = path.with_file_name(name);
    let written = (|| {
        match nameless(dir) {
            Ok(file) => {
                write(&file)?;
                fs::linkat(fs::CWD, path_of(file.as_fd()), fs::CWD, &next, fs::AtFlags::SYMLINK_FOLLOW).map_err(failed("linkat", path))?;
            }
            // EISDIR: the file system takes the flag for O_DIRECTORY.
            Err(error) if error.is(libc::EOPNOTSUPP) || error.is(libc::EISDIR) => {
                write(&open(&next, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY)?.into())?;
            }
            Err(error) => return Err(error),
        }
        fs::rename(&next, path).map_err(failed("rename", path))
    })();
    if written.is_err() {
        let _ = fs::unlink(&next);
    }
    written
}

fn write_beside(path: &Path, bytes: &[u8], mode: u32, replace: impl FnOnce(&Path, &Path) -> rustix::io::Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}~", std::process::id()));
    let next = path.with_file_name(name);
    let written = (|| {
        let file =
            fs::open(&next, OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(mode)).map_err(failed("open", &next))?;
        fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed("fchmod", &next))?;
        std::fs::File::from(file).write_all(bytes).map_err(|e| Error::io("write", next.display(), &e))?;
        replace(&next, path).map_err(failed("rename", path))
    })();
    if written.is_err() {
        let _ = fs::unlink(&next);
    }
    written
}

/// The last bytes of a regular file, at most `limit` of them. A symlink, fifo or device in its place is refused.
pub fn read_tail(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
    use std::io::{Seek, SeekFrom};
    let path = path.as_ref();
    let fd = open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
    let length = stat(&fd)?.st_size as u64;
    let mut file = std::fs::File::from(fd);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))
        .and_then(|_| file.take(limit).read_to_end(&mut bytes))
        .map_err(|e| Error::io("read", path.display(), &e))?;
    Ok(bytes)
}

/// Sets a mode exactly, whatever the umask was when the path was made. For paths that we trust.
pub fn set_mode(path: impl AsRef<Path>, mode: u32) -> Result<()> {
    fs::chmod(path.as_ref(), Mode::from_raw_mode(mode)).map_err(failed("chmod", path.as_ref()))
}

/// Asks the file system to place the subdirectories of a directory apart (`FS_TOPDIR_FL`; ext2 and its heirs know it). Where one
/// directory has it all, an ext4 without a journal steps over every inode that was freed within the last minute, one by one, whenever a file is made:
/// under a few pods that restart, half of what minipod does. A file system that does not know it is none the worse.
pub fn spread(dir: impl AsRef<Path>) {
    let Ok(dir) = open_dir(dir) else { return };
    let _ = fs::ioctl_getflags(&dir).and_then(|flags| fs::ioctl_setflags(&dir, flags | fs::IFlags::TOPDIR));
}

/// The size of the file system that a path is on, in bytes, used or not.
pub fn capacity(path: impl AsRef<Path>) -> Result<u64> {
    let found = fs::statvfs(path.as_ref()).map_err(failed("statfs", path.as_ref()))?;
    Ok(found.f_blocks.saturating_mul(found.f_frsize))
}

/// Takes the lock of an open file (opened for writing) for as long as the descriptor, or a copy of it in a child, is open;
/// false if another open file has it. An open-file-description lock (3.15): forks keep it, and it can be asked about.
pub fn try_lock(file: impl AsFd) -> Result<bool> {
    set_lock_unless_taken(file, whole_file(libc::F_WRLCK))
}

/// The same, but waits for the other to let go.
pub fn lock(file: impl AsFd) -> Result<()> {
    wait_for_lock(file, libc::F_WRLCK)
}

/// Takes a lock that others may share, on a file opened for reading; false if another has it alone.
pub fn try_lock_shared(file: impl AsFd) -> Result<bool> {
    set_lock_unless_taken(file, whole_file(libc::F_RDLCK))
}

/// The same, but waits for the other to let go.
pub fn lock_shared(file: impl AsFd) -> Result<()> {
    wait_for_lock(file, libc::F_RDLCK)
}

/// The same for the byte number `at` alone, as a token: [`try_lock`] of other bytes of the file does not meet it.
pub fn try_lock_byte(file: impl AsFd, at: i64) -> Result<bool> {
    set_lock_unless_taken(file, libc::flock { l_start: at, l_len: 1, ..whole_file(libc::F_WRLCK) })
}

fn set_lock_unless_taken(file: impl AsFd, lock: libc::flock) -> Result<bool> {
    match set_lock(file, FcntlArg::F_OFD_SETLK(&lock)) {
        Err(error) if error.is(libc::EAGAIN) || error.is(libc::EACCES) => Ok(false),
        result => result.map(|()| true),
    }
}

fn wait_for_lock(file: impl AsFd, kind: i32) -> Result<()> {
    loop {
        match set_lock(&file, FcntlArg::F_OFD_SETLKW(&whole_file(kind))) {
            Err(error) if error.is(libc::EINTR) => continue,
            result => return result,
        }
    }
}

/// Whether another open file has the lock; takes nothing, so that asking never gets in the way of taking.
pub fn is_locked(file: impl AsFd) -> Result<bool> {
    let mut question = whole_file(libc::F_WRLCK);
    set_lock(file, FcntlArg::F_OFD_GETLK(&mut question))?;
    Ok(i32::from(question.l_type) != libc::F_UNLCK)
}

fn set_lock(file: impl AsFd, deed: FcntlArg<'_>) -> Result<()> {
    nix::fcntl::fcntl(file, deed).map(drop).map_err(|errno| Error::call("fcntl", "lock", errno as i32))
}

fn whole_file(kind: i32) -> libc::flock {
    libc::flock { l_type: kind as libc::c_short, l_whence: libc::SEEK_SET as libc::c_short, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Another descriptor for the same open file.
pub fn duplicate(file: impl AsFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(file, 3).map_err(|errno| Error::call("fcntl", "F_DUPFD_CLOEXEC", errno.raw_os_error()))
}

/// Gives a file that we made to a user and a group.
pub fn set_owner(path: impl AsRef<Path>, uid: u32, gid: u32) -> Result<()> {
    std::os::unix::fs::chown(path.as_ref(), Some(uid), Some(gid)).map_err(|error| Error::io("chown", path.as_ref().display(), &error))
}

/// What a descriptor refers to (fstat(2)).
pub fn stat(file: impl AsFd) -> Result<fs::Stat> {
    fs::fstat(file.as_fd()).map_err(|errno| Error::call("fstat", "", errno.raw_os_error()))
}

/// Whether a name exists in a directory, as what (lstat(2)).
pub fn stat_at(dir: impl AsFd, name: impl AsRef<Path>) -> Result<fs::Stat> {
    fs::statat(dir.as_fd(), name.as_ref(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed("fstatat", name.as_ref()))
}

/// Whether a descriptor is a directory.
pub fn is_directory(file: impl AsFd) -> Result<bool> {
    Ok(fs::FileType::from_raw_mode(stat(file)?.st_mode) == fs::FileType::Directory)
}

/// Whether a descriptor is /dev/null (1:3), by whatever path.
pub fn is_null_device(file: impl AsFd) -> Result<bool> {
    let stat = stat(file)?;
    Ok(fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::CharacterDevice && stat.st_rdev == fs::makedev(1, 3))
}

/// A character device node in a directory, with an exact mode (the caller has cleared the umask).
pub fn make_char_device(dir: impl AsFd, name: &str, (major, minor): (u32, u32), mode: u32) -> Result<()> {
    fs::mknodat(dir.as_fd(), name, fs::FileType::CharacterDevice, Mode::from_raw_mode(mode), fs::makedev(major, minor)).map_err(failed("mknodat", name))
}

pub fn make_symlink(dir: impl AsFd, name: &str, target: &str) -> Result<()> {
    fs::symlinkat(target, dir.as_fd(), name).map_err(failed("symlinkat", name))
}

/// Makes a directory of the root that we are in the working directory. No magic link of /proc is followed on the way: one that leads to
/// a descriptor of ours would lead out of the root (CVE-2024-21626).
pub fn change_directory(path: impl AsRef<Path>) -> Result<()> {
    let dir = open_within(open_dir("/")?, path.as_ref(), Within::Root, OFlags::PATH | OFlags::DIRECTORY, 0)?;
    rustix::process::fchdir(dir).map_err(failed("fchdir", path.as_ref()))
}

/// Gives an open file to a user, its group stays. What cannot be owned (a read-only file system, a device that others use too) stays
/// as it is.
pub fn give_to_user(file: impl AsFd, uid: u32) -> Result<()> {
    match fs::fchown(file.as_fd(), Some(rustix::process::Uid::from_raw(uid)), None) {
        Err(errno) if !matches!(errno, rustix::io::Errno::ROFS | rustix::io::Errno::PERM | rustix::io::Errno::INVAL) => {
            Err(Error::call("fchown", "", errno.raw_os_error()))
        }
        _ => Ok(()),
    }
}

/// The path of a descriptor for calls that take only paths; valid in this process while the descriptor is open.
pub fn path_of(file: BorrowedFd<'_>) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Bytes of a C string argument; a NUL inside is EINVAL.
pub fn c_string(bytes: impl AsRef<OsStr>) -> Result<std::ffi::CString> {
    std::ffi::CString::new(bytes.as_ref().as_bytes()).map_err(|_| Error::said(format!("{:?} holds a NUL byte", bytes.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/a")).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("root/up")).unwrap();
        std::os::unix::fs::symlink("/a", dir.path().join("root/abs")).unwrap();
        let root = open_dir(dir.path().join("root")).unwrap();
        (dir, root)
    }

    #[test]
    fn an_escape_is_refused_beneath_and_contained_in_root() {
        let (_dir, root) = tree();
        assert!(open_within(&root, "up", Within::Beneath, OFlags::PATH, 0).unwrap_err().is(libc::EXDEV));
        assert!(open_within(&root, "abs", Within::Beneath, OFlags::PATH, 0).unwrap_err().is(libc::EXDEV));
        assert!(open_within(&root, "up", Within::Root, OFlags::PATH, 0).unwrap_err().is(libc::ENOENT));
        assert!(open_within(&root, "abs", Within::Root, OFlags::PATH, 0).is_ok());
        assert!(open_within(&root, "../../secret", Within::Root, OFlags::PATH, 0).unwrap_err().is(libc::ENOENT));
    }

    #[test]
    fn directories_are_made_inside_even_through_links() {
        let (dir, root) = tree();
        make_dirs_within(&root, "/abs/b/c", Within::Root, 0o777).unwrap();
        let made = dir.path().join("root/a/b/c");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o7777, 0o777);
        make_dirs_within(&root, "../../x", Within::Root, 0o755).unwrap();
        assert!(dir.path().join("root/x").is_dir() && !dir.path().join("x").exists());
        assert!(make_dirs_within(&root, "up/x", Within::Beneath, 0o755).unwrap_err().is(libc::EXDEV));
    }

    #[test]
    fn a_mountpoint_is_a_file_or_a_directory() {
        let (dir, root) = tree();
        make_mountpoint(&root, "/etc/hosts", true).unwrap();
        make_mountpoint(&root, "/data/deep", false).unwrap();
        assert!(dir.path().join("root/etc/hosts").is_file() && dir.path().join("root/data/deep").is_dir());
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod.json");
        write_atomically(&path, b"one", 0o644).unwrap();
        write_atomically(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_keeps_another_open_file_out() {
        let dir = tempfile::tempdir().unwrap();
        let open_it = || open(dir.path().join("lock"), OFlags::CREATE | OFlags::RDWR).unwrap();
        let (first, second) = (open_it(), open_it());
        assert!(!is_locked(&second).unwrap());
        assert!(try_lock(&first).unwrap() && !try_lock(&second).unwrap());
        assert!(is_locked(&second).unwrap());
        drop(first);
        assert!(try_lock(&second).unwrap());
    }
}
