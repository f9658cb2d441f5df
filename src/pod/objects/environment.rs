//! The variables that a manifest gives a container (`makeEnvironmentVariables` in the kubelet).
//!
//! `envFrom` comes first, its entries in order, later ones over earlier ones; then `env`, in order. What a `value` may refer to is
//! what stands before it. Only a literal `value` is expanded, once; what comes from elsewhere is taken as it is.
//!
//! Every failure here is a CreateContainerConfigError in the kubelet's words: the container waits, and is tried again.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMapKeySelector, Container, EnvFromSource, EnvVarSource, FileKeySelector, Pod, SecretKeySelector};

use super::downward::{self, Allocatable};
use super::{Sources, env_file};
use crate::error::{Error, Result};
use crate::manifest::expand;

pub type Environment = BTreeMap<String, String>;

/// What the variables of a pod's containers are made of.
pub struct Origin<'a> {
    pub pod: &'a Pod,
    pub sources: &'a dyn Sources,
    pub machine: Allocatable,
    /// The content of a file in a volume; None if it is not there.
    pub file: &'a dyn Fn(&FileKeySelector) -> Result<Option<String>>,
}

impl Origin<'_> {
    /// The variables of one container, less what the image and the runtime add.
    pub fn environment(&self, container: &Container) -> Result<Environment> {
        self.gather(container).map_err(|error| error.reason("CreateContainerConfigError"))
    }

    fn gather(&self, container: &Container) -> Result<Environment> {
        let mut env = Environment::new();
        for source in container.env_from.iter().flatten() {
            let prefix = source.prefix.as_deref().unwrap_or_default();
            env.extend(self.whole(source)?.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
        }
        for variable in container.env.iter().flatten() {
            let value = match (variable.value.as_deref().unwrap_or_default(), &variable.value_from) {
                ("", Some(from)) => match self.taken(from, container)? {
                    Some(value) => value,
                    // Absent, not empty: what envFrom gave under this name stays.
                    None => continue,
                },
                (text, _) => expand(text, |name| env.get(name).map(String::as_str)),
            };
            env.insert(variable.name.clone(), value);
        }
        if let Some((name, _)) = env.iter().find(|(_, value)| value.contains('\0')) {
            return Err(Error::said(format!("the value of {name} holds a NUL byte, which no environment variable can")));
        }
        Ok(env)
    }

    /// All of an object; nothing of one that is not there and need not be.
    fn whole(&self, source: &EnvFromSource) -> Result<Environment> {
        if let Some(asked) = &source.config_map_ref {
            let found = found(self.sources.config_map(&asked.name)?, asked.optional, "configmap", &asked.name)?;
            return Ok(found.and_then(|map| map.data).unwrap_or_default());
        }
        let Some(asked) = &source.secret_ref else { return Ok(Environment::new()) };
        let found = found(self.sources.secret(&asked.name)?, asked.optional, "secret", &asked.name)?;
        let data = found.and_then(|secret| secret.data).unwrap_or_default();
        data.into_iter().map(|(key, bytes)| self.text(&asked.name, &key, bytes.0).map(|text| (key, text))).collect()
    }

    /// The value that comes from elsewhere; None if it is not there and need not be.
    fn taken(&self, from: &EnvVarSource, container: &Container) -> Result<Option<String>> {
        if let Some(asked) = &from.field_ref {
            return downward::field(self.pod, &asked.field_path).map(Some);
        }
        if let Some(asked) = &from.resource_field_ref {
            let named = asked.container_name.as_deref().filter(|name| !name.is_empty());
            return downward::resource(self.pod, container_of(self.pod, named)?.unwrap_or(container), asked, self.machine).map(Some);
        }
        if let Some(asked) = &from.config_map_key_ref {
            return self.of_config_map(asked);
        }
        if let Some(asked) = &from.secret_key_ref {
            return self.of_secret(asked);
        }
        from.file_key_ref.as_ref().map_or(Ok(None), |asked| self.of_file(asked))
    }

    fn of_config_map(&self, asked: &ConfigMapKeySelector) -> Result<Option<String>> {
        let Some(map) = found(self.sources.config_map(&asked.name)?, asked.optional, "configmap", &asked.name)? else { return Ok(None) };
        let value = map.data.and_then(|mut data| data.remove(&asked.key));
        self.keyed(value, asked.optional, &asked.key, "ConfigMap", &asked.name)
    }

    fn of_secret(&self, asked: &SecretKeySelector) -> Result<Option<String>> {
        let Some(secret) = found(self.sources.secret(&asked.name)?, asked.optional, "secret", &asked.name)? else { return Ok(None) };
        let bytes = secret.data.and_then(|mut data| data.remove(&asked.key));
        let value = bytes.map(|bytes| self.text(&asked.name, &asked.key, bytes.0)).transpose()?;
        self.keyed(value, asked.optional, &asked.key, "Secret", &asked.name)
    }

    fn of_file(&self, asked: &FileKeySelector) -> Result<Option<String>> {
        let optional = asked.optional == Some(true);
        let value = match (self.file)(asked)? {
            Some(text) => env_file::value(&text, &asked.key).map_err(|said| Error::said(format!("couldn't parse env file {:?}: {said}", asked.path)))?,
            None if optional => None,
            None => return Err(Error::said(format!("env file {:?} not found in volume {:?}", asked.path, asked.volume_name))),
        };
        match value {
            None if !optional => Err(Error::said(format!("environment variable key {:?} not found in file {:?}", asked.key, asked.path))),
            value => Ok(value),
        }
    }

    fn keyed(&self, value: Option<String>, optional: Option<bool>, key: &str, kind: &str, name: &str) -> Result<Option<String>> {
        match value {
            None if optional != Some(true) => Err(Error::said(format!("couldn't find key {key} in {kind} {}/{name}", self.namespace()))),
            value => Ok(value),
        }
    }

    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    /// The runtime takes variables as text, so no more than that can be given on.
    fn text(&self, name: &str, key: &str, bytes: Vec<u8>) -> Result<String> {
        let place = || Error::said(format!("key {key} in Secret {}/{name} is not UTF-8, so it cannot be a variable; use a volume", self.namespace()));
        String::from_utf8(bytes).map_err(|_| place())
    }
}

/// An object that must be there, unless it is optional.
pub(super) fn found<O>(object: Option<O>, optional: Option<bool>, kind: &str, name: &str) -> Result<Option<O>> {
    match object {
        None if optional != Some(true) => Err(Error::said(format!("{kind} {name:?} not found"))),
        object => Ok(object),
    }
}

/// The container of the pod that is named, if one is.
pub(super) fn container_of<'p>(pod: &'p Pod, name: Option<&str>) -> Result<Option<&'p Container>> {
    let Some(name) = name else { return Ok(None) };
    let found = pod.spec.iter().flat_map(super::all_containers).find(|container| container.name == name);
    found.map(Some).ok_or_else(|| Error::said(format!("container {name} not found")))
}

/// A subPathExpr with the container's variables in it. A variable that is missing or empty would mean another place than was meant.
pub fn expanded_path(expression: &str, env: &Environment) -> Result<String> {
    let mut missing = None;
    let path = expand(expression, |name| match env.get(name).filter(|value| !value.is_empty()) {
        Some(value) => Some(value.as_str()),
        None => {
            missing.get_or_insert_with(|| name.to_owned());
            None
        }
    });
    let refused = |said: String| Err(Error::said(said).reason("CreateContainerConfigError"));
    match missing {
        Some(name) => refused(format!("missing value for {name}")),
        None if path.starts_with('/') => refused(format!("error SubPath `{path}` must not be an absolute path")),
        None if path.split('/').any(|part| part == "..") => refused(format!("unable to provision SubPath `{path}`: must not contain '..'")),
        None => Ok(path),
    }
}

#[cfg(test)]
mod tests;
