//! Terminals: a pseudo-terminal of the container for `-t`, and our own terminal in raw mode while it is used.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::{self, OptionalActions, Termios};

/// Rows and columns.
pub use rustix::termios::Winsize as Size;

use crate::error::{Error, Result};

fn failed(call: &'static str, object: &'static str) -> impl FnOnce(rustix::io::Errno) -> Error {
    move |errno| Error::call(call, object, errno.raw_os_error())
}

/// Makes a pseudo-terminal in the devpts of the mount namespace that we are in: (our end, the program's end).
///
/// `/dev/pts/ptmx` is a path of the container, and the container may have put something else there: what is opened must be
/// the multiplexer device (5:2). The other end is taken from the first (TIOCGPTPEER, 4.13), never looked up by name.
pub fn new_terminal() -> Result<(OwnedFd, OwnedFd)> {
    let ours = super::file::open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW)?;
    let device = super::file::stat(&ours)?.st_rdev;
    if (rustix::fs::major(device), rustix::fs::minor(device)) != (5, 2) {
        return Err(Error::said("/dev/pts/ptmx of the container is not the terminal multiplexer"));
    }
    rustix::pty::grantpt(&ours).map_err(failed("grantpt", "/dev/pts/ptmx"))?;
    rustix::pty::unlockpt(&ours).map_err(failed("unlockpt", "/dev/pts/ptmx"))?;
    let theirs =
        rustix::pty::ioctl_tiocgptpeer(&ours, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map_err(failed("ioctl", "TIOCGPTPEER"))?;
    Ok((ours, theirs))
}

/// Makes a terminal the controlling one of our (new) session.
pub fn take_as_controlling(terminal: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).map_err(failed("ioctl", "TIOCSCTTY"))
}

/// Whether a descriptor is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    termios::isatty(fd)
}

/// How large a terminal is.
pub fn size(terminal: impl AsFd) -> Result<Size> {
    termios::tcgetwinsize(terminal).map_err(failed("ioctl", "TIOCGWINSZ"))
}

/// Sets rows and columns; the programs on it get SIGWINCH.
pub fn set_size(terminal: impl AsFd, size: Size) -> Result<()> {
    termios::tcsetwinsize(terminal, size).map_err(failed("ioctl", "TIOCSWINSZ"))
}

/// A terminal in raw mode: every key goes through, Ctrl-C too. Put back when dropped.
pub struct Raw<'a> {
    terminal: std::os::fd::BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    pub fn new(terminal: std::os::fd::BorrowedFd<'a>) -> Result<Raw<'a>> {
        let before = termios::tcgetattr(terminal).map_err(failed("ioctl", "TCGETS"))?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(terminal, OptionalActions::Drain, &raw).map_err(failed("ioctl", "TCSETS"))?;
        Ok(Raw { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// A line typed at a terminal that does not show it, with its line break.
pub fn read_unseen(terminal: impl AsFd) -> Result<String> {
    let before = termios::tcgetattr(&terminal).map_err(failed("ioctl", "TCGETS"))?;
    let mut unseen = before.clone();
    unseen.local_modes.remove(termios::LocalModes::ECHO);
    termios::tcsetattr(&terminal, OptionalActions::Flush, &unseen).map_err(failed("ioctl", "TCSETS"))?;
    let mut line = Vec::new();
    let mut piece = [0; 1024];
    let done = loop {
        match read(&terminal, &mut piece) {
            Ok(0) => break Ok(()),
            Ok(length) => line.extend_from_slice(&piece[..length]),
            Err(error) => break Err(error),
        }
        if line.contains(&b'\n') {
            break Ok(());
        }
    };
    let put_back = termios::tcsetattr(&terminal, OptionalActions::Flush, &before).map_err(failed("ioctl", "TCSETS"));
    done.and(put_back)?;
    String::from_utf8(line).map_err(|_| Error::said("what was typed is not UTF-8"))
}

/// Bytes that wait to be read; 0 at the end of a pipe.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match rustix::io::read(&fd, &mut *buffer) {
            Err(rustix::io::Errno::INTR) => continue,
            // A terminal whose other end is closed says EIO; for the reader that is its end.
            Err(rustix::io::Errno::IO) => return Ok(0),
            result => return result.map_err(|errno| Error::call("read", fd.as_fd().as_raw_fd(), errno.raw_os_error())),
        }
    }
}

/// Writes as much as is taken at once.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> Result<usize> {
    loop {
        match rustix::io::write(&fd, bytes) {
            Err(rustix::io::Errno::INTR) => continue,
            result => return result.map_err(|errno| Error::call("write", fd.as_fd().as_raw_fd(), errno.raw_os_error())),
        }
    }
}

/// Writes all of it.
pub fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        bytes = &bytes[write(&fd, bytes)?..];
    }
    Ok(())
}
