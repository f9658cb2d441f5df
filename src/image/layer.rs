//! A layer's tar stream becomes a directory that overlayfs can stack.
//!
//! ```text
//! entry           in the directory
//! a/b/.wh.c       a/b/c as a character device 0:0: overlayfs hides what layers below have there
//! a/b/.wh..wh..opq   trusted.overlay.opaque=y on a/b: overlayfs hides all that layers below have in it
//! a/b/c           the file, with owner, mode, times and attributes; a/b is made if no entry made it
//! ```
//!
//! The rules are those of the OCI image specification (layer.md) and, where it is silent, containerd's `archive.Apply`. The names are
//! somebody else's: the parent of every entry is resolved by the kernel within the layer's directory, so `..`, absolute
//! symlinks and hard links stay inside, as legal layers need, and lead nowhere else. Each layer stands alone: a hard link reaches only
//! what the same layer has made.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FileType, OFlags};
use tar::EntryType;

use super::entries::{Entries, Entry};
use super::stack::{MAX_SYMLINKS, OPAQUE, Stack};
use crate::error::{Error, Result};
use crate::sys::file::{self, Within};
use crate::sys::{removal, tree};

/// Names in one layer; the largest images have some hundred thousand.
pub const MAX_ENTRIES: u64 = 4_000_000;
/// Bytes of one layer's tar: more is taken for a decompression bomb.
pub const MAX_LAYER: u64 = 64 << 30;
/// Directories within one another. Removing a tree holds one descriptor per level open, of 1024 that are usual.
pub(super) const MAX_DEPTH: usize = 256;

pub(super) const WHITEOUT: &[u8] = b".wh.";
pub(super) const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
/// What AUFS kept for itself (`.wh..wh.plnk`, ...); no layer's content.
const WHITEOUT_META: &[u8] = b".wh..wh.";

/// The layers under one, asked for at the first need: where layers are unpacked side by side, they may not be whole before.
pub type Below<'a> = dyn Fn() -> Result<Stack> + 'a;

/// Unpacks `stream` into the empty directory `root`. A directory that entries imply but none makes gets its owner and mode from the
/// layers `below`. Returns whether that was so: such a layer is right only above these layers.
pub fn apply(root: OwnedFd, stream: impl Read, below: &Below<'_>) -> Result<bool> {
    let depth = depth_of(&root)?;
    let mut layer = Layer { root, depth, below, stack: None, parent: None, times: Vec::new(), implied: BTreeSet::new(), buffer: vec![0; 128 << 10] };
    tree::set_mode(&layer.root, OsStr::new("."), 0o755)?;
    let mut entries = Entries::new(stream);
    let unreadable = |error: std::io::Error| Error::io("read", "", &error);
    for count in 0.. {
        if count > MAX_ENTRIES {
            return Err(Error::said(format!("it has more than {MAX_ENTRIES} entries")));
        }
        let Some(entry) = entries.next().map_err(|error| reading(&error))? else { break };
        layer.entry(&entry, &mut entries).map_err(|error| error.doing(format!("entry {:?}", entry.name)))?;
    }
    layer.finish()?;
    // After the end mark comes padding, which the digest counts too.
    std::io::copy(&mut entries.into_inner(), &mut std::io::sink()).map_err(unreadable)?;
    Ok(!layer.implied.is_empty())
}

fn reading(error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::said("it ends early"),
        _ => Error::io("read", "", error),
    }
}

struct Layer<'a> {
    root: OwnedFd,
    /// How deep the root lies on this machine.
    depth: usize,
    below: &'a Below<'a>,
    stack: Option<Stack>,
    /// The last entry's parent: most entries share it with the one before.
    parent: Option<(PathBuf, Rc<OwnedFd>)>,
    /// Directories' times, to be set when nothing is put into them any more.
    times: Vec<(PathBuf, (i64, u32))>,
    /// Directories (without symlinks) that were made for what is in them.
    implied: BTreeSet<PathBuf>,
    /// Content on its way, kept so that it is cleared once and not for every file.
    buffer: Vec<u8>,
}

/// A path of an archive as a path within the root: no root, `.` or `..` in it.
fn normalise(path: &OsStr) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

impl Layer<'_> {
    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> Result<()> {
        let path = normalise(&entry.name);
        let Some(name) = path.file_name() else {
            if !entry.kind.is_dir() {
                return Err(Error::said("it would replace the root"));
            }
            let root = file::open_within(&self.root, ".", Within::Root, OFlags::PATH | OFlags::DIRECTORY, 0)?;
            return self.directory_attributes(entry, &path, &root, OsStr::new("."));
        };
        let parent = self.parent_of(&path)?;
        match name.as_bytes() {
            OPAQUE_MARK => return tree::set_attribute(&parent, OsStr::new("."), OsStr::new(OPAQUE), b"y"),
            meta if meta.starts_with(WHITEOUT_META) => return Ok(()),
            whiteout if whiteout.starts_with(WHITEOUT) => return self.whiteout(&parent, OsStr::from_bytes(&whiteout[WHITEOUT.len()..])),
            _ => {}
        }
        if entry.kind.is_hard_link() {
            return self.hard_link(&parent, &path, entry);
        }
        // Archives of before 1988 write a directory as a file with a slash at the end.
        if entry.kind.is_dir() || (entry.kind.is_file() && entry.name.as_bytes().ends_with(b"/")) {
            self.directory(&parent, name)?;
            return self.directory_attributes(entry, &path, &parent, name);
        }
        // A name is new nearly always, so it is not asked for first.
        match self.make(&parent, name, entry, content) {
            Err(error) if error.is(libc::EEXIST) => {
                self.make_room(&parent, name, false)?;
                self.make(&parent, name, entry, content)
            }
            made => made,
        }
    }

    /// What is no directory, with all that hangs on it. EEXIST, with nothing done, if the name is there.
    fn make(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry, content: &mut impl Read) -> Result<()> {
        match entry.kind {
            EntryType::Regular | EntryType::Continuous => {
                let mut file = tree::make_file(parent, name)?;
                write(&mut file, content, &mut self.buffer)?;
                tree::set_owner_and_mode(&file, entry.uid, entry.gid, entry.mode)?;
                attributes(parent, name, entry)?;
                return tree::set_time_of(&file, entry.mtime.0, entry.mtime.1);
            }
            EntryType::Symlink => tree::make_symlink(parent, name, &entry.link)?,
            EntryType::Fifo => tree::make_node(parent, name, FileType::Fifo, (0, 0))?,
            EntryType::Char => tree::make_node(parent, name, FileType::CharacterDevice, entry.device)?,
            EntryType::Block => tree::make_node(parent, name, FileType::BlockDevice, entry.device)?,
            other => return Err(Error::said(format!("its type {:?} is none that a layer may hold", char::from(other.as_byte())))),
        }
        owner_mode_attributes(parent, name, entry)?;
        tree::set_time(parent, name, entry.mtime.0, entry.mtime.1)
    }

    /// A directory, which may be there already, or hide what layers below have.
    fn directory(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        match tree::make_directory(parent, name) {
            Err(error) if error.is(libc::EEXIST) => {}
            made => return made,
        }
        let hides = self.make_room(parent, name, true)?;
        if tree::kind(parent, name)?.is_none() {
            tree::make_directory(parent, name)?;
        }
        if hides { tree::set_attribute(parent, name, OsStr::new(OPAQUE), b"y") } else { Ok(()) }
    }

    /// Removes what the same layer has already put at a name, unless directory meets directory. Returns whether that was a whiteout.
    fn make_room(&mut self, parent: &OwnedFd, name: &OsStr, directory: bool) -> Result<bool> {
        let Some(old) = tree::kind(parent, name)? else { return Ok(false) };
        if directory && FileType::from_raw_mode(old.st_mode) == FileType::Directory {
            return Ok(false);
        }
        self.parent = None;
        removal::remove(parent, name)?;
        Ok(tree::is_whiteout(&old))
    }

    /// A whiteout hides what layers below have, never what its own layer has, whichever comes first.
    fn whiteout(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        if matches!(name.as_bytes(), b"" | b"." | b"..") {
            return Err(Error::said("it is a whiteout of nothing"));
        }
        match tree::kind(parent, name)? {
            None => tree::make_node(parent, name, FileType::CharacterDevice, (0, 0)),
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => tree::set_attribute(parent, name, OsStr::new(OPAQUE), b"y"),
            Some(_) => Ok(()),
        }
    }

    fn hard_link(&mut self, parent: &OwnedFd, path: &Path, entry: &Entry) -> Result<()> {
        let target = normalise(&entry.link);
        let (Some(name), Some(old)) = (path.file_name(), target.file_name()) else { return Err(Error::said("it is a hard link to a directory")) };
        if target == path {
            return Ok(());
        }
        let missing = |error: Error| {
            if error.is(libc::ENOENT) { Error::said(format!("it is a hard link to {:?}, which its layer does not have", entry.link)) } else { error }
        };
        let old_parent =
            file::open_within(&self.root, target.parent().unwrap_or(Path::new("")), Within::Root, OFlags::PATH | OFlags::DIRECTORY, 0).map_err(missing)?;
        let Some(stat) = tree::kind(&old_parent, old)? else { return Err(missing(Error::call("linkat", "", libc::ENOENT))) };
        if let Some(present) = tree::kind(parent, name)? {
            if (present.st_dev, present.st_ino) == (stat.st_dev, stat.st_ino) {
                return Ok(());
            }
            self.make_room(parent, name, false)?;
        }
        tree::hard_link(&old_parent, old, parent, name).map_err(missing)
    }

    fn directory_attributes(&mut self, entry: &Entry, path: &Path, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        self.implied.remove(path);
        self.times.push((path.to_owned(), entry.mtime));
        owner_mode_attributes(parent, name, entry)
    }

    /// The directory that an entry goes into, made with its parents if it is missing.
    fn parent_of(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some((known, dir)) = &self.parent
            && known == parent
        {
            return Ok(dir.clone());
        }
        let dir = match file::open_within(&self.root, parent, Within::Root, OFlags::PATH | OFlags::DIRECTORY, 0) {
            // ENOTDIR also where a whiteout stands.
            Err(error) if error.is(libc::ENOENT) || error.is(libc::ENOTDIR) => self.make_parents(parent)?,
            found => found?,
        };
        if depth_of(&dir)?.saturating_sub(self.depth) >= MAX_DEPTH {
            return Err(Error::said(format!("it lies deeper than {MAX_DEPTH} directories")));
        }
        let dir = Rc::new(dir);
        self.parent = Some((parent.to_owned(), dir.clone()));
        Ok(dir)
    }

    /// Walks `path` and makes what is missing, also behind a symlink whose target no entry has made yet.
    fn make_parents(&mut self, path: &Path) -> Result<OwnedFd> {
        let parts = |path: &Path| path.components().rev().map(|component| component.as_os_str().to_owned()).collect::<Vec<OsString>>();
        let mut todo = parts(path);
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            match name.as_bytes() {
                b"/" => at = PathBuf::new(),
                b"." => {}
                b".." => drop(at.pop()),
                _ => {
                    let dir = file::open_within(&self.root, &at, Within::Root, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
                    let found = tree::kind(&dir, &name)?;
                    match found.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                        Some(FileType::Directory) => at.push(name),
                        Some(FileType::Symlink) if links < MAX_SYMLINKS => {
                            links += 1;
                            todo.extend(parts(Path::new(&tree::read_link(&dir, &name)?)));
                        }
                        Some(_) if !found.is_some_and(|stat| tree::is_whiteout(&stat)) => {
                            return Err(Error::call("openat2", at.join(name).display(), libc::ENOTDIR));
                        }
                        _ => {
                            at.push(&name);
                            self.make_implied(&dir, &name, &at, found.is_some())?;
                        }
                    }
                }
            }
        }
        file::open_within(&self.root, &at, Within::Root, OFlags::PATH | OFlags::DIRECTORY, 0)
    }

    /// A directory that no entry has made: as the layers below have it, else 0755 and root's.
    fn make_implied(&mut self, dir: &OwnedFd, name: &OsStr, path: &Path, hides: bool) -> Result<()> {
        if hides {
            removal::remove(dir, name)?;
        }
        tree::make_directory(dir, name)?;
        self.implied.insert(path.to_owned());
        if hides {
            tree::set_attribute(dir, name, OsStr::new(OPAQUE), b"y")?;
            return tree::set_mode(dir, name, 0o755);
        }
        if self.stack.is_none() {
            self.stack = Some((self.below)()?);
        }
        if let Some(below) = self.stack.as_ref().map(|stack| stack.directory(path)).transpose()?.flatten() {
            let stat = file::stat(&below)?;
            tree::set_owner(dir, name, stat.st_uid, stat.st_gid)?;
            for (key, value) in tree::attributes(&below)?.iter().filter(|(key, _)| !is_overlays_own(key)) {
                tree::set_attribute(dir, name, key, value)?;
            }
            self.times.push((path.to_owned(), (stat.st_mtime, stat.st_mtime_nsec as u32)));
            return tree::set_mode(dir, name, stat.st_mode);
        }
        tree::set_mode(dir, name, 0o755)
    }

    /// What must wait until no entry follows.
    fn finish(&mut self) -> Result<()> {
        for (path, mtime) in std::mem::take(&mut self.times) {
            // A later entry may have replaced the directory, or a symlink on the way to it.
            let Ok(dir) = file::open_within(&self.root, &path, Within::Root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0) else { continue };
            tree::set_time(&dir, OsStr::new("."), mtime.0, mtime.1)?;
        }
        Ok(())
    }
}

fn write(file: &mut std::fs::File, content: &mut impl Read, buffer: &mut [u8]) -> Result<()> {
    loop {
        match content.read(buffer).map_err(|error| reading(&error))? {
            0 => return Ok(()),
            length => file.write_all(&buffer[..length]).map_err(|error| Error::io("write", "", &error))?,
        }
    }
}

/// Directories from this machine's root to this one.
fn depth_of(dir: &OwnedFd) -> Result<usize> {
    let path = std::fs::read_link(file::path_of(dir.as_fd())).map_err(|error| Error::io("readlink", "", &error))?;
    Ok(path.components().count())
}

/// Owner, then mode, then attributes: each clears what the next sets.
fn owner_mode_attributes(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
    tree::set_owner(parent, name, entry.uid, entry.gid)?;
    if !entry.kind.is_symlink() {
        tree::set_mode(parent, name, entry.mode)?;
    }
    attributes(parent, name, entry)
}

fn attributes(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
    for (key, value) in entry.attributes.iter().filter(|(key, _)| !is_overlays_own(key)) {
        match tree::set_attribute(parent, name, key, value) {
            // The file system cannot keep it, or user.* on what is neither file nor directory (xattr(7)): not worth an image.
            Err(error) if error.is(libc::ENOTSUP) || (error.is(libc::EPERM) && key.as_bytes().starts_with(b"user.")) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Attributes by which overlayfs would take a name from elsewhere (redirect, metacopy) or hide one: an image may not set them.
pub(super) fn is_overlays_own(key: &OsStr) -> bool {
    [b"trusted.overlay.".as_slice(), b"user.overlay."].iter().any(|own| key.as_bytes().starts_with(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

    /// A layer in the making: a tar whose names are written as they are given, however hostile.
    #[derive(Default)]
    struct Tar(Vec<u8>);

    impl Tar {
        fn raw(mut self, kind: EntryType, name: &[u8], link: &[u8], content: &[u8], mode: u32) -> Tar {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name);
            header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(1);
            header.set_gid(2);
            header.set_mtime(1_600_000_000);
            header.set_size(content.len() as u64);
            if kind.is_character_special() || kind.is_block_special() {
                header.set_device_major(1).unwrap();
                header.set_device_minor(3).unwrap();
            }
            header.set_cksum();
            self.0.extend_from_slice(header.as_bytes());
            self.0.extend_from_slice(content);
            self.0.resize(self.0.len().next_multiple_of(512), 0);
            self
        }
        fn file(self, name: &str, content: &str) -> Tar {
            self.raw(EntryType::Regular, name.as_bytes(), b"", content.as_bytes(), 0o644)
        }
        fn dir(self, name: &str, mode: u32) -> Tar {
            self.raw(EntryType::Directory, name.as_bytes(), b"", b"", mode)
        }
        fn symlink(self, name: &str, target: &str) -> Tar {
            self.raw(EntryType::Symlink, name.as_bytes(), target.as_bytes(), b"", 0o777)
        }
        fn link(self, name: &str, target: &str) -> Tar {
            self.raw(EntryType::Link, name.as_bytes(), target.as_bytes(), b"", 0o644)
        }
        fn pax(self, records: &[(&str, &[u8])]) -> Tar {
            let mut content = Vec::new();
            for (key, value) in records {
                let rest = key.len() + value.len() + 3;
                let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
                content.extend_from_slice(format!("{length} {key}=").as_bytes());
                content.extend_from_slice(value);
                content.push(b'\n');
            }
            self.raw(EntryType::XHeader, b"pax", b"", &content, 0)
        }
    }

    /// A place with a layer's directory `root` and, beside it, what must stay untouched.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("root")).unwrap();
            std::fs::write(dir.path().join("secret"), "secret").unwrap();
            Place(dir)
        }
        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join("root").join(name)
        }
        fn apply_above(&self, tar: Tar, below: &[&Path]) -> Result<bool> {
            let below = || Ok(Stack::new(below.iter().map(|dir| file::open_dir(dir).unwrap()).collect()));
            apply(file::open_dir(self.path("")).unwrap(), tar.0.as_slice(), &below)
        }
        fn apply(&self, tar: Tar) -> Result<bool> {
            let result = self.apply_above(tar, &[]);
            let outside: BTreeSet<_> = std::fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(outside, BTreeSet::from(["root".into(), "secret".into()]), "something came out");
            let secret = std::fs::metadata(self.0.path().join("secret")).unwrap();
            assert_eq!((secret.nlink(), secret.len(), secret.uid()), (1, 6, 0), "the secret was touched");
            result
        }
        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.path(name)).unwrap()
        }
        fn meta(&self, name: &str) -> std::fs::Metadata {
            std::fs::symlink_metadata(self.path(name)).unwrap()
        }
        fn is_whiteout(&self, name: &str) -> bool {
            let meta = self.meta(name);
            meta.file_type().is_char_device() && meta.rdev() == 0
        }
        fn is_opaque(&self, name: &str) -> bool {
            tree::attribute(file::open_dir(self.path(name)).unwrap(), OsStr::new(OPAQUE)).unwrap() == Some(b"y".to_vec())
        }
    }

    fn after(tar: Tar) -> Place {
        let place = Place::new();
        place.apply(tar).unwrap();
        place
    }

    fn refused(tar: Tar) -> String {
        Place::new().apply(tar).unwrap_err().to_string()
    }

    #[test]
    fn owners_modes_and_times_are_the_archives() {
        let place = after(
            Tar::default()
                .dir("./", 0o750)
                .dir("d/", 0o1777)
                .raw(EntryType::Regular, b"d/su", b"", b"x", 0o4755)
                .pax(&[("mtime", b"1.25"), ("uid", b"70000")])
                .file("d/f", "f"),
        );
        let owner = |name: &str| (place.meta(name).uid(), place.meta(name).gid(), place.meta(name).permissions().mode() & 0o7777, place.meta(name).mtime());
        assert_eq!(owner(""), (1, 2, 0o750, 1_600_000_000));
        assert_eq!(owner("d"), (1, 2, 0o1777, 1_600_000_000));
        assert_eq!(owner("d/su"), (1, 2, 0o4755, 1_600_000_000));
        assert_eq!((owner("d/f"), place.meta("d/f").mtime_nsec()), ((70000, 2, 0o644, 1), 250_000_000));
    }

    #[test]
    fn capabilities_survive_the_change_of_owner_and_overlays_own_attributes_are_dropped() {
        let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let records: [(&str, &[u8]); 4] = [
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.mine", b"a\nb"),
        ];
        let place = after(Tar::default().pax(&records).file("ping", "x").pax(&records[1..]).dir("d", 0o755));
        let attributes = |name: &str| tree::attributes(file::open(place.path(name), OFlags::RDONLY).unwrap()).unwrap();
        assert_eq!(attributes("ping"), [("security.capability".into(), capability.to_vec()), ("trusted.mine".into(), b"a\nb".to_vec())]);
        assert_eq!(attributes("d"), [("trusted.mine".into(), b"a\nb".to_vec())]);
    }

    #[test]
    fn links_nodes_and_odd_names_are_made() {
        let long = format!("{}/{}", "l".repeat(200), "n".repeat(200));
        let tar = Tar::default()
            .file("a", "one")
            .link("b", "/a")
            .link("c", "./b")
            .symlink("s", "../../secret")
            .raw(EntryType::Fifo, b"fifo", b"", b"", 0o600)
            .raw(EntryType::Char, b"null", b"", b"", 0o666)
            .raw(EntryType::Block, b"block", b"", b"", 0o660)
            .raw(EntryType::Regular, b"caf\xe9", b"", b"latin", 0o644)
            .pax(&[("path", long.as_bytes())])
            .file("x", "pax")
            .raw(EntryType::GNULongName, b"././@LongLink", b"", format!("gnu{long}\0").as_bytes(), 0)
            .file("x", "gnu")
            .raw(EntryType::XGlobalHeader, b"pax_global_header", b"", b"", 0)
            .file("last", "");
        let place = after(tar);
        assert_eq!((place.read("c").as_str(), place.meta("a").nlink()), ("one", 3));
        assert_eq!(std::fs::read_link(place.path("s")).unwrap(), Path::new("../../secret"));
        assert!(place.meta("fifo").file_type().is_fifo() && place.meta("block").file_type().is_block_device());
        assert_eq!((place.meta("null").rdev(), place.meta("null").permissions().mode() & 0o777), (0x103, 0o666));
        assert_eq!(std::fs::read(place.0.path().join("root").join(OsString::from_vec(b"caf\xe9".to_vec()))).unwrap(), b"latin");
        assert_eq!((place.read(&long).as_str(), place.read(&format!("gnu{long}")).as_str()), ("pax", "gnu"));
        assert!(place.path("last").exists() && !place.path("x").exists());
    }

    #[test]
    fn absolute_names_and_dots_stay_inside() {
        let place = after(Tar::default().file("/abs", "a").file("../up", "b").file("x/../../../y", "c").file("./d/./e", "d"));
        assert_eq!((place.read("abs") + &place.read("up") + &place.read("y") + &place.read("d/e")).as_str(), "abcd");
        assert!(!place.path("x").exists());
    }

    #[test]
    fn a_parent_that_is_a_symlink_leads_where_it_leads_in_the_image() {
        let place = after(
            Tar::default()
                .dir("usr", 0o755)
                .dir("usr/bin", 0o755)
                .symlink("bin", "/usr/bin")
                .file("bin/sh", "sh")
                .symlink("out", "../../..")
                .file("out/secret", "mine")
                .symlink("later", "not/yet/there")
                .file("later/x", "made")
                .symlink("abs", "/abs/olute")
                .dir("proc", 0o555)
                .symlink("magic", "/proc/self/root"),
        );
        assert_eq!((place.read("usr/bin/sh").as_str(), place.read("secret").as_str(), place.read("not/yet/there/x").as_str()), ("sh", "mine", "made"));
        for target in ["loop", "abs/x", "/loop"] {
            assert!(refused(Tar::default().symlink("loop", target).symlink("abs", "loop").file("loop/x", "")).contains("ELOOP"), "{target}");
        }
        assert!(refused(Tar::default().file("file", "").file("file/x", "")).contains("ENOTDIR"));
    }

    #[test]
    fn a_hard_link_reaches_only_its_own_layer() {
        for target in ["../secret", "/../../secret", "up/secret", "nothing", "nothing/deep"] {
            let why = refused(Tar::default().symlink("up", "..").link("x", target));
            assert!(why.contains("which its layer does not have"), "{target}: {why}");
        }
        assert!(refused(Tar::default().link("x", "/")).contains("hard link to a directory"));
        assert!(refused(Tar::default().dir("d", 0o755).link("x", "d")).contains("EPERM"));
        let place = after(Tar::default().file("a", "a").link("a", "a").link("b", "a").link("b", "a").symlink("s", "a").link("t", "s"));
        assert_eq!(place.meta("a").nlink(), 2);
        assert!(place.meta("t").file_type().is_symlink());
    }

    #[test]
    fn what_comes_later_replaces_what_came_before() {
        let place = after(
            Tar::default()
                .file("twice", "first")
                .file("twice", "second")
                .dir("was-dir", 0o755)
                .file("was-dir/deep/x", "")
                .file("was-dir", "file")
                .file("was-file", "")
                .dir("was-file", 0o700)
                .symlink("was-link", "/twice")
                .file("was-link", "own")
                .symlink("link-dir", "was-file")
                .dir("link-dir", 0o711)
                .file("kept/x", "kept")
                .dir("kept", 0o755)
                .file("shared", "a")
                .link("other", "shared")
                .file("shared", "b"),
        );
        assert_eq!((place.read("twice").as_str(), place.read("was-dir").as_str(), place.read("was-link").as_str()), ("second", "file", "own"));
        assert!(place.meta("was-file").is_dir() && place.meta("link-dir").is_dir());
        assert_eq!((place.read("kept/x").as_str(), place.read("other").as_str(), place.read("shared").as_str()), ("kept", "a", "b"));
    }

    #[test]
    fn whiteouts_take_overlays_form_and_never_hide_their_own_layer() {
        let place = after(
            Tar::default()
                .file("d/.wh.gone", "")
                .file("d/.wh.gone", "")
                .file("opaque/before", "kept")
                .file("opaque/.wh..wh..opq", "")
                .file("opaque/after", "")
                .file("mine", "kept")
                .file(".wh.mine", "")
                .file(".wh.back", "")
                .file("back", "again")
                .file(".wh.dir", "")
                .dir("dir", 0o755)
                .dir("dir2", 0o755)
                .file(".wh.dir2", "")
                .file(".wh.dir3", "")
                .file("dir3/x", "")
                .file(".wh..wh.plnk", ""),
        );
        assert!(place.is_whiteout("d/gone") && place.is_opaque("opaque") && !place.is_opaque("d"));
        assert_eq!((place.read("opaque/before").as_str(), place.read("mine").as_str(), place.read("back").as_str()), ("kept", "kept", "again"));
        assert!(place.path("opaque/after").exists() && !place.path(".wh..wh.plnk").exists());
        assert!(["dir", "dir2", "dir3"].iter().all(|dir| place.is_opaque(dir)));
        for name in [".wh.", ".wh..", ".wh..."] {
            assert!(refused(Tar::default().file(name, "")).contains("whiteout of nothing"), "{name}");
        }
    }

    #[test]
    fn an_implied_directory_is_as_the_layers_below_have_it() {
        let below = after(Tar::default().dir("tmp", 0o1777).dir("tmp/deep", 0o700).dir("gone", 0o700));
        let middle = after(Tar::default().file(".wh.gone", ""));
        let place = Place::new();
        let layers = [middle.path(""), below.path("")];
        assert!(
            place.apply_above(Tar::default().file("tmp/deep/x", "").file("gone/x", "").file("new/x", ""), &layers.each_ref().map(PathBuf::as_path)).unwrap()
        );
        let of = |name: &str| (place.meta(name).uid(), place.meta(name).permissions().mode() & 0o7777);
        assert_eq!([of("tmp"), of("tmp/deep"), of("gone"), of("new")], [(1, 0o1777), (1, 0o700), (0, 0o755), (0, 0o755)]);
        assert!(!Place::new().apply(Tar::default().file("tmp/x", "").dir("tmp", 0o1777)).unwrap(), "an entry made it after all");
    }

    #[test]
    fn a_bomb_of_depth_a_cut_and_a_strange_type_are_refused() {
        let deep = "d/".repeat(MAX_DEPTH + 1);
        assert!(refused(Tar::default().pax(&[("path", format!("{deep}x").as_bytes())]).file("x", "")).contains("deeper than"));
        let mut cut = Tar::default().file("a", "content");
        cut.0.truncate(515);
        assert_eq!(refused(cut), r#"entry "a": it ends early"#);
        let mut cut = Tar::default().file("a", "content").file("b", "");
        cut.0.truncate(1024 + 100);
        assert_eq!(refused(cut), "it ends early");
        assert!(refused(Tar::default().raw(EntryType::new(b'?'), b"x", b"", b"", 0)).contains("'?'"));
        assert!(refused(Tar(vec![7; 1024])).contains("not a tar archive"));
        assert!(refused(Tar::default().file("..", "")).contains("replace the root"));
        assert!(refused(Tar::default().pax(&[("path", b"a\0b")]).file("x", "")).contains("EINVAL"));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
        #[test]
        fn no_sequence_of_entries_gets_out(entries in proptest::collection::vec((0..8u8, "(/|\\.\\./)?(a|b|\\.\\.)(/(a|b|\\.|\\.wh\\.a|\\.wh\\.\\.wh\\.\\.opq)){0,2}", "(/|\\.\\./){0,3}(a|b|secret|root)(/(a|b|\\.\\.)){0,2}"), 1..12)) {
            let mut tar = Tar::default();
            for (kind, name, link) in &entries {
                let kind = [EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Symlink, EntryType::Link, EntryType::Fifo, EntryType::Char, EntryType::Regular][usize::from(*kind)];
                let link = if kind.is_symlink() || kind.is_hard_link() { link.as_bytes() } else { b"" };
                tar = tar.raw(kind, name.as_bytes(), link, if kind.is_file() { b"hostile" } else { b"" }, 0o4777);
            }
            // Whether it is refused or not, Place::apply looks at what is outside.
            let _ = Place::new().apply(tar);
        }
    }
}
