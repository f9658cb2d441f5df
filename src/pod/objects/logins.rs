//! A pod's imagePullSecrets: who it is to registries.

use k8s_openapi::api::core::v1::{LocalObjectReference, Pod, Secret};

use super::Objects;
use crate::error::Result;
use crate::image::login::Logins;
use crate::pod::ground::pod_spec;
use crate::pod::places::Places;

/// The key of a Secret of type kubernetes.io/dockerconfigjson.
const KEY: &str = ".dockerconfigjson";

/// The logins of the Secrets that a pod names, and the names of those that are missing or hold none.
pub fn secret_logins(places: &Places, pod: &Pod) -> (Logins, Vec<String>) {
    let objects = Objects::new(places, pod.metadata.namespace.as_deref().unwrap_or("default"));
    let mut logins = Logins::default();
    let mut unread = Vec::new();
    for LocalObjectReference { name } in pod_spec(pod).image_pull_secrets.iter().flatten() {
        if !matches!(add(&mut logins, &objects, name), Ok(true)) {
            unread.push(name.clone());
        }
    }
    (logins, unread)
}

/// False: there is no such Secret, or it holds no logins.
fn add(logins: &mut Logins, objects: &Objects, name: &str) -> Result<bool> {
    let secret: Option<Secret> = objects.read(name)?;
    let Some(text) = secret.and_then(|secret| secret.data?.remove(KEY)) else { return Ok(false) };
    logins.add(&text.0, &format!("secret {name:?}")).map(|()| true)
}
