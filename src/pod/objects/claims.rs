//! PersistentVolumeClaims: an object, and a directory that outlives the pods that mount it.
//!
//! A claim is bound as soon as it is kept. How much it may hold is told and not enforced: a directory has no size of its own. A pod
//! that names a claim that is not there is not scheduled, as in a cluster, and goes on when the claim appears.
//!
//! Who removes a claim takes its object away first and then looks for pods; a pod is on disk before it looks for its claims. So of the
//! two that meet, one always sees the other.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EphemeralVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimStatus, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{Kept, Objects};
use crate::error::{Error, Result};
use crate::lifecycle::UNSCHEDULABLE;
use crate::manifest::Quantity;
use crate::pod::places::Places;
use crate::pod::{dir, pod_spec, status};
use crate::volume;

impl Kept for PersistentVolumeClaim {
    const PLURAL: &'static str = "persistentvolumeclaims";
    const MODE: u32 = 0o644;

    fn same_content(&self, other: &PersistentVolumeClaim) -> bool {
        self.spec == other.spec
    }

    /// `ValidatePersistentVolumeClaimUpdate`.
    fn unchangeable(&self, next: &PersistentVolumeClaim) -> Option<String> {
        let but_size = |claim: &PersistentVolumeClaim| {
            let mut spec = claim.spec.clone().unwrap_or_default();
            (spec.resources, spec.volume_attributes_class_name) = (None, None);
            spec
        };
        if but_size(self) != but_size(next) {
            return Some("spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims".into());
        }
        (size_of(next) < size_of(self)).then(|| "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity".into())
    }

    fn settle(&mut self) {
        let uid = self.metadata.uid.clone().unwrap_or_default();
        let spec = self.spec.get_or_insert_default();
        spec.volume_name.get_or_insert_with(|| format!("pvc-{uid}"));
        self.status = Some(PersistentVolumeClaimStatus {
            phase: Some("Bound".into()),
            access_modes: spec.access_modes.clone(),
            capacity: spec.resources.as_ref().and_then(|resources| resources.requests.clone()),
            ..Default::default()
        });
    }
}

fn size_of(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Quantity::parse(&requests.get("storage")?.0).ok()
}

/// The claim of a volume, by its name; None if it has none.
fn name_of(pod: &Pod, volume: &Volume) -> Option<String> {
    let named = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
    let own = || volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name));
    named.or_else(own)
}

fn namespace_of(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

fn directory(places: &Places, namespace: &str, name: &str) -> PathBuf {
    places.claims().join(namespace).join(name)
}

/// The claims that the volumes of a pod name.
pub fn of_pod(pod: &Pod) -> impl Iterator<Item = String> {
    pod_spec(pod).volumes.iter().flatten().filter_map(|volume| name_of(pod, volume))
}

/// The directories that claims have, with namespace and name, sorted.
pub fn directories(places: &Places) -> Result<Vec<(String, String, PathBuf)>> {
    let mut found = Vec::new();
    for namespace in dir::names(&places.claims())? {
        for name in dir::names(&places.claims().join(&namespace))? {
            let path = directory(places, &namespace, &name);
            found.push((namespace.clone(), name, path));
        }
    }
    Ok(found)
}

/// The directory of the claim of a volume.
pub fn directory_of(places: &Places, pod: &Pod, volume: &Volume) -> Result<PathBuf> {
    let name = name_of(pod, volume).ok_or_else(|| Error::said(format!("the volume {:?} has no claim", volume.name)))?;
    Ok(directory(places, namespace_of(pod), &name))
}

/// Where a volume of the pod is, or would be; `own` is the directory of those that are the pod's own.
pub fn source_of(places: &Places, pod: &Pod, own: &Path, name: &str) -> Result<PathBuf> {
    match pod_spec(pod).volumes.iter().flatten().find(|volume| volume.name == name && volume::is_claim(volume)) {
        Some(claim) => directory_of(places, pod, claim),
        None => volume::source_of(pod_spec(pod), own, name),
    }
}

/// Makes the claims of the pod's ephemeral volumes, and sees to it that all that it names are there. Errors are the scheduler's.
pub fn bind(places: &Places, pod: &Pod) -> Result<()> {
    let objects = Objects::new(places, namespace_of(pod));
    for volume in pod_spec(pod).volumes.iter().flatten() {
        let Some(name) = name_of(pod, volume) else { continue };
        match (objects.read::<PersistentVolumeClaim>(&name)?, &volume.ephemeral) {
            (Some(claim), Some(_)) if !is_owned(&claim, pod.metadata.uid.as_deref().unwrap_or_default()) => {
                let (namespace, pod) = (namespace_of(pod), pod.metadata.name.as_deref().unwrap_or_default());
                let said = format!("0/1 nodes are available: PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner).");
                return Err(Error::said(said).reason(UNSCHEDULABLE));
            }
            (Some(_), _) => {}
            (None, Some(source)) => objects.keep(ephemeral(pod, name, source)).map(drop)?,
            (None, None) => {
                let said = format!("0/1 nodes are available: persistentvolumeclaim {name:?} not found.");
                return Err(Error::said(said).reason(UNSCHEDULABLE));
            }
        }
    }
    Ok(())
}

/// `ephemeral.VolumeIsForPod` and what makes it true.
fn is_owned(claim: &PersistentVolumeClaim, uid: &str) -> bool {
    claim.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

fn ephemeral(pod: &Pod, name: String, source: &EphemeralVolumeSource) -> PersistentVolumeClaim {
    let template = source.volume_claim_template.clone().unwrap_or_default();
    let from = template.metadata.unwrap_or_default();
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace_of(pod).to_owned()),
            labels: from.labels,
            annotations: from.annotations,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: Some(template.spec),
        status: None,
    }
}

/// Removes the claims that a pod owns: it is gone. Goes on where it can, returns what went wrong.
pub fn forget_owned(places: &Places, namespace: &str, uid: &str) -> Vec<Error> {
    let objects = Objects::new(places, namespace);
    let owned = match objects.all::<PersistentVolumeClaim>() {
        Ok(all) => all.into_iter().filter(|claim| is_owned(claim, uid)).filter_map(|claim| claim.metadata.name),
        Err(error) => return vec![error],
    };
    let forget = |name: String| {
        objects.delete::<PersistentVolumeClaim>(&name)?;
        volume::remove(&directory(places, namespace, &name))
    };
    owned.filter_map(|name| forget(name).err()).collect()
}

/// The pods that use a claim and have not ended: they protect it.
pub fn users(places: &Places, namespace: &str, name: &str) -> Result<Vec<dir::PodDir>> {
    let mut users = Vec::new();
    for dir in dir::all(places)?.into_iter().filter(|dir| dir.namespace == namespace) {
        let Some(pod) = dir.read()?.map(status::truth) else { continue };
        let uses = pod_spec(&pod).volumes.iter().flatten().any(|volume| name_of(&pod, volume).is_some_and(|own| own == name));
        if uses && !status::is_finished(&pod) {
            users.push(dir);
        }
    }
    Ok(users)
}

/// Removes a claim with all that it holds. None: there is none. Errors: pods use it.
pub fn delete(places: &Places, namespace: &str, name: &str) -> Result<Option<()>> {
    let protected = |users: &[dir::PodDir]| {
        let pods: Vec<&str> = users.iter().map(|dir| dir.name.as_str()).collect();
        Error::said(format!("persistentvolumeclaim {name:?} is in use by pod {}; delete that first (kubernetes.io/pvc-protection)", pods.join(", ")))
    };
    let objects = Objects::new(places, namespace);
    let Some(claim) = objects.read::<PersistentVolumeClaim>(name)? else { return Ok(None) };
    let users = self::users(places, namespace, name)?;
    if !users.is_empty() {
        return Err(protected(&users));
    }
    objects.delete::<PersistentVolumeClaim>(name)?;
    let users = self::users(places, namespace, name)?;
    if !users.is_empty() {
        objects.write(&claim)?;
        return Err(protected(&users));
    }
    let directory = directory(places, namespace, name);
    volume::remove(&directory)?;
    // The namespace's directory goes when it is empty; ENOTEMPTY is the normal case.
    let _ = directory.parent().map(std::fs::remove_dir);
    Ok(Some(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::objects::Change;
    use serde_json::json;

    fn places(root: &Path) -> Places {
        Places::new(Some(root), "c".into(), "10.0.0.0/16".into())
    }

    fn claim(size: &str, mode: &str) -> PersistentVolumeClaim {
        let spec = json!({ "accessModes": [mode], "resources": { "requests": { "storage": size } } });
        serde_json::from_value(json!({ "metadata": { "name": "c" }, "spec": spec })).unwrap()
    }

    fn pod(volume: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p", "namespace": "default", "uid": "u-1" },
            "spec": { "containers": [], "volumes": [volume] } }))
        .unwrap()
    }

    #[test]
    fn a_claim_is_bound_and_only_grows() {
        let root = tempfile::tempdir().unwrap();
        let objects = Objects::new(&places(root.path()), "default");
        assert_eq!(objects.keep(claim("1Gi", "ReadWriteOnce")).unwrap().0, Change::Created);
        let kept: PersistentVolumeClaim = objects.read("c").unwrap().unwrap();
        assert_eq!(kept.status.unwrap().phase.as_deref(), Some("Bound"));
        assert_eq!(objects.keep(claim("1Gi", "ReadWriteOnce")).unwrap().0, Change::Unchanged);
        assert_eq!(objects.keep(claim("2Gi", "ReadWriteOnce")).unwrap().0, Change::Configured);
        for (size, mode, said) in [("1Gi", "ReadWriteOnce", "can not be less than status.capacity"), ("2Gi", "ReadWriteMany", "spec is immutable")] {
            assert!(objects.keep(claim(size, mode)).unwrap_err().to_string().contains(said));
        }
    }

    #[test]
    fn a_pod_waits_for_its_claim_and_makes_those_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let error = bind(&places, &pod(json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }))).unwrap_err();
        assert_eq!((error.reason, error.to_string().as_str()), (Some(UNSCHEDULABLE), "0/1 nodes are available: persistentvolumeclaim \"c\" not found."));
        let own = pod(json!({ "name": "v", "ephemeral": { "volumeClaimTemplate": { "spec": { "accessModes": ["ReadWriteOnce"] } } } }));
        bind(&places, &own).unwrap();
        bind(&places, &own).unwrap();
        let other = Pod { metadata: ObjectMeta { uid: Some("u-2".into()), ..own.metadata.clone() }, ..own.clone() };
        assert!(bind(&places, &other).unwrap_err().to_string().contains("PVC default/p-v was not created for pod default/p (pod is not owner)"));
        std::fs::create_dir_all(directory_of(&places, &own, &pod_spec(&own).volumes.as_ref().unwrap()[0]).unwrap()).unwrap();
        assert!(forget_owned(&places, "default", "u-1").is_empty());
        assert!(!root.path().join("lib/claims/default/p-v").exists());
        bind(&places, &other).unwrap();
    }

    #[test]
    fn a_claim_goes_with_what_it_holds_unless_a_pod_uses_it() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let objects = Objects::new(&places, "default");
        objects.keep(claim("1Gi", "ReadWriteOnce")).unwrap();
        let held = root.path().join("lib/claims/default/c");
        std::fs::create_dir_all(held.join("sub")).unwrap();
        let user = pod(json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }));
        let dir = dir::PodDir::new(&places, "default", "p");
        let claimed = dir.claim().unwrap();
        dir.write_pod(&user).unwrap();
        assert!(delete(&places, "default", "c").unwrap_err().to_string().contains("is in use by pod p"));
        assert!(held.exists() && objects.read::<PersistentVolumeClaim>("c").unwrap().is_some());
        dir.remove().unwrap();
        drop(claimed);
        assert_eq!((delete(&places, "default", "c").unwrap(), delete(&places, "default", "c").unwrap()), (Some(()), None));
        assert!(!held.exists());
    }
}
