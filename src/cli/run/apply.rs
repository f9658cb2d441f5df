//! Objects in the background: `minipod apply`, and `minipod run -d`. What pods are made of comes before the pods.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::super::workload;
use super::{How, Kind, already_exists, manifest_of, need_root, pod_job};
use crate::cli::get::Refusal;
use crate::error::Error;
use crate::manifest::Object;
use crate::pod::objects::{Change, Kept, Objects};
use crate::pod::places::Places;
use crate::pod::start;

/// Start the pods and jobs of files in the background; keep what they use (configmaps, secrets, claims, services), or change it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod apply -f pods.yaml         all objects of the file; pods and jobs that are there already stay as they are
  minipod apply -f settings.yaml     a ConfigMap that is there is changed, and pods that have it as a volume see that
  cat *.yaml | minipod apply -f -")]
pub struct ApplyArgs {
    /// A file of manifests; - is standard input
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// Reads files of manifests; what pods are made of first, whatever the order in the files.
pub fn objects_of<'a>(paths: impl Iterator<Item = &'a PathBuf>, how: &How) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    for path in paths {
        objects.extend(manifest_of(path)?.objects);
    }
    objects.sort_by_key(|object| !is_kept(object));
    if let Some(namespace) = &how.namespace {
        // The reader has set `default` where the manifest names none.
        let metadata = objects.iter_mut().map(Object::metadata_mut).filter(|metadata| metadata.namespace.as_deref() == Some("default"));
        metadata.for_each(|metadata| metadata.namespace = Some(namespace.clone()));
        if let Some(other) = objects.iter().filter_map(|object| object.metadata().namespace.as_ref()).find(|other| *other != namespace) {
            return Err(Refusal::client(format!(
                "the namespace from the provided object {other:?} does not match the namespace {namespace:?}. You must pass '--namespace={other}' to perform this operation."
            ))
            .into());
        }
    }
    Ok(objects)
}

/// Whether an object is only kept: nothing runs for it.
pub fn is_kept(object: &Object) -> bool {
    !matches!(object, Object::Pod(_) | Object::Job(_))
}

/// What became of an object that was to be started in the background.
enum Outcome {
    Created(String),
    /// One of its name is there, and is what is asked for, or something else.
    Exists {
        same: bool,
    },
    /// One that is there was changed into what is asked for.
    Configured,
    Failed(Error),
}

/// `may_change`: one that is there is made what is asked for, where that can be.
fn start_object(places: &Places, object: &Object, how: &How, may_change: bool) -> Outcome {
    let options = how.options(false);
    match object {
        Object::Pod(pod) => match start::start(places, Pod::clone(pod), &options) {
            Ok(started) => Outcome::Created(started.dir.name.clone()),
            Err(start::Refusal::AlreadyExists(known)) => Outcome::Exists { same: start::is_same(&known, pod) },
            Err(start::Refusal::Failed(error)) => Outcome::Failed(error),
        },
        Object::Job(job) => match pod_job::start(places, Job::clone(job), &options) {
            Ok(started) => Outcome::Created(started.dir.name.clone()),
            Err(start::Refusal::AlreadyExists(known)) if pod_job::is_same(&known, job) => Outcome::Exists { same: true },
            Err(start::Refusal::AlreadyExists(known)) if may_change => match pod_job::suspend_as(places, &known, job) {
                Ok(true) => Outcome::Configured,
                Ok(false) => Outcome::Exists { same: false },
                Err(error) => Outcome::Failed(error),
            },
            Err(start::Refusal::AlreadyExists(_)) => Outcome::Exists { same: false },
            Err(start::Refusal::Failed(error)) => Outcome::Failed(error),
        },
        Object::ConfigMap(map) => keep(places, &**map),
        Object::Secret(secret) => keep(places, &**secret),
        Object::PersistentVolumeClaim(claim) => keep(places, &**claim),
        Object::Service(service) => keep(places, &**service),
    }
}

fn keep<O: Kept>(places: &Places, object: &O) -> Outcome {
    let objects = Objects::new(places, object.metadata().namespace.as_deref().unwrap_or("default"));
    match objects.keep(object.clone()) {
        Ok((Change::Created, name)) => Outcome::Created(name),
        Ok((Change::Configured, _)) => Outcome::Configured,
        Ok((Change::Unchanged, _)) => Outcome::Exists { same: true },
        Err(error) => Outcome::Failed(error),
    }
}

/// All objects of all files, in the background.
pub fn apply(args: &ApplyArgs, places: &Places) -> Result<u8> {
    let all = objects_of(args.filename.iter(), &args.how)?;
    need_root()?;
    tell_others(places, &all)?;
    let mut code = 0;
    for object in all {
        let (name, resource) = (object.metadata().name.clone().unwrap_or_default(), Kind::of_object(&object).resource());
        match start_object(places, &object, &args.how, true) {
            Outcome::Created(name) => println!("{resource}/{name} created"),
            Outcome::Configured => println!("{resource}/{name} configured"),
            Outcome::Exists { same: true } => println!("{resource}/{name} unchanged"),
            Outcome::Exists { same: false } => {
                let kind = Kind::of_object(&object).word();
                let word = kind.to_lowercase();
                eprintln!(
                    "The {kind} {name:?} is invalid: spec: Forbidden: {word} updates may not change fields of a {word} that is there; \
                     delete it first: minipod delete {word} {name}"
                );
                code = 1;
            }
            Outcome::Failed(error) => {
                eprintln!("error: {resource}/{name}: {error}");
                code = 1;
            }
        }
    }
    Ok(code)
}

/// Says which pods of a workload go on beside those that are asked for now.
pub fn tell_others(places: &Places, asked: &[Object]) -> Result<()> {
    for other in workload::others(places, asked)? {
        eprintln!("Warning: pod/{0} is of an earlier template or count and stays; `minipod delete pod {0}` removes it", other.name);
    }
    Ok(())
}

/// As `run -d` does: a pod or a job must be new.
pub fn start_one(places: &Places, object: &Object, how: &How) -> Result<()> {
    println!("{}", made(places, object, how)?);
    Ok(())
}

/// Makes one object, and says what became of it.
pub fn made(places: &Places, object: &Object, how: &How) -> Result<String> {
    let (kind, name) = (Kind::of_object(object), object.metadata().name.as_deref().unwrap_or_default());
    match start_object(places, object, how, false) {
        Outcome::Created(name) => Ok(format!("{}/{name} created", kind.resource())),
        Outcome::Configured => Ok(format!("{}/{name} configured", kind.resource())),
        Outcome::Exists { .. } if is_kept(object) => Ok(format!("{}/{name} unchanged", kind.resource())),
        Outcome::Exists { .. } => Err(already_exists(kind, object.metadata()).into()),
        Outcome::Failed(error) => Err(error.into()),
    }
}
