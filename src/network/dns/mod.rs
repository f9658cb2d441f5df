//! Names for one pod: it asks its gateway, and its supervisor answers from the leases or passes the question on.
//!
//! ```text
//!   pod ──UDP, TCP──▶ gateway:53, on this pod's link only
//!                        │ a pod's name        ▶ answered at once, from the leases      (zone, message: pure)
//!                        │ a Service's name    ▶ answered at once, from the files of its pods
//!                        │ anything else       ▶ the host's nameservers, one after the other
//!                        │                        each question from a socket of its own: a port and an id that
//!                        ◀────────────────────── nobody can guess, and the kernel drops what others send to it
//! ```
//!
//! Nothing here blocks and nothing waits: the supervisor waits for [`Server`]'s one descriptor and until
//! [`Server::deadline`], then calls [`Server::serve`]. Every table is bounded, so a pod that floods its server harms itself.

pub mod message;
mod tcp;
pub mod zone;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use self::message::{Code, TCP_LIMIT, UDP_LIMIT};
use self::tcp::Streams;
use self::zone::{Alias, Verdict, Zone};
pub use self::zone::{Endpoints, Port, Services};
use super::{Attachment, Names, Range};
use crate::error::{Error, Result};
use crate::sys::net::{self, Ready, Wait};

/// The port of DNS.
pub const PORT: u16 = 53;
/// How many questions over UDP may be with the host's nameservers at once. One more is dropped: its asker asks again.
const ASKED_MAX: usize = 64;
/// How long one nameserver has for its answer, in milliseconds: a resolver gives up after 5 s (resolv.conf(5), `timeout`),
/// and the third one must have had its turn by then.
const PATIENCE: u64 = 1500;
/// How many queries, or steps of a connection, are done before others have their turn.
const TURN: usize = 64;

/// Keys of the two listeners; all others are questions and connections under way.
const UDP: u64 = 0;
const TCP: u64 = 1;

/// The DNS server of one pod.
pub struct Server {
    ready: Ready,
    udp: UdpSocket,
    streams: Streams,
    asked: BTreeMap<u64, Asked>,
    home: Home,
    buffer: Vec<u8>,
}

/// What does not change: whose server it is, and whom it asks.
struct Home {
    namespace: String,
    range: Range,
    services: Box<dyn Services>,
    upstream: Vec<SocketAddr>,
}

impl Home {
    fn decide(&self, query: &[u8], names: &mut Names, limit: usize) -> Verdict {
        zone::decide(query, &Zone { namespace: &self.namespace, range: &self.range, pods: names.pods(), services: &*self.services }, limit)
    }
}

/// What a pod wants to know of a nameserver.
#[derive(PartialEq, Eq)]
struct Wish {
    client: SocketAddr,
    /// As the pod sent it, and so with the pod's id.
    query: Vec<u8>,
    /// It asks for a name that stands for another one.
    alias: Option<Alias>,
}

impl Wish {
    /// What is sent to nameservers, but for the id.
    fn question(&self) -> Vec<u8> {
        self.alias.as_ref().map_or_else(|| self.query.clone(), Alias::question)
    }
}

/// A question over UDP that is with a nameserver.
struct Asked {
    wish: Wish,
    /// As we sent it, with an id of ours.
    sent: Vec<u8>,
    socket: UdpSocket,
    /// Which of the nameservers has it.
    upstream: usize,
    /// When that one has had its time.
    deadline: u64,
}

impl Server {
    /// The server of an attached pod, on its gateway's port 53. `upstream` are the host's nameservers, in order.
    ///
    /// Other pods do not reach it. The host itself does reach that of its first pod, for a packet to an address of its own
    /// counts as coming from the link that has the address.
    ///
    /// EADDRINUSE means that a resolver of the host listens on every address; the pod's dnsPolicy then falls back to Default.
    pub fn bind(attachment: &Attachment, upstream: Vec<SocketAddr>, services: Box<dyn Services>) -> Result<Server> {
        let doing = |e: Error| {
            let pod = &attachment.pod;
            let why = if e.is(libc::EADDRINUSE) { ", for a resolver of this machine listens on every address" } else { "" };
            e.doing(format!("no DNS server for pod {}/{}{why}", pod.namespace, pod.name))
        };
        let udp = net::udp_on(attachment.gateway, PORT, &attachment.veth).map_err(doing)?;
        let tcp = net::tcp_on(attachment.gateway, PORT, &attachment.veth).map_err(doing)?;
        let ready = Ready::new()?;
        ready.add(&udp, UDP, Wait::Read)?;
        ready.add(&tcp, TCP, Wait::Read)?;
        let home = Home { namespace: attachment.pod.namespace.clone(), range: attachment.range, services, upstream };
        Ok(Server { ready, udp, streams: Streams::new(tcp), asked: BTreeMap::new(), home, buffer: vec![0; TCP_LIMIT] })
    }

    /// When [`Server::serve`] must be called again even if nothing becomes readable.
    pub fn deadline(&self) -> Option<u64> {
        self.asked.values().map(|asked| asked.deadline).chain(self.streams.deadline()).min()
    }

    /// Does all that can be done at `now` (milliseconds of a clock that only goes forward) without waiting.
    pub fn serve(&mut self, now: u64, names: &mut Names) -> Result<()> {
        for key in self.ready.now()? {
            match key {
                UDP => self.hear(now, names),
                TCP => self.streams.accept(now, &self.ready),
                key if self.asked.contains_key(&key) => self.pass_back(key, now),
                key => self.streams.advance(key, now, &self.ready, &self.home, names),
            }
        }
        let late: Vec<u64> = self.asked.iter().filter(|(_, asked)| asked.deadline <= now).map(|(key, _)| *key).collect();
        late.into_iter().for_each(|key| self.ask_next(key, now));
        self.streams.close_late(now);
        Ok(())
    }

    /// Reads queries from the pod.
    fn hear(&mut self, now: u64, names: &mut Names) {
        for _ in 0..TURN {
            let (length, client) = match self.udp.recv_from(&mut self.buffer) {
                Ok(heard) => heard,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // What the pod's own refusals (ICMP) or the end of the link leave behind is told once, and is no reason to end.
                Err(_) => continue,
            };
            let query = &self.buffer[..length];
            match self.home.decide(query, names, UDP_LIMIT) {
                Verdict::Ignore => {}
                Verdict::Answer(answer) => self.answer(&answer, client),
                Verdict::Forward => {
                    let query = query.to_vec();
                    self.ask(Wish { client, query, alias: None }, now);
                }
                Verdict::Follow(alias) => {
                    let query = query.to_vec();
                    self.ask(Wish { client, query, alias: Some(alias) }, now);
                }
            }
        }
    }

    /// An answer that cannot be sent now is lost, as any datagram may be; the asker asks again.
    fn answer(&self, answer: &[u8], client: SocketAddr) {
        let _ = self.udp.send_to(answer, client);
    }

    /// Passes a question on. One that is under way already was sent again by an impatient asker, and needs nothing.
    fn ask(&mut self, wish: Wish, now: u64) {
        let known = self.asked.values().any(|asked| asked.wish == wish);
        if known || self.asked.len() >= ASKED_MAX {
            return;
        }
        self.ask_from(0, wish, now);
    }

    /// Asks the nameservers from the given one on until one takes the question; without any the asker is told.
    fn ask_from(&mut self, first: usize, wish: Wish, now: u64) {
        for upstream in first..self.home.upstream.len() {
            if let Ok((key, socket, sent)) = self.send(&wish.question(), self.home.upstream[upstream]) {
                self.asked.insert(key, Asked { wish, sent, socket, upstream, deadline: now + PATIENCE });
                return;
            }
        }
        let answer = match &wish.alias {
            Some(alias) => alias.answer(&wish.query, &[], UDP_LIMIT),
            None => message::failure(&wish.query, Code::ServerFailure),
        };
        self.answer(&answer, wish.client);
    }

    /// One question, one socket.
    fn send(&mut self, query: &[u8], upstream: SocketAddr) -> Result<(u64, UdpSocket, Vec<u8>)> {
        let socket = net::udp_to(upstream)?;
        let mut sent = query.to_vec();
        message::set_id(&mut sent, net::random_u16()?);
        socket.send(&sent).map_err(|e| Error::io("send", upstream, &e))?;
        let key = self.streams.new_key();
        self.ready.add(&socket, key, Wait::Read)?;
        Ok((key, socket, sent))
    }

    /// Gives up on the nameserver that has the question.
    fn ask_next(&mut self, key: u64, now: u64) {
        if let Some(asked) = self.asked.remove(&key) {
            self.ask_from(asked.upstream + 1, asked.wish, now);
        }
    }

    /// Reads what a nameserver answered, and gives it to the pod as it is, with the pod's id.
    fn pass_back(&mut self, key: u64, now: u64) {
        let Some(asked) = self.asked.get(&key) else { return };
        let length = match asked.socket.recv(&mut self.buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            // Nobody listens there: the next one is asked at once.
            Err(_) => return self.ask_next(key, now),
        };
        let answer = &mut self.buffer[..length];
        // What does not fit the question is no answer; the right one may still come.
        let Some(code) = message::code_of_answer(answer, &asked.sent) else { return };
        let unwilling = [Code::ServerFailure, Code::NotImplemented, Code::Refused].iter().any(|c| *c as u8 == code);
        if unwilling && asked.upstream + 1 < self.home.upstream.len() {
            return self.ask_next(key, now);
        }
        let of_alias = asked.wish.alias.as_ref().map(|alias| alias.answer(&asked.wish.query, answer, UDP_LIMIT));
        message::set_id(answer, message::id(&asked.wish.query).unwrap_or_default());
        let _ = self.udp.send_to(of_alias.as_deref().unwrap_or(answer), asked.wish.client);
        self.asked.remove(&key);
    }
}

/// The one descriptor to wait for: readable when [`Server::serve`] has something to do.
impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}
