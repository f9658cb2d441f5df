//! A tar stream of [`super::pack`] becomes files beneath one place, whatever its names say.
//!
//! Each name's directory is resolved by the kernel beneath the place (openat2(2)): neither `..` nor a symlink that is there leads out. A
//! file that is there is replaced, not written into: it may be a symlink, a program that runs, or have other names. A directory
//! that is there stays as it is and gets what is missing.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, OFlags};
use tar::EntryType;

use super::notes::Notes;
use crate::error::{Error, Result};
use crate::image::entries::{Entries, Entry};
use crate::sys::file::{self, Within};
use crate::sys::tree;

/// Where the stream's first entry goes: a name in a directory.
pub struct Place {
    parent: OwnedFd,
    /// `.`: the directory itself, which is there.
    name: OsString,
    /// As it was given, for messages.
    path: PathBuf,
}

impl Place {
    /// A path that the user gave: symlinks on it are followed. Its directory must be there.
    pub fn at(path: &Path) -> Result<Place> {
        let open = |path: &Path| {
            file::open(path, OFlags::PATH | OFlags::DIRECTORY).map_err(|error| match error.is(libc::ENOENT) {
                true => Error::said(format!("{}: No such file or directory", path.display())),
                false => error,
            })
        };
        match path.file_name() {
            Some(name) if !path.is_dir() => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                Ok(Place { parent: open(parent)?, name: name.to_owned(), path: path.to_owned() })
            }
            _ => Ok(Place { parent: open(path)?, name: ".".into(), path: path.to_owned() }),
        }
    }
}

/// What is kept of what the stream says.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Of the modes, these bits.
    pub modes: u32,
    /// Owners and groups.
    pub owners: bool,
    /// Symlinks are made; else they are listed.
    pub links: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Unpacked {
    pub notes: Notes,
    /// Symlinks that were not made, with their targets.
    pub links: Vec<(PathBuf, OsString)>,
}

/// Unpacks the whole stream. The place is asked for with the first entry: before that nothing is made.
pub fn unpack(stream: impl Read, place: impl FnOnce() -> Result<Place>, rules: Rules) -> Result<Unpacked> {
    let mut entries = Entries::new(stream);
    let Some(mut entry) = entries.next().map_err(|error| reading(&error))? else { return Ok(Unpacked::default()) };
    let mut unpack = Unpack { place: place()?, rules, root: None, made: Vec::new(), unpacked: Unpacked::default() };
    loop {
        let at = beneath(&unpack.place.path, &inner(&entry.name)?);
        unpack.entry(&entry, &mut entries).map_err(|error| error.doing(format!("copying to {}", at.display())))?;
        match entries.next().map_err(|error| reading(&error))? {
            Some(next) => entry = next,
            None => break,
        }
    }
    unpack.finish()?;
    Ok(unpack.unpacked)
}

fn reading(error: &std::io::Error) -> Error {
    Error::said(format!("the copy is not complete: {error}"))
}

fn corrupted() -> Error {
    Error::said("tar contents corrupted")
}

struct Unpack {
    place: Place,
    rules: Rules,
    /// The directory that everything else is beneath, if the first entry is one.
    root: Option<OwnedFd>,
    /// Directories that we made, and what they get when nothing is put into them any more.
    made: Vec<(PathBuf, Entry)>,
    unpacked: Unpacked,
}

impl Unpack {
    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> Result<()> {
        let path = inner(&entry.name)?;
        let Some(name) = path.file_name() else { return self.first(entry, content) };
        let root = self.root.as_ref().ok_or_else(corrupted)?;
        let parent = file::open_within(root, path.parent().unwrap_or(Path::new("")), Within::Beneath, OFlags::PATH | OFlags::DIRECTORY, 0)?;
        if entry.kind.is_dir() {
            if make_directory(&parent, name)? {
                self.made.push((path.clone(), entry.clone()));
            }
            return Ok(());
        }
        self.put(&parent, name, entry, &path, content)
    }

    /// The thing itself, at the name that it is to have.
    fn first(&mut self, entry: &Entry, content: &mut impl Read) -> Result<()> {
        let (parent, name) = (self.place.parent.try_clone().map_err(|error| Error::io("dup", "", &error))?, self.place.name.clone());
        if !entry.kind.is_dir() {
            if name == "." {
                return Err(Error::said("the destination is a directory; give the name of the copy as well"));
            }
            return self.put(&parent, &name, entry, Path::new(""), content);
        }
        if name != "." && make_directory(&parent, &name)? {
            self.made.push((PathBuf::new(), entry.clone()));
        }
        self.root = Some(file::open_within(&parent, &name, Within::Beneath, OFlags::RDONLY | OFlags::DIRECTORY, 0)?);
        Ok(())
    }

    /// Anything but a directory.
    fn put(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry, path: &Path, content: &mut impl Read) -> Result<()> {
        match entry.kind {
            EntryType::Regular => {
                let mut file = fresh(parent, name)?;
                copy(content, &mut file)?;
                self.attributes(&file, entry)
            }
            EntryType::Symlink if self.rules.links => {
                make_room(parent, name)?;
                tree::make_symlink(parent, name, &entry.link)?;
                if self.rules.owners { tree::set_owner(parent, name, entry.uid, entry.gid) } else { Ok(()) }
            }
            EntryType::Symlink => {
                self.unpacked.links.push((path.to_owned(), entry.link.clone()));
                Ok(())
            }
            _ => Err(corrupted()),
        }
    }

    /// Owner, then mode: the first clears bits of the second. By descriptor: behind the name there may be something else by now.
    fn attributes(&self, file: &File, entry: &Entry) -> Result<()> {
        if self.rules.owners {
            fchown(file, Some(entry.uid), Some(entry.gid)).map_err(|error| Error::io("fchown", "", &error))?;
        }
        file.set_permissions(Permissions::from_mode(entry.mode & self.rules.modes)).map_err(|error| Error::io("fchmod", "", &error))
    }

    /// Inner directories first: one without the right to enter it closes what is beneath.
    fn finish(&mut self) -> Result<()> {
        for (path, entry) in std::mem::take(&mut self.made).into_iter().rev() {
            let Some(root) = &self.root else { continue };
            let dir = file::open_within(root, &path, Within::Beneath, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0)?;
            self.attributes(&dir.into(), &entry).map_err(|error| error.doing(format!("copying to {}", beneath(&self.place.path, &path).display())))?;
        }
        Ok(())
    }
}

/// For messages: without the slash that a join with nothing leaves.
pub fn beneath(path: &Path, inner: &Path) -> PathBuf {
    if inner.as_os_str().is_empty() { path.to_owned() } else { path.join(inner) }
}

/// A name of the stream as a path beneath the first entry. [`super::pack`] writes no other than these.
fn inner(name: &OsStr) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            _ => return Err(corrupted()),
        }
    }
    Ok(path)
}

/// False: it is there.
fn make_directory(parent: &OwnedFd, name: &OsStr) -> Result<bool> {
    match tree::make_directory(parent, name) {
        Ok(()) => Ok(true),
        Err(error) if error.is(libc::EEXIST) => match tree::open_directory(parent, name) {
            Ok(_) => Ok(false),
            // It may be one that we cannot read: then what is in it fails by itself.
            Err(error) if error.is(libc::EACCES) => Ok(false),
            Err(_) => Err(Error::said("there is something else of this name, not a directory")),
        },
        Err(error) => Err(error),
    }
}

fn is_directory(parent: &OwnedFd, name: &OsStr) -> Result<bool> {
    Ok(tree::kind(parent, name)?.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
}

fn make_room(parent: &OwnedFd, name: &OsStr) -> Result<()> {
    match tree::unlink(parent, name) {
        Err(error) if error.is(libc::ENOENT) => Ok(()),
        Err(_) if is_directory(parent, name)? => Err(Error::said("there is a directory of this name")),
        done => done,
    }
}

/// A new empty file. What something is mounted on (/etc/hosts) cannot be replaced: it is written into.
fn fresh(parent: &OwnedFd, name: &OsStr) -> Result<File> {
    match make_room(parent, name) {
        Err(error) if error.is(libc::EBUSY) => {
            let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            file::open_within(parent, name, Within::Beneath, flags, 0).map(File::from)
        }
        made => made.and_then(|()| tree::make_file(parent, name)),
    }
}

fn copy(content: &mut impl Read, file: &mut File) -> Result<()> {
    let mut buffer = vec![0; super::PIECE];
    loop {
        match content.read(&mut buffer).map_err(|error| reading(&error))? {
            0 => return Ok(()),
            n => file.write_all(&buffer[..n]).map_err(|error| Error::io("write", "", &error))?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack::pack;
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    const OUT: Rules = Rules { modes: 0o777, owners: false, links: false };
    const IN: Rules = Rules { modes: 0o7777, owners: false, links: true };

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    /// A stream whose names are written as they are given, however hostile.
    fn stream(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (kind, name, said) in entries {
            let mut records = vec![("path", name.as_bytes())];
            records.extend((*kind == EntryType::Symlink).then_some(("linkpath", said.as_bytes())));
            tar.append_pax_extensions(records).unwrap();
            let content = if *kind == EntryType::Regular { said.as_bytes() } else { b"" };
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn a_tree_comes_back_with_contents_names_and_modes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub/empty")).unwrap();
        let strange = OsString::from("with \n newline and \u{fc} and a long name ".repeat(5));
        let big: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        fs::write(from.join("sub").join(&strange), &big).unwrap();
        fs::write(from.join("script"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(from.join("script"), Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(from.join("sub/empty"), Permissions::from_mode(0o1500)).unwrap();
        symlink("/etc/../nowhere//x", from.join("link")).unwrap();
        let mut packed = Vec::new();
        assert!(!pack(&mut packed, &from).unwrap().failed());
        let unpacked = unpack(packed.as_slice(), || Place::at(&to), IN).unwrap();
        assert!(unpacked.links.is_empty());
        assert!(fs::read(to.join("sub").join(&strange)).unwrap() == big);
        assert_eq!([mode(&to.join("script")), mode(&to.join("sub/empty"))], [0o4751, 0o1500]);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/../nowhere//x"));
        // The other way the links stay away, and the special bits.
        let out = dir.path().join("out");
        let unpacked = unpack(packed.as_slice(), || Place::at(&out), OUT).unwrap();
        assert_eq!(unpacked.links, [("link".into(), "/etc/../nowhere//x".into())]);
        assert!(out.join("link").symlink_metadata().is_err());
        assert_eq!([mode(&out.join("script")), mode(&out.join("sub/empty"))], [0o751, 0o500]);
    }

    #[test]
    fn one_file_goes_to_its_name_and_never_onto_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "content").unwrap();
        let mut packed = Vec::new();
        pack(&mut packed, &dir.path().join("a")).unwrap();
        // A link that is there is replaced, not followed.
        fs::write(dir.path().join("kept"), "kept").unwrap();
        symlink("kept", dir.path().join("b")).unwrap();
        unpack(packed.as_slice(), || Place::at(&dir.path().join("b")), OUT).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "content");
        assert_eq!(fs::read_to_string(dir.path().join("kept")).unwrap(), "kept");
        fs::create_dir(dir.path().join("d")).unwrap();
        let refused = unpack(packed.as_slice(), || Place::at(&dir.path().join("d")), OUT).unwrap_err();
        assert!(refused.to_string().contains("the destination is a directory"), "{refused}");
        assert!(Place::at(&dir.path().join("no/such")).is_err());
    }

    #[test]
    fn nothing_gets_out_of_the_place() {
        use EntryType::{Directory, Link, Regular, Symlink};
        for entries in [
            &[(Directory, ".", ""), (Regular, "../secret", "hostile")][..],
            &[(Directory, ".", ""), (Regular, "a/../../secret", "hostile")],
            &[(Directory, ".", ""), (Regular, "/secret", "hostile")],
            &[(Directory, ".", ""), (Regular, "up/secret", "hostile")],
            &[(Directory, ".", ""), (Regular, "abs/secret", "hostile")],
            &[(Directory, ".", ""), (Directory, "up", ""), (Regular, "up/secret", "hostile")],
            &[(Directory, ".", ""), (Symlink, "new", ".."), (Regular, "new/secret", "hostile")],
            &[(Directory, ".", ""), (Link, "secret", "../secret")],
            &[(Regular, "x", "hostile")],
            &[(Directory, "..", "")],
        ] {
            for rules in [OUT, IN] {
                let dir = tempfile::tempdir().unwrap();
                let place = dir.path().join("place");
                fs::create_dir(&place).unwrap();
                fs::write(dir.path().join("secret"), "secret").unwrap();
                symlink("..", place.join("up")).unwrap();
                symlink(dir.path(), place.join("abs")).unwrap();
                let refused = unpack(stream(entries).as_slice(), || Place::at(&place), rules);
                assert!(refused.is_err(), "{entries:?}");
                assert_eq!(fs::read_to_string(dir.path().join("secret")).unwrap(), "secret", "{entries:?}");
                assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "{entries:?}");
            }
        }
    }

    #[test]
    fn a_fifo_is_not_waited_for_and_a_cut_stream_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("from")).unwrap();
        let from = file::open_dir(dir.path().join("from")).unwrap();
        tree::make_node(&from, OsStr::new("fifo"), FileType::Fifo, (0, 0)).unwrap();
        fs::write(dir.path().join("from/file"), "content").unwrap();
        let mut packed = Vec::new();
        let notes = pack(&mut packed, &dir.path().join("from")).unwrap();
        assert!(!notes.failed() && notes.to_string().contains("fifo"), "{notes}");
        let end = packed.len() - 1024 - 512 + 3;
        let cut = unpack(&packed[..end], || Place::at(&dir.path().join("to")), OUT).unwrap_err();
        assert!(cut.to_string().contains("not complete"), "{cut}");
    }
}
