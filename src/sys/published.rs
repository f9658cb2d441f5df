//! A file that one process writes again and again, and that anybody may read at any time: the state of a pod, its events.
//!
//! ```text
//!   pod.json    <─ read, under a shared lock ─   what counts
//!      ⇅ exchanged (renameat2(2), 3.15)
//!   pod.json~   <─ written, under a lock ─────   what counted before
//! ```
//!
//! Two files take turns, so that writing makes no file and frees none. That is not a small thing: an ext4 without a journal steps over every
//! inode that was freed within the last minute, one by one, whenever a file is made; and ext4 writes a file out at once that replaces
//! another by rename(2). A reader that holds the old file when its turn comes again keeps it, and the writer takes a new one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags};

use super::file::{try_lock, try_lock_shared};
use crate::error::{Error, Result};

/// Replaces the content of a file whole; only one process at a time may write to it. What [`read`] gives is the old content or the new one. Not
/// synced: after a power failure the file may be damaged.
pub fn write(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
    let path = path.as_ref();
    let spare = spare_of(path);
    let mut file = take(&spare, mode)?;
    file.write_all(bytes).and_then(|()| file.set_len(bytes.len() as u64)).map_err(|e| Error::io("write", spare.display(), &e))?;
    fs::renameat_with(fs::CWD, &spare, fs::CWD, path, fs::RenameFlags::EXCHANGE)
        // Nothing is there yet, or this file system cannot exchange.
        .or_else(|_| fs::rename(&spare, path))
        .map_err(|errno| Error::call("rename", path.display(), errno.raw_os_error()))
}

/// The content of such a file, whole; ENOENT if there is none.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let failed = |error| Error::io("open", path.display(), &error);
    loop {
        let mut file = File::open(path).map_err(failed)?;
        // Locked, or not the one any more: its turn was over before we had it, and the next one is there.
        if !try_lock_shared(&file)? || file.metadata().map_err(failed)?.ino() != std::fs::metadata(path).map_err(failed)?.ino() {
            continue;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| Error::io("read", path.display(), &e))?;
        return Ok(bytes);
    }
}

fn spare_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push("~");
    name.into()
}

/// The spare file, opened and locked; a new one if a reader still has it.
fn take(spare: &Path, mode: u32) -> Result<File> {
    loop {
        let file = fs::open(spare, OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::from_raw_mode(mode))
            .map_err(|errno| Error::call("open", spare.display(), errno.raw_os_error()))?;
        if try_lock(&file)? {
            return Ok(file.into());
        }
        fs::unlink(spare).map_err(|errno| Error::call("unlink", spare.display(), errno.raw_os_error()))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(path: &Path) -> u64 {
        std::fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn two_files_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod.json");
        assert!(read(&path).unwrap_err().is(libc::ENOENT));
        let turns: Vec<u64> = (0..4u8)
            .map(|turn| {
                let text = vec![b'0' + turn; 9 - usize::from(turn)];
                write(&path, &text, 0o644).unwrap();
                assert_eq!(read(&path).unwrap(), text);
                inode(&path)
            })
            .collect();
        assert!(turns[0] != turns[1] && turns[0] == turns[2] && turns[1] == turns[3], "{turns:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_reader_keeps_what_it_began_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod.json");
        write(&path, b"one", 0o644).unwrap();
        let mut slow = File::open(&path).unwrap();
        assert!(try_lock_shared(&slow).unwrap());
        for text in [b"two", b"six", b"ten"] {
            write(&path, text, 0o644).unwrap();
            assert_eq!(read(&path).unwrap(), text);
        }
        let mut text = String::new();
        slow.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one");
    }

    #[test]
    fn a_reader_never_sees_half_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod.json");
        let text = |turn: u32| (turn % 26) as u8 + b'a';
        write(&path, &[text(0); 5000], 0o644).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..2000).for_each(|turn| write(&path, &vec![text(turn); 5000 + turn as usize], 0o644).unwrap()));
            while !writer.is_finished() {
                let seen = read(&path).unwrap();
                assert!(seen.len() >= 5000 && seen.iter().all(|byte| *byte == seen[0]), "{} bytes", seen.len());
            }
        });
    }

    #[test]
    fn what_could_not_be_written_is_not_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod.json");
        write(&path, b"one", 0o644).unwrap();
        std::fs::create_dir(dir.path().join("pod.json~")).unwrap();
        assert!(write(&path, b"two", 0o644).unwrap_err().is(libc::EISDIR));
        assert_eq!(read(&path).unwrap(), b"one");
    }
}
