//! What a start would do, without doing it: the plan of the pause and of each container, from the same code that starts them.

use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use oci_spec::runtime::Spec;

use super::compose::Whole;
use super::dir::PodDir;
use super::ground::{self, all_containers, machine, pod_spec};
use super::instance::find_image;
use super::objects::environment::Origin;
use super::objects::{Objects, Sources};
use super::places::Places;
use super::users;
use crate::cgroup;
use crate::container::pause::{self, has_users};
use crate::container::plan::Plan;
use crate::error::Result;
use crate::image::Store;
use crate::manifest::Object;
use crate::network::files::hostname_of;

/// One process of the pod, as it would be started.
pub struct Explained {
    pub name: String,
    /// None for the pause, which is of no image.
    pub image: Option<String>,
    pub cgroup: PathBuf,
    pub plan: Plan,
    /// None for the pause.
    pub spec: Option<Spec>,
}

/// The objects that a start would find: those of the same manifest, then those that are kept. What is secret is not shown.
pub struct Given<'a> {
    pub manifest: &'a [Object],
    pub kept: Objects,
}

impl Sources for Given<'_> {
    fn config_map(&self, name: &str) -> Result<Option<ConfigMap>> {
        let given = self.manifest.iter().find_map(|object| match object {
            Object::ConfigMap(map) if self.is_meant(&map.metadata, name) => Some(ConfigMap::clone(map)),
            _ => None,
        });
        given.map_or_else(|| self.kept.config_map(name), |map| Ok(Some(map)))
    }

    fn secret(&self, name: &str) -> Result<Option<Secret>> {
        let given = self.manifest.iter().find_map(|object| match object {
            Object::Secret(secret) if self.is_meant(&secret.metadata, name) => Some(Secret::clone(secret)),
            _ => None,
        });
        let mut found = given.map_or_else(|| self.kept.secret(name), |secret| Ok(Some(secret)))?;
        for (key, bytes) in found.iter_mut().flat_map(|secret| secret.data.iter_mut().flatten()) {
            *bytes = ByteString(format!("<key {key} of secret {name}>").into_bytes());
        }
        Ok(found)
    }
}

impl Given<'_> {
    fn is_meant(&self, metadata: &ObjectMeta, name: &str) -> bool {
        metadata.name.as_deref() == Some(name) && metadata.namespace.as_deref().unwrap_or("default") == self.kept.namespace()
    }
}

/// The pause and all containers (or the one that is named), in the order in which they start.
pub fn explain(places: &Places, pod: &Pod, manifest: &[Object], only: Option<&str>) -> Result<Vec<Explained>> {
    let metadata = &pod.metadata;
    let dir = PodDir::new(places, metadata.namespace.as_deref().unwrap_or("default"), metadata.name.as_deref().unwrap_or_default());
    let hostname = hostname_of(pod)?.kernel;
    let base = Path::new(&places.cgroup).join(format!("pod{}", metadata.uid.as_deref().unwrap_or("<uid>")));
    let store = Store::open(places.images())?;
    let given = Given { manifest, kept: Objects::new(places, &dir.namespace) };
    let machine = machine(places);
    let origin = Origin { pod, sources: &given, machine, file: &|asked| Ok(Some(format!("{0}='<{0} of file {1}>'", asked.key, asked.path))) };
    let mut all = Vec::new();
    if only.is_none() {
        let plan = pause::plan(pod_spec(pod), &hostname, &dir.path().join(ground::SCENE).join(ground::ROOT));
        all.push(Explained { name: "pause".into(), image: None, cgroup: base.join("pause"), plan, spec: None });
    }
    for container in all_containers(pod_spec(pod)).filter(|container| only.is_none_or(|name| name == container.name)) {
        all.push(explain_container(places, &store, &origin, container, &dir, &base, &hostname).map_err(|e| e.container(&container.name))?);
    }
    Ok(all)
}

fn explain_container(
    places: &Places,
    store: &Store,
    origin: &Origin<'_>,
    container: &Container,
    dir: &PodDir,
    base: &Path,
    hostname: &str,
) -> Result<Explained> {
    let pod = origin.pod;
    let image = find_image(store, container)?;
    // What is explained need not be able to run here.
    let hierarchies = cgroup::Hierarchies::detect().ok();
    let cgroup = base.join(format!("{}-0", container.name));
    let volumes = |name: &str| crate::volume::source_of(pod_spec(pod), &dir.path().join("volumes"), name);
    let whole = Whole {
        pod,
        container,
        image: &image,
        mount_points: &store.mount_points()?,
        scene: &dir.path().join(ground::SCENE),
        attempt: &dir.path().join("containers").join(ground::attempt_name(&container.name, 0)),
        hostname,
        origin,
        volumes: &volumes,
        pause: None,
        target: None,
        // Which range it would get is seen when it starts.
        users: has_users(pod_spec(pod)).then_some(users::FIRST),
        cgroup: &cgroup,
        cgroup_mount: hierarchies.as_ref().map_or(Path::new("/sys/fs/cgroup"), |here| here.unified()),
        limited: cgroup::limits::of_container(pod_spec(pod), container) != cgroup::Limits::default()
            && hierarchies.as_ref().is_some_and(|here| !here.v1().is_empty()),
        node_memory: origin.machine.memory,
        seccomp: &places.seccomp(),
    };
    let (spec, plan) = whole.compose()?;
    Ok(Explained { name: container.name.clone(), image: Some(image.reference.to_string()), cgroup, plan, spec: Some(spec) })
}
