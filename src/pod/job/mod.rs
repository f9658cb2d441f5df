//! A job on this machine: its directory, and the one process that makes and deletes its pods.
//!
//! ```text
//!  minipod run job.yaml ──fork──▶ runner: one thread, one loop ──fork──▶ supervisor of pod NAME-xxxxx
//!                                   wait ──▶ observe ──▶ decide ──▶ act      │
//!                                    ▲   inotify, pidfds, socket, timer      ▼
//!                                    └──────────────────────────── lib/pods/NS/NAME-xxxxx/pod.json
//!      lib/jobs/NS/NAME/   lock         held while the runner lives
//!                          job.json     the Job with its status, replaced whole
//!                          events.json  what happened, as Kubernetes events
//!                          control      stop, suspend
//! ```
//!
//! The runner knows of its pods what everybody knows: it reads their `pod.json`. A pod does not know its runner, and outlives it as
//! pods outlive a controller that is down. When the runner's lock is free and the job has not finished, the runner died: readers
//! say so, and `delete`, or the next `run` of the name, removes the job with all its pods.
//!
//! A job that has finished has no process (unless it waits for its ttl); its pods stay, to be looked at, until it is deleted.

mod runner;
mod start;
mod template;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use serde::{Deserialize, Serialize};

use super::control::{self, Reply};
use super::dir::{self, JobDir, KnownJob, PodDir};
use super::places::Places;
use super::status;
use crate::error::{Error, Result};
use crate::lifecycle::job::{Spec, is_true};

pub use start::{Started, is_same, start};

/// What may be asked of a runner; a stop is said as to a supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Request {
    /// Remove the job with all its pods. None: their own grace; 0: at once. A second request only shortens.
    #[serde(rename_all = "camelCase")]
    Stop { grace_seconds: Option<u64> },
    /// Let the pods go and make no others, or go on.
    Suspend { suspend: bool },
}

/// The reason that a job without a runner shows.
pub const RUNNER_LOST: &str = "RunnerLost";

/// Whether the job has come to its end, good or bad.
pub fn is_finished(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|status| is_true(status, "Complete") || is_true(status, "Failed"))
}

/// The first pod that a job would make, to be shown; what is random in its name is `xxxxx`.
pub fn first_pod(job: &Job) -> Pod {
    let spec = Spec::of(job);
    let mut pod = template::pod(job, spec.indexed.then_some(0), None);
    pod.metadata.name = Some(format!("{}xxxxx", pod.metadata.generate_name.as_deref().unwrap_or_default()));
    pod
}

/// The pods that a job made and that are still there, by name, with their directories.
pub fn pods(places: &Places, job: &Job) -> Result<Vec<(PodDir, Pod)>> {
    pods_where(places, job.metadata.namespace.as_deref().unwrap_or("default"), |pod| is_owned_by(pod, job))
}

fn pods_where(places: &Places, namespace: &str, is_meant: impl Fn(&Pod) -> bool) -> Result<Vec<(PodDir, Pod)>> {
    let mut pods = Vec::new();
    for dir in dir::all(places)?.into_iter().filter(|dir| dir.namespace == namespace) {
        // One that is damaged is nobody's as far as can be told, and must not hide the others.
        let Ok(Some(known)) = dir.read() else { continue };
        if is_meant(&known.pod) {
            pods.push((dir, status::truth(known)));
        }
    }
    Ok(pods)
}

fn controller(pod: &Pod) -> Option<&OwnerReference> {
    pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn is_owned_by(pod: &Pod, job: &Job) -> bool {
    controller(pod).is_some_and(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
}

/// What is true of a job now. A runner that was killed wrote its last status before; its pods went on without it.
pub fn truth(places: &Places, known: KnownJob) -> Result<Job> {
    let mut job = known.job;
    if known.supervised || is_finished(&job) {
        return Ok(job);
    }
    let active = pods(places, &job)?.iter().filter(|(_, pod)| !status::is_finished(pod)).count();
    let status: &mut JobStatus = job.status.get_or_insert_default();
    status.active = i32::try_from(active).ok().filter(|active| *active > 0);
    (status.ready, status.terminating) = (None, None);
    status.conditions.get_or_insert_default().push(JobCondition {
        type_: "Failed".into(),
        status: "True".into(),
        reason: Some(RUNNER_LOST.into()),
        message: Some("The job's runner ended unexpectedly; deleting the job ends and removes its pods.".into()),
        ..Default::default()
    });
    Ok(job)
}

/// Asks for a job to be removed with all its pods. None: there is no such job. Whoever wants to see it gone waits for its directory.
pub fn delete(places: &Places, dir: &JobDir, grace_seconds: Option<u64>) -> Result<Option<()>> {
    match control::ask(dir, &Request::Stop { grace_seconds })? {
        Some((Reply::Refused { why }, ..)) => return Err(Error::said(why)),
        Some(_) => return Ok(Some(())),
        None => {}
    }
    // Nobody looks after it: it has finished, or its runner died.
    match dir.read() {
        Ok(None) => return Ok(None),
        // Its runner may still be at its last lines, where it hears nobody.
        Ok(Some(known)) if known.supervised && is_finished(&known.job) => dir.wait_until_gone()?,
        // One that is damaged (the power failed) can still be removed.
        Ok(Some(_)) | Err(_) => {}
    }
    let Some(_claim) = dir.claim()? else {
        return Err(Error::said(format!("job {:?} is just being started or stopped; try again", dir.name)));
    };
    clear(places, dir, grace_seconds)?;
    Ok(Some(()))
}

/// Makes a job that is there what is asked for, if all that differs is whether it is suspended, and it has not finished; whether
/// that was so. Everything else about a job cannot be changed.
pub fn suspend_as(places: &Places, known: &Job, asked: &Job) -> Result<bool> {
    let suspend = asked.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default();
    let mut changed = known.clone();
    changed.spec.get_or_insert_default().suspend = Some(suspend);
    if is_finished(known) || !is_same(&changed, asked) {
        return Ok(false);
    }
    let metadata = &known.metadata;
    let dir = JobDir::new(places, metadata.namespace.as_deref().unwrap_or("default"), metadata.name.as_deref().unwrap_or_default());
    match control::ask(&dir, &Request::Suspend { suspend })? {
        Some((Reply::Refused { why }, ..)) => Err(Error::said(why)),
        answer => Ok(answer.is_some()),
    }
}

/// Removes a job that nobody looks after: all its pods at once, then itself. There is one job of a name at a time, so the name is
/// enough where the object cannot be read any more.
fn clear(places: &Places, dir: &JobDir, grace_seconds: Option<u64>) -> Result<()> {
    let is_its = |pod: &Pod| controller(pod).is_some_and(|owner| owner.kind == "Job" && owner.name == dir.name);
    let pods = pods_where(places, &dir.namespace, is_its)?;
    for (pod, _) in &pods {
        super::start::delete(places, pod, grace_seconds, false)?;
    }
    pods.iter().try_for_each(|(pod, _)| pod.wait_until_gone())?;
    dir.remove()
}
