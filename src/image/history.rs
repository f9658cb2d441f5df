//! How an image came to be: the steps that its configuration tells of, each with the layer that it made.

use std::collections::HashSet;

use oci_spec::image::ImageConfiguration;
use serde::Serialize;

use super::Image;
use super::export::directories;
use super::import::size_of;
use super::store::Store;
use crate::error::{Error, Result};
use crate::sys::file;

/// One step, as the image's maker told it; nobody has checked it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// RFC 3339
    pub created: Option<String>,
    pub created_by: String,
    pub comment: String,
    /// Bytes of the files of its layer, unpacked; 0 if it made none.
    pub size: u64,
}

impl Store {
    /// The steps, newest first. Layers that no step tells of are steps without words: the last ones.
    pub fn history(&self, image: &Image) -> Result<Vec<Step>> {
        let held = self.hold(image)?;
        let bytes = file::read_whole(&held, &image.id)?;
        let damaged = |error| Error::said(format!("its configuration in the store is damaged ({error}); remove the image and import it again"));
        let config: ImageConfiguration = serde_json::from_slice(&bytes).map_err(damaged)?;
        let mut sizes = directories(image, &bytes)?.into_iter().map(|name| size_of(&file::open_dir(image.layers_dir().join(name))?, &mut HashSet::new()));
        let mut steps = Vec::new();
        for told in config.history().iter().flatten() {
            let made = if told.empty_layer().unwrap_or(false) { None } else { sizes.next() };
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            steps.push(Step {
                created: told.created().clone(),
                created_by: text(told.created_by()),
                comment: text(told.comment()),
                size: made.unwrap_or(Ok(0))?,
            });
        }
        for size in sizes {
            steps.push(Step { created: None, created_by: String::new(), comment: String::new(), size: size? });
        }
        steps.reverse();
        Ok(steps)
    }
}
