//! SHA-256 while bytes stream by.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `sha256:` and 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Whether a text is a digest that we can verify; anything else must not become a file name.
pub fn is_sha256(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

/// What has gone through a [`Hashing`] so far, shared with who asks at the end.
#[derive(Clone, Default)]
pub struct Seen(Rc<RefCell<(Sha256, u64)>>);

impl Seen {
    pub fn digest(&self) -> String {
        format!("sha256:{}", hex(&self.0.borrow().0.clone().finalize()))
    }

    pub fn bytes(&self) -> u64 {
        self.0.borrow().1
    }
}

/// A reader or writer that hashes and counts what goes through it, and refuses to let more than `limit` bytes through.
pub struct Hashing<R> {
    inner: R,
    limit: u64,
    seen: Seen,
}

impl<R> Hashing<R> {
    pub fn new(inner: R, limit: u64) -> (Hashing<R>, Seen) {
        let seen = Seen::default();
        (Hashing { inner, limit, seen: seen.clone() }, seen)
    }

    fn passed(&self, bytes: &[u8]) -> io::Result<()> {
        let mut seen = self.seen.0.borrow_mut();
        seen.0.update(bytes);
        seen.1 += bytes.len() as u64;
        if seen.1 > self.limit { Err(io::Error::other(format!("it is larger than {} bytes", self.limit))) } else { Ok(()) }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.passed(&buffer[..length]).map(|()| length)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.passed(&bytes[..length]).map(|()| length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
