//! A file or directory becomes a tar stream, whose first entry is `.`, the thing itself.
//!
//! Names and link targets are written as PAX records, byte for byte. No symlink is followed, and nothing but files, directories and
//! symlinks is opened: a FIFO would wait for ever, and opening a device may do something.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat};
use tar::{Builder, EntryType, Header};

use super::notes::Notes;
use super::unpack::beneath;
use crate::error::{Error, Result};
use crate::sys::file::{self, Within};
use crate::sys::tree;

/// Directories within one another: each is open while it is walked.
const MAX_DEPTH: usize = 256;

/// Packs what `source` names. The notes tell what was left out.
pub fn pack(stream: impl Write, source: &Path) -> Result<Notes> {
    let mut pack = Pack { tar: Builder::new(stream), notes: Notes::default(), source };
    let missing = |error: Error| if error.is(libc::ENOENT) { Error::said(format!("{}: No such file or directory", source.display())) } else { error };
    let (dir, name) = match source.file_name() {
        Some(name) => {
            let parent = source.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (file::open(parent, OFlags::PATH | OFlags::DIRECTORY).map_err(missing)?, name.to_owned())
        }
        // `/`, `.` and `..` have no name.
        None => (file::open(source, OFlags::PATH | OFlags::DIRECTORY).map_err(missing)?, OsString::from(".")),
    };
    let stat = file::stat_at(&dir, &name).map_err(missing)?;
    pack.name(&dir, &name, &stat, Path::new("."), 0)?;
    pack.tar.finish().map_err(writing)?;
    Ok(pack.notes)
}

fn writing(error: io::Error) -> Error {
    Error::io("write", "", &error)
}

struct Pack<'a, W: Write> {
    tar: Builder<W>,
    notes: Notes,
    /// For messages.
    source: &'a Path,
}

impl<W: Write> Pack<'_, W> {
    /// A name in a directory, with all that is beneath it. What cannot be read is noted and left out.
    fn name(&mut self, dir: &OwnedFd, name: &OsStr, stat: &Stat, path: &Path, depth: usize) -> Result<()> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => match open_directory(dir, name) {
                Ok(open) => self.directory(&open, stat, path, depth),
                Err(error) => self.left_out(path, error),
            },
            FileType::RegularFile => match file::open_within(dir, name, Within::Beneath, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, 0) {
                Ok(open) => self.file(open, path),
                Err(error) => self.left_out(path, error),
            },
            FileType::Symlink => match tree::read_link(dir, name) {
                Ok(target) => self.entry(EntryType::Symlink, stat, 0, path, Some(&target), io::empty()),
                Err(error) => self.left_out(path, error),
            },
            _ => {
                let shown = self.shown(path);
                self.notes.warning(&format!("skipping {shown:?}: it is neither a file nor a directory nor a symlink"));
                Ok(())
            }
        }
    }

    fn directory(&mut self, dir: &OwnedFd, stat: &Stat, path: &Path, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return self.left_out(path, Error::said(format!("it lies deeper than {MAX_DEPTH} directories")));
        }
        let mut names = match tree::names(dir) {
            Ok(names) => names,
            Err(error) => return self.left_out(path, error),
        };
        names.sort();
        self.entry(EntryType::Directory, stat, 0, path, None, io::empty())?;
        for name in names {
            let path = path.join(&name);
            match tree::kind(dir, &name) {
                Ok(Some(stat)) => self.name(dir, &name, &stat, &path, depth + 1)?,
                // Removed since it was listed.
                Ok(None) => {}
                Err(error) => self.left_out(&path, error)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, open: OwnedFd, path: &Path) -> Result<()> {
        let stat = file::stat(&open)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return self.left_out(path, Error::said("it was replaced while it was opened"));
        }
        let size = stat.st_size as u64;
        let mut content = File::from(open).take(size);
        // The size is said first and must then be kept, also if the file is cut meanwhile.
        self.entry(EntryType::Regular, &stat, size, path, None, (&mut content).chain(io::repeat(0)).take(size))?;
        match content.limit() {
            0 => Ok(()),
            missing => self.left_out(path, Error::said(format!("it was cut while it was read; the copy has {missing} zeros at its end"))),
        }
    }

    fn entry(&mut self, kind: EntryType, stat: &Stat, size: u64, path: &Path, link: Option<&OsStr>, content: impl Read) -> Result<()> {
        let mut records = vec![("path", path.strip_prefix(".").ok().filter(|path| !path.as_os_str().is_empty()).unwrap_or(path).as_os_str().as_bytes())];
        records.extend(link.map(|target| ("linkpath", target.as_bytes())));
        self.tar.append_pax_extensions(records).map_err(writing)?;
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(stat.st_uid.into());
        header.set_gid(stat.st_gid.into());
        header.set_mtime(stat.st_mtime.try_into().unwrap_or(0));
        header.set_size(size);
        header.set_cksum();
        self.tar.append(&header, content).map_err(|error| writing(error).doing(format!("copying {}", self.shown(path).display())))
    }

    fn left_out(&mut self, path: &Path, error: Error) -> Result<()> {
        let error = error.doing(format!("copying {}", self.shown(path).display()));
        self.notes.error(&error);
        Ok(())
    }

    fn shown(&self, path: &Path) -> PathBuf {
        beneath(self.source, path.strip_prefix(".").unwrap_or(path))
    }
}

/// `.` is what we have already.
fn open_directory(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    match name == "." {
        true => file::open_within(dir.as_fd(), ".", Within::Beneath, OFlags::RDONLY | OFlags::DIRECTORY, 0),
        false => tree::open_directory(dir, name),
    }
}
