//! The files of volumes that are made of ConfigMaps, Secrets and the pod itself (`pkg/volume/{configmap,secret,downwardapi,projected}`).

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, PodSpec, Secret, ServiceAccountTokenProjection, Volume, VolumeProjection};

use super::Sources;
use super::downward::{self, Allocatable};
use super::environment::{container_of, found};
use crate::error::{Error, Result};
use crate::pod::ground::{all_containers, pod_spec};
use crate::volume::{File, Payload};

/// The mode of a file for which nothing says another.
const MODE: u32 = 0o644;
/// Of a token that has one reader: the user that it is given to, or the group of fsGroup, which may read all of the volume.
const TOKEN_MODE: u32 = 0o600;

/// What the files of a pod's volumes are made of.
pub struct Origin<'a> {
    pub pod: &'a Pod,
    pub sources: &'a dyn Sources,
    pub machine: Allocatable,
    /// Where the tokens of service accounts come from.
    pub token: &'a dyn Fn(&ServiceAccountTokenProjection) -> Result<String>,
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
        if let Some(asked) = &source.service_account_token {
            files.insert(asked.path.clone(), self.token(asked, mode)?);
        }
        source.downward_api.as_ref().map_or(Ok(()), |asked| self.downward(asked.items.as_deref(), mode, files))
    }

    /// `collectData` of `pkg/volume/projected`.
    fn token(&self, asked: &ServiceAccountTokenProjection, mode: u32) -> Result<File> {
        let spec = pod_spec(self.pod);
        let owner = only_user(spec);
        let for_group = spec.security_context.as_ref().is_some_and(|context| context.fs_group.is_some());
        let mode = if owner.is_some() || for_group { TOKEN_MODE } else { mode };
        Ok(File { bytes: (self.token)(asked)?.into_bytes(), mode, owner })
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
            files.insert(item.path.clone(), File { bytes: text.into_bytes(), mode: item.mode.map_or(mode, |mode| mode as u32), owner: None });
        }
        Ok(())
    }
}

/// The user that all containers run as, if the manifest says so of each (`FsUserFrom`).
fn only_user(spec: &PodSpec) -> Option<u32> {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let mut users = all_containers(spec).map(|container| container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)?.try_into().ok()
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
        files.extend(data.into_iter().map(|(key, bytes)| (key, File { bytes, mode, owner: None })));
        return Ok(());
    }
    for item in items {
        match data.get(&item.key).cloned() {
            Some(bytes) => {
                files.insert(item.path.clone(), File { bytes, mode: item.mode.map_or(mode, |mode| mode as u32), owner: None });
            }
            None if optional == Some(true) => {}
            None => return Err(Error::said(format!("references non-existent {word} key: {}", item.key))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn user_and_mode(of_pod: Value, of_containers: &[Value]) -> (Option<u32>, u32) {
        struct Nothing;
        impl Sources for Nothing {
            fn config_map(&self, _: &str) -> Result<Option<ConfigMap>> {
                Ok(None)
            }

            fn secret(&self, _: &str) -> Result<Option<Secret>> {
                Ok(None)
            }
        }
        let containers: Vec<Value> = of_containers.iter().map(|context| json!({ "name": "c", "securityContext": context })).collect();
        let pod: Pod = serde_json::from_value(json!({ "spec": { "securityContext": of_pod, "containers": containers } })).unwrap();
        let token = |asked: &ServiceAccountTokenProjection| Ok(format!("for {}", asked.audience.clone().unwrap_or_default()));
        let origin = Origin { pod: &pod, sources: &Nothing, machine: Allocatable { cpus: 1, memory: 1, storage: 1 }, token: &token };
        let sources = json!([{ "serviceAccountToken": { "path": "a/t", "audience": "x" } }]);
        let volume = serde_json::from_value(json!({ "name": "v", "projected": { "sources": sources, "defaultMode": 0o444 } })).unwrap();
        let files = origin.files(&volume).unwrap();
        assert_eq!((files.len(), files["a/t"].bytes.as_slice()), (1, b"for x".as_slice()));
        (files["a/t"].owner, files["a/t"].mode)
    }

    #[test]
    fn a_token_is_for_the_one_user_or_group_that_reads_it_and_else_for_all() {
        let user = |uid: i64| json!({ "runAsUser": uid });
        assert_eq!(user_and_mode(json!({}), &[json!({})]), (None, 0o444));
        assert_eq!(user_and_mode(user(7), &[json!({}), json!({})]), (Some(7), 0o600));
        assert_eq!(user_and_mode(user(7), &[json!({}), user(8)]), (None, 0o444));
        assert_eq!(user_and_mode(json!({}), &[user(8), user(8)]), (Some(8), 0o600));
        assert_eq!(user_and_mode(json!({}), &[user(8), json!({})]), (None, 0o444));
        assert_eq!(user_and_mode(json!({ "fsGroup": 9 }), &[json!({})]), (None, 0o600));
    }
}
