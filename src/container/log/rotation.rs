//! A log that grows is cut into files, so that a container that talks cannot fill the disk.
//!
//! ```text
//! 0.log                      written to
//! 0.log.20260102-150405      full: renamed at that second (UTC)
//! 0.log.20260102-150012      the oldest goes when there are more than [`FILES`] in all
//! ```
//!
//! Size, number and names are the kubelet's defaults (`pkg/kubelet/logs/container_log_manager.go`: containerLogMaxSize 10Mi,
//! containerLogMaxFiles 5). It also compresses all but the newest; that would cost the supervisor tens of milliseconds at a time.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::error::{Error, Result};

/// A file that has as many bytes is full.
pub const FULL: u64 = 10 << 20;
/// Of one instance, the one that is written to included.
pub const FILES: usize = 5;

/// Puts a full log aside. False: another one was put aside within this second, so it grows on.
pub fn put_aside(path: &Path, now: Timestamp) -> Result<bool> {
    let mut name = path.as_os_str().to_owned();
    name.push(now.strftime(".%Y%m%d-%H%M%S").to_string());
    let aside = PathBuf::from(name);
    if aside.exists() {
        return Ok(false);
    }
    std::fs::rename(path, &aside).map_err(|error| Error::io("rename", path.display(), &error))?;
    let all = put_aside_of(path);
    for old in &all[..(all.len() + 1).saturating_sub(FILES)] {
        std::fs::remove_file(old).map_err(|error| Error::io("unlink", old.display(), &error))?;
    }
    Ok(true)
}

/// The files of a log that were put aside, the oldest first.
pub fn put_aside_of(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return Vec::new() };
    let is_ours = |entry: &Path| {
        let rest = entry.file_name().and_then(|entry| entry.to_str()).and_then(|entry| entry.strip_prefix(name));
        rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('.') && rest[1..].bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries.filter(|entry| is_ours(entry)).collect();
    found.sort();
    found
}

/// Removes a log with all that was put aside of it. What cannot be removed goes with the pod.
pub fn remove(path: &Path) {
    put_aside_of(path).iter().map(PathBuf::as_path).chain([path]).for_each(|file| {
        let _ = std::fs::remove_file(file);
    });
}
