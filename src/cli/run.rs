//! `minipod run` and `minipod apply`: manifests become pods and jobs.
//!
//! In the foreground, what happens is read from where everybody reads it, the pod's status and its logs; the only thing of our
//! own is a socket to the supervisor, whose closing (however we end) stops the pod: `stage`, of which `pod` and `job` say what is
//! shown and what the end means.

mod apply;
mod job;
mod pod;
mod stage;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use self::apply::{ApplyArgs, apply};
use super::get::{Kind, Refusal};
use super::{duration, image, need_root};
use crate::error::Error;
use crate::image::pull::Ask;
use crate::image::{Reference, Store};
use crate::manifest::{self, Loaded, Object};
use crate::pod::job as pod_job;
use crate::pod::objects::logins::secret_logins;
use crate::pod::places::Places;
use crate::pod::start::{self, Options};

/// minipod itself could not run the pod: the code that env, timeout and container tools use for themselves.
pub const OWN_FAILURE: u8 = 125;
/// An init container failed.
const INIT_FAILED: u8 = 120;
/// activeDeadlineSeconds was over; timeout(1)'s code.
const DEADLINE: u8 = 124;

/// Run a pod or a job: in the foreground until it ends, or with -d in the background
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod run pod.yaml               show status changes and what the containers write; Ctrl-C stops gracefully, a second one without grace
  minipod run -d pod.yaml            start it and return; see `minipod get pods`
  kubectl get pod web -o yaml | minipod run -

The exit code of a run in the foreground is that of the app container (the first that failed, if there are several);
120 if an init container failed, 124 if activeDeadlineSeconds was over, 125 if minipod could not run the pod.
That of a job is 0 if it is complete, 124 if its activeDeadlineSeconds was over, and 1 if it failed otherwise or was stopped.")]
pub struct RunArgs {
    /// The manifest, YAML or JSON; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "filename")]
    file: Option<PathBuf>,
    /// The manifest, as kubectl's -f; may be given several times
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    filename: Vec<PathBuf>,
    /// Return as soon as the pod or job is accepted
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// The namespace of objects whose manifest names none
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Go on where this machine cannot enforce a limit, with a warning
    #[arg(long)]
    allow_unenforced: bool,
    /// The longest wait before a restart (1s to 300s; without it 300s, and 10m before a job's next pod)
    #[arg(long, value_name = "DURATION", value_parser = max_backoff)]
    max_backoff: Option<u64>,
}

impl How {
    fn options(&self, foreground: bool) -> Options {
        Options { allow_unenforced: self.allow_unenforced, max_backoff_ms: self.max_backoff, foreground }
    }
}

/// KEP 5593's range, in milliseconds.
fn max_backoff(text: &str) -> std::result::Result<u64, String> {
    let seconds = duration::parse(text).ok_or_else(|| format!("{text:?} is not a duration; write 10s or 2m"))?.as_millis();
    u64::try_from(seconds).ok().filter(|ms| (1_000..=300_000).contains(ms)).ok_or_else(|| "must be between 1s and 300s".to_owned())
}

/// The bytes of a file of manifests, or of standard input.
pub fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).context("reading standard input")?;
        return Ok(bytes);
    }
    Ok(std::fs::read(path).map_err(|e| Error::io("open", path.display(), &e).doing("reading the manifest"))?)
}

/// Reads a file of manifests, or standard input.
pub fn manifest_of(path: &Path) -> Result<Loaded> {
    let loaded = manifest::read_bytes(&bytes_of(path)?, &path.display().to_string())?;
    loaded.warnings.iter().for_each(|warning| eprintln!("Warning: {warning}"));
    Ok(loaded)
}

/// A pod or a job in the foreground, or all in the background with -d.
pub fn run(args: &RunArgs, places: &Places) -> Result<u8> {
    let mut objects = apply::objects_of(args.file.iter().chain(&args.filename), &args.how)?;
    need_root()?;
    apply::tell_others(places, &objects)?;
    if args.detach {
        return objects.into_iter().try_for_each(|object| apply::start_one(places, &object, &args.how)).map(|()| 0);
    }
    let count = objects.iter().filter(|object| !apply::is_kept(object)).count();
    if count != 1 {
        bail!("the manifest has {count} pods and jobs, and a run in the foreground shows one; start all of it with `minipod apply -f`");
    }
    // The others are only kept. They come first, and stay when the pod has gone.
    let Some(object) = objects.pop() else { bail!("the manifest has no object") };
    let keep = || objects.iter().try_for_each(|kept| apply::made(places, kept, &args.how).map(|said| eprintln!("{said}")));
    let store = Store::open(places.images())?;
    let options = args.how.options(true);
    match object {
        Object::Pod(pod) => {
            let images = start::images_to_pull(&store, &pod)?;
            keep()?;
            pull(places, &store, &pod, &images)?;
            pod::run(places, *pod, &options)
        }
        Object::Job(asked) => {
            let pod = pod_job::first_pod(&asked);
            let images = start::images_to_pull(&store, &pod)?;
            keep()?;
            pull(places, &store, &pod, &images)?;
            job::run(places, *asked, &options)
        }
        Object::ConfigMap(_) | Object::Secret(_) | Object::PersistentVolumeClaim(_) | Object::Service(_) => bail!("there is nothing to run"),
    }
}

/// Pulls what a pod in the foreground needs, where somebody sees how it goes, and learns at once if it cannot be. In the background its
/// supervisor does so, and tries again.
fn pull(places: &Places, store: &Store, pod: &Pod, images: &[Reference]) -> Result<()> {
    let (logins, _) = secret_logins(places, pod);
    for reference in images {
        image::pull::pull(store, Ask { reference: reference.clone(), settings: places.registries.clone(), secrets: logins.clone() }, false)?;
    }
    Ok(())
}

fn already_exists(kind: Kind, metadata: &ObjectMeta) -> Refusal {
    let name = metadata.name.as_deref().unwrap_or_default();
    let word = match kind {
        Kind::Pod => "pod",
        Kind::Job => "job",
        Kind::ConfigMap => "configmap",
        Kind::Secret => "secret",
        Kind::PersistentVolumeClaim => "pvc",
        Kind::Service => "svc",
    };
    Refusal::Server { reason: "AlreadyExists", message: format!("{} {name:?} already exists; `minipod delete {word} {name}` removes it", kind.plural()) }
}
