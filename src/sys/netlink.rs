//! Netlink, synchronously: a batch of requests goes out in one send, its answers are read back before anything else.
//!
//! ```text
//!   Request, Request, Request ──one sendto──▶ kernel (handles them in order, answers each, before sendto returns)
//!   ack, ack, error(errno, message) ◀──────── recv, never blocking: an answer that is not there will not come
//! ```
//!
//! A socket belongs to the network namespace it was opened in and stays there, wherever its thread goes later (see
//! [`crate::sys::net::inside`]). All netlink-packet crates are named beneath this module only: they break their interface in
//! most minor versions, together.

pub mod nft;
pub mod route;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr, protocols};

use crate::error::{Error, Result};

/// The kernel never builds a larger datagram for a receiver (netlink(7); NLMSG_GOODSIZE and 32 KiB for dumps).
const DATAGRAM: usize = 32 * 1024;
/// The text attribute of an extended acknowledgement (linux/netlink.h).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A netlink socket of one family, in the network namespace it was opened in.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One request: what is asked for, and the words for it should it fail.
pub struct Request<M> {
    /// The message type's name in the man page (`RTM_NEWLINK`).
    call: &'static str,
    /// What it is about (`eth0`, `10.77.0.5/32`).
    object: String,
    flags: u16,
    message: M,
}

impl<M> Request<M> {
    /// A request that the kernel acknowledges.
    fn new(call: &'static str, object: impl Into<String>, message: M) -> Request<M> {
        Request { call, object: object.into(), flags: NLM_F_REQUEST | NLM_F_ACK, message }
    }

    /// The thing must not be there yet (EEXIST).
    fn create(mut self) -> Request<M> {
        self.flags |= NLM_F_CREATE | NLM_F_EXCL;
        self
    }
}

/// An answer that is not an acknowledgement: the message's type and its bytes.
type Answer = (u16, Vec<u8>);

impl Netlink {
    /// A socket for links, addresses and routes (rtnetlink(7)), in the network namespace of the calling thread.
    pub fn route() -> Result<Netlink> {
        Netlink::open(protocols::NETLINK_ROUTE, "NETLINK_ROUTE")
    }

    /// A socket for packet filtering rules, in the network namespace of the calling thread.
    pub fn netfilter() -> Result<Netlink> {
        Netlink::open(protocols::NETLINK_NETFILTER, "NETLINK_NETFILTER")
    }

    fn open(protocol: isize, name: &'static str) -> Result<Netlink> {
        let failed = |e: std::io::Error| Error::io("socket", name, &e);
        let socket = Socket::new(protocol).map_err(failed)?;
        // Without the cap an error repeats the whole request; with the extended acknowledgement it says why in words.
        socket.set_cap_ack(true).map_err(failed)?;
        socket.set_ext_ack(true).map_err(failed)?;
        Ok(Netlink { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Sends all requests at once and collects their acknowledgements; the first that failed is told. The kernel does not
    /// stop at a failed one (only nftables' batches are atomic), so the rest may have been done.
    pub fn send<M: NetlinkSerializable>(&mut self, requests: Vec<Request<M>>) -> Result<()> {
        self.exchange(requests).map(drop)
    }

    /// Sends one request and returns what came back for it.
    fn ask<M: NetlinkSerializable>(&mut self, request: Request<M>) -> Result<Vec<Answer>> {
        self.exchange(vec![request])
    }

    /// Asks for all there is of a kind.
    fn dump<M: NetlinkSerializable>(&mut self, mut request: Request<M>) -> Result<Vec<Answer>> {
        request.flags = NLM_F_REQUEST | NLM_F_DUMP;
        self.exchange(vec![request])
    }

    fn exchange<M: NetlinkSerializable>(&mut self, requests: Vec<Request<M>>) -> Result<Vec<Answer>> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let mut asked = Vec::with_capacity(requests.len());
        let mut awaited = 0;
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            awaited += usize::from(request.flags & (NLM_F_ACK | NLM_F_DUMP) != 0);
            append(&mut bytes, self.sequence, request.flags, request.message);
            asked.push((request.call, request.object));
        }
        let whole = || asked.iter().map(|(_, object)| object.as_str()).collect::<Vec<_>>().join(", ");
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map_err(|e| Error::io("sendto", whole(), &e))?;
        let mut answers = Vec::new();
        while awaited > 0 {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT).map_err(|e| Error::io("recv", whole(), &e))?;
            for message in Messages(&self.buffer) {
                // An older number is an answer to a batch that was given up at its first error.
                let Some((call, object)) = asked.get(message.sequence_number().wrapping_sub(first) as usize) else { continue };
                match message.message_type() {
                    NLMSG_ERROR | NLMSG_DONE => match errno_of(&message) {
                        0 => awaited = awaited.saturating_sub(1),
                        errno => return Err(refused(call, object, errno, &message)),
                    },
                    kind => answers.push((kind, message.payload().to_vec())),
                }
            }
        }
        Ok(answers)
    }
}

fn append<M: NetlinkSerializable>(bytes: &mut Vec<u8>, sequence: u32, flags: u16, message: M) {
    let mut header = NetlinkHeader::default();
    header.sequence_number = sequence;
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let at = bytes.len();
    bytes.resize(at + message.buffer_len(), 0);
    message.serialize(&mut bytes[at..]);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The messages of one datagram; ends at the first that is cut.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = NetlinkBuffer<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let message = NetlinkBuffer::new_checked(self.0).ok()?;
        let length = (message.length() as usize).next_multiple_of(4).min(self.0.len());
        let (this, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(NetlinkBuffer::new(this))
    }
}

/// The positive errno of an NLMSG_ERROR, or of an NLMSG_DONE whose dump broke; 0 for success.
fn errno_of(message: &NetlinkBuffer<&[u8]>) -> i32 {
    let code = message.payload().first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    code.checked_neg().unwrap_or(libc::EIO)
}

/// The error of a refused request; the kernel's own words, if it gave some, stand behind the object.
fn refused(call: &'static str, object: &str, errno: i32, message: &NetlinkBuffer<&[u8]>) -> Error {
    // The capped answer is the errno (4 bytes), the header of the request (16), then the attributes.
    let attributes = if message.flags() & NLM_F_ACK_TLVS != 0 { message.payload().get(20..).unwrap_or_default() } else { &[] };
    let text = NlasIterator::new(attributes).flatten().find(|a| a.kind() == NLMSGERR_ATTR_MSG);
    match text.map(|a| String::from_utf8_lossy(a.value()).trim_end_matches('\0').to_owned()) {
        Some(text) => Error::call(call, format!("{object} ({text})"), errno),
        None => Error::call(call, object, errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_request_names_its_object_and_errno() {
        let mut netlink = Netlink::route().unwrap();
        let error = netlink.link_index("nosuchlink0").unwrap_err();
        assert!(error.is(libc::ENODEV), "{error}");
        assert!(error.to_string().contains("RTM_GETLINK \"nosuchlink0"), "{error}");
        assert_eq!(netlink.link_index("lo").unwrap(), 1, "the socket goes on after an error");
    }

    #[test]
    fn a_cut_or_senseless_datagram_ends_the_reading() {
        for bytes in [&[][..], &[1, 2, 3], &[255; 20], &[0; 16], &[4, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Messages(bytes).count(), 0);
        }
        let mut two = Vec::new();
        append(&mut two, 1, 0, route::link_up("lo", 1).message);
        append(&mut two, 2, 0, route::link_up("lo", 1).message);
        assert_eq!(Messages(&two).map(|m| m.sequence_number()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(Messages(&two[..two.len() - 1]).count(), 1);
    }
}
