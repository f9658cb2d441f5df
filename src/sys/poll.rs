//! Waiting for many things at once: one epoll set, and signals as a descriptor in it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use crate::error::{Error, Result};

/// A set of descriptors, each with a number that the caller gave it. Level-triggered: what is not read is told again.
pub struct Poll {
    epoll: std::os::fd::OwnedFd,
    ready: Vec<epoll::Event>,
}

impl Poll {
    pub fn new() -> Result<Poll> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|errno| Error::call("epoll_create1", "", errno.raw_os_error()))?;
        Ok(Poll { epoll, ready: Vec::with_capacity(32) })
    }

    /// Watches a descriptor for something to read (or its end). It leaves the set by itself when its last copy is closed.
    pub fn add(&self, fd: impl AsFd, token: u64) -> Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
            .map_err(|errno| Error::call("epoll_ctl", token, errno.raw_os_error()))
    }

    /// Watches a descriptor for room to write (or for a reader that has gone).
    pub fn add_writer(&self, fd: impl AsFd, token: u64) -> Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::OUT)
            .map_err(|errno| Error::call("epoll_ctl", token, errno.raw_os_error()))
    }

    /// Watches a descriptor for what is wanted of it now, whatever it was watched for before. Wanted for nothing it leaves the set: a
    /// hang-up, which is told even to those who want nothing, would otherwise be told again and again.
    pub fn want(&self, fd: impl AsFd, token: u64, read: bool, write: bool) -> Result<()> {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, read);
        flags.set(epoll::EventFlags::OUT, write);
        if flags.is_empty() {
            self.remove(fd);
            return Ok(());
        }
        let data = epoll::EventData::new_u64(token);
        match epoll::modify(&self.epoll, fd.as_fd(), data, flags) {
            Err(rustix::io::Errno::NOENT) => epoll::add(&self.epoll, fd, data, flags),
            done => done,
        }
        .map_err(|errno| Error::call("epoll_ctl", token, errno.raw_os_error()))
    }

    /// Stops watching. A descriptor whose copies live elsewhere (in a child) must be taken out by hand before it is closed.
    pub fn remove(&self, fd: impl AsFd) {
        // ENOENT: it was not in the set, which is what we want.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// The tokens of what is ready, after at most `timeout` milliseconds (None: as long as it takes). A signal handler does
    /// not end the wait early with an error: the answer is then empty.
    pub fn wait(&mut self, timeout: Option<u64>) -> Result<Vec<u64>> {
        let timeout = timeout.map(|ms| Timespec { tv_sec: (ms / 1000) as i64, tv_nsec: (ms % 1000) as i64 * 1_000_000 });
        self.ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), timeout.as_ref()) {
            Ok(_) => Ok(self.ready.iter().map(|event| event.data.u64()).collect()),
            Err(rustix::io::Errno::INTR) => Ok(Vec::new()),
            Err(errno) => Err(Error::call("epoll_wait", "", errno.raw_os_error())),
        }
    }
}

/// Waits until a kernel file (cgroup.events and the like) says that it changed since it was last read; false when the time
/// is up first. A signal counts as a change: the caller reads again anyway.
pub fn changed(file: impl AsFd, within: Duration) -> Result<bool> {
    let timeout = Timespec { tv_sec: within.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: within.subsec_nanos().into() };
    match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(errno) => Err(Error::call("poll", "", errno.raw_os_error())),
    }
}

/// Signals that no longer interrupt us but are read from a descriptor.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals and opens the descriptor. What we execute later must unblock them (`process::reset_signals`).
    pub fn take(signals: &[Signal]) -> Result<Signals> {
        let set: SigSet = signals.iter().copied().collect();
        set.thread_block().map_err(|errno| Error::call("sigprocmask", "", errno as i32))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(|errno| Error::call("signalfd", "", errno as i32))?;
        Ok(Signals(fd))
    }

    /// The next signal that has come, if any.
    pub fn next(&self) -> Option<i32> {
        self.0.read_signal().ok().flatten().map(|info| info.ssi_signo as i32)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ready_is_told_by_its_token() {
        let mut poll = Poll::new().unwrap();
        let ((a, a_in), (b, _b_in)) = (super::super::process::pipe().unwrap(), super::super::process::pipe().unwrap());
        poll.add(&a, 1).unwrap();
        poll.add(&b, 2).unwrap();
        assert!(poll.wait(Some(0)).unwrap().is_empty());
        drop(a_in);
        assert_eq!(poll.wait(None).unwrap(), [1]);
        poll.remove(&a);
        assert!(poll.wait(Some(0)).unwrap().is_empty());
    }
}
