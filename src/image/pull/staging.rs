//! The directory in which one pull makes its layers.
//!
//! ```text
//! lib/images/pulls/HEX        a lock: held as long as the pull of this name goes on
//! lib/images/pulls/HEX.d/     what it has made so far
//! ```
//!
//! HEX is the name's digest, so two pulls of one name meet at the lock. A directory whose lock is free belongs to a pull that was killed.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::image::digest::sha256;
use crate::image::{Reference, Store};
use crate::sys::{file, removal};

const DIRECTORY: &str = "d";

pub struct Staging {
    path: PathBuf,
    lock: PathBuf,
    _held: OwnedFd,
}

fn pulls(store: &Path) -> PathBuf {
    store.join("pulls")
}

impl Staging {
    /// An empty directory. Waits until no other pull of this name goes on.
    pub fn new(store: &Store, reference: &Reference) -> Result<Staging> {
        let pulls = pulls(store.dir());
        make_dir(&pulls)?;
        let lock = pulls.join(sha256(reference.to_string().as_bytes()).trim_start_matches("sha256:"));
        loop {
            let held = file::open(&lock, OFlags::RDWR | OFlags::CREATE)?;
            file::lock(&held)?;
            // Who had it before has removed it.
            if file::stat(&held)?.st_nlink == 0 {
                continue;
            }
            let path = lock.with_extension(DIRECTORY);
            removal::remove_tree(&path)?;
            make_dir(&path)?;
            return Ok(Staging { path, lock, _held: held });
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now, the next writer of the store meets, and tells.
        if removal::remove_tree(&self.path).is_ok() {
            let _ = std::fs::remove_file(&self.lock);
        }
    }
}

/// Removes what killed pulls have left.
pub fn clear(store: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(pulls(store)) else { return Ok(()) };
    let locks = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(|path| path.extension() != Some(OsStr::new(DIRECTORY)));
    for lock in locks {
        let held = match file::open(&lock, OFlags::RDWR) {
            Err(error) if error.is(libc::ENOENT) => continue,
            opened => opened?,
        };
        if file::try_lock(&held)? && file::stat(&held)?.st_nlink > 0 {
            removal::remove_tree(lock.with_extension(DIRECTORY))?;
            std::fs::remove_file(&lock).map_err(|error| Error::io("unlink", lock.display(), &error))?;
        }
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::io("mkdir", path.display(), &error)),
        _ => Ok(()),
    }
}
