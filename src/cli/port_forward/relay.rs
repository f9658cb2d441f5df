//! One connection: bytes from a near socket to a far one and back, each way with a bounded buffer, neither ever blocking.
//!
//! ```text
//! near ──▶ buffer ──▶ far       an end of one way is passed on when its buffer is empty (shutdown of writing);
//! near ◀── buffer ◀── far       the other way goes on. Both ways at their end: done.
//! ```
//!
//! What is full is not read: so the sender is held up by TCP itself.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::error::Error;

/// The most that one way holds.
const BUFFER: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Near,
    Far,
}

/// What came of a turn.
#[derive(Debug)]
pub enum State {
    Going,
    /// Both ways have ended, or the client broke it off, which is its right.
    Done,
    /// The far side broke it off.
    Broken(Error),
    /// Nobody listens at the far end; with what was refused before.
    Refused(Error, Option<Error>),
}

pub struct Relay {
    /// The port that it came in by, and the one that it leads to.
    pub local: u16,
    pub remote: u16,
    near: TcpStream,
    far: Option<TcpStream>,
    connected: bool,
    refused: Option<Error>,
    /// From near to far, and back.
    ways: [Way; 2],
}

/// One direction.
#[derive(Default)]
struct Way {
    held: Vec<u8>,
    /// The sender has ended.
    ended: bool,
    /// The receiver was told so.
    shut: bool,
}

impl Relay {
    /// A relay for an accepted connection, whose far end is still to be made.
    pub fn new(near: TcpStream, local: u16, remote: u16) -> Relay {
        Relay { local, remote, near, far: None, connected: false, refused: None, ways: Default::default() }
    }

    /// Its far end is being connected; `refused` is what came of an address before.
    pub fn connecting(&mut self, far: TcpStream, refused: Option<Error>) {
        (self.far, self.connected, self.refused) = (Some(far), false, refused);
    }

    /// Does what can be done without waiting.
    pub fn go_on(&mut self) -> State {
        let Some(far) = &self.far else { return State::Going };
        if !self.connected {
            match far.take_error() {
                Ok(Some(error)) | Err(error) => {
                    let address = far.peer_addr().map_or_else(|_| format!("localhost:{}", self.remote), |peer| peer.to_string());
                    return State::Refused(Error::io("connect", address, &error), self.refused.take());
                }
                // ENOTCONN: still under way.
                Ok(None) if far.peer_addr().is_err() => return State::Going,
                Ok(None) => self.connected = true,
            }
        }
        let [up, down] = &mut self.ways;
        // A peer that has gone takes the other way with it: nobody is left to hear.
        if let Err(error) = up.carry(&self.near, far).and_then(|()| down.carry(far, &self.near)) {
            return match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => State::Done,
                _ => State::Broken(Error::io("read", "", &error)),
            };
        }
        if self.ways.iter().all(|way| way.shut) { State::Done } else { State::Going }
    }

    /// A side's socket, and whether it is waited for to read from it and to write to it.
    pub fn wants(&self, side: Side) -> (&TcpStream, bool, bool) {
        let far = self.far.as_ref().unwrap_or(&self.near);
        let [up, down] = &self.ways;
        match side {
            // Until the far end is there nothing is taken from the near one.
            Side::Near => (&self.near, self.connected && up.reads(), !down.held.is_empty()),
            Side::Far => (far, self.connected && down.reads(), !self.connected || !up.held.is_empty()),
        }
    }
}

impl Way {
    fn reads(&self) -> bool {
        !self.ended && self.held.len() < BUFFER
    }

    /// Reads what there is room for and writes what is taken, once.
    fn carry(&mut self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        if self.reads() {
            let held = self.held.len();
            self.held.resize(BUFFER, 0);
            let read = retry(|| from.read(&mut self.held[held..]));
            self.held.truncate(held + *read.as_ref().ok().and_then(Option::as_ref).unwrap_or(&0));
            self.ended = read? == Some(0);
        }
        if !self.held.is_empty()
            && let Some(n) = retry(|| to.write(&self.held))?
        {
            self.held.drain(..n);
        }
        if self.ended && self.held.is_empty() && !self.shut {
            self.shut = true;
            // ENOTCONN: it has gone meanwhile, and knows.
            let _ = to.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

/// None: it would have to wait.
fn retry(mut deed: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match deed() {
            Ok(n) => return Ok(Some(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::Poll;
    use std::net::TcpListener;
    use std::thread;

    /// Two connected sockets; the second does not block.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let outer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let inner = listener.accept().unwrap().0;
        inner.set_nonblocking(true).unwrap();
        (outer, inner)
    }

    /// Runs a relay between a client and a server until it is done.
    fn relayed(client: impl FnOnce(TcpStream) + Send, server: impl FnOnce(TcpStream) + Send) {
        let ((outside, near), (inside, far)) = (pair(), pair());
        let mut relay = Relay::new(near, 8080, 80);
        relay.connecting(far, None);
        thread::scope(|threads| {
            threads.spawn(|| client(outside));
            threads.spawn(|| server(inside));
            let mut poll = Poll::new().unwrap();
            loop {
                match relay.go_on() {
                    State::Going => {}
                    State::Done => break,
                    other => panic!("{other:?}"),
                }
                for (token, side) in [Side::Near, Side::Far].into_iter().enumerate() {
                    let (socket, read, write) = relay.wants(side);
                    poll.want(socket, token as u64, read, write).unwrap();
                }
                poll.wait(None).unwrap();
                assert!(relay.ways.iter().all(|way| way.held.len() <= BUFFER));
            }
            drop(relay);
        });
    }

    #[test]
    fn an_end_of_one_way_is_passed_on_and_the_other_way_goes_on() {
        let question: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        relayed(
            |mut client| {
                client.write_all(&question).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).unwrap();
                assert!(answer.iter().rev().eq(&question), "{} bytes came back", answer.len());
            },
            |mut server| {
                let mut heard = Vec::new();
                server.read_to_end(&mut heard).unwrap();
                heard.reverse();
                server.write_all(&heard).unwrap();
            },
        );
    }

    #[test]
    fn a_server_that_speaks_first_and_a_client_that_leaves_are_fine() {
        relayed(
            |mut client| {
                let mut greeting = [0; 5];
                client.read_exact(&mut greeting).unwrap();
                assert_eq!(&greeting, b"hello");
            },
            |mut server| {
                server.write_all(b"hello").unwrap();
                assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
            },
        );
    }

    #[test]
    fn a_refused_far_end_is_told_with_what_was_refused_before() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut relay = Relay::new(pair().1, 8080, gone.port());
        let Ok(far) = crate::sys::net::tcp_to(gone) else { return };
        let mut poll = Poll::new().unwrap();
        poll.want(&far, 0, false, true).unwrap();
        poll.wait(None).unwrap();
        relay.connecting(far, Some(Error::said("before")));
        let State::Refused(error, Some(first)) = relay.go_on() else { panic!("it must be refused") };
        assert!(error.is(libc::ECONNREFUSED) && first == Error::said("before"), "{error}, {first}");
    }
}
