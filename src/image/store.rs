//! The images on disk.
//!
//! ```text
//! lib/images/
//!   lock                                    held by whoever writes
//!   names/docker.io/library/nginx/:latest   a record: one Image as JSON
//!   layers/6c3c624b58dbbcd3c0dd82b4c53f0419 a layer, unpacked
//!   layers/mount-points                     the places that every container's mounts need, below all layers
//!   blobs/sha256/HEX                        manifests and configurations, as they were
//!   tmp/                                    what the holder of the lock is making
//!   pulls/HEX, pulls/HEX.d/                 what a pull is making, and its lock
//! ```
//!
//! A name appears by one rename, after all that it stands for is whole and on disk; readers take no lock. One writer at a time: what stands in
//! `tmp` when the lock is free belongs to a writer that was killed, and the next one clears it.
//!
//! A layer is named by the first 32 digits of its diff id, or, where it holds directories that only the layers below it
//! describe, by a digest over all diff ids up to it. It is removed when no record and no user of an image needs it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::image::ImageConfiguration;
use rustix::fs::OFlags;

use super::archive::MAX_DOCUMENT;
use super::digest::{is_sha256, sha256};
use super::{Image, Reference};
use crate::error::{Error, Result};
use crate::sys::{file, removal};

/// Of one record.
const MAX_RECORD: u64 = 8 << 20;
const LAYER_NAME: usize = 32;
/// A layer of our own.
const MOUNT_POINTS: &str = "mount-points";
/// Shorter is no id that a person meant.
const MIN_ID: usize = 4;

/// The store in one directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// The right to write, until dropped; `tmp` is empty at both ends.
pub(super) struct Writer<'a> {
    store: &'a Store,
    _lock: OwnedFd,
}

pub(super) fn layers_dir(store: &Path) -> PathBuf {
    store.join("layers")
}

/// A layer's directory name if it stands alone.
pub(super) fn layer_name(diff_id: &str) -> String {
    diff_id.trim_start_matches("sha256:").chars().take(LAYER_NAME).collect()
}

/// A layer's directory name if it is right only above these others. Never that of a layer that stands alone.
pub(super) fn dependent_layer_name(diff_ids_up_to_it: &[String]) -> String {
    layer_name(&sha256(format!("above:{}", diff_ids_up_to_it.join("\n")).as_bytes()))
}

fn failed<'a>(call: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
    move |error| Error::io(call, path.display(), &error)
}

impl Store {
    /// The store in `dir`, which is made if it is missing, for root alone: layers hold setuid programs, maybe old ones.
    pub fn open(dir: impl AsRef<Path>) -> Result<Store> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = dir.as_ref().to_owned();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed("mkdir", &dir))?;
        Ok(Store { dir })
    }

    /// The image of that name. With a digest, the image of that repository that has it, whatever its tag.
    pub fn find(&self, reference: &Reference) -> Result<Option<Image>> {
        let Some(digest) = reference.digest() else { return self.read(&self.record(reference)) };
        let dir = self.repository(reference);
        Ok(self.records(&dir)?.into_iter().find(|image| image.digest.as_deref() == Some(digest)))
    }

    /// The images that a person means: by name, else by an id or its first digits.
    pub fn resolve(&self, text: &str) -> Result<Vec<Image>> {
        let named = Reference::parse(text);
        if let Ok(reference) = &named
            && let Some(image) = self.find(reference)?
        {
            return Ok(vec![image]);
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() < MIN_ID || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return named.map(|_| Vec::new());
        }
        let mut images = self.list()?;
        images.retain(|image| image.id["sha256:".len()..].starts_with(digits));
        match images.iter().all(|image| image.id == images[0].id) {
            true => Ok(images),
            false => Err(Error::said(format!("{text:?} is the start of more than one image id; give more digits"))),
        }
    }

    /// Where the layers of all images are.
    pub fn layers_dir(&self) -> PathBuf {
        layers_dir(&self.dir)
    }

    /// All images, once per name, sorted by name.
    pub fn list(&self) -> Result<Vec<Image>> {
        let mut images = Vec::new();
        let mut todo = vec![self.dir.join("names")];
        while let Some(dir) = todo.pop() {
            images.extend(self.records(&dir)?);
            todo.extend(names(&dir)?.into_iter().filter(|name| !is_record(name)).map(|name| dir.join(name)));
        }
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// Takes names away, and then what no name needs any more. `in_use` are ids of images that pods have; one of these stays, and
    /// removing its last name is an error that comes before anything is removed.
    pub fn remove(&self, references: &[Reference], in_use: &BTreeSet<String>) -> Result<()> {
        let writer = self.write()?;
        let all = self.list()?;
        let (gone, left): (Vec<Image>, Vec<Image>) = all.into_iter().partition(|image| references.contains(&image.reference));
        for image in &gone {
            let last = !left.iter().any(|other| other.id == image.id);
            if last && (in_use.contains(&image.id) || self.is_held(&image.id)?) {
                return Err(Error::said(format!("image {} is in use by a pod; delete the pod first", image.reference.familiar())));
            }
        }
        self.forget(&writer, &gone, &left, in_use)
    }

    /// Removes what no name needs, and those of these names that no pod uses; tells which.
    pub fn prune(&self, references: &[Reference], in_use: &BTreeSet<String>) -> Result<Vec<Reference>> {
        let writer = self.write()?;
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        for image in self.list()? {
            let unused = references.contains(&image.reference) && !in_use.contains(&image.id) && !self.is_held(&image.id)?;
            if unused { gone.push(image) } else { left.push(image) }
        }
        self.forget(&writer, &gone, &left, in_use)?;
        Ok(gone.into_iter().map(|image| image.reference).collect())
    }

    fn forget(&self, writer: &Writer<'_>, gone: &[Image], left: &[Image], in_use: &BTreeSet<String>) -> Result<()> {
        for reference in gone.iter().map(|image| &image.reference) {
            let path = self.record(reference);
            std::fs::remove_file(&path).map_err(failed("unlink", &path))?;
            // Fails at the first directory that still has something in it.
            let empty = path.ancestors().skip(1).take_while(|dir| **dir != self.dir);
            empty.take_while(|dir| std::fs::remove_dir(dir).is_ok()).for_each(drop);
        }
        self.sweep(writer, left, in_use)
    }

    /// The name of a lowest layer for every image, in its layers' directory: the places of the mounts that all containers have. Where an image
    /// lacks them they would be made in each container's own upper directory, and removed with it: that is a quarter of what a
    /// start writes to disk.
    pub fn mount_points(&self) -> Result<String> {
        let at = layers_dir(&self.dir).join(MOUNT_POINTS);
        let files = ["etc/hosts", "etc/hostname", "etc/resolv.conf"].map(|name| at.join(name));
        // Every start asks: the one that is made last tells of all.
        if !files[2].exists() {
            for path in ["dev", "etc", "proc", "sys"].map(|name| at.join(name)) {
                std::fs::create_dir_all(&path).map_err(failed("mkdir", &path))?;
                file::set_mode(&path, 0o755)?;
            }
            file::set_mode(&at, 0o755)?;
            for path in &files {
                file::open(path, OFlags::WRONLY | OFlags::CREATE)?;
                file::set_mode(path, 0o644)?;
            }
        }
        Ok(MOUNT_POINTS.to_owned())
    }

    /// Keeps an image's layers from being removed for as long as the descriptor (or a copy of it) is open; also if its name goes to another
    /// image meanwhile. Fails if the image is gone.
    pub fn hold(&self, image: &Image) -> Result<OwnedFd> {
        let gone = || Error::said(format!("image {} has just been removed", image.reference.familiar()));
        let blob = file::open(self.blob(&image.id), OFlags::RDONLY).map_err(|error| if error.is(libc::ENOENT) { gone() } else { error })?;
        // Who removes it has the lock alone meanwhile, and may have done so between our open and our lock.
        file::lock_shared(&blob)?;
        if file::stat(&blob)?.st_nlink == 0 { Err(gone()) } else { Ok(blob) }
    }

    fn is_held(&self, id: &str) -> Result<bool> {
        match file::open(self.blob(id), OFlags::RDONLY) {
            Ok(blob) => file::is_locked(blob),
            Err(error) if error.is(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes blobs and layers that neither `images` nor a user of an image needs.
    fn sweep(&self, writer: &Writer<'_>, images: &[Image], in_use: &BTreeSet<String>) -> Result<()> {
        let mut documents: BTreeSet<&str> = images.iter().flat_map(|image| image.documents.iter().map(String::as_str)).collect();
        let mut layers: BTreeSet<String> = images.iter().flat_map(|image| image.layers.iter().cloned()).collect();
        let blobs = self.dir.join("blobs/sha256");
        let present: Vec<String> = names(&blobs)?.iter().map(|name| format!("sha256:{}", name.to_string_lossy())).collect();
        let mut unneeded = Vec::new();
        for digest in present.iter().filter(|digest| is_sha256(digest)) {
            if documents.contains(digest.as_str()) {
                continue;
            }
            // Kept until it is removed: a hold that comes now waits, and then finds it gone.
            let blob = file::open(self.blob(digest), OFlags::RDWR)?;
            if in_use.contains(digest) || !file::try_lock(&blob)? {
                documents.insert(digest);
                layers.extend(self.layers_of(digest)?);
            } else {
                unneeded.push((digest, blob));
            }
        }
        for (digest, _locked) in &unneeded {
            std::fs::remove_file(self.blob(digest)).map_err(failed("unlink", &self.blob(digest)))?;
        }
        for name in names(&layers_dir(&self.dir))? {
            if name != MOUNT_POINTS && !layers.contains(name.to_string_lossy().as_ref()) {
                // Out of sight first: a layer that is seen is whole.
                let (from, to) = (layers_dir(&self.dir).join(&name), writer.tmp().join(&name));
                std::fs::rename(&from, &to).map_err(failed("rename", &from))?;
            }
        }
        Ok(())
    }

    /// The names that the layers of a configuration may have.
    fn layers_of(&self, id: &str) -> Result<Vec<String>> {
        let path = self.blob(id);
        let bytes = file::read_limited(file::open(&path, OFlags::RDONLY)?, &path, MAX_DOCUMENT)?;
        let Ok(config) = serde_json::from_slice::<ImageConfiguration>(&bytes) else { return Ok(Vec::new()) };
        let ids = config.rootfs().diff_ids();
        Ok((0..ids.len()).flat_map(|top| [layer_name(&ids[top]), dependent_layer_name(&ids[..=top])]).collect())
    }

    /// Waits for other writers, and clears what a killed one has left.
    pub(super) fn write(&self) -> Result<Writer<'_>> {
        let lock = file::open(self.dir.join("lock"), OFlags::RDWR | OFlags::CREATE)?;
        file::lock(&lock)?;
        let writer = Writer { store: self, _lock: lock };
        removal::remove_tree(writer.tmp())?;
        super::pull::clear_killed(&self.dir)?;
        for dir in [writer.tmp(), layers_dir(&self.dir), self.dir.join("blobs/sha256"), self.dir.join("names")] {
            std::fs::create_dir_all(&dir).map_err(failed("mkdir", &dir))?;
        }
        Ok(writer)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a document lies; `digest` is known to be one.
    pub(super) fn blob(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    fn repository(&self, reference: &Reference) -> PathBuf {
        self.dir.join("names").join(reference.domain()).join(reference.path())
    }

    /// `:TAG` or `@DIGEST`: no part of a repository's name begins so, so records and directories do not meet.
    pub(super) fn record(&self, reference: &Reference) -> PathBuf {
        let name = match (reference.tag(), reference.digest()) {
            (_, Some(digest)) => format!("@{digest}"),
            (tag, None) => format!(":{}", tag.unwrap_or("latest")),
        };
        self.repository(reference).join(name)
    }

    fn read(&self, path: &Path) -> Result<Option<Image>> {
        let record = match file::open(path, OFlags::RDONLY) {
            Ok(record) => file::read_limited(record, path, MAX_RECORD)?,
            Err(error) if error.is(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = |error| Error::said(format!("the image record {} is damaged ({error}); remove that file and import the image again", path.display()));
        serde_json::from_slice::<Image>(&record).map(|image| Some(image.at(&self.dir))).map_err(damaged)
    }

    fn records(&self, dir: &Path) -> Result<Vec<Image>> {
        let records = names(dir)?.into_iter().filter(|name| is_record(name)).map(|name| self.read(&dir.join(name)));
        records.filter_map(Result::transpose).collect()
    }
}

fn is_record(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b":") || name.as_bytes().starts_with(b"@")
}

/// The names in a directory, sorted; none if it is missing.
fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("open", dir))?,
    };
    let mut names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<std::io::Result<Vec<_>>>().map_err(failed("getdents64", dir))?;
    names.sort();
    Ok(names)
}

impl Writer<'_> {
    pub(super) fn tmp(&self) -> PathBuf {
        self.store.dir.join("tmp")
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // What cannot be removed now, the next writer meets, and tells.
        let _ = removal::remove_tree(self.tmp());
    }
}
