//! What the documents of an archive or a registry say: which images it holds, under which names, of which layers.
//!
//! ```text
//! index.json -> (index ->) manifest -> configuration: command, user, environment; diff ids
//!    names        platform       \--> layers: blobs
//! ```
//!
//! Every blob is named by its SHA-256 and is checked against it here, before a byte of it is believed.

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Os};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::archive::{MAX_DOCUMENT, Source};
use super::digest::{is_sha256, sha256};
use super::reference::Reference;
use crate::error::{Error, Result};

/// How deep an index may lead to an index; one is usual.
const MAX_INDEXES: u32 = 4;
/// overlayfs takes its layers as one option string of a page: 120 names of 32 digits leave room for the rest of it.
pub const MAX_LAYERS: usize = 120;
/// What containerd and docker call an image by.
pub const FULL_NAME: &str = "io.containerd.image.name";
/// A name or, with some writers, only a tag (annotations.md of the OCI image specification).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image that an archive or a registry offers for this machine.
pub struct Offer {
    pub names: Vec<Reference>,
    /// Of what the name stands for: the manifest, or the index that it was chosen from. `docker save` keeps neither.
    pub digest: Option<String>,
    /// Of the configuration.
    pub id: String,
    pub config: ImageConfiguration,
    pub layers: Vec<Blob>,
    /// Index, manifest and configuration as they are written, by digest.
    pub documents: Vec<(String, Vec<u8>)>,
    /// From a registry, where it may change.
    pub pulled: bool,
}

/// A layer in its archive or registry.
pub struct Blob {
    /// In an archive; of a registry's layer it only tells which one.
    pub file: String,
    /// Digest and size of the file, where a manifest says them; `docker save` has no manifest.
    pub written: Option<(String, u64)>,
    /// Of the tar within.
    pub diff_id: String,
}

/// All images of a source. `name` is the person's; it replaces the archive's own names.
pub fn offers(source: &Source, name: Option<&Reference>) -> Result<Vec<Offer>> {
    let mut offers = match source.document("index.json")? {
        Some(index) => oci(source, &index)?,
        None => match source.document("manifest.json")? {
            Some(manifest) => docker(source, &manifest)?,
            None => return Err(Error::said("neither an OCI image layout (it has no index.json) nor an archive of `docker save` (no manifest.json)")),
        },
    };
    match (name, offers.as_mut_slice()) {
        (_, []) => return Err(none_for_us()),
        (Some(name), [one]) => one.names = vec![name.clone()],
        (Some(_), several) => return Err(Error::said(format!("it holds {} images, so one name does not do; leave --name away", several.len()))),
        (None, several) if several.iter().any(|offer| offer.names.is_empty()) => {
            return Err(Error::said("it does not say what its image is called; give --name NAME"));
        }
        _ => {}
    }
    Ok(offers)
}

fn oci(source: &Source, index: &[u8]) -> Result<Vec<Offer>> {
    let index: ImageIndex = parsed("index.json", index)?;
    let mut offers: Vec<Offer> = Vec::new();
    let mut get = |_: Part, digest: &str| {
        let file = blob(digest)?;
        source.document(&file)?.ok_or_else(|| missing(&file))
    };
    for descriptor in preferred(index.manifests()) {
        let Some(mut offer) = offer_of(descriptor.digest().as_ref(), &mut get)? else { continue };
        offer.names = names(descriptor)?;
        // `docker save` of several tags writes one descriptor per tag.
        match offers.iter_mut().find(|other| other.digest == offer.digest) {
            Some(other) => other.names.extend(offer.names),
            None => offers.push(offer),
        }
    }
    Ok(offers)
}

/// What a digest stands for. A registry keeps the two at different addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A manifest, or an index of them.
    Manifest,
    Configuration,
}

/// Where documents come from, by digest. They are checked against it here, whatever they come from.
pub type Get<'a> = dyn FnMut(Part, &str) -> Result<Vec<u8>> + 'a;

/// The image that a manifest or an index offers for this machine, if any; yet without a name.
pub fn offer_of(digest: &str, get: &mut Get<'_>) -> Result<Option<Offer>> {
    let mut documents = Vec::new();
    let Some(manifest) = manifest(get, digest, &mut documents, 0)? else { return Ok(None) };
    offer(get, digest, &manifest, documents).map(Some)
}

/// The names in a descriptor's annotations. A bare tag ("latest", as skopeo writes it) is no name.
fn names(descriptor: &Descriptor) -> Result<Vec<Reference>> {
    let annotation = |key: &str| descriptor.annotations().as_ref().and_then(|all| all.get(key));
    let name = annotation(FULL_NAME).or_else(|| annotation(REF_NAME).filter(|name| name.contains([':', '/'])));
    name.map(|name| Reference::parse(name)).into_iter().collect()
}

/// The descriptors that may lead to an image for this machine. One that says no platform may; of those that say ours, the plain one
/// comes before one for a newer variant of the processor.
fn preferred(descriptors: &[Descriptor]) -> Vec<&Descriptor> {
    let fits = |descriptor: &&Descriptor| descriptor.platform().as_ref().is_none_or(|p| *p.os() == Os::Linux && *p.architecture() == Arch::default());
    let mut fitting: Vec<&Descriptor> = descriptors.iter().filter(fits).collect();
    let newer = |descriptor: &&Descriptor| descriptor.platform().as_ref().is_some_and(|p| p.variant().as_deref().is_some_and(|v| v != "v8"));
    fitting.sort_by_key(newer);
    fitting
}

/// Follows a digest to a manifest for this machine; what is read on the way is put into `documents`.
fn manifest(get: &mut Get<'_>, digest: &str, documents: &mut Vec<(String, Vec<u8>)>, depth: u32) -> Result<Option<ImageManifest>> {
    if depth > MAX_INDEXES {
        return Err(Error::said(format!("its indexes are nested more than {MAX_INDEXES} deep")));
    }
    let bytes = document(get, Part::Manifest, digest)?;
    let value: Value = parsed(digest, &bytes)?;
    documents.push((digest.to_owned(), bytes));
    if value.get("manifests").is_some() {
        let index: ImageIndex = serde_json::from_value(value).map_err(|error| malformed(digest, &error))?;
        for next in preferred(index.manifests()) {
            let known = documents.len();
            if let Some(found) = manifest(get, next.digest().as_ref(), documents, depth + 1)? {
                return Ok(Some(found));
            }
            documents.truncate(known);
        }
        return Ok(None);
    }
    let manifest: ImageManifest = serde_json::from_value(value).map_err(|error| malformed(digest, &error))?;
    // An attestation, a signature or a chart is an OCI artifact, and no image.
    let kind = manifest.config().media_type().to_string();
    let image = ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"].contains(&kind.as_str());
    Ok(image.then_some(manifest))
}

fn offer(get: &mut Get<'_>, digest: &str, manifest: &ImageManifest, mut documents: Vec<(String, Vec<u8>)>) -> Result<Offer> {
    let id = manifest.config().digest().to_string();
    let bytes = document(get, Part::Configuration, &id)?;
    let config: ImageConfiguration = parsed(&id, &bytes)?;
    documents.push((id.clone(), bytes));
    let (layers, diff_ids) = (manifest.layers(), config.rootfs().diff_ids());
    if layers.len() != diff_ids.len() {
        return Err(Error::said(format!("its manifest has {} layers but its configuration {}", layers.len(), diff_ids.len())));
    }
    let mut blobs = Vec::new();
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let digest = layer.digest().to_string();
        blobs.push(Blob { file: blob(&digest)?, written: Some((digest, layer.size())), diff_id: diff_id.clone() });
    }
    let offer = Offer { names: Vec::new(), digest: Some(digest.to_owned()), id, config, layers: blobs, documents, pulled: false };
    checked(offer)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// `docker save` before version 25: one list, no manifests and so no digests but the configurations'.
fn docker(source: &Source, manifest: &[u8]) -> Result<Vec<Offer>> {
    let saved: Vec<Saved> = parsed("manifest.json", manifest)?;
    let mut offers = Vec::new();
    for image in saved {
        let bytes = source.document(&image.config)?.ok_or_else(|| missing(&image.config))?;
        let config: ImageConfiguration = parsed(&image.config, &bytes)?;
        let diff_ids = config.rootfs().diff_ids();
        if image.layers.len() != diff_ids.len() {
            return Err(Error::said(format!("manifest.json has {} layers but {:?} has {}", image.layers.len(), image.config, diff_ids.len())));
        }
        let layers = image.layers.iter().zip(diff_ids).map(|(file, diff_id)| Blob { file: file.clone(), written: None, diff_id: diff_id.clone() });
        let layers: Vec<Blob> = layers.collect();
        let id = sha256(&bytes);
        let names = image.repo_tags.unwrap_or_default().iter().map(|name| Reference::parse(name)).collect::<Result<_>>()?;
        let documents = vec![(id.clone(), bytes)];
        offers.push(checked(Offer { names, digest: None, id, config, layers, documents, pulled: false })?);
    }
    Ok(offers)
}

/// What holds for an image from wherever it comes.
fn checked(offer: Offer) -> Result<Offer> {
    let (os, architecture) = (offer.config.os(), offer.config.architecture());
    if *os != Os::Linux || *architecture != Arch::default() {
        return Err(Error::said(format!("its image is for {os}/{architecture}, this machine is linux/{}", Arch::default())));
    }
    match offer.layers.len() {
        0 => return Err(Error::said("its image has no layers")),
        count if count > MAX_LAYERS => return Err(Error::said(format!("its image has {count} layers, more than the {MAX_LAYERS} that overlayfs can be told"))),
        _ => {}
    }
    match offer.layers.iter().find(|layer| !is_sha256(&layer.diff_id)) {
        Some(layer) => Err(Error::said(format!("diff id {:?} is not sha256: and 64 digits", layer.diff_id))),
        None => Ok(offer),
    }
}

/// A blob's file name.
fn blob(digest: &str) -> Result<String> {
    match digest.strip_prefix("sha256:") {
        Some(hex) if is_sha256(digest) => Ok(format!("blobs/sha256/{hex}")),
        _ => Err(Error::said(format!("digest {digest:?} is not sha256: and 64 digits, the only kind that is checked here"))),
    }
}

/// A document, checked against its digest.
fn document(get: &mut Get<'_>, part: Part, digest: &str) -> Result<Vec<u8>> {
    let file = blob(digest)?;
    let bytes = get(part, digest)?;
    match sha256(&bytes) {
        found if found == digest => Ok(bytes),
        found => Err(Error::said(format!("{file} is damaged: its digest is {found}"))),
    }
}

pub fn none_for_us() -> Error {
    Error::said(format!("it holds no image for linux/{}", Arch::default()))
}

pub fn missing(file: &str) -> Error {
    Error::said(format!("{file:?} is missing in it"))
}

fn malformed(document: &str, error: &serde_json::Error) -> Error {
    Error::said(format!("{document:?} is malformed: {error}"))
}

fn parsed<T: DeserializeOwned>(document: &str, bytes: &[u8]) -> Result<T> {
    debug_assert!(bytes.len() as u64 <= MAX_DOCUMENT);
    serde_json::from_slice(bytes).map_err(|error| malformed(document, &error))
}
