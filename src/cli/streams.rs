//! Our standard input on its way into a container, and the keys that leave it.

use std::os::fd::OwnedFd;

use crate::error::Error;
use crate::sys::poll::Poll;
use crate::sys::{process, tty};

/// Our standard input on its way to a program, which may take it slowly: nothing is read before the last piece is gone.
pub struct Feed {
    into: Option<OwnedFd>,
    /// What our input and the program's are called in the poll set.
    keys: u64,
    room: u64,
    piece: Vec<u8>,
    /// A regular file is always ready, and epoll(7) does not take it.
    always_ready: bool,
}

/// What a turn of a feed came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    More,
    /// Our input has ended, or the program reads no more.
    End,
}

impl Feed {
    /// Feeds `into`, a pipe or a terminal; without one it does nothing.
    pub fn new(into: Option<OwnedFd>, keys: u64, room: u64, poll: &Poll) -> Result<Feed, Error> {
        let mut feed = Feed { into, keys, room, piece: Vec::new(), always_ready: false };
        if let Some(into) = &feed.into {
            process::set_nonblocking(into)?;
            match poll.add(std::io::stdin(), keys) {
                Err(error) if error.is(libc::EPERM) => {
                    feed.always_ready = true;
                    poll.add_writer(into, room)?;
                }
                added => added?,
            }
        }
        Ok(feed)
    }

    /// Reads a piece if there is none, writes what fits, and watches for what must come next. `pass` says what of a piece goes on.
    pub fn go_on(&mut self, poll: &Poll, pass: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<Fed, Error> {
        let Some(into) = &self.into else { return Ok(Fed::End) };
        if self.piece.is_empty() {
            let mut buffer = [0; 32 * 1024];
            let n = tty::read(std::io::stdin(), &mut buffer)?;
            if n == 0 {
                return Ok(self.end(poll));
            }
            self.piece = pass(buffer[..n].to_vec());
            if !self.always_ready {
                poll.remove(std::io::stdin());
                poll.add_writer(into, self.room)?;
            }
        }
        match tty::write(into, &self.piece) {
            Ok(n) => drop(self.piece.drain(..n)),
            Err(error) if error.is(libc::EAGAIN) => {}
            // It reads no more: what it did not want is dropped.
            Err(error) if error.is(libc::EPIPE) || error.is(libc::EIO) => return Ok(self.end(poll)),
            Err(error) => return Err(error),
        }
        if self.piece.is_empty() && !self.always_ready {
            poll.remove(into);
            poll.add(std::io::stdin(), self.keys)?;
        }
        Ok(Fed::More)
    }

    fn end(&mut self, poll: &Poll) -> Fed {
        poll.remove(std::io::stdin());
        if let Some(into) = self.into.take() {
            poll.remove(&into);
        }
        Fed::End
    }
}

/// The keys that leave a container's terminal while its program goes on: ctrl-p, ctrl-q.
#[derive(Debug, Default)]
pub struct DetachKeys {
    /// ctrl-p was typed last, and is held until the next key tells what it meant.
    held: bool,
}

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;

impl DetachKeys {
    /// What of the keys goes on to the program, and whether the two were typed: what follows them is for nobody.
    pub fn scan(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len() + 1);
        for key in typed {
            match (self.held, *key) {
                (true, CTRL_Q) => return (passed, true),
                // The one before goes on; this one may still be the first of the two.
                (true, CTRL_P) => passed.push(CTRL_P),
                (true, key) => {
                    self.held = false;
                    passed.extend([CTRL_P, key]);
                }
                (false, CTRL_P) => self.held = true,
                (false, key) => passed.push(key),
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes through of these pieces, and whether they detach.
    fn scan(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = DetachKeys::default();
        let mut all = Vec::new();
        for piece in pieces {
            let (passed, detached) = keys.scan(piece);
            all.extend(passed);
            if detached {
                return (all, true);
            }
        }
        (all, false)
    }

    #[test]
    fn the_two_keys_detach_also_across_two_reads() {
        assert_eq!(scan(&[b"ls\r\x10\x11more"]), (b"ls\r".to_vec(), true));
        assert_eq!(scan(&[b"a\x10", b"\x11"]), (b"a".to_vec(), true));
        assert_eq!(scan(&[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
    }

    #[test]
    fn anything_else_comes_through_as_it_was_typed() {
        for keys in [b"plain".as_slice(), b"\x10a", b"\x11", b"\x11\x10x", b"\x10\x10a", b"\x03\x04\0\xff"] {
            assert_eq!(scan(&[keys]), (keys.to_vec(), false), "{keys:?}");
            let single: Vec<&[u8]> = keys.chunks(1).collect();
            assert_eq!(scan(&single), (keys.to_vec(), false), "{keys:?}, one by one");
        }
    }
}
