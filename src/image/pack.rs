//! A layer's directory becomes a tar stream again: the way back of `layer`.
//!
//! ```text
//! in the directory                           entry
//! a/b/c, a character device 0:0              a/b/.wh.c
//! trusted.overlay.opaque=y on a/b            a/b/, then a/b/.wh..wh..opq
//! a/b/c                                      [x path=... mtime=... SCHILY.xattr...] a/b/c
//! a/d, the same inode                        a/d, a hard link to a/b/c
//! ```
//!
//! The same directory always gives the same bytes: names and attributes are sorted, and nothing of the present is written. What a header of
//! ustar cannot hold (a long name, a byte beyond ASCII, nanoseconds, a large number) goes into PAX records, which docker, podman and
//! GNU tar read. No symlink is followed, and only files and directories are opened.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{FileType, OFlags, Stat};
use tar::{Builder, EntryType, Header};

use super::layer::{MAX_DEPTH, OPAQUE_MARK, WHITEOUT, is_overlays_own};
use super::stack::is_opaque;
use crate::error::{Error, Result};
use crate::sys::file::{self, Within};
use crate::sys::tree;

/// Of a name in a header of ustar.
const MAX_NAME: usize = 100;
/// Of an owner in a header of ustar: seven octal digits.
const MAX_OWNER: u32 = 0o7777777;
/// Of a size or a time in a header of ustar: eleven octal digits.
const MAX_NUMBER: i64 = 0o77777777777;
/// The label of the place on this machine where the layer is kept; no layer's content.
const LABEL: &str = "security.selinux";

/// Writes the layer that is unpacked in `root` as a tar stream, to its end mark.
pub fn pack(root: &OwnedFd, stream: impl Write) -> Result<()> {
    let stat = file::stat(root)?;
    let mut pack = Pack { tar: Builder::new(stream), device: stat.st_dev, linked: HashMap::new() };
    pack.entry(EntryType::Directory, b"./", &stat, b"", &attributes(root, OsStr::new("."))?, io::empty())?;
    pack.inside(root, b"", 0)?;
    pack.tar.into_inner().and_then(|mut stream| stream.flush()).map_err(|error| writing(&error))
}

fn writing(error: &io::Error) -> Error {
    Error::io("write", "", error)
}

fn attributes(dir: &OwnedFd, name: &OsStr) -> Result<Vec<(OsString, Vec<u8>)>> {
    let mut attributes = tree::attributes_of(dir, name)?;
    attributes.retain(|(key, _)| !is_overlays_own(key) && key != LABEL);
    Ok(attributes)
}

struct Pack<W: Write> {
    tar: Builder<W>,
    /// The file system that the directory is on.
    device: u64,
    /// By inode: the first name of each file that has several.
    linked: HashMap<u64, Vec<u8>>,
}

impl<W: Write> Pack<W> {
    /// All that is in a directory; `path` is empty or ends in a slash.
    fn inside(&mut self, dir: &OwnedFd, path: &[u8], depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::said(format!("{:?} lies deeper than {MAX_DEPTH} directories", OsStr::from_bytes(path))));
        }
        if is_opaque(dir)? {
            self.mark(&[path, OPAQUE_MARK].concat())?;
        }
        let mut names = tree::names(dir)?;
        names.sort();
        for name in names {
            let path = [path, name.as_bytes()].concat();
            // The innermost name has all others in it.
            let named = |error: Error| if error.doing.is_empty() { error.doing(format!("entry {:?}", OsStr::from_bytes(&path))) } else { error };
            self.name(dir, &name, &path, depth).map_err(named)?;
        }
        Ok(())
    }

    fn name(&mut self, dir: &OwnedFd, name: &OsStr, path: &[u8], depth: usize) -> Result<()> {
        let Some(stat) = tree::kind(dir, name)? else { return Err(Error::said("it is gone; somebody else changes the image store")) };
        if tree::is_whiteout(&stat) {
            let parent = &path[..path.len() - name.len()];
            return self.mark(&[parent, WHITEOUT, name.as_bytes()].concat());
        }
        if name.as_bytes().starts_with(WHITEOUT) {
            return Err(Error::said("an archive cannot hold this name: it would be taken for a whiteout"));
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&stat.st_ino).cloned() {
                return self.entry(EntryType::Link, path, &stat, &first, &[], io::empty());
            }
            self.linked.insert(stat.st_ino, path.to_vec());
        }
        if kind == FileType::Directory && stat.st_dev != self.device {
            return Err(Error::said("another file system is mounted there; unmount it first"));
        }
        let attributes = attributes(dir, name)?;
        let mut simple = |kind, link: &[u8]| self.entry(kind, path, &stat, link, &attributes, io::empty());
        match kind {
            FileType::Directory => {
                let path = [path, b"/"].concat();
                self.entry(EntryType::Directory, &path, &stat, b"", &attributes, io::empty())?;
                self.inside(&tree::open_directory(dir, name)?, &path, depth + 1)
            }
            FileType::RegularFile => {
                let open = file::open_within(dir, name, Within::Beneath, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, 0)?;
                let mut content = File::from(open).take(stat.st_size as u64);
                self.entry(EntryType::Regular, path, &stat, b"", &attributes, &mut content)?;
                // The header has said the size.
                if content.limit() == 0 { Ok(()) } else { Err(Error::said("it was cut while it was read")) }
            }
            FileType::Symlink => simple(EntryType::Symlink, &tree::read_link(dir, name)?.into_vec()),
            FileType::Fifo => simple(EntryType::Fifo, b""),
            FileType::CharacterDevice => simple(EntryType::Char, b""),
            FileType::BlockDevice => simple(EntryType::Block, b""),
            _ => Err(Error::said("it is a socket, which no archive can hold")),
        }
    }

    /// An empty file whose name says it all.
    fn mark(&mut self, path: &[u8]) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(0);
        self.append(header, path, b"", Vec::new(), io::empty())
    }

    fn entry(&mut self, kind: EntryType, path: &[u8], stat: &Stat, link: &[u8], attributes: &[(OsString, Vec<u8>)], content: impl Read) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(stat.st_uid.into());
        header.set_gid(stat.st_gid.into());
        header.set_mtime(stat.st_mtime.clamp(0, MAX_NUMBER) as u64);
        let size = if kind == EntryType::Regular { stat.st_size } else { 0 };
        header.set_size(size as u64);
        let mut records = Vec::new();
        records.extend((size > MAX_NUMBER).then(|| ("size".to_owned(), size.to_string().into_bytes())));
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let odd = |error: io::Error| Error::io("write", "", &error);
            header.set_device_major(rustix::fs::major(stat.st_rdev)).map_err(odd)?;
            header.set_device_minor(rustix::fs::minor(stat.st_rdev)).map_err(odd)?;
        }
        for (key, owner) in [("uid", stat.st_uid), ("gid", stat.st_gid)] {
            records.extend((owner > MAX_OWNER).then(|| (key.to_owned(), owner.to_string().into_bytes())));
        }
        if stat.st_mtime_nsec != 0 || !(0..=MAX_NUMBER).contains(&stat.st_mtime) {
            records.push(("mtime".to_owned(), time(stat.st_mtime, stat.st_mtime_nsec as u32).into_bytes()));
        }
        for (key, value) in attributes {
            // A record's key ends at its first `=`.
            match key.to_str().filter(|key| !key.contains('=')) {
                Some(key) => records.push((format!("SCHILY.xattr.{key}"), value.clone())),
                None => return Err(Error::said(format!("an archive cannot hold its attribute {key:?}"))),
            }
        }
        self.append(header, path, link, records, content)
    }

    fn append(&mut self, mut header: Header, path: &[u8], link: &[u8], mut records: Vec<(String, Vec<u8>)>, content: impl Read) -> Result<()> {
        let names = [("path", path, 0), ("linkpath", link, 157)];
        // Byte for byte, as GNU tar writes what is not UTF-8: a word for it (hdrcharset) is one that GNU tar complains of.
        for (key, name, at) in names {
            let short = name.len().min(MAX_NAME);
            header.as_mut_bytes()[at..at + short].copy_from_slice(&name[..short]);
            if name.len() > MAX_NAME || !name.is_ascii() {
                records.push((key.to_owned(), name.to_vec()));
            }
        }
        header.set_cksum();
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.tar.append_pax_extensions(records).and_then(|()| self.tar.append(&header, content)).map_err(|error| writing(&error))
    }
}

/// Seconds since 1970 as PAX has them: -2 and half a second of nanoseconds are -1.5.
fn time(seconds: i64, nanoseconds: u32) -> String {
    match nanoseconds {
        0 => seconds.to_string(),
        _ if seconds < 0 => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        _ => format!("{seconds}.{nanoseconds:09}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_written_as_they_are_read() {
        for (seconds, nanoseconds, text) in
            [(12, 0, "12"), (12, 5, "12.000000005"), (-3, 0, "-3"), (-2, 750_000_000, "-1.250000000"), (-1, 500_000_000, "-0.500000000")]
        {
            assert_eq!(time(seconds, nanoseconds), text);
        }
    }
}
