//! The directory of one start of a container: what it keeps on disk.
//!
//! ```text
//! containers/web.3/upper             what it writes to its root
//!                  work              overlayfs' own
//!                  termination-log   its last words (§24)
//!
//! web.3 ended ─▶ a quiet moment ─▶ emptied ─▶ web.4 starts: renamed
//! ```
//!
//! Directories are the dearest part of a start, and to remove them is dearer: of a container that ends and starts again all day, they
//! were a quarter of its supervisor's work. So one that can be made as good as new is the next start's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::dir::make_dirs;
use super::ground::Ground;
use crate::error::{Error, Result};
use crate::lifecycle::C;
use crate::sys::{file, removal, tree};

/// What a container writes to its root.
pub const UPPER: &str = "upper";
/// overlayfs' own.
pub const WORK: &str = "work";
/// Its last words.
pub const MESSAGE: &str = "termination-log";

/// Of the root directory of a container, which is the upper directory itself: everybody in it may enter it.
const MODE: u32 = 0o755;

/// Makes what one start needs, empty: of `spare`, which an earlier one has left, or anew.
pub fn furnish(ground: &Ground, attempt: &Path, spare: Option<&Path>) -> Result<()> {
    removal::remove_tree(attempt)?;
    if spare.is_none_or(|spare| std::fs::rename(spare, attempt).is_err()) {
        make_dirs(&attempt.join(UPPER))?;
        make_dirs(&attempt.join(WORK))?;
        file::set_mode(attempt.join(UPPER), MODE)?;
        ground.give_to_pod(&attempt.join(UPPER))?;
        ground.give_to_pod(&attempt.join(WORK))?;
    }
    let message = attempt.join(MESSAGE);
    std::fs::write(&message, "").map_err(|e| Error::io("open", message.display(), &e))?;
    file::set_mode(&message, 0o666)?;
    ground.give_to_pod(&message)
}

/// Makes the directory of a start that has ended as good as new: what the container has done to its root directory itself, too.
fn renew(ground: &Ground, attempt: &Path) -> Result<()> {
    let upper = file::open(attempt.join(UPPER), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    removal::empty(&upper)?;
    // overlayfs marks it when something in it was changed; a container may set others.
    tree::clear_attributes(&upper)?;
    let (stat, owner) = (file::stat(&upper)?, ground.root_of_pod());
    if (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) != (MODE, owner, owner) {
        tree::set_owner_and_mode(&upper, owner, owner, MODE)?;
    }
    removal::empty(file::open_dir(attempt.join(WORK))?)?;
    removal::remove_tree(attempt.join(MESSAGE))
}

/// The directories of a pod's ended starts. What comes next must not wait until the disk has removed them.
#[derive(Debug, Default)]
pub struct Remains {
    untidy: Vec<(C, PathBuf)>,
    spare: BTreeMap<C, PathBuf>,
}

impl Remains {
    pub fn add(&mut self, c: C, attempt: PathBuf) {
        self.untidy.push((c, attempt));
    }

    pub fn is_tidy(&self) -> bool {
        self.untidy.is_empty()
    }

    /// One that the next start of a container can have.
    pub fn take_spare(&mut self, c: C) -> Option<PathBuf> {
        self.spare.remove(&c)
    }

    /// Makes as good as new, or removes, what was left; for a quiet moment.
    pub fn tidy(&mut self, ground: &Ground) -> Vec<Error> {
        let mut errors = Vec::new();
        for (c, attempt) in self.untidy.drain(..) {
            // What cannot be emptied cannot be removed either, and that is told.
            if !self.spare.contains_key(&c) && renew(ground, &attempt).is_ok() {
                self.spare.insert(c, attempt);
            } else {
                errors.extend(removal::remove_tree(attempt).err());
            }
        }
        errors
    }
}
