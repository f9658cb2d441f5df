//! ConfigMaps, Secrets, claims and Services: what is kept of them, and what pods make of them.
//!
//! ```text
//!  apply, run ──▶ lib/objects/NS/configmaps/NAME.json      replaced whole; likewise services
//!                 lib/objects/NS/secrets/NAME.json         for root alone
//!                 lib/objects/NS/persistentvolumeclaims/…  and what it holds in lib/claims/NS/NAME
//!                        │ read at each start of a container, and when one changes (inotify)
//!                        ▼
//!                 environment        files of volumes
//! ```
//!
//! No process looks after them. A pod that asks for one that is not there waits, and goes on when it appears. What a Secret holds is
//! written nowhere else: a container's environment lives in memory, and its volumes of it on a tmpfs.

pub mod claims;
pub mod downward;
pub mod env_file;
pub mod environment;
pub mod files;
pub mod identity;
pub mod logins;
pub mod services;
pub mod token;

use std::path::PathBuf;

use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, PodSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dir::{make_dirs, names, read_json};
use super::ground::all_containers;
use super::places::Places;
use super::start::identify_object;
use crate::error::{Error, Result};
use crate::sys::file;
use crate::sys::notify::Notify;
use crate::volume::is_claim;

/// A kind of object that is only kept.
pub trait Kept: Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone {
    /// The directory; the API's name for many.
    const PLURAL: &'static str;
    /// Of its file.
    const MODE: u32;

    /// Whether its content may never change (`immutable`).
    fn is_immutable(&self) -> bool {
        false
    }

    /// Whether both hold the same.
    fn same_content(&self, other: &Self) -> bool;

    /// What may never change, whatever `immutable` says; in the API server's words.
    fn unchangeable(&self, _next: &Self) -> Option<String> {
        None
    }

    /// Adds what a controller would add to an object that has its uid.
    fn settle(&mut self) {}
}

impl Kept for ConfigMap {
    const PLURAL: &'static str = "configmaps";
    const MODE: u32 = 0o644;

    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }

    fn same_content(&self, other: &ConfigMap) -> bool {
        same(&self.data, &other.data) && same(&self.binary_data, &other.binary_data)
    }
}

impl Kept for Secret {
    const PLURAL: &'static str = "secrets";
    const MODE: u32 = 0o600;

    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }

    fn same_content(&self, other: &Secret) -> bool {
        same(&self.data, &other.data)
    }

    fn unchangeable(&self, next: &Secret) -> Option<String> {
        let type_ = next.type_.as_deref().unwrap_or_default();
        (self.type_ != next.type_).then(|| format!("type: Invalid value: {type_:?}: field is immutable"))
    }
}

/// An absent map is an empty one.
fn same<V: PartialEq>(one: &Option<std::collections::BTreeMap<String, V>>, other: &Option<std::collections::BTreeMap<String, V>>) -> bool {
    one.iter().flatten().eq(other.iter().flatten())
}

/// Where a pod finds the objects of its namespace that it asks for.
pub trait Sources {
    /// None: there is none of this name.
    fn config_map(&self, name: &str) -> Result<Option<ConfigMap>>;
    fn secret(&self, name: &str) -> Result<Option<Secret>>;
}

/// The objects of one namespace that are kept.
#[derive(Debug, Clone)]
pub struct Objects {
    namespace: String,
    path: PathBuf,
}

/// What became of an object that was given to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Created,
    Configured,
    Unchanged,
}

impl Objects {
    pub fn new(places: &Places, namespace: &str) -> Objects {
        Objects { namespace: namespace.to_owned(), path: places.objects().join(namespace) }
    }

    fn file<O: Kept>(&self, name: &str) -> Result<PathBuf> {
        // A validated name is none of these; a word of the command line may be anything.
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(Error::said(format!("{name:?} cannot be the name of an object")));
        }
        Ok(self.path.join(O::PLURAL).join(format!("{name}.json")))
    }

    /// The object as it is kept now; None if there is none.
    pub fn read<O: Kept>(&self, name: &str) -> Result<Option<O>> {
        read_json(&self.file::<O>(name)?)
    }

    /// All objects of a kind, by name.
    pub fn all<O: Kept>(&self) -> Result<Vec<O>> {
        let mut all = Vec::new();
        for name in names(&self.path.join(O::PLURAL))?.iter().filter_map(|file| file.strip_suffix(".json")) {
            all.extend(self.read(name)?);
        }
        Ok(all)
    }

    /// Keeps an object, a new one or instead of one of its name, and tells its name, which may be made here. Errors: an immutable one would change, in the API server's words.
    pub fn keep<O: Kept>(&self, mut object: O) -> Result<(Change, String)> {
        let name = object.metadata().name.clone().unwrap_or_default();
        let old = if name.is_empty() { None } else { self.read::<O>(&name)? };
        let change = match &old {
            None => {
                identify_object(object.metadata_mut())?;
                object.settle();
                Change::Created
            }
            Some(old) => {
                let (was, is) = (old.metadata().clone(), object.metadata_mut());
                (is.uid, is.creation_timestamp, is.generation) = (was.uid.clone(), was.creation_timestamp.clone(), was.generation);
                object.settle();
                let faults: Vec<String> = immutability(old, &object);
                if !faults.is_empty() {
                    return Err(Error::said(faults.join(", ")));
                }
                if old.same_content(&object) && old.is_immutable() == object.is_immutable() && was == *object.metadata() {
                    return Ok((Change::Unchanged, name));
                }
                Change::Configured
            }
        };
        self.write(&object)?;
        Ok((change, object.metadata().name.clone().unwrap_or_default()))
    }

    fn write<O: Kept>(&self, object: &O) -> Result<()> {
        make_dirs(&self.path.join(O::PLURAL))?;
        let path = self.file::<O>(object.metadata().name.as_deref().unwrap_or_default())?;
        let text = serde_json::to_vec_pretty(object).map_err(|e| Error::said(format!("{}: {e}", path.display())))?;
        file::write_atomically(&path, &text, O::MODE)
    }

    /// Forgets an object. Pods keep what they have of it. None: there is none.
    pub fn delete<O: Kept>(&self, name: &str) -> Result<Option<()>> {
        let path = self.file::<O>(name)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            done => done.map_err(|e| Error::io("unlink", path.display(), &e))?,
        }
        Ok(Some(()))
    }

    /// Watches all that a pod may ask for here.
    pub fn watch(&self, notify: &Notify) -> Result<()> {
        [ConfigMap::PLURAL, Secret::PLURAL, PersistentVolumeClaim::PLURAL].iter().try_for_each(|kind| {
            make_dirs(&self.path.join(kind))?;
            notify.watch_dir(self.path.join(kind))
        })
    }
}

/// `ValidateConfigMapUpdate`, `ValidateSecretUpdate`.
fn immutability<O: Kept>(old: &O, next: &O) -> Vec<String> {
    let mut faults: Vec<String> = old.unchangeable(next).into_iter().collect();
    if old.is_immutable() {
        let said = |field: &str| format!("{field}: Forbidden: field is immutable when `immutable` is set");
        faults.extend((!next.is_immutable()).then(|| said("immutable")));
        faults.extend((!old.same_content(next)).then(|| said("data")));
    }
    faults
}

impl Sources for Objects {
    fn config_map(&self, name: &str) -> Result<Option<ConfigMap>> {
        let found = self.read(name)?;
        Ok(found.or_else(|| (name == ROOT_CA).then(|| no_root_ca(&self.namespace))))
    }

    fn secret(&self, name: &str) -> Result<Option<Secret>> {
        self.read(name)
    }
}

/// The ConfigMap that a cluster's every namespace has: what the API server's certificate is checked with.
const ROOT_CA: &str = "kube-root-ca.crt";

/// It is there, for a pod that was printed by a cluster mounts it; PEM lets text stand outside of certificates (RFC 7468). One that
/// somebody keeps under this name comes first.
fn no_root_ca(namespace: &str) -> ConfigMap {
    let text = "# There is no API server here, and so no certificate of an authority for it.\n";
    ConfigMap {
        metadata: ObjectMeta { name: Some(ROOT_CA.into()), namespace: Some(namespace.to_owned()), ..Default::default() },
        data: Some([("ca.crt".to_owned(), text.to_owned())].into()),
        ..Default::default()
    }
}

/// The namespaces in which objects are kept.
pub fn all(places: &Places) -> Result<Vec<Objects>> {
    Ok(names(&places.objects())?.into_iter().map(|namespace| Objects::new(places, &namespace)).collect())
}

impl Objects {
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// Watches all objects of a kind.
pub fn watch<O: Kept>(places: &Places, notify: &Notify) -> Result<()> {
    make_dirs(&places.objects())?;
    notify.watch_dir(places.objects())?;
    for objects in all(places)? {
        make_dirs(&objects.path.join(O::PLURAL))?;
        notify.watch_dir(objects.path.join(O::PLURAL))?;
    }
    Ok(())
}

/// Whether a pod takes anything from ConfigMaps, Secrets or claims.
pub fn asked_for(spec: &PodSpec) -> bool {
    let in_volume =
        spec.volumes.iter().flatten().any(|volume| is_claim(volume) || volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some());
    let in_env = all_containers(spec).any(|container| {
        let keys = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
        container.env_from.as_ref().is_some_and(|from| !from.is_empty())
            || keys.into_iter().any(|from| from.config_map_key_ref.is_some() || from.secret_key_ref.is_some())
    });
    in_volume || in_env
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    fn map(data: serde_json::Value) -> ConfigMap {
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})).unwrap()
    }

    fn objects(root: &std::path::Path) -> Objects {
        Objects::new(&Places::new(Some(root), "c".into(), "10.0.0.0/16".into()), "default")
    }

    #[test]
    fn an_object_is_created_then_configured_then_unchanged_and_keeps_its_identity() {
        let root = tempfile::tempdir().unwrap();
        let objects = objects(root.path());
        assert_eq!(objects.keep(map(json!({"a": "1"}))).unwrap().0, Change::Created);
        let first: ConfigMap = objects.read("m").unwrap().unwrap();
        assert_eq!(objects.keep(map(json!({"a": "1"}))).unwrap().0, Change::Unchanged);
        assert_eq!(objects.keep(map(json!({"a": "2"}))).unwrap().0, Change::Configured);
        let last: ConfigMap = objects.read("m").unwrap().unwrap();
        assert_eq!((first.metadata.uid, last.data), (last.metadata.uid, map(json!({"a": "2"})).data));
        assert_eq!((objects.delete::<ConfigMap>("m").unwrap(), objects.delete::<ConfigMap>("m").unwrap()), (Some(()), None));
    }

    #[test]
    fn what_is_immutable_stays_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let objects = objects(root.path());
        let fixed = ConfigMap { immutable: Some(true), ..map(json!({"a": "1"})) };
        objects.keep(fixed.clone()).unwrap();
        let error = objects.keep(map(json!({"a": "2"}))).unwrap_err().to_string();
        assert!(error.contains("data: Forbidden: field is immutable when `immutable` is set"), "{error}");
        assert_eq!(objects.keep(fixed).unwrap().0, Change::Unchanged);
    }

    #[test]
    fn the_root_authority_is_always_there_and_may_be_another() {
        let root = tempfile::tempdir().unwrap();
        let objects = objects(root.path());
        let text = || objects.config_map(ROOT_CA).unwrap().unwrap().data.unwrap()["ca.crt"].clone();
        assert!(text().starts_with("# There is no API server here"), "{}", text());
        objects.keep(ConfigMap { metadata: ObjectMeta { name: Some(ROOT_CA.into()), ..Default::default() }, ..map(json!({ "ca.crt": "x" })) }).unwrap();
        assert_eq!(text(), "x");
        assert!(objects.config_map("other").unwrap().is_none());
    }

    #[test]
    fn a_secret_is_for_root_alone() {
        let root = tempfile::tempdir().unwrap();
        let objects = objects(root.path());
        objects.keep::<Secret>(serde_json::from_value(json!({"metadata": {"name": "s"}, "data": {"k": "dg=="}})).unwrap()).unwrap();
        let mode = |path: &str| std::fs::metadata(root.path().join("lib/objects").join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("default/secrets"), mode("default/secrets/s.json")), (0o700, 0o600));
    }

    #[test]
    fn a_word_that_leads_elsewhere_is_no_name() {
        let root = tempfile::tempdir().unwrap();
        for name in ["", "..", "../pods/x", "a/b", "a\0b", ".hidden"] {
            assert!(objects(root.path()).read::<ConfigMap>(name).is_err(), "{name:?}");
        }
    }
}
