//! Waiting for files to change, by inotify(7): no polling, and nothing runs while nothing happens.
//!
//! The order that loses nothing is *watch, then read, then wait*: a change between the reading and the waiting is already
//! queued. What changed is not told, only that something did; the caller looks again at all it cares for. That makes an
//! overflow of the queue harmless, and a file that is replaced by a rename needs a watch on its directory alone.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{Error, Result};

/// One inotify instance with all its watches; they end with it.
pub struct Notify {
    inotify: Inotify,
}

impl Notify {
    /// An instance without watches. EMFILE here is the limit fs.inotify.max_user_instances as well as open files.
    pub fn new() -> Result<Notify> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|errno| Error::call("inotify_init1", "", errno as i32))?;
        Ok(Notify { inotify })
    }

    /// Watches a directory: names that appear, vanish, or are replaced by a rename, and its own end. Watching twice is the same as once.
    pub fn watch_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        use AddWatchFlags as F;
        self.watch(path.as_ref(), F::IN_CREATE | F::IN_MOVED_TO | F::IN_MOVED_FROM | F::IN_DELETE | F::IN_DELETE_SELF | F::IN_MOVE_SELF | F::IN_ONLYDIR)
    }

    /// Watches a file: written to, truncated, or gone.
    pub fn watch_file(&self, path: impl AsRef<Path>) -> Result<()> {
        use AddWatchFlags as F;
        self.watch(path.as_ref(), F::IN_MODIFY | F::IN_DELETE_SELF | F::IN_MOVE_SELF)
    }

    fn watch(&self, path: &Path, what: AddWatchFlags) -> Result<()> {
        self.inotify.add_watch(path, what).map(drop).map_err(|errno| Error::call("inotify_add_watch", path.display(), errno as i32))
    }

    /// Waits until something watched has changed, and forgets all changes up to now; false if the time ran out first.
    /// Without a timeout it waits for ever.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let end = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if self.drain()? {
                return Ok(true);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            // Rounded up: a rest below one millisecond would otherwise spin.
            let left = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX));
            match poll(&mut [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)], left) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::call("poll", "", errno as i32)),
            }
        }
    }

    /// Takes all queued changes without waiting; whether there were any. For a loop that polls [`Notify::as_fd`] itself.
    pub fn drain(&self) -> Result<bool> {
        let mut any = false;
        loop {
            match self.inotify.read_events() {
                Ok(_) => any = true,
                Err(Errno::EAGAIN) => return Ok(any),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::call("read", "inotify", errno as i32)),
            }
        }
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_change_between_the_watch_and_the_wait_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("0.log");
        std::fs::write(&file, "").unwrap();
        let notify = Notify::new().unwrap();
        notify.watch_file(&file).unwrap();
        std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"x").unwrap();
        assert!(notify.wait(None).unwrap());
        assert!(!notify.wait(Some(Duration::ZERO)).unwrap(), "a change is told once");
    }

    #[test]
    fn a_file_replaced_by_rename_wakes_the_watch_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let notify = Notify::new().unwrap();
        notify.watch_dir(dir.path()).unwrap();
        crate::sys::file::write_atomically(dir.path().join("pod.json"), b"{}", 0o644).unwrap();
        assert!(notify.wait(None).unwrap());
        std::fs::remove_file(dir.path().join("pod.json")).unwrap();
        assert!(notify.wait(None).unwrap());
        std::fs::remove_dir(dir.path()).unwrap();
        assert!(notify.wait(None).unwrap());
    }

    #[test]
    fn a_missing_path_is_named() {
        let notify = Notify::new().unwrap();
        let error = notify.watch_dir("/nowhere/at/all").unwrap_err();
        assert!(error.is(libc::ENOENT) && error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
