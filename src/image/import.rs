//! From an archive into the store.
//!
//! Everything is made in the writer's temporary directory and checked there. Only when all of it is whole does it get
//! its names: layers, then documents, then the record, by which an image is seen. A failure on the way removes the temporary directory; a kill
//! leaves it to the next writer.

use std::collections::HashSet;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::archive::Source;
use super::document::{self, Blob, Offer};
use super::inflate::inflated;
use super::layer::{self, Below};
use super::stack::Stack;
use super::store::{self, Store, Writer};
use super::user::Accounts;
use super::{Image, Reference, plain};
use crate::error::{Error, Result};
use crate::sys::{file, tree};

/// Of /etc/passwd and /etc/group; a larger file counts as missing.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// A layer of an image that is being imported: in the store, or still in the temporary directory.
pub(super) struct Unpacked {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Store {
    /// Takes in all images of an OCI image layout or an archive of `docker save`: a directory, a tar file (compressed or not), or `-` for standard
    /// input. `name` replaces the archive's own name for its one image. Waits while another minipod writes.
    pub fn import(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<Image>> {
        self.take_all(path, name).map_err(|error| plain(error).doing(format!("importing {}", path.display())))
    }

    pub(super) fn take_all(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<Image>> {
        let writer = self.write()?;
        let source = Source::open(path, &writer.tmp())?;
        let offers = document::offers(&source, name)?;
        // All of them before the first is seen: an archive of two images is taken whole or not at all.
        let taken = offers.iter().map(|offer| self.take(&writer, &source, offer)).collect::<Result<Vec<_>>>()?;
        for (offer, (layers, images)) in offers.iter().zip(&taken) {
            self.publish(&writer, &writer.tmp(), offer, layers, images)?;
        }
        Ok(taken.into_iter().flat_map(|(_, images)| images).collect())
    }

    /// An offer's layers, bottom to top, and what is to be recorded under each of its names.
    fn take(&self, writer: &Writer<'_>, source: &Source, offer: &Offer) -> Result<(Vec<Unpacked>, Vec<Image>)> {
        let mut layers: Vec<Unpacked> = Vec::new();
        for at in 0..offer.layers.len() {
            layers.push(self.unpack(writer, source, offer, at, &layers)?);
        }
        self.images(offer, layers)
    }

    /// What is to be recorded of an offer with these layers, under each of its names; and the layers, each once.
    pub(super) fn images(&self, offer: &Offer, layers: Vec<Unpacked>) -> Result<(Vec<Unpacked>, Vec<Image>)> {
        let accounts = accounts(&stack(layers.iter())?)?;
        let layers = topmost_of_each(layers);
        let sizes = layers.iter().map(|layer| size_of(&file::open_dir(&layer.path)?, &mut HashSet::new()));
        let size = sizes.sum::<Result<u64>>()?;
        let names: Vec<String> = layers.iter().map(|layer| layer.name.clone()).collect();
        let images = offer.names.iter().map(|reference| image(offer, reference, &names, size, &accounts).at(self.dir()));
        let images = images.collect();
        Ok((layers, images))
    }

    /// Layer number `at` of an offer, above the layers `below` it.
    fn unpack(&self, writer: &Writer<'_>, source: &Source, offer: &Offer, at: usize, below: &[Unpacked]) -> Result<Unpacked> {
        let blob = &offer.layers[at];
        let [dependent, alone] = names_of(offer, at);
        for name in [&dependent, &alone] {
            let (known, new) = (store::layers_dir(self.dir()).join(name), writer.tmp().join(name));
            if let Some(path) = [known, new].into_iter().find(|path| path.is_dir()) {
                return Ok(Unpacked { name: name.clone(), path });
            }
        }
        let making = writer.tmp().join(format!("{at}~"));
        std::fs::create_dir(&making).map_err(|error| Error::io("mkdir", making.display(), &error))?;
        let packed = source.open_file(&blob.file)?.ok_or_else(|| document::missing(&blob.file));
        let implied = packed.and_then(|packed| apply(packed, blob, file::open_dir(&making)?, &|| stack(below.iter())));
        let name = if implied.map_err(|error| error.doing(format!("layer {}", blob.diff_id)))? { dependent } else { alone };
        let path = writer.tmp().join(&name);
        std::fs::rename(&making, &path).map_err(|error| Error::io("rename", making.display(), &error))?;
        Ok(Unpacked { name, path })
    }

    /// The layer number `at` of an offer, if the store has it.
    pub(super) fn known_layer(&self, offer: &Offer, at: usize) -> Option<Unpacked> {
        let known = names_of(offer, at).map(|name| Unpacked { path: store::layers_dir(self.dir()).join(&name), name });
        known.into_iter().find(|layer| layer.path.is_dir())
    }

    /// Gives everything its name, what is named last. `staging` is where the new layers were made, on the store's file system.
    pub(super) fn publish(&self, _writer: &Writer<'_>, staging: &Path, offer: &Offer, layers: &[Unpacked], images: &[Image]) -> Result<()> {
        let rename = |from: &Path, to: &Path| std::fs::rename(from, to).map_err(|error| Error::io("rename", to.display(), &error));
        let staged = |bytes: &[u8], number: usize| {
            let path = staging.join(format!("{number}.json"));
            file::write_atomically(&path, bytes, 0o600).map(|()| path)
        };
        let mut files = Vec::new();
        for (digest, bytes) in &offer.documents {
            let to = self.blob(digest);
            // A document that is there may be held; a new file in its place would not be.
            if !to.exists() {
                files.push((staged(bytes, files.len())?, to));
            }
        }
        for image in images {
            let record = serde_json::to_vec_pretty(image).map_err(|error| Error::said(format!("writing the record: {error}")))?;
            files.push((staged(&record, files.len())?, self.record(&image.reference)));
        }
        tree::sync(file::open_dir(staging)?)?;
        for layer in layers.iter().filter(|layer| layer.path.starts_with(staging)) {
            let to = store::layers_dir(self.dir()).join(&layer.name);
            // Another image of the same archive may have brought it there.
            if !to.is_dir() {
                rename(&layer.path, &to)?;
            }
        }
        for (from, to) in &files {
            let dir = to.parent().unwrap_or(self.dir());
            std::fs::create_dir_all(dir).map_err(|error| Error::io("mkdir", dir.display(), &error))?;
            rename(from, to)?;
        }
        Ok(())
    }
}

/// The names that layer number `at` may have: right only above those below it, or everywhere.
pub(super) fn names_of(offer: &Offer, at: usize) -> [String; 2] {
    let diff_ids: Vec<String> = offer.layers[..=at].iter().map(|layer| layer.diff_id.clone()).collect();
    [store::dependent_layer_name(&diff_ids), store::layer_name(&offer.layers[at].diff_id)]
}

fn accounts(stack: &Stack) -> Result<Accounts> {
    let text = |path: &str| -> Result<String> {
        let bytes = stack.read(Path::new(path), MAX_ACCOUNTS)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Accounts { passwd: text("/etc/passwd")?, group: text("/etc/group")? })
}

/// Decompresses, hashes and unpacks in one pass; returns what [`layer::apply`] does.
pub(super) fn apply(packed: impl Read + Send, blob: &Blob, root: OwnedFd, below: &Below<'_>) -> Result<bool> {
    let (applied, sums) = inflated(packed, |stream| layer::apply(root, stream, below))?;
    // A damaged blob shows as damage of its format first; its digest tells the truth.
    if let Some((digest, size)) = &blob.written {
        let (found, bytes) = sums.written.map_err(|error| Error::said(format!("{:?}: {error}", blob.file)))?;
        if bytes != *size {
            return Err(Error::said(format!("{:?} has {bytes} bytes, its manifest says {size}", blob.file)));
        }
        if found != *digest {
            return Err(Error::said(format!("{:?} is damaged: its digest is {found}", blob.file)));
        }
    }
    let implied = applied?;
    match sums.unpacked {
        Some(diff_id) if diff_id == blob.diff_id => Ok(implied),
        other => {
            let other = other.unwrap_or_default();
            Err(Error::said(format!("{:?} unpacks to {other}, another content than the configuration names", blob.file)))
        }
    }
}

pub(super) fn stack<'a>(layers: impl DoubleEndedIterator<Item = &'a Unpacked>) -> Result<Stack> {
    layers.rev().map(|layer| file::open_dir(&layer.path)).collect::<Result<_>>().map(Stack::new)
}

/// Leaves of a layer that occurs twice only the upper one, which shows the same: overlayfs refuses a directory twice (ELOOP).
fn topmost_of_each(layers: Vec<Unpacked>) -> Vec<Unpacked> {
    let names: Vec<String> = layers.iter().map(|layer| layer.name.clone()).collect();
    layers.into_iter().enumerate().filter(|(at, layer)| !names[at + 1..].contains(&layer.name)).map(|(_, layer)| layer).collect()
}

/// Bytes of the regular files of a tree, each once however many names it has.
pub(super) fn size_of(dir: &OwnedFd, linked: &mut HashSet<u64>) -> Result<u64> {
    let mut size = 0;
    for name in tree::names(dir)? {
        let Some(stat) = tree::kind(dir, &name)? else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => size += size_of(&tree::open_directory(dir, &name)?, linked)?,
            FileType::RegularFile if stat.st_nlink == 1 || linked.insert(stat.st_ino) => size += stat.st_size as u64,
            _ => {}
        }
    }
    Ok(size)
}

fn image(offer: &Offer, reference: &Reference, layers: &[String], size: u64, accounts: &Accounts) -> Image {
    let config = offer.config.config().clone().unwrap_or_default();
    let sorted = |list: &Option<Vec<String>>| {
        let mut list = list.clone().unwrap_or_default();
        list.sort();
        list
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Image {
        reference: reference.clone(),
        id: offer.id.clone(),
        digest: offer.digest.clone(),
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        env: config.env().clone().unwrap_or_default(),
        user: text(config.user()),
        working_dir: text(config.working_dir()),
        stop_signal: config.stop_signal().clone().filter(|signal| !signal.is_empty()),
        exposed_ports: sorted(config.exposed_ports()),
        volumes: sorted(config.volumes()),
        labels: config.labels().clone().unwrap_or_default().into_iter().collect(),
        architecture: offer.config.architecture().to_string(),
        created: offer.config.created().clone(),
        size,
        layers: layers.to_vec(),
        pulled: offer.pulled,
        documents: offer.documents.iter().map(|(digest, _)| digest.clone()).collect(),
        accounts: accounts.clone(),
        dir: PathBuf::new(),
    }
}
