//! `minipod delete`: pods and jobs are stopped gracefully and removed with all that is theirs; what is kept for them is forgotten.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};

use super::get::{Kind, Refusal};
use super::need_root;
use super::run::manifest_of;
use super::workload;
use crate::manifest::Object;
use crate::manifest::workload::RETAINED_OF;
use crate::pod::dir::{self, Dir, JobDir, PodDir};
use crate::pod::objects::{Kept, Objects, claims};
use crate::pod::places::Places;
use crate::pod::{job, start};

/// Stop pods and jobs, and remove them; remove configmaps, secrets, claims with their data, services
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod delete pod web               SIGTERM, the pod's grace, SIGKILL; then everything of it is removed
  minipod delete pod/web --now         with a grace of one second
  minipod delete web db --grace-period 5
  minipod delete job pi                the job with all its pods, also those that have ended
  minipod delete cm settings           pods that have it go on with what they have
  minipod delete pvc data              the claim with all that it holds, once no pod uses it
  minipod delete -f pod.yaml           the objects that a file names; claims that a StatefulSet made stay
  minipod delete pods --all")]
pub struct DeleteArgs {
    /// `pod NAME...`, `pod/NAME...`, the same with `job`, `configmap` (cm), `secret`, `pvc` and `svc`, or just names of pods
    #[arg(value_name = "KIND NAME", required_unless_present = "filename")]
    what: Vec<String>,
    /// Delete the objects that this file names; - is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "what")]
    filename: Vec<PathBuf>,
    /// Seconds between the stop signal and SIGKILL; it can only shorten a deletion that is under way
    #[arg(long, value_name = "SECONDS", conflicts_with = "now", allow_negative_numbers = true)]
    grace_period: Option<i64>,
    /// A grace of one second
    #[arg(long)]
    now: bool,
    /// With no grace at all: SIGKILL follows the stop signal after two seconds, the least that Kubernetes gives
    #[arg(long)]
    force: bool,
    /// All objects of the kind in the namespace
    #[arg(long)]
    all: bool,
    /// Do not fail when one is not there
    #[arg(long)]
    ignore_not_found: bool,
    /// Wait until they are gone
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    wait: bool,
    /// The namespace to look in
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
}

/// What is deleted.
enum Doomed {
    Pod(PodDir),
    Job(JobDir),
    /// A ConfigMap or its like: nothing of it runs.
    Kept {
        kind: Kind,
        objects: Objects,
        name: String,
    },
}

impl Doomed {
    fn new(places: &Places, kind: Kind, namespace: &str, name: &str) -> Doomed {
        match kind {
            Kind::Pod => Doomed::Pod(PodDir::new(places, namespace, name)),
            Kind::Job => Doomed::Job(JobDir::new(places, namespace, name)),
            Kind::ConfigMap | Kind::Secret | Kind::PersistentVolumeClaim | Kind::Service => {
                Doomed::Kept { kind, objects: Objects::new(places, namespace), name: name.to_owned() }
            }
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Doomed::Pod(_) => Kind::Pod,
            Doomed::Job(_) => Kind::Job,
            Doomed::Kept { kind, .. } => *kind,
        }
    }

    /// What somebody looks after until it is gone.
    fn dir(&self) -> Option<&Dir> {
        match self {
            Doomed::Pod(dir) => Some(dir),
            Doomed::Job(dir) => Some(dir),
            Doomed::Kept { .. } => None,
        }
    }

    fn namespace(&self) -> &str {
        match self {
            Doomed::Kept { objects, .. } => objects.namespace(),
            Doomed::Pod(dir) => &dir.namespace,
            Doomed::Job(dir) => &dir.namespace,
        }
    }

    fn name(&self) -> &str {
        match self {
            Doomed::Kept { name, .. } => name,
            Doomed::Pod(dir) => &dir.name,
            Doomed::Job(dir) => &dir.name,
        }
    }

    /// Asks for it to go. None: it is not there.
    fn stop(&self, places: &Places, grace: Option<u64>) -> Result<Option<()>> {
        match self {
            Doomed::Pod(dir) => Ok(start::delete(places, dir, grace, false)?),
            Doomed::Job(dir) => Ok(job::delete(places, dir, grace)?),
            Doomed::Kept { kind: Kind::Secret, objects, name } => Ok(objects.delete::<Secret>(name)?),
            Doomed::Kept { kind: Kind::PersistentVolumeClaim, objects, name } => Ok(claims::delete(places, objects.namespace(), name)?),
            Doomed::Kept { kind: Kind::Service, objects, name } => Ok(objects.delete::<Service>(name)?),
            Doomed::Kept { objects, name, .. } => Ok(objects.delete::<ConfigMap>(name)?),
        }
    }
}

impl DeleteArgs {
    /// kubectl's rules: --now is 1; 0 without --force is 1; negative is the pod's own.
    fn grace_seconds(&self) -> Option<u64> {
        let period = self.grace_period.or(self.force.then_some(0)).or(self.now.then_some(1)).filter(|seconds| *seconds >= 0)?;
        Some(if period == 0 && !self.force { 1 } else { period as u64 })
    }

    fn doomed(&self, places: &Places) -> Result<Vec<Doomed>> {
        let mut doomed = Vec::new();
        let objects = self.in_files()?;
        for object in objects.iter().filter(|object| !is_retained(object)) {
            let metadata = object.metadata();
            let namespace = metadata.namespace.as_deref().unwrap_or(&self.namespace);
            doomed.push(Doomed::new(places, Kind::of_object(object), namespace, metadata.name.as_deref().unwrap_or_default()));
        }
        doomed.extend(workload::others(places, &objects)?.into_iter().map(Doomed::Pod));
        let mut words = self.what.iter().map(String::as_str).peekable();
        let kind = words.peek().and_then(|word| Kind::of(word));
        if kind.is_some() {
            words.next();
            if words.peek().is_none() && !self.all {
                return Err(Refusal::client("resource(s) were provided, but no name was specified").into());
            }
        }
        let kind = kind.unwrap_or(Kind::Pod);
        if self.all {
            match kind {
                Kind::Pod => doomed.extend(dir::all(places)?.into_iter().map(Doomed::Pod)),
                Kind::Job => doomed.extend(dir::all_jobs(places)?.into_iter().map(Doomed::Job)),
                Kind::ConfigMap => doomed.extend(self.all_kept::<ConfigMap>(places, kind)?),
                Kind::Secret => doomed.extend(self.all_kept::<Secret>(places, kind)?),
                Kind::PersistentVolumeClaim => doomed.extend(self.all_kept::<PersistentVolumeClaim>(places, kind)?),
                Kind::Service => doomed.extend(self.all_kept::<Service>(places, kind)?),
            }
            doomed.retain(|one| one.namespace() == self.namespace);
        }
        for word in words {
            let (kind, name) = match word.split_once('/') {
                None => (kind, word),
                Some((word, name)) => (Kind::of(word).ok_or_else(|| Kind::unknown(word))?, name),
            };
            doomed.push(Doomed::new(places, kind, &self.namespace, name));
        }
        Ok(doomed)
    }

    /// The objects of the files, in the namespace that `apply` would put them.
    fn in_files(&self) -> Result<Vec<Object>> {
        let mut objects = Vec::new();
        for file in &self.filename {
            objects.extend(manifest_of(file)?.objects);
        }
        let unsaid = objects.iter_mut().map(Object::metadata_mut).filter(|metadata| metadata.namespace.as_deref() == Some("default"));
        unsaid.for_each(|metadata| metadata.namespace = Some(self.namespace.clone()));
        Ok(objects)
    }

    fn all_kept<O: Kept>(&self, places: &Places, kind: Kind) -> Result<Vec<Doomed>> {
        let names = Objects::new(places, &self.namespace).all::<O>()?.into_iter().filter_map(|object| object.metadata().name.clone());
        Ok(names.map(|name| Doomed::new(places, kind, &self.namespace, &name)).collect())
    }
}

/// What a StatefulSet leaves behind (`persistentVolumeClaimRetentionPolicy`).
fn is_retained(object: &Object) -> bool {
    object.metadata().annotations.as_ref().is_some_and(|annotations| annotations.contains_key(RETAINED_OF))
}

/// Stops all at once and then waits for each, as kubectl does. Claims come last: the pods that use them may be among what stops.
pub fn delete(args: &DeleteArgs, places: &Places) -> Result<u8> {
    need_root()?;
    let (doomed, grace) = (args.doomed(places)?, args.grace_seconds());
    let (claims, others): (Vec<_>, Vec<_>) = doomed.into_iter().partition(|one| one.kind() == Kind::PersistentVolumeClaim);
    let mut code = 0;
    for group in [others, claims] {
        let mut stopping = Vec::new();
        for one in group {
            let kind = one.kind();
            match one.stop(places, grace) {
                // Whatever else is to go, goes.
                Err(error) => {
                    eprintln!("error: {error}");
                    code = 1;
                }
                Ok(Some(())) => {
                    println!("{} {:?} deleted from {} namespace", kind.resource(), one.name(), one.namespace());
                    stopping.push(one);
                }
                Ok(None) if args.ignore_not_found => {}
                Ok(None) => {
                    eprintln!("{}", Refusal::not_found_of(kind, one.name()));
                    code = 1;
                }
            }
        }
        if args.wait {
            stopping.iter().filter_map(Doomed::dir).try_for_each(Dir::wait_until_gone)?;
        }
    }
    Ok(code)
}
