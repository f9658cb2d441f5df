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

/// How many names are looked at in one turn: probes and logs wait for no more than these.
const TURN: usize = 2000;
/// How long a quiet moment is waited for, in milliseconds, and from one turn to the next.
const PATIENCE: u64 = 1000;
const BETWEEN: u64 = 100;

/// Makes the directory of a start that has ended as good as new: what the container has done to its root directory itself, too. False:
/// that takes another turn.
fn renew(ground: &Ground, attempt: &Path) -> Result<bool> {
    let upper = file::open(attempt.join(UPPER), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    if !removal::empty_some(&upper, TURN)? {
        return Ok(false);
    }
    // overlayfs marks it when something in it was changed; a container may set others.
    tree::clear_attributes(&upper)?;
    let (stat, owner) = (file::stat(&upper)?, ground.root_of_pod());
    if (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) != (MODE, owner, owner) {
        tree::set_owner_and_mode(&upper, owner, owner, MODE)?;
    }
    removal::empty(file::open_dir(attempt.join(WORK))?)?;
    removal::remove_tree(attempt.join(MESSAGE)).map(|()| true)
}

/// The directories of a pod's ended starts. What comes next must not wait until the disk has removed them.
#[derive(Debug, Default)]
pub struct Remains {
    untidy: Vec<(C, PathBuf)>,
    spare: BTreeMap<C, PathBuf>,
    /// When there must be a turn, in monotonic milliseconds: a pod that is never quiet would fill the disk.
    due: Option<u64>,
}

impl Remains {
    pub fn add(&mut self, c: C, attempt: PathBuf, now: u64) {
        self.untidy.push((c, attempt));
        self.due = self.due.or(Some(now + PATIENCE));
    }

    pub fn is_tidy(&self) -> bool {
        self.untidy.is_empty()
    }

    /// When [`Remains::tidy`] must be called even if no moment is quiet.
    pub fn deadline(&self) -> Option<u64> {
        self.due
    }

    /// One that the next start of a container can have.
    pub fn take_spare(&mut self, c: C) -> Option<PathBuf> {
        self.spare.remove(&c)
    }

    /// Makes as good as new, or removes, what was left; for a quiet moment. What is too much for one stays for the next.
    pub fn tidy(&mut self, ground: &Ground, now: u64) -> Vec<Error> {
        let mut errors = Vec::new();
        for (c, attempt) in std::mem::take(&mut self.untidy) {
            match renew(ground, &attempt) {
                Ok(false) => self.untidy.push((c, attempt)),
                Ok(true) if !self.spare.contains_key(&c) => drop(self.spare.insert(c, attempt)),
                // What cannot be emptied cannot be removed either, and that is told.
                _ => errors.extend(removal::remove_tree(attempt).err()),
            }
        }
        self.due = (!self.untidy.is_empty()).then_some(now + BETWEEN);
        errors
    }
}
