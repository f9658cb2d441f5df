//! The device nodes of this machine.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A node below /dev.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub path: PathBuf,
    pub is_block: bool,
    /// Major and minor number.
    pub number: (u32, u32),
    /// The permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// Directories of /dev that are file systems of their own, in a container as well, or other programs' bookkeeping (as runc).
const LEFT_OUT: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// All of them, by path; without terminals and what vanishes while we look.
pub fn of_host() -> Result<Vec<Device>> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(dir: &Path, found: &mut Vec<Device>) -> Result<()> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io("open", dir.display(), &e))?;
    for entry in entries.flatten() {
        // Not through links: what they lead to is found by itself.
        let Ok(metadata) = entry.metadata() else { continue };
        let (kind, path) = (metadata.file_type(), entry.path());
        let top = dir == Path::new("/dev");
        if kind.is_dir() {
            if !(top && LEFT_OUT.iter().any(|name| entry.file_name() == *name)) {
                collect(&path, found)?;
            }
        } else if (kind.is_block_device() || kind.is_char_device()) && !(top && entry.file_name() == "console") {
            let number = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            let owner = (metadata.uid(), metadata.gid());
            found.push(Device { path, is_block: kind.is_block_device(), number, mode: metadata.mode() & 0o7777, owner });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_null_device_and_no_terminal_is_listed() {
        let all = of_host().unwrap();
        let null = all.iter().find(|device| device.path == Path::new("/dev/null")).unwrap();
        assert_eq!((null.number, null.is_block), ((1, 3), false));
        assert!(!all.iter().any(|device| device.path.starts_with("/dev/pts") || device.path.ends_with("console")));
    }
}
