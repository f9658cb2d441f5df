//! The files of volumes that are made of ConfigMaps, Secrets and the pod itself (`pkg/volume/{configmap,secret,downwardapi,projected}`).

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeProjection};

use super::Sources;
use super::downward::{self, Allocatable};
use super::environment::{container_of, found};
use crate::error::{Error, Result};
use crate::volume::{File, Payload};

/// The mode of a file for which nothing says another.
const MODE: u32 = 0o644;

/// What the files of a pod's volumes are made of.
pub struct Origin<'a> {
    pub pod: &'a Pod,
    pub sources: &'a dyn Sources,
    pub machine: Allocatable,
}

/// The content of an object, by key.
type Data = std::collections::BTreeMap<String, Vec<u8>>;

impl Origin<'_> {
    /// The files of a volume, as the objects are now. Errors in the kubelet's words, without the volume's name.
    pub fn files(&self, volume: &Volume) -> Result<Payload> {
        let mut files = Payload::new();
        if let Some(asked) = &volume.config_map {
            let mode = default_mode(asked.default_mode);
            self.config_map(&asked.name, asked.items.as_deref(), asked.optional, mode, &mut files)?;
        } else if let Some(asked) = &volume.secret {
            let mode = default_mode(asked.default_mode);
            self.secret(asked.secret_name.as_deref().unwrap_or_default(), asked.items.as_deref(), asked.optional, mode, &mut files)?;
        } else if let Some(asked) = &volume.downward_api {
            self.downward(asked.items.as_deref(), default_mode(asked.default_mode), &mut files)?;
        } else if let Some(asked) = &volume.projected {
            let mode = default_mode(asked.default_mode);
            // A later source wins where two give the same path.
            asked.sources.iter().flatten().try_for_each(|source| self.projection(source, mode, &mut files))?;
        }
        Ok(files)
    }

    fn projection(&self, source: &VolumeProjection, mode: u32, files: &mut Payload) -> Result<()> {
        if let Some(asked) = &source.config_map {
            self.config_map(&asked.name, asked.items.as_deref(), asked.optional, mode, files)?;
        }
        if let Some(asked) = &source.secret {
            self.secret(&asked.name, asked.items.as_deref(), asked.optional, mode, files)?;
        }
        source.downward_api.as_ref().map_or(Ok(()), |asked| self.downward(asked.items.as_deref(), mode, files))
    }

    fn config_map(&self, name: &str, items: Option<&[KeyToPath]>, optional: Option<bool>, mode: u32, files: &mut Payload) -> Result<()> {
        let map = found(self.sources.config_map(name)?, optional, "configmap", name)?;
        keys(map.map(content_of_map).unwrap_or_default(), items, optional, mode, "config", files)
    }

    fn secret(&self, name: &str, items: Option<&[KeyToPath]>, optional: Option<bool>, mode: u32, files: &mut Payload) -> Result<()> {
        let secret = found(self.sources.secret(name)?, optional, "secret", name)?;
        keys(secret.map(content_of_secret).unwrap_or_default(), items, optional, mode, "secret", files)
    }

    fn downward(&self, items: Option<&[DownwardAPIVolumeFile]>, mode: u32, files: &mut Payload) -> Result<()> {
        for item in items.into_iter().flatten() {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(asked), _) => downward::field(self.pod, &asked.field_path)?,
                (None, Some(asked)) => {
                    let container = container_of(self.pod, Some(asked.container_name.as_deref().unwrap_or_default()))?;
                    container.map_or(Ok(String::new()), |container| downward::resource(self.pod, container, asked, self.machine))?
                }
                (None, None) => String::new(),
            };
            files.insert(item.path.clone(), File { bytes: text.into_bytes(), mode: item.mode.map_or(mode, |mode| mode as u32) });
        }
        Ok(())
    }
}

fn default_mode(mode: Option<i32>) -> u32 {
    mode.map_or(MODE, |mode| mode as u32)
}

fn content_of_map(map: ConfigMap) -> Data {
    let texts = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
    texts.chain(map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0))).collect()
}

fn content_of_secret(secret: Secret) -> Data {
    secret.data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)).collect()
}

/// All keys under their own names, or those that are named under the paths that are given (`MakePayload`).
fn keys(data: Data, items: Option<&[KeyToPath]>, optional: Option<bool>, mode: u32, word: &str, files: &mut Payload) -> Result<()> {
    let items = items.unwrap_or_default();
    if items.is_empty() {
        files.extend(data.into_iter().map(|(key, bytes)| (key, File { bytes, mode })));
        return Ok(());
    }
    for item in items {
        match data.get(&item.key).cloned() {
            Some(bytes) => {
                files.insert(item.path.clone(), File { bytes, mode: item.mode.map_or(mode, |mode| mode as u32) });
            }
            None if optional == Some(true) => {}
            None => return Err(Error::said(format!("references non-existent {word} key: {}", item.key))),
        }
    }
    Ok(())
}
