//! Sockets that std cannot make: in another network namespace, tied to one interface, connecting without blocking; and
//! one descriptor that says which of many are ready.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::epoll;
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{Error, Result};
use crate::sys::file;

/// Does `work` with the calling thread in another network namespace, and comes back. A socket made in there stays there.
pub fn inside<T>(netns: BorrowedFd<'_>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _home = Home(file::open("/proc/thread-self/ns/net", OFlags::RDONLY)?);
    setns(netns, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::call("setns", "network namespace", errno as i32))?;
    work()
}

/// The namespace to come back to, also when `work` panics.
struct Home(OwnedFd);

impl Drop for Home {
    fn drop(&mut self) {
        // It can fail only when the capability was lost in between. Going on in the wrong namespace would do to the host
        // what was meant for another, so there is nothing better than to end.
        if setns(&self.0, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}

/// A UDP socket on `ip:port`, that hears only what comes in by `device`: many may have the same address, each on a device of its own.
/// Non-blocking.
pub fn udp_on(ip: Ipv4Addr, port: u16, device: &str) -> Result<UdpSocket> {
    bound(ip, port, device, SocketType::DGRAM).map(UdpSocket::from)
}

/// The same for TCP, listening. Non-blocking.
pub fn tcp_on(ip: Ipv4Addr, port: u16, device: &str) -> Result<TcpListener> {
    let socket = bound(ip, port, device, SocketType::STREAM)?;
    rustix::net::listen(&socket, 16).map_err(|errno| Error::call("listen", format!("{ip}:{port} on {device}"), errno.raw_os_error()))?;
    Ok(TcpListener::from(socket))
}

fn bound(ip: Ipv4Addr, port: u16, device: &str, kind: SocketType) -> Result<OwnedFd> {
    let address = SocketAddrV4::new(ip, port);
    let failed = |call, errno| Error::call(call, format!("{address} on {device}"), errno);
    let socket = socket(AddressFamily::INET, kind)?;
    if kind == SocketType::STREAM {
        // Connections of an earlier server linger in TIME_WAIT for a minute and would keep the port.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true).map_err(|e| failed("setsockopt SO_REUSEADDR", e.raw_os_error()))?;
    }
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(device)).map_err(|e| failed("setsockopt SO_BINDTODEVICE", e as i32))?;
    rustix::net::bind(&socket, &address).map_err(|e| failed("bind", e.raw_os_error()))?;
    Ok(socket)
}

/// A transport that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// IANA's number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// Takes a port, so that nobody else can have it (EADDRINUSE) until the descriptor is closed; nothing listens on it. None for SCTP, which
/// few kernels have.
pub fn reserve(protocol: Protocol, address: SocketAddrV4) -> Result<Option<OwnedFd>> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
        Protocol::Sctp => return Ok(None),
    };
    let socket = socket(AddressFamily::INET, kind)?;
    rustix::net::bind(&socket, &address).map_err(|errno| Error::call("bind", address, errno.raw_os_error()))?;
    Ok(Some(socket))
}

/// A UDP socket that talks with `peer` only: the kernel drops what comes from elsewhere, and picks the port at random.
/// Non-blocking.
pub fn udp_to(peer: SocketAddr) -> Result<UdpSocket> {
    connecting(peer, SocketType::DGRAM).map(UdpSocket::from)
}

/// A TCP connection to `peer` under way: it is made when the socket becomes writable, and broken if it has an error then.
pub fn tcp_to(peer: SocketAddr) -> Result<TcpStream> {
    connecting(peer, SocketType::STREAM).map(TcpStream::from)
}

fn connecting(peer: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    let socket = socket(if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }, kind)?;
    match rustix::net::connect(&socket, &peer) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(Error::call("connect", peer, errno.raw_os_error())),
    }
}

fn socket(family: AddressFamily, kind: SocketType) -> Result<OwnedFd> {
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None).map_err(|errno| Error::call("socket", "", errno.raw_os_error()))
}

/// Two bytes that nobody can guess.
pub fn random_u16() -> Result<u16> {
    let mut bytes = [0; 2];
    // SAFETY: the kernel writes at most the two bytes of the array, which outlives the call.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Fewer than 256 bytes come whole or not at all (getrandom(2)).
    if got == 2 { Ok(u16::from_ne_bytes(bytes)) } else { Err(Error::io("getrandom", "", &std::io::Error::last_os_error())) }
}

/// What a descriptor is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Read,
    Write,
    /// Only for errors and hang-ups, which are always told.
    Nothing,
}

/// Many descriptors, waited for by one (epoll(7)), which can itself be waited for. A closed descriptor leaves by itself.
pub struct Ready(OwnedFd);

impl Ready {
    pub fn new() -> Result<Ready> {
        epoll::create(epoll::CreateFlags::CLOEXEC).map(Ready).map_err(|e| Error::call("epoll_create1", "", e.raw_os_error()))
    }

    /// Adds a descriptor, told by `key` from now on.
    pub fn add(&self, fd: impl AsFd, key: u64, wait: Wait) -> Result<()> {
        epoll::add(&self.0, fd, epoll::EventData::new_u64(key), flags(wait)).map_err(|e| Error::call("epoll_ctl", "EPOLL_CTL_ADD", e.raw_os_error()))
    }

    /// Changes what it is waited for.
    pub fn set(&self, fd: impl AsFd, key: u64, wait: Wait) -> Result<()> {
        epoll::modify(&self.0, fd, epoll::EventData::new_u64(key), flags(wait)).map_err(|e| Error::call("epoll_ctl", "EPOLL_CTL_MOD", e.raw_os_error()))
    }

    /// The keys of those that are ready now, at most 32 of them; does not wait.
    pub fn now(&self) -> Result<Vec<u64>> {
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 32];
        match epoll::wait(&self.0, &mut events, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(count) => Ok(events[..count].iter().map(|event| event.data.u64()).collect()),
            Err(rustix::io::Errno::INTR) => Ok(Vec::new()),
            Err(errno) => Err(Error::call("epoll_wait", "", errno.raw_os_error())),
        }
    }
}

impl AsFd for Ready {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn flags(wait: Wait) -> epoll::EventFlags {
    match wait {
        Wait::Read => epoll::EventFlags::IN,
        Wait::Write => epoll::EventFlags::OUT,
        Wait::Nothing => epoll::EventFlags::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_namespace() -> std::path::PathBuf {
        std::fs::read_link("/proc/thread-self/ns/net").unwrap()
    }

    #[test]
    fn the_thread_comes_back_from_another_namespace_whatever_happens_in_there() {
        let home = own_namespace();
        let there = std::thread::spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            file::open("/proc/thread-self/ns/net", OFlags::RDONLY).unwrap()
        })
        .join()
        .unwrap();
        let seen = inside(there.as_fd(), || Ok(own_namespace())).unwrap();
        assert_ne!(seen, home);
        assert_eq!(own_namespace(), home);
        assert!(inside(there.as_fd(), || Err::<(), _>(Error::said("no"))).is_err());
        assert!(std::panic::catch_unwind(|| inside(there.as_fd(), || -> Result<()> { panic!("in there") })).is_err());
        assert_eq!(own_namespace(), home);
    }

    #[test]
    fn a_ready_descriptor_is_told_by_its_key() {
        let ready = Ready::new().unwrap();
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        ready.add(&here, 7, Wait::Read).unwrap();
        assert!(ready.now().unwrap().is_empty());
        udp_to(here.local_addr().unwrap()).unwrap().send(b"x").unwrap();
        assert_eq!(ready.now().unwrap(), [7]);
        ready.set(&here, 7, Wait::Nothing).unwrap();
        assert!(ready.now().unwrap().is_empty());
    }
}
