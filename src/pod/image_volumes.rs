//! Volumes that are images (§20, KEP-4639): the layers of an image, stacked, read-only and not to be executed.
//!
//! ```text
//! find (as a container's image) ──▶ hold ──▶ SCENE/images/VOLUME ──▶ a mount in the container, of it or of a part
//! ```
//!
//! They are looked up when a container is started that mounts one, so what is missing is told of that container, with the same reasons as
//! its own image. What was shown once stays the same for all containers until the pod is gone, and so do its layers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod, PodSpec};
use rustix::fs::OFlags;

use super::dir::make_dirs;
use super::ground::{Ground, LAYERS, pod_spec};
use super::instance::find_image;
use crate::error::{Error, Result};
use crate::sys::file;
use crate::sys::mount::{self, Limits};

/// In the scene.
const IMAGES: &str = "images";

/// The volumes that are shown, by name, with what keeps their layers from being removed.
pub type Shown = RefCell<BTreeMap<String, OwnedFd>>;

/// The image that a volume of the pod is, if it is one.
pub fn of<'a>(pod: &'a PodSpec, volume: &str) -> Option<&'a ImageVolumeSource> {
    pod.volumes.iter().flatten().find(|known| known.name == volume)?.image.as_ref()
}

/// Where an image volume is, or will be.
pub fn place(scene: &Path, volume: &str) -> PathBuf {
    scene.join(IMAGES).join(volume)
}

/// The image volumes that a container mounts, each as a container of that image: the same rules hold for both, and the same words.
pub fn as_containers(pod: &PodSpec, container: &Container) -> Vec<(String, Container)> {
    let mut found: Vec<(String, Container)> = Vec::new();
    for wish in container.volume_mounts.iter().flatten() {
        if let Some(source) = of(pod, &wish.name).filter(|_| found.iter().all(|(name, _)| *name != wish.name)) {
            let (image, image_pull_policy) = (source.reference.clone(), source.pull_policy.clone());
            found.push((wish.name.clone(), Container { name: container.name.clone(), image, image_pull_policy, ..Default::default() }));
        }
    }
    found
}

/// Shows those that the container mounts and that are not shown yet.
pub fn show(ground: &Ground, pod: &Pod, container: &Container) -> Result<()> {
    for (volume, as_container) in as_containers(pod_spec(pod), container) {
        if ground.image_volumes.borrow().contains_key(&volume) {
            continue;
        }
        let image = find_image(&ground.store, &as_container)?;
        let hold = ground.store.hold(&image)?;
        let layers = if ground.users.is_some() { ground.scene().join(LAYERS) } else { image.layers_dir() };
        let shown = stack(&layers, &image.layers, &place(&ground.scene(), &volume));
        shown.map_err(|error| error.doing(format!("mounting the image volume {volume:?}")).reason("CreateContainerError"))?;
        ground.image_volumes.borrow_mut().insert(volume, hold);
    }
    Ok(())
}

/// Puts a read-only view of the stacked layers on `at`.
fn stack(dir: &Path, layers: &[String], at: &Path) -> Result<()> {
    make_dirs(at)?;
    match layers {
        [] => mount::attach(mount::copy_tree(file::open_dir(at)?, false)?, file::open(at, OFlags::PATH)?)?,
        // overlayfs stacks two or more.
        [layer] => mount::attach(mount::copy_tree(file::open_dir(dir.join(layer))?, false)?, file::open(at, OFlags::PATH)?)?,
        layers => {
            let stacked = mount::overlay(dir, layers, None, at);
            // It leaves us among the layers, and we would keep that directory busy.
            std::env::set_current_dir("/").map_err(|error| Error::io("chdir", "/", &error))?;
            stacked?;
        }
    }
    mount::limit(file::open_dir(at)?, Limits::READ_ONLY | Limits::NO_EXEC, false).inspect_err(|_| drop(mount::unmount(at)))
}

/// Takes them off again.
pub fn clear(scene: &Path, shown: &Shown) -> Vec<Error> {
    std::mem::take(&mut *shown.borrow_mut()).into_keys().filter_map(|volume| mount::unmount(&place(scene, &volume)).err()).collect()
}
