//! A reference, an archive or a directory becomes layers, a user and a command; and the store that keeps them.
//!
//! ```text
//! import   archive -> document -> layer -> store        find   reference -> one record, read
//!          (Source)   (Offer)     (apply)  (renamed)                          |
//!          files      what image  a layer's            Image: layers to stack, command, environment, accounts
//!                     it is       directory
//! ```
//!
//! `export` is the way back: the documents as they were kept, and each layer packed anew (`pack`), since only its directory is kept.
//!
//! All the work is done at import: layers are unpacked as overlayfs stacks them, every digest is checked, the image's users are read. A
//! start reads one small file.
//!
//! A registry is one more way to an `Offer`: `pull` hands over the same documents and, for each layer that the store lacks, the same stream of
//! bytes. Where and as whom it asks is told by `registries` and `login`.

mod archive;
mod build;
pub mod digest;
mod document;
pub(crate) mod entries;
mod export;
mod history;
mod import;
mod inflate;
mod layer;
pub mod login;
mod pack;
pub mod pull;
pub mod reference;
pub mod registries;
mod stack;
mod store;
pub mod user;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use build::Settings;
pub use export::Format;
pub use history::Step;
pub use reference::Reference;
pub use store::Store;
pub use user::User;

use crate::error::{Cause, Error, Result};

/// An image in the store, under one of its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    pub reference: Reference,
    /// `sha256:...` of the configuration.
    pub id: String,
    /// `sha256:...` of what the name stands for at its source: the manifest, or the index that it was chosen from. None for an image
    /// of `docker save`, which keeps neither.
    pub digest: Option<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`, in the image's order.
    pub env: Vec<String>,
    /// As the image has it (`USER`); empty is root. [`Image::user`] resolves it.
    pub user: String,
    /// Empty if the image sets none.
    pub working_dir: String,
    /// A name or a number, such as `SIGQUIT`.
    pub stop_signal: Option<String>,
    /// `80/tcp`
    pub exposed_ports: Vec<String>,
    pub volumes: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub architecture: String,
    /// RFC 3339, if the image says it.
    pub created: Option<String>,
    /// Bytes of the files of all layers, unpacked.
    pub size: u64,
    /// Names of directories in [`Image::layers_dir`], bottom to top, each once.
    pub layers: Vec<String>,
    /// It came from a registry, so a pull policy of Always asks there again; one that was brought in by hand is what its name means.
    #[serde(default)]
    pub pulled: bool,
    /// All digests of documents that belong to it.
    documents: Vec<String>,
    accounts: user::Accounts,
    #[serde(skip)]
    dir: PathBuf,
}

impl Image {
    /// The directory that the layers' names are in. The names are short (32 digits), and meant to be given to overlayfs relative to this
    /// directory: its option string is one page.
    pub fn layers_dir(&self) -> PathBuf {
        store::layers_dir(&self.dir)
    }

    /// How a pod's status names it (`imageID`): by repository and digest, else by id.
    pub fn image_id(&self) -> String {
        match &self.digest {
            Some(digest) => format!("{}@{digest}", self.reference.name()),
            None => self.id.clone(),
        }
    }

    /// `USER`, `UID`, `USER:GROUP` ... by the image's `/etc/passwd` and `/etc/group`; empty is root.
    pub fn user(&self, spec: &str) -> Result<User> {
        self.accounts.user(spec).map_err(|error| error.doing(format!("image {}", self.reference.familiar())))
    }

    /// The user with this number, known to the image or not, with this group or his own.
    pub fn user_by_id(&self, uid: u32, gid: Option<u32>) -> User {
        self.accounts.user_by_id(uid, gid)
    }

    fn at(mut self, dir: &Path) -> Image {
        self.dir = dir.to_owned();
        self
    }
}

/// An error about an image with nothing in it that moves a terminal's cursor or hides what follows: the libraries that read documents and
/// headers quote what they could not read as it is.
fn plain(mut error: Error) -> Error {
    let plain = |text: &str| text.chars().map(|c| if matches!(c, '"' | '\'' | '\\') { c.to_string() } else { c.escape_debug().to_string() }).collect();
    error.doing = error.doing.iter().map(|step| plain(step)).collect();
    // The object of a call is quoted where it is shown.
    if let Cause::Said(what) = &error.cause {
        error.cause = Cause::Said(plain(what));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_wrote_is_shown_in_one_line() {
        let error = Error::said("\"a\\b\" is \u{1b}[2Jno\nerror: good\u{202e}").doing("layer caf\u{e9}\r");
        assert_eq!(plain(error).to_string(), "layer caf\u{e9}\\r: \"a\\b\" is \\u{1b}[2Jno\\nerror: good\\u{202e}");
    }
}
