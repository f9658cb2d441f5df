//! From the store into an archive.
//!
//! ```text
//! record ─▶ configuration, as it was kept ── its diff ids replaced ──┐
//!           layers' directories ─▶ pack ─▶ a file without a name ────┴─▶ manifest ─▶ index.json (OCI) or manifest.json (docker)
//! ```
//!
//! The store keeps layers unpacked, so the bytes of their archives are new, and with them every digest. What they hold is not, and
//! what the configuration says is not touched otherwise. A blob's size stands before it in an archive, so each layer is first packed
//! aside.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;

use oci_spec::image::{ImageConfiguration, MediaType};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::digest::{Hashing, sha256};
use super::document::{FULL_NAME, REF_NAME};
use super::pack::pack;
use super::store::{self, Store};
use super::{Image, plain};
use crate::error::{Error, Result};
use crate::sys::file;

/// What an archive of an image looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An OCI image layout in a tar, layers compressed with gzip.
    Oci,
    /// As `docker save` wrote it before its version 25: manifest.json, layers uncompressed.
    Docker,
}

/// A layer as the archive has it.
pub(super) struct Packed {
    /// Of the tar.
    pub(super) diff_id: String,
    /// Of the tar, compressed or not.
    digest: String,
    size: u64,
}

impl Store {
    /// Writes an image into `out`, under all names that `images` has for it: they are one image (one id). `spool` is a directory with room for
    /// its largest layer. Nobody removes the image meanwhile, and other writers are not kept waiting.
    pub fn export(&self, images: &[Image], format: Format, spool: &Path, out: &mut dyn Write) -> Result<()> {
        let Some(image) = images.first() else { return Ok(()) };
        let mut export = || {
            let held = self.hold(image)?;
            let config = file::read_whole(&held, &image.id)?;
            let mut archive = Archive::new(out, format, spool);
            let layers = archive.layers(image, &config)?;
            archive.documents(&names(images), with_diff_ids(&config, &layers)?, &layers)?;
            archive.finish()
        };
        export().map_err(|error: Error| plain(error).doing(format!("exporting {}", image.reference.familiar())))
    }
}

fn writing(error: &io::Error) -> Error {
    Error::io("write", "", error)
}

fn malformed(error: &serde_json::Error) -> Error {
    Error::said(format!("its configuration in the store is damaged ({error}); remove the image and import it again"))
}

/// For each diff id of the configuration, bottom to top, the directory that it became. A layer that occurs twice is stacked once, but
/// the configuration's history counts it twice.
pub(super) fn directories(image: &Image, config: &[u8]) -> Result<Vec<String>> {
    let config: ImageConfiguration = serde_json::from_slice(config).map_err(|error| malformed(&error))?;
    let diff_ids = config.rootfs().diff_ids();
    let directory = |at: usize| {
        let names = [store::dependent_layer_name(&diff_ids[..=at]), store::layer_name(&diff_ids[at])];
        let missing = || Error::said(format!("its record does not have layer {}; remove the image and import it again", diff_ids[at]));
        names.into_iter().find(|name| image.layers.contains(name)).ok_or_else(missing)
    };
    (0..diff_ids.len()).map(directory).collect()
}

fn with_diff_ids(config: &[u8], layers: &[Packed]) -> Result<Vec<u8>> {
    let mut config: Value = serde_json::from_slice(config).map_err(|error| malformed(&error))?;
    if let Some(diff_ids) = config.pointer_mut("/rootfs/diff_ids") {
        *diff_ids = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    }
    serde_json::to_vec(&config).map_err(|error| malformed(&error))
}

/// What the image is called, in full. A name by digest is left out: what it names is the archive that the image came from.
fn names(images: &[Image]) -> Vec<String> {
    let tagged = images.iter().filter_map(|image| image.reference.tag().map(|tag| format!("{}:{tag}", image.reference.name())));
    tagged.collect()
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

/// An archive that is being written.
pub(super) struct Archive<'a> {
    tar: Builder<BufWriter<&'a mut dyn Write>>,
    format: Format,
    spool: &'a Path,
    /// Names of the files that are in it.
    written: BTreeSet<String>,
}

impl<'a> Archive<'a> {
    pub(super) fn new(out: &'a mut dyn Write, format: Format, spool: &'a Path) -> Archive<'a> {
        Archive { tar: Builder::new(BufWriter::with_capacity(128 << 10, out)), format, spool, written: BTreeSet::new() }
    }

    pub(super) fn finish(self) -> Result<()> {
        self.tar.into_inner().and_then(|mut out| out.flush()).map_err(|error| writing(&error))
    }

    fn layers(&mut self, image: &Image, config: &[u8]) -> Result<Vec<Packed>> {
        let names = directories(image, config)?;
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        let mut layers: Vec<Packed> = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let layer = match known.get(name.as_str()) {
                Some(before) => Packed { diff_id: layers[*before].diff_id.clone(), digest: layers[*before].digest.clone(), ..layers[*before] },
                None => self.layer(&image.layers_dir().join(name)).map_err(|error| error.doing(format!("layer {name}")))?,
            };
            known.insert(name, at);
            layers.push(layer);
        }
        Ok(layers)
    }

    /// Packs a layer aside, then puts it in.
    pub(super) fn layer(&mut self, dir: &Path) -> Result<Packed> {
        let root = file::open_dir(dir)?;
        let mut aside = file::nameless(self.spool)?;
        let (written, sum) = Hashing::new(BufWriter::new(&aside), u64::MAX);
        let spooling = |error: io::Error| Error::io("write", self.spool.display(), &error);
        let packing = |error: Error| error.doing(format!("packing it in {}", self.spool.display()));
        let diff_id = match self.format {
            Format::Oci => {
                // Its header has neither name nor time, so the same layer gives the same bytes.
                let mut gzip = flate2::write::GzEncoder::new(written, flate2::Compression::default());
                let (tar, inner) = Hashing::new(&mut gzip, u64::MAX);
                pack(&root, tar).map_err(packing)?;
                gzip.finish().and_then(|mut written| written.flush()).map_err(spooling)?;
                inner.digest()
            }
            Format::Docker => {
                pack(&root, written).map_err(packing)?;
                sum.digest()
            }
        };
        aside.rewind().map_err(spooling)?;
        let packed = Packed { diff_id, digest: sum.digest(), size: sum.bytes() };
        let name = self.blob(&packed.digest, ".tar");
        self.put(&name, packed.size, &aside)?;
        Ok(packed)
    }

    /// The configuration of the image, and what leads to it.
    pub(super) fn documents(&mut self, names: &[String], config: Vec<u8>, layers: &[Packed]) -> Result<()> {
        let digest = sha256(&config);
        let config_file = self.blob(&digest, ".json");
        self.document(&config_file, &config)?;
        if self.format == Format::Docker {
            let files: Vec<String> = layers.iter().map(|layer| self.blob(&layer.digest, ".tar")).collect();
            let tags = if names.is_empty() { Value::Null } else { json!(names) };
            let manifest = json!([{ "Config": config_file, "RepoTags": tags, "Layers": files }]);
            return self.document("manifest.json", manifest.to_string().as_bytes());
        }
        let descriptor = |kind: MediaType, digest: &str, size: u64| json!({ "mediaType": kind, "digest": digest, "size": size });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest,
            "config": descriptor(MediaType::ImageConfig, &digest, config.len() as u64),
            "layers": layers.iter().map(|layer| descriptor(MediaType::ImageLayerGzip, &layer.digest, layer.size)).collect::<Value>(),
        });
        let manifest = manifest.to_string();
        let digest = sha256(manifest.as_bytes());
        self.document(&self.blob(&digest, ".json"), manifest.as_bytes())?;
        // One descriptor a name. containerd and docker read the one annotation, podman the other.
        let plain = descriptor(MediaType::ImageManifest, &digest, manifest.len() as u64);
        let named = |name: &String| {
            let mut descriptor = plain.clone();
            descriptor["annotations"] = json!({ FULL_NAME: name, REF_NAME: name });
            descriptor
        };
        let descriptors: Vec<Value> = if names.is_empty() { vec![plain.clone()] } else { names.iter().map(named).collect() };
        let index = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": descriptors });
        self.document("index.json", index.to_string().as_bytes())?;
        self.document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    /// Where a blob lies in the archive.
    fn blob(&self, digest: &str, suffix: &str) -> String {
        match self.format {
            Format::Oci => format!("blobs/sha256/{}", hex(digest)),
            Format::Docker => format!("{}{suffix}", hex(digest)),
        }
    }

    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.put(name, bytes.len() as u64, bytes)
    }

    /// A file of the archive; two layers of the same content are one.
    fn put(&mut self, name: &str, size: u64, content: impl Read) -> Result<()> {
        if !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(size);
        self.tar.append_data(&mut header, name, content).map_err(|error| writing(&error))
    }
}
