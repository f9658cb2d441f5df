//! Reading through layers as overlayfs would show them, without mounting them.
//!
//! ```text
//! top     etc/        etc/passwd         usr/ (opaque)      bin -> usr/bin
//!         |           |                  |
//! below   etc/        whiteout           usr/   <- not seen
//!         \_ merged   \_ seen: the file
//! ```
//!
//! An image's `/etc/passwd` is read once, at import, so that a start mounts nothing to learn who a user is. Symlinks are
//! followed by hand, within the image; every other step is one name in one directory, so nothing can lead out.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{FileType, OFlags, Stat};

use crate::error::{Error, Result};
use crate::sys::{file, tree};

/// As in path_resolution(7).
pub const MAX_SYMLINKS: u32 = 40;
/// overlayfs' mark that a directory hides those of the same name below.
pub const OPAQUE: &str = "trusted.overlay.opaque";

/// Layers' root directories, topmost first.
pub struct Stack {
    layers: Vec<OwnedFd>,
}

/// A directory as the stack shows it: the layers' directories that make it up, topmost first.
struct Merged(Vec<OwnedFd>);

enum Child {
    Missing,
    Directory(Merged),
    /// Something else, in this layer's directory.
    Other(OwnedFd, Stat),
}

impl Stack {
    /// Of directories that can be read, topmost first.
    pub fn new(layers: Vec<OwnedFd>) -> Stack {
        Stack { layers }
    }

    /// The topmost of the directories that show at `path`, where no symlink is followed.
    pub fn directory(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let mut dir = self.root()?;
        for name in path.components().filter_map(normal) {
            match dir.child(name)? {
                Child::Directory(next) => dir = next,
                _ => return Ok(None),
            }
        }
        Ok(dir.0.into_iter().next())
    }

    /// The content of the regular file that shows at `path`, symlinks followed. None if there is none, or one larger than `limit` bytes.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        let mut todo: Vec<OsString> = path.components().filter_map(normal).map(OsStr::to_owned).rev().collect();
        let mut dirs = vec![self.root()?];
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                dirs.truncate(dirs.len().saturating_sub(1).max(1));
                continue;
            }
            let here = dirs.last().expect("the root stays");
            match here.child(&name)? {
                Child::Missing => return Ok(None),
                Child::Directory(next) => dirs.push(next),
                Child::Other(dir, stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Symlink if links < MAX_SYMLINKS => {
                        links += 1;
                        let target = tree::read_link(&dir, &name)?;
                        if Path::new(&target).is_absolute() {
                            dirs.truncate(1);
                        }
                        todo.extend(Path::new(&target).components().filter_map(normal).map(OsStr::to_owned).rev());
                    }
                    FileType::RegularFile if todo.is_empty() && stat.st_size as u64 <= limit => {
                        let file = file::open_within(&dir, &name, file::Within::Beneath, OFlags::RDONLY | OFlags::NOFOLLOW, 0)?;
                        return file::read_limited(file, &name, limit).map(Some);
                    }
                    _ => return Ok(None),
                },
            }
        }
        Ok(None)
    }

    fn root(&self) -> Result<Merged> {
        let copy = |layer: &OwnedFd| layer.try_clone().map_err(|error| Error::io("dup", "", &error));
        self.layers.iter().map(copy).collect::<Result<_>>().map(Merged)
    }
}

/// The name in a path's component; `..` counts as one, the root and `.` do not.
fn normal(component: Component<'_>) -> Option<&OsStr> {
    match component {
        Component::Normal(_) | Component::ParentDir => Some(component.as_os_str()),
        _ => None,
    }
}

impl Merged {
    fn child(&self, name: &OsStr) -> Result<Child> {
        let mut found = Vec::new();
        for dir in &self.0 {
            let Some(stat) = tree::kind(dir, name)? else { continue };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let next = tree::open_directory(dir, name)?;
                let opaque = is_opaque(&next)?;
                found.push(next);
                if opaque {
                    break;
                }
            } else if !found.is_empty() || tree::is_whiteout(&stat) {
                break;
            } else {
                return dir.try_clone().map(|dir| Child::Other(dir, stat)).map_err(|error| Error::io("dup", "", &error));
            }
        }
        Ok(if found.is_empty() { Child::Missing } else { Child::Directory(Merged(found)) })
    }
}

pub(super) fn is_opaque(dir: impl AsFd) -> Result<bool> {
    Ok(tree::attribute(dir, OsStr::new(OPAQUE))?.is_some_and(|value| value == b"y"))
}
