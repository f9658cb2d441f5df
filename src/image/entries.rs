//! The entries of a tar stream.
//!
//! ```text
//! [x path=... mtime=... SCHILY.xattr...] [L long name] [K long link] [header] [content] [padding] ...
//!  \_____________ extensions of the one header that follows _____/
//! ```
//!
//! The crate `tar` reads the headers. The walk from header to header is ours, for two reasons: its parser of PAX records splits them at
//! newlines, and a binary `security.capability` may hold one, upon which the whole record with the entry's true name is lost; and
//! it reads an extension of any size into memory.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Of one PAX or GNU extension. Names are at most 4096 bytes and a file's attributes at most 64 KiB on ext4.
const MAX_EXTENSION: u64 = 1 << 20;

/// What one entry says, without its content.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: OsString,
    /// The target of a symlink, or the name that a hard link is to.
    pub link: OsString,
    pub kind: EntryType,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Since 1970, in seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Bytes of content that follow.
    pub size: u64,
    /// Major and minor number.
    pub device: (u32, u32),
    pub attributes: Vec<(OsString, Vec<u8>)>,
}

/// The walk. Content is read through [`Read`]; what is left of it is skipped by the next step.
pub struct Entries<R> {
    inner: R,
    position: u64,
    content: u64,
    padding: u64,
}

#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Extensions {
    /// The last record of that key, which wins.
    fn find(&self, key: &[u8]) -> Option<&[u8]> {
        self.records.iter().rev().find(|(found, _)| found == key).map(|(_, value)| value.as_slice())
    }

    fn number(&self, key: &[u8]) -> io::Result<Option<u64>> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| bad(format!("the extended header {} is not a number", String::from_utf8_lossy(key))))
    }
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl<R: Read> Entries<R> {
    pub fn new(inner: R) -> Entries<R> {
        Entries { inner, position: 0, content: 0, padding: 0 }
    }

    /// Where in the stream the next byte is: after [`Entries::next`], the start of the entry's content.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The stream, for what follows the end of the archive.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, or None at the end of the archive.
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            self.frame(header.entry_size()?);
            match kind {
                EntryType::GNULongName => extensions.name = Some(until_nul(self.extension()?)),
                EntryType::GNULongLink => extensions.link = Some(until_nul(self.extension()?)),
                EntryType::XHeader => extensions.records = records(&self.extension()?)?,
                // Defaults for the whole archive, written by `git archive` for its commit id; nothing a layer needs.
                EntryType::XGlobalHeader => continue,
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                // Some writers leave the two empty blocks at the end away.
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += BLOCK as u64;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(sum) {
            return Err(bad("it is not a tar archive, or a damaged one (header checksum)"));
        }
        Ok(Some(header))
    }

    fn frame(&mut self, size: u64) {
        self.content = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip(&mut self) -> io::Result<()> {
        let left = self.content.checked_add(self.padding).ok_or_else(|| bad("an entry's size overflows"))?;
        (self.content, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.inner).take(left), &mut io::sink())?;
        self.position += skipped;
        if skipped < left { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn extension(&mut self) -> io::Result<Vec<u8>> {
        if self.content > MAX_EXTENSION {
            return Err(bad(format!("an extended header has {} bytes, the limit is {MAX_EXTENSION}", self.content)));
        }
        let mut bytes = Vec::with_capacity(self.content as usize);
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> io::Result<Entry> {
        let kind = header.entry_type();
        if kind.is_gnu_sparse() || extensions.records.iter().any(|(key, _)| key.starts_with(b"GNU.sparse.")) {
            return Err(bad("it holds a sparse file, which no image builder writes; pack it without --sparse"));
        }
        let size = extensions.number(b"size")?.unwrap_or(header.entry_size()?);
        // Only files have content; some writers give a hard link the size of its target.
        let size = if kind.is_hard_link() || kind.is_symlink() || kind.is_dir() { 0 } else { size };
        self.frame(size);
        let uid = extensions.number(b"uid")?.or(header.uid().ok()).unwrap_or(0);
        let gid = extensions.number(b"gid")?.or(header.gid().ok()).unwrap_or(0);
        let name = extensions.find(b"path").map(<[u8]>::to_vec).or(extensions.name.clone()).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extensions.find(b"linkpath").map(<[u8]>::to_vec).or(extensions.link.clone());
        let link = link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let attribute = |(key, value): &(Vec<u8>, Vec<u8>)| Some((OsStr::from_bytes(key.strip_prefix(b"SCHILY.xattr.")?).to_owned(), value.clone()));
        Ok(Entry {
            name: OsString::from_vec(name),
            link: OsString::from_vec(link.unwrap_or_default()),
            kind,
            mode: header.mode().unwrap_or(0),
            uid: id(uid).ok_or_else(|| bad(format!("the owner {uid} is not a user id")))?,
            gid: id(gid).ok_or_else(|| bad(format!("the group {gid} is not a group id")))?,
            mtime: extensions.find(b"mtime").and_then(time).unwrap_or((header.mtime().ok().and_then(|s| i64::try_from(s).ok()).unwrap_or(0), 0)),
            size,
            device: (header.device_major().ok().flatten().unwrap_or(0), header.device_minor().ok().flatten().unwrap_or(0)),
            attributes: extensions.records.iter().filter_map(attribute).collect(),
        })
    }
}

/// The content of the entry that [`Entries::next`] gave last. A stream that ends early is an error, not a short file.
impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let length = self.inner.read(&mut buffer[..most])?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content -= length as u64;
        self.position += length as u64;
        Ok(length)
    }
}

/// A user or group id. The highest number is none: to chown(2) it means that the owner stays as it is.
fn id(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|id| *id != u32::MAX)
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}

/// Records of `LENGTH KEY=VALUE\n`, where the length counts the whole record (pax in POSIX.1-2001).
fn records(mut bytes: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let malformed = || bad("an extended header is malformed");
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
        let record = bytes.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(malformed)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
        found.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Ok(found)
}

/// `1700000000.123456789`, also with less or more digits, also before 1970.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    Some(match (text.starts_with('-'), nanoseconds) {
        (true, 1..) => (seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds),
        _ => (seconds, nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_attribute_with_a_newline_does_not_lose_the_name() {
        let mut builder = tar::Builder::new(Vec::new());
        let capability = b"\x01\0\0\x02\n\0\0\0=\n \0";
        builder.append_pax_extensions([("SCHILY.xattr.security.capability", capability.as_slice()), ("path", b"true".as_slice())]).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(3);
        header.set_mode(0o755);
        builder.append_data(&mut header, "false", b"abc".as_slice()).unwrap();
        let archive = builder.into_inner().unwrap();
        let mut entries = Entries::new(archive.as_slice());
        let entry = entries.next().unwrap().unwrap();
        assert_eq!((entry.name.as_bytes(), entry.attributes.len()), (b"true".as_slice(), 1));
        assert_eq!(entry.attributes[0], ("security.capability".into(), capability.to_vec()));
        let mut content = String::new();
        entries.read_to_string(&mut content).unwrap();
        assert_eq!(content, "abc");
        assert!(entries.next().unwrap().is_none());
    }

    #[test]
    fn a_huge_extension_is_refused_before_it_is_read() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let mut entries = Entries::new(header.as_bytes().as_slice().chain(io::repeat(b'a')));
        assert!(entries.next().unwrap_err().to_string().contains("the limit is 1048576"));
    }

    #[test]
    fn times_are_read_to_the_nanosecond() {
        for (text, expected) in
            [("12", (12, 0)), ("12.5", (12, 500_000_000)), ("1.1234567899", (1, 123_456_789)), ("-1.25", (-2, 750_000_000)), ("-3", (-3, 0))]
        {
            assert_eq!(time(text.as_bytes()), Some(expected), "{text}");
        }
        assert_eq!(time(b"soon"), None);
    }

    #[test]
    fn an_owner_that_chown_would_leave_alone_is_refused() {
        for (field, number, good) in [("uid", "4294967294", true), ("uid", "4294967295", false), ("gid", "4294967295", false), ("gid", "4294967296", false)] {
            let mut builder = tar::Builder::new(Vec::new());
            builder.append_pax_extensions([(field, number.as_bytes())]).unwrap();
            let mut header = Header::new_gnu();
            header.set_size(0);
            builder.append_data(&mut header, "x", b"".as_slice()).unwrap();
            assert_eq!(Entries::new(builder.into_inner().unwrap().as_slice()).next().is_ok(), good, "{field} {number}");
        }
    }

    #[test]
    fn malformed_records_are_an_error() {
        for bytes in ["12 path=abc", "x path=a\n", "9 path=a\n\0", "99999999999999999999 a=b\n", "3 a\n", "0 a=b\n", "1 a=b\n"] {
            assert!(records(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }
}
