//! DNS over TCP (RFC 7766): what a resolver does after an answer that was cut. Few use it, so a connection has one question
//! under way at a time, and one that takes too long is closed.
//!
//! ```text
//!   heard ──a whole query──▶ a pod's name ▶ to_say ──▶ the pod
//!                            else ▶ Relay (connection to a nameserver) ──a whole answer──▶ to_say
//! ```

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::message::{self, Code, TCP_LIMIT};
use super::{Home, Names, TURN, Verdict};
use crate::error::{Error, Result};
use crate::sys::net::{self, Ready, Wait};

/// How many connections a pod may have; one more is closed.
const STREAMS_MAX: usize = 16;
/// How long a connection lives after it did something, in milliseconds.
const IDLE: u64 = 5000;
/// The first key after those of the listeners.
const FIRST_KEY: u64 = 2;

/// The connections of a pod to its server.
pub struct Streams {
    listener: TcpListener,
    /// By the key of the pod's end; the nameserver's end has the one after it.
    open: BTreeMap<u64, Stream>,
    next_key: u64,
}

struct Stream {
    pod: TcpStream,
    heard: Vec<u8>,
    to_say: Vec<u8>,
    relay: Option<Relay>,
    deadline: u64,
}

/// A question that is with a nameserver.
struct Relay {
    server: TcpStream,
    upstream: usize,
    query: Vec<u8>,
    to_say: Vec<u8>,
    heard: Vec<u8>,
}

/// What a step of a connection came to.
enum Step {
    /// Something moved; try again.
    Moved,
    /// Nothing can be done until one of the two ends is ready.
    Wait,
    Close,
}

impl Streams {
    pub fn new(listener: TcpListener) -> Streams {
        Streams { listener, open: BTreeMap::new(), next_key: FIRST_KEY }
    }

    /// A key that was never used; keys of connections come in pairs.
    pub fn new_key(&mut self) -> u64 {
        self.next_key += 2;
        self.next_key - 2
    }

    pub fn deadline(&self) -> Option<u64> {
        self.open.values().map(|stream| stream.deadline).min()
    }

    pub fn close_late(&mut self, now: u64) {
        self.open.retain(|_, stream| stream.deadline > now);
    }

    pub fn accept(&mut self, now: u64, ready: &Ready) {
        while let Ok((pod, _)) = self.listener.accept() {
            let key = self.new_key();
            if self.open.len() < STREAMS_MAX && pod.set_nonblocking(true).is_ok() && ready.add(&pod, key, Wait::Read).is_ok() {
                self.open.insert(key, Stream { pod, heard: vec![], to_say: vec![], relay: None, deadline: now + IDLE });
            }
        }
    }

    /// Goes on with the connection that one of the two keys belongs to.
    pub fn advance(&mut self, key: u64, now: u64, ready: &Ready, home: &Home, names: &mut Names) {
        let (key, pods_end) = (key & !1, key & 1 == 0);
        let Some(stream) = self.open.get_mut(&key) else { return };
        // While a question is under way the pod's end is waited for only to hang up; that would be told again and again.
        let mut open = !(pods_end && stream.relay.is_some() && stream.to_say.is_empty());
        for _ in 0..TURN {
            match if open { stream.step(key, ready, home, names) } else { Step::Close } {
                Step::Moved => stream.deadline = now + IDLE,
                Step::Wait => break,
                Step::Close => {
                    open = false;
                    break;
                }
            }
        }
        if !open || stream.wait(key, ready).is_err() {
            self.open.remove(&key);
        }
    }
}

impl Stream {
    fn step(&mut self, key: u64, ready: &Ready, home: &Home, names: &mut Names) -> Step {
        if !self.to_say.is_empty() {
            return say(&mut self.pod, &mut self.to_say);
        }
        if let Some(relay) = &mut self.relay {
            return match relay.step() {
                Ok(None) => Step::Wait,
                Ok(Some(answer)) => {
                    self.to_say = framed(&answer);
                    self.relay = None;
                    Step::Moved
                }
                Err(_) => {
                    let (query, upstream) = (std::mem::take(&mut relay.query), relay.upstream + 1);
                    self.ask_from(upstream, query, key, ready, home);
                    Step::Moved
                }
            };
        }
        if let Some(query) = unframed(&mut self.heard) {
            match home.decide(&query, names, TCP_LIMIT) {
                Verdict::Ignore => return Step::Close,
                Verdict::Answer(answer) => self.to_say = framed(&answer),
                // Whoever comes by TCP looks a name up by itself, or had a UDP answer that was cut: then it has more aliases than a program follows.
                Verdict::Follow(alias) => self.to_say = framed(&alias.answer(&query, &[], TCP_LIMIT)),
                Verdict::Forward => self.ask_from(0, query, key, ready, home),
            }
            return Step::Moved;
        }
        match hear(&mut self.pod, &mut self.heard) {
            Ok(0) => Step::Close,
            Ok(_) => Step::Moved,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Step::Wait,
            Err(_) => Step::Close,
        }
    }

    /// Asks the nameservers from the given one on; without any the asker is told.
    fn ask_from(&mut self, first: usize, query: Vec<u8>, key: u64, ready: &Ready, home: &Home) {
        for (upstream, address) in home.upstream.iter().enumerate().skip(first) {
            let Ok(server) = net::tcp_to(*address) else { continue };
            if ready.add(&server, key + 1, Wait::Write).is_ok() {
                self.relay = Some(Relay { server, upstream, to_say: framed(&query), query, heard: vec![] });
                return;
            }
        }
        self.relay = None;
        self.to_say = framed(&message::failure(&query, Code::ServerFailure));
    }

    /// Says what is waited for now. The pod's end is deaf while its question is under way.
    fn wait(&self, key: u64, ready: &Ready) -> Result<()> {
        let pod = match &self.relay {
            _ if !self.to_say.is_empty() => Wait::Write,
            Some(_) => Wait::Nothing,
            None => Wait::Read,
        };
        ready.set(&self.pod, key, pod)?;
        match &self.relay {
            Some(relay) => ready.set(&relay.server, key + 1, if relay.to_say.is_empty() { Wait::Read } else { Wait::Write }),
            None => Ok(()),
        }
    }
}

impl Relay {
    /// The nameserver's answer, when it is whole; None while there is nothing to do but wait.
    fn step(&mut self) -> Result<Option<Vec<u8>>> {
        let failed = |call, e: &std::io::Error| Err(Error::io(call, "nameserver", e));
        while !self.to_say.is_empty() {
            match self.server.write(&self.to_say) {
                Ok(count) => drop(self.to_say.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return failed("send", &error),
            }
        }
        loop {
            if let Some(answer) = unframed(&mut self.heard) {
                return match message::code_of_answer(&answer, &self.query) {
                    Some(_) => Ok(Some(answer)),
                    None => Err(Error::said("an answer to another question")),
                };
            }
            match hear(&mut self.server, &mut self.heard) {
                Ok(0) => return Err(Error::said("the nameserver closed the connection")),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return failed("recv", &error),
            }
        }
    }
}

fn say(to: &mut TcpStream, bytes: &mut Vec<u8>) -> Step {
    match to.write(bytes) {
        Ok(0) => Step::Close,
        Ok(count) => {
            bytes.drain(..count);
            Step::Moved
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Step::Wait,
        Err(_) => Step::Close,
    }
}

fn hear(from: &mut TcpStream, heard: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut bytes = [0; 4096];
    let count = from.read(&mut bytes)?;
    heard.extend_from_slice(&bytes[..count]);
    Ok(count)
}

/// A message with its length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = message.len().min(TCP_LIMIT);
    [&(length as u16).to_be_bytes(), &message[..length]].concat()
}

/// Takes the first message off, if it is there whole.
fn unframed(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*bytes.first_chunk()?));
    let message = bytes.get(2..2 + length)?.to_vec();
    bytes.drain(..2 + length);
    Some(message)
}
