//! A job in the foreground: changes of its status and of its pods', and what all of them write, until it has finished.

use std::os::fd::OwnedFd;

use anyhow::{Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::stage::{Stage, Subject, tell_reason};
use super::{DEADLINE, already_exists, pod_job};
use crate::cli::get::{Kind, job_row, row};
use crate::cli::logs::follow::Sight;
use crate::cli::{logs, pods, why};
use crate::lifecycle::job::is_true;
use crate::pod::dir::{self, JobDir};
use crate::pod::job::Started;
use crate::pod::places::Places;
use crate::pod::start::{Options, Refusal};
use crate::sys::notify::Notify;

/// The job failed, or was stopped before it had finished.
const FAILED: u8 = 1;

/// Runs a job until it ends, and removes it; its exit code.
pub fn run(places: &Places, job: Job, options: &Options) -> Result<u8> {
    match pod_job::start(places, job, options) {
        Ok(Started { dir, job, owner: Some(owner) }) => Foreground { places, dir, job }.watch(owner),
        Ok(_) => bail!("the runner gave no connection"),
        Err(Refusal::AlreadyExists(job)) => Err(already_exists(Kind::Job, &job.metadata).into()),
        Err(Refusal::Failed(error)) => Err(error.into()),
    }
}

/// A job that ends with us.
struct Foreground<'a> {
    places: &'a Places,
    dir: JobDir,
    job: Job,
}

impl Subject for Foreground<'_> {
    fn watch(&self, notify: &Notify) -> Result<()> {
        match notify.watch_dir(self.dir.path()) {
            // Its runner has died and somebody has cleaned up: the end is heard from the socket.
            Err(error) if error.is(libc::ENOENT) => {}
            watched => watched?,
        }
        Ok(dir::watch(self.places, notify)?)
    }

    fn tell(&mut self, stage: &mut Stage) -> Result<()> {
        let now = Timestamp::now();
        if let Some(known) = self.dir.read()? {
            let row = job_row(&known.job, now);
            stage.tell_status(&row.name, format!("{}  {}", row.status, row.completions));
            stage.tell_warnings(&self.dir.name, &self.dir.events()?);
        }
        for (dir, pod) in pod_job::pods(self.places, &self.job)? {
            let row = row(&pod, now);
            stage.tell_status(&row.name, format!("{}  {}", row.status, row.ready));
            // A pod may go while it is looked at, with its events.
            stage.tell_warnings(&dir.name, &dir.events().unwrap_or_default());
        }
        Ok(())
    }
}

impl Foreground<'_> {
    fn watch(mut self, owner: OwnedFd) -> Result<u8> {
        let mut stage = Stage::new(&self.dir.name, owner, &pod_job::first_pod(&self.job), true)?;
        let (places, job) = (self.places, self.job.clone());
        let look = || {
            let mut instances = Vec::new();
            for (dir, pod) in pod_job::pods(places, &job)? {
                instances.extend(logs::all_instances(&pods::place(places, dir, pod))?.instances);
            }
            // Others may come as long as the job has not ended, which is heard from its runner.
            Ok(Sight { instances, complete: false })
        };
        stage.show(&mut self, look)?;
        let code = match self.dir.read()? {
            Some(known) if pod_job::is_finished(&known.job) => {
                let code = exit_code(&known.job);
                if code != 0 {
                    self.tell_reasons()?;
                }
                code
            }
            // It was stopped, and has gone with all that was its own.
            None if stage.stops > 0 => FAILED,
            Some(known) if known.supervised => FAILED,
            _ => {
                pod_job::delete(self.places, &self.dir, None)?;
                bail!("the runner of job {} ended unexpectedly; the job is cleaned up", self.dir.name);
            }
        };
        // Closing the socket is what makes the runner remove the job.
        drop(stage);
        self.dir.wait_until_gone()?;
        Ok(code)
    }

    /// What went wrong in the last pod that failed, in words; its log was shown already.
    fn tell_reasons(&self) -> Result<()> {
        let pods = pod_job::pods(self.places, &self.job)?;
        let Some((dir, pod)) = pods.iter().filter(|(_, pod)| failed(pod).is_some()).max_by_key(|(_, pod)| failed(pod)) else { return Ok(()) };
        for reason in why::reasons(pod, &dir.events()?, &pods::view(self.places, pod), Timestamp::now()) {
            tell_reason(&dir.name, &reason);
        }
        Ok(())
    }
}

/// Whether a pod has failed, and when it was made.
fn failed(pod: &Pod) -> Option<Option<Time>> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    (phase == Some("Failed")).then(|| pod.metadata.creation_timestamp.clone())
}

fn exit_code(job: &Job) -> u8 {
    let status = job.status.clone().unwrap_or_default();
    if is_true(&status, "Complete") {
        return 0;
    }
    let reason = status.conditions.iter().flatten().find(|condition| condition.type_ == "Failed").and_then(|failed| failed.reason.as_deref());
    if reason == Some("DeadlineExceeded") { DEADLINE } else { FAILED }
}
