//! A plain directory becomes an image: packed as a layer is when it is exported, and taken in as an archive is that somebody else has written.
//!
//! ```text
//! DIR ─▶ pack ─┐
//!              ├─▶ an archive without a name ─▶ import
//! settings ────┘
//! ```
//!
//! That costs one more copy, and there is one way only into the store, with all that it checks.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::image::Arch;
use serde::Serialize;
use serde_json::json;

use super::export::{Archive, Format};
use super::store::Store;
use super::{Image, Reference, plain};
use crate::error::{Error, Result};
use crate::sys::file;

/// What an image says of how it is run, by the names of the OCI image configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Settings {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// `NAME=value`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Store {
    /// An image of this name, of this machine's architecture, with one layer: all that is in `dir`, with owners, modes, times, attributes and links.
    /// `created` is RFC 3339. What a layer cannot hold (a socket, another file system mounted below) is an error.
    pub fn build(&self, dir: &Path, name: &Reference, settings: &Settings, created: &str) -> Result<Image> {
        let built = || {
            let spool = self.layers_dir();
            std::fs::create_dir_all(&spool).map_err(|error| Error::io("mkdir", spool.display(), &error))?;
            let mut whole = file::nameless(&spool)?;
            let mut archive = Archive::new(&mut whole, Format::Docker, &spool);
            let layer = archive.layer(dir)?;
            let config = json!({
                "architecture": Arch::default(), "os": "linux", "created": created, "config": settings,
                "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] },
                "history": [{ "created": created, "created_by": format!("minipod image build-rootfs {}", dir.display()) }],
            });
            archive.documents(&[], config.to_string().into_bytes(), &[layer])?;
            archive.finish()?;
            self.take_all(&file::path_of(whole.as_fd()), Some(name))
        };
        let images = built().map_err(|error: Error| plain(error).doing(format!("building {} of {}", name.familiar(), dir.display())))?;
        images.into_iter().next().ok_or_else(|| Error::said("the archive that was just written holds no image"))
    }
}
