//! One cgroup directory of any hierarchy: its files, its processes, its end.

use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::sys::poll;

/// Writes a value into a control file. One write(2): the kernel takes each as a command of its own.
pub fn write(dir: &Path, file: &str, value: impl AsRef<[u8]>) -> Result<()> {
    let path = dir.join(file);
    // Without O_CREAT: a missing file of cgroupfs is to be ENOENT, not the EPERM of making one.
    let mut open = std::fs::OpenOptions::new().write(true).open(&path).map_err(|e| Error::io("open", path.display(), &e))?;
    open.write_all(value.as_ref()).map_err(|e| Error::io("write", path.display(), &e))
}

pub fn read(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    std::fs::read_to_string(&path).map_err(|e| Error::io("read", path.display(), &e))
}

/// The number in a file of one number; `None` if the file is missing (no such controller here, or an older kernel).
pub fn number(dir: &Path, file: &str) -> Result<Option<u64>> {
    match read(dir, file) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.is(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number after a word in a file of lines `word number`; `None` if the file or the word is missing.
pub fn keyed(dir: &Path, file: &str, key: &str) -> Result<Option<u64>> {
    match read(dir, file) {
        Ok(text) => Ok(value_of(&text, key)),
        Err(error) if error.is(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Makes a cgroup that did not exist before. An empty left-over of the same name is replaced, never reused: a cgroup that
/// was ever killed by cgroup.kill also kills what is cloned into it later (seen on 6.12 to 7.2).
pub fn make_fresh(dir: &Path) -> Result<()> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::remove_dir(dir).map_err(|e| Error::io("rmdir", dir.display(), &e).doing("replacing the cgroup that a former run left"))?;
            std::fs::create_dir(dir).map_err(|e| Error::io("mkdir", dir.display(), &e))
        }
        result => result.map_err(|e| Error::io("mkdir", dir.display(), &e)),
    }
}

/// The child cgroups of a cgroup.
pub fn children(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: &std::io::Error| Error::io("readdir", dir.display(), e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The names of a cgroup's files.
pub fn files(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io("readdir", dir.display(), &e))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// The processes in a cgroup and in those beneath it, as this pid namespace numbers them (0 for one of another).
pub fn processes(dir: &Path) -> Result<Vec<u32>> {
    let mut found: Vec<u32> = read(dir, "cgroup.procs")?.lines().filter_map(|line| line.parse().ok()).collect();
    for child in children(dir)? {
        match processes(&child) {
            Ok(more) => found.extend(more),
            Err(error) if error.is(libc::ENOENT) || error.is(libc::ENODEV) => {} // removed since we listed it
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Sends SIGKILL to all processes in a cgroup2 cgroup and beneath it, forks under way included. A missing cgroup is fine.
pub fn kill(dir: &Path) -> Result<()> {
    match write(dir, "cgroup.kill", "1") {
        Err(error) if error.is(libc::ENOENT) && dir.exists() => {
            Err(Error::said(format!("{} has no cgroup.kill: minipod needs Linux 5.14 or newer", dir.display())))
        }
        Err(error) if error.is(libc::ENOENT) || error.is(libc::ENODEV) => Ok(()),
        result => result,
    }
}

/// Waits until `cgroup.events` of a cgroup2 cgroup says `key value`; false when the time is up first.
pub fn wait(dir: &Path, key: &str, value: u64, within: Duration) -> Result<bool> {
    let path = dir.join("cgroup.events");
    let failed = |call| move |e: std::io::Error| Error::io(call, dir.join("cgroup.events").display(), &e);
    let mut events = std::fs::File::open(&path).map_err(failed("open"))?;
    let end = Instant::now() + within;
    loop {
        // Read before the wait: the kernel reports only what changes after a read.
        let mut text = String::new();
        events.rewind().and_then(|()| events.read_to_string(&mut text)).map_err(failed("read"))?;
        if value_of(&text, key) == Some(value) {
            return Ok(true);
        }
        if !poll::changed(&events, end.saturating_duration_since(Instant::now()))? && Instant::now() >= end {
            return Ok(false);
        }
    }
}

/// Removes a cgroup and all beneath it, in a hierarchy of either version; a missing one is fine. What still runs in it is
/// waited for, not killed. Goes on where it can, and returns what went wrong.
pub fn remove_tree(dir: &Path, within: Duration) -> Vec<Error> {
    let end = Instant::now() + within;
    match rmdir(dir) {
        Err(error) if error.is(libc::EBUSY) => {}
        Err(error) => return vec![error],
        Ok(()) => return Vec::new(),
    }
    // v1 has no such file, but needs none: the same process is in both, and cgroup2's is removed first.
    match wait(dir, "populated", 0, within) {
        Ok(false) => {
            let left = processes(dir).unwrap_or_default();
            return vec![Error::said(format!("cgroup {} still has processes after {} ms: {left:?}", dir.display(), within.as_millis()))];
        }
        Err(error) if !error.is(libc::ENOENT) && !error.is(libc::ENODEV) => return vec![error],
        Ok(true) | Err(_) => {}
    }
    let mut errors = Vec::new();
    match children(dir) {
        Ok(children) => errors.extend(children.iter().flat_map(|child| remove_tree(child, end.saturating_duration_since(Instant::now())))),
        Err(error) if error.is(libc::ENOENT) => return errors,
        Err(error) => errors.push(error),
    }
    errors.extend(rmdir(dir).err());
    errors
}

fn rmdir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|e| Error::io("rmdir", dir.display(), &e)),
    }
}
