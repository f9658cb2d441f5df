//! Unix sockets that keep messages whole (SOCK_SEQPACKET) and carry descriptors.
//!
//! A socket's path may hold 107 bytes only, and a pod's directory is easily longer: both sides go through
//! `/proc/self/fd/N/NAME`, with N the directory.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{self, AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr};

use crate::error::{Error, Result};

/// The most bytes that one message may have.
pub const MESSAGE_LIMIT: usize = 64 * 1024;
/// The most descriptors that one message may carry.
const DESCRIPTORS: usize = 16;

fn failed(call: &'static str, object: impl std::fmt::Display) -> impl FnOnce(nix::errno::Errno) -> Error {
    move |errno| Error::call(call, object, errno as i32)
}

fn new_socket(flags: SockFlag) -> Result<OwnedFd> {
    socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags | SockFlag::SOCK_CLOEXEC, None).map_err(failed("socket", "unix"))
}

/// Good only while the directory is open, so it is borrowed here and kept by the caller until the call is made.
fn address(dir: BorrowedFd<'_>, name: &str) -> Result<UnixAddr> {
    let path = super::file::path_of(dir).join(name);
    UnixAddr::new(&path).map_err(failed("bind", name))
}

/// Listens on `name` in a directory; an old socket of that name is replaced. Accepting never blocks.
pub fn listen(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    let socket = new_socket(SockFlag::SOCK_NONBLOCK)?;
    let _ = rustix::fs::unlinkat(dir.as_fd(), name, rustix::fs::AtFlags::empty());
    socket::bind(socket.as_raw_fd(), &address(dir.as_fd(), name)?).map_err(failed("bind", name))?;
    socket::listen(&socket, Backlog::new(16).unwrap_or(Backlog::MAXCONN)).map_err(failed("listen", name))?;
    Ok(socket)
}

/// Connects to `name` in a directory. ECONNREFUSED or ENOENT: nobody listens there.
pub fn connect(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    let socket = new_socket(SockFlag::empty())?;
    socket::connect(socket.as_raw_fd(), &address(dir.as_fd(), name)?).map_err(failed("connect", name))?;
    Ok(socket)
}

/// The next caller, if one waits. Neither hearing it nor answering it blocks: one that does not read its answers gets EAGAIN.
pub fn accept(listener: impl AsFd) -> Result<Option<OwnedFd>> {
    match socket::accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::ECONNABORTED | nix::errno::Errno::EINTR) => Ok(None),
        Err(errno) => Err(failed("accept4", "")(errno)),
    }
}

/// Two connected ends.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(failed("socketpair", ""))
}

/// Sends one message with descriptors. A peer that is gone is EPIPE, not a signal.
pub fn send(socket: impl AsFd, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let raw: Vec<_> = descriptors.iter().map(|fd| fd.as_raw_fd()).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &control[..0] } else { &control[..] };
    loop {
        match socket::sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(message)], control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(failed("sendmsg", "")(errno)),
        }
    }
}

/// Receives one message with its descriptors (close-on-exec). An empty message means that the peer has gone.
pub fn receive(socket: impl AsFd) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_LIMIT];
    let mut control = nix::cmsg_space!([i32; DESCRIPTORS]);
    loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received = match socket::recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
            Ok(received) => received,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(nix::errno::Errno::ECONNRESET) => return Ok((Vec::new(), Vec::new())),
            Err(errno) => return Err(failed("recvmsg", "")(errno)),
        };
        let mut descriptors = Vec::new();
        for message in received.cmsgs().map_err(failed("recvmsg", ""))? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just put these descriptors into our table, and nobody else knows them.
                descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let length = received.bytes;
        bytes.truncate(length);
        return Ok((bytes, descriptors));
    }
}

/// The uid at the other end, as it was when it connected.
pub fn peer_uid(socket: impl AsFd) -> Result<u32> {
    socket::getsockopt(&socket.as_fd(), socket::sockopt::PeerCredentials).map(|peer| peer.uid()).map_err(failed("getsockopt", "SO_PEERCRED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors_through_a_long_path() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(200));
        std::fs::create_dir(&long).unwrap();
        use super::super::file;
        let dir = file::open_dir(&long).unwrap();
        let listener = listen(&dir, "control").unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let client = connect(file::open_dir(&long).unwrap(), "control").unwrap();
        let server = accept(&listener).unwrap().unwrap();
        let (_reader, writer) = super::super::process::pipe().unwrap();
        send(&client, b"hello", &[writer.as_fd()]).unwrap();
        let (bytes, descriptors) = receive(&server).unwrap();
        assert_eq!((bytes.as_slice(), descriptors.len()), (b"hello".as_slice(), 1));
        assert_eq!(peer_uid(&server).unwrap(), rustix::process::getuid().as_raw());
        drop(client);
        assert_eq!(receive(&server).unwrap().0, b"");
    }
}
