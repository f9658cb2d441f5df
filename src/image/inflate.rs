//! A layer's bytes on their way from a blob to files.
//!
//! ```text
//! a thread of its own                              the caller
//! read ─▶ SHA-256 ─▶ inflate ─▶ SHA-256 ──full──▶ read ─▶ make files
//!                                   ▲                │
//!                                   └─────empty──────┘   a few buffers go round
//! ```
//!
//! Inflating and hashing take as long as the kernel takes to make the files, so the two go side by side. Only a process that unpacks a
//! layer has this thread, and it starts no process while it has it.

use std::io::{self, BufReader, Read};
use std::sync::mpsc::{self, Receiver, Sender};

use super::archive::decompressed;
use super::digest::Hashing;
use super::layer::MAX_LAYER;
use crate::error::{Error, Result};

/// Bytes of one buffer: more than most files, so that few entries have to wait for the other thread.
const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 4;

/// What went through, when all of it has.
pub struct Sums {
    /// `sha256:...` and bytes of the blob.
    pub written: io::Result<(String, u64)>,
    /// `sha256:...` of what it inflates to, as far as somebody has read it.
    pub unpacked: Option<String>,
}

/// The inflated bytes, for the one who unpacks them.
pub struct Inflated {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
}

/// Hands what `packed` inflates to to `unpack`. Returns what that returns, and the sums of all of `packed`, whether or not it was read to its
/// end. Error: no thread can be made.
pub fn inflated<T>(packed: impl Read + Send, unpack: impl FnOnce(&mut Inflated) -> T) -> Result<(T, Sums)> {
    let (give_full, full) = mpsc::channel();
    let (empty, take_empty) = mpsc::channel();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("inflate".to_owned());
        let thread = thread.spawn_scoped(scope, move || inflate(packed, give_full, &take_empty)).map_err(|error| Error::io("clone", "a thread", &error))?;
        let mut inflated = Inflated { full, empty, buffer: Vec::new(), at: 0 };
        for _ in 0..BUFFERS {
            inflated.give_back(Vec::new());
        }
        let unpacked = unpack(&mut inflated);
        // The other thread waits for a buffer no more.
        drop(inflated);
        Ok((unpacked, thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
    })
}

fn inflate(packed: impl Read, full: Sender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) -> Sums {
    let (packed, written) = Hashing::new(packed, MAX_LAYER);
    let mut packed = BufReader::with_capacity(BUFFER, packed);
    let passed = decompressed(&mut packed).and_then(|stream| {
        let (mut stream, unpacked) = Hashing::new(stream, MAX_LAYER);
        while let Ok(mut buffer) = empty.recv() {
            buffer.resize(BUFFER, 0);
            let length = stream.read(&mut buffer)?;
            buffer.truncate(length);
            if buffer.is_empty() || full.send(Ok(buffer)).is_err() {
                break;
            }
        }
        Ok(unpacked.digest())
    });
    let unpacked = passed.map_err(|error| full.send(Err(error))).ok();
    // The end of the stream, for who reads it.
    drop(full);
    let rest = io::copy(&mut packed, &mut io::sink());
    Sums { written: rest.map(|_| (written.digest(), written.bytes())), unpacked }
}

impl Inflated {
    fn give_back(&self, buffer: Vec<u8>) {
        // At the stream's end nobody wants it any more.
        let _ = self.empty.send(buffer);
    }
}

impl Read for Inflated {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            let Ok(next) = self.full.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.buffer, next?);
            self.give_back(used);
            self.at = 0;
        }
        let length = into.len().min(self.buffer.len() - self.at);
        into[..length].copy_from_slice(&self.buffer[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::sha256;
    use std::io::Write;

    /// Some megabytes that a gzip does not make small, and that gzip.
    fn packed() -> (Vec<u8>, Vec<u8>) {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let content: Vec<u8> = (0..3 * BUFFERS * BUFFER + 7).map(|_| next()).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        (content, gzip.finish().unwrap())
    }

    #[test]
    fn all_bytes_come_through_in_their_order_and_the_sums_are_theirs() {
        let (content, gzip) = packed();
        let (read, sums) = inflated(gzip.as_slice(), |stream| {
            let mut read = Vec::new();
            stream.read_to_end(&mut read).map(|_| read)
        })
        .unwrap();
        assert!(read.unwrap() == content);
        assert_eq!(sums.written.unwrap(), (sha256(&gzip), gzip.len() as u64));
        assert_eq!(sums.unpacked.unwrap(), sha256(&content));
    }

    #[test]
    fn the_blob_is_summed_to_its_end_though_nobody_reads_it() {
        let (_, gzip) = packed();
        let ((), sums) = inflated(gzip.as_slice(), |_| ()).unwrap();
        assert_eq!(sums.written.unwrap(), (sha256(&gzip), gzip.len() as u64));
    }

    #[test]
    fn damage_is_told_to_who_reads_and_the_blob_is_summed_all_the_same() {
        let (_, mut gzip) = packed();
        let middle = gzip.len() / 2;
        gzip.truncate(middle);
        let (read, sums) = inflated(gzip.as_slice(), |stream| io::copy(stream, &mut io::sink())).unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(sums.written.unwrap(), (sha256(&gzip), middle as u64));
        assert!(sums.unpacked.is_none());
    }
}
