//! Where an image's files come from: a directory, or a tar archive with the same files in it.
//!
//! ```text
//! OCI image layout    oci-layout, index.json, blobs/sha256/HEX
//! docker save         manifest.json, CONFIG.json, ID/layer.tar (or blobs/sha256/HEX)
//! ```
//!
//! An archive's documents may stand behind its layers, so it is read twice: once for where each file lies, then the files. A pipe,
//! or an archive that is itself compressed, is first laid down in the store's temporary directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FileType, OFlags};
use tar::EntryType;

use super::entries::Entries;
use super::layer::MAX_LAYER;
use crate::error::{Error, Result};
use crate::sys::file::{self, Within};

/// Of index.json, a manifest or a configuration; containerd's limit for a manifest is the same.
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// Files in an archive of images: a few per layer.
const MAX_FILES: usize = 100_000;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The files of an image archive, by name.
pub enum Source {
    Directory(OwnedFd),
    Archive { file: File, files: BTreeMap<String, Place> },
}

/// Where a file of an archive lies, or that it is another one.
pub enum Place {
    Content { offset: u64, size: u64 },
    Same(String),
}

impl Source {
    /// Opens a directory or an archive; `-` is standard input. `spool` is a directory on a disk with room, emptied by the caller.
    pub fn open(path: &Path, spool: &Path) -> Result<Source> {
        if path == Path::new("-") {
            return Source::spooled(io::stdin().lock(), spool);
        }
        let fd = file::open(path, OFlags::RDONLY | OFlags::NOCTTY)?;
        match FileType::from_raw_mode(file::stat(&fd)?.st_mode) {
            FileType::Directory => Ok(Source::Directory(fd)),
            FileType::RegularFile => {
                let mut file = File::from(fd);
                if head(&mut file).map_err(|error| Error::io("read", path.display(), &error))?.is_some() {
                    return Source::spooled(file, spool);
                }
                Source::indexed(file)
            }
            _ => Source::spooled(File::from(fd), spool),
        }
    }

    fn spooled(stream: impl Read, spool: &Path) -> Result<Source> {
        let path = spool.join("archive");
        let failed = |error: io::Error| Error::io("write", path.display(), &error);
        let mut file = File::options().create_new(true).read(true).write(true).open(&path).map_err(failed)?;
        let stream = decompressed(BufReader::new(stream)).map_err(|error| Error::io("read", "", &error))?;
        let copied = io::copy(&mut stream.take(MAX_LAYER + 1), &mut file).map_err(failed)?;
        if copied > MAX_LAYER {
            return Err(Error::said(format!("the archive is larger than {MAX_LAYER} bytes")));
        }
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Source::indexed(file)
    }

    fn indexed(file: File) -> Result<Source> {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::said("the archive ends early"),
            _ => Error::said(format!("cannot read the archive: {error}")),
        };
        let mut entries = Entries::new(BufReader::with_capacity(128 << 10, &file));
        let mut files = BTreeMap::new();
        while let Some(entry) = entries.next().map_err(unreadable)? {
            let name = String::from_utf8_lossy(entry.name.as_bytes());
            let name = name.trim_start_matches("./").to_owned();
            let place = match entry.kind {
                EntryType::Regular | EntryType::Continuous => Place::Content { offset: entries.position(), size: entry.size },
                // Old versions of `docker save` write a layer that two images share once, and a link to it.
                EntryType::Symlink => Place::Same(beside(&name, &entry.link.to_string_lossy())),
                EntryType::Link => Place::Same(beside("", &entry.link.to_string_lossy())),
                _ => continue,
            };
            files.insert(name, place);
            if files.len() > MAX_FILES {
                return Err(Error::said(format!("the archive has more than {MAX_FILES} files")));
            }
        }
        Ok(Source::Archive { file, files })
    }

    /// A file to read from, or None if there is no such file.
    pub fn open_file(&self, name: &str) -> Result<Option<Box<dyn Read + Send + '_>>> {
        match self {
            Source::Directory(dir) => match file::open_within(dir, name, Within::Beneath, OFlags::RDONLY | OFlags::NONBLOCK, 0) {
                Err(error) if error.is(libc::ENOENT) => Ok(None),
                Err(error) => Err(error),
                // Opened without waiting, since a FIFO in its place would wait for ever.
                Ok(fd) if FileType::from_raw_mode(file::stat(&fd)?.st_mode) != FileType::RegularFile => {
                    Err(Error::said(format!("{name} is not a regular file")))
                }
                Ok(fd) => Ok(Some(Box::new(File::from(fd)))),
            },
            Source::Archive { file, files } => {
                let mut name = name.to_owned();
                for _ in 0..8 {
                    match files.get(&name) {
                        Some(Place::Content { offset, size }) => return Ok(Some(Box::new(Slice { file, offset: *offset, left: *size }))),
                        Some(Place::Same(other)) => name = other.clone(),
                        None => return Ok(None),
                    }
                }
                Ok(None)
            }
        }
    }

    /// The whole of a document.
    pub fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(stream) = self.open_file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        stream.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(|error| Error::io("read", name, &error))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(Error::said(format!("{name} is larger than {MAX_DOCUMENT} bytes")));
        }
        Ok(Some(bytes))
    }
}

/// A link's target as a name in the archive; `..` stays inside.
fn beside(name: &str, link: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in link.trim_start_matches('/').split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The bytes of one file of an archive.
struct Slice<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

enum Compression {
    Gzip,
    Zstd,
}

fn compression(start: &[u8]) -> Option<Compression> {
    match start {
        start if start.starts_with(GZIP) => Some(Compression::Gzip),
        start if start.starts_with(ZSTD) => Some(Compression::Zstd),
        _ => None,
    }
}

fn head(file: &mut File) -> io::Result<Option<Compression>> {
    let mut start = [0; 4];
    let length = file.read_at(&mut start, 0)?;
    Ok(compression(&start[..length]))
}

/// Undoes gzip or zstd, told by the first bytes: media types lie, and `docker save` has none.
pub fn decompressed<'a>(mut stream: impl io::BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression(stream.fill_buf()?) {
        Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        Some(Compression::Zstd) => Box::new(zstd::stream::read::Decoder::with_buffer(stream)?),
        None => Box::new(stream),
    })
}
