//! From a manifest to a job with a runner.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use k8s_openapi::api::batch::v1::Job;

use super::runner::Runner;
use super::template;
use crate::error::{Error, Result};
use crate::pod::control::{self, Reply};
use crate::pod::dir::{Claim, JobDir};
use crate::pod::places::Places;
use crate::pod::start::{Options, Refusal, identify_object, take_streams};
use crate::sys::{file, process, socket};

/// A job that was accepted.
pub struct Started {
    pub dir: JobDir,
    pub job: Job,
    /// With `foreground`: closing it removes the job with its pods; a message comes when the job has finished.
    pub owner: Option<OwnedFd>,
}

/// Whether a job that is there is what a manifest asks for.
pub fn is_same(known: &Job, asked: &Job) -> bool {
    // What the server adds is added to what is asked, with the uid that is known.
    let mut asked = asked.clone();
    asked.metadata.uid.clone_from(&known.metadata.uid);
    template::select(&mut asked);
    known.spec == asked.spec && known.metadata.labels == asked.metadata.labels && known.metadata.annotations == asked.metadata.annotations
}

/// Accepts a valid job and starts its runner. What a dead runner of the same name left is cleaned up first, with its pods.
pub fn start(places: &Places, mut job: Job, options: &Options) -> std::result::Result<Started, Refusal<Job>> {
    identify_object(&mut job.metadata)?;
    template::select(&mut job);
    let dir = JobDir::new(places, job.metadata.namespace.as_deref().unwrap_or("default"), job.metadata.name.as_deref().unwrap_or_default());
    let Some(mut claim) = dir.claim()? else {
        let known = dir.read()?.map_or(job, |known| known.job);
        return Err(Refusal::AlreadyExists(Box::new(known)));
    };
    if let Some(known) = dir.read()? {
        if super::is_finished(&known.job) {
            return Err(Refusal::AlreadyExists(Box::new(known.job)));
        }
        super::clear(places, &dir, None)?;
        drop(claim);
        claim = dir.claim()?.ok_or_else(|| Error::said(format!("job {:?} was taken by another run", dir.name)))?;
    }
    let (ours, theirs) = socket::pair()?;
    let runner = {
        let (places, dir, job, options) = (places.clone(), dir.clone(), job.clone(), options.clone());
        process::fork(move || run(places, dir, job, claim, theirs, options))?
    };
    match control::receive::<Reply>(&ours)? {
        Some((Reply::Done {}, _)) => Ok(Started { dir, job, owner: options.foreground.then_some(ours) }),
        Some((Reply::Refused { why }, _)) => {
            runner.wait()?;
            Err(Error::said(why).into())
        }
        _ => {
            let exit = runner.wait()?;
            Err(Error::said(format!("the runner ended before it had accepted the job, with code {}", exit.code())).into())
        }
    }
}

/// The runner's process, from its first moment.
fn run(places: Places, dir: JobDir, job: Job, claim: Claim, caller: OwnedFd, options: Options) -> Result<Infallible> {
    process::close_others(3, &[claim.as_fd(), caller.as_fd()]);
    match prepare(places, &dir, job, claim, &caller, options) {
        Ok(runner) => {
            // A caller that was killed meanwhile owns nothing any more; a job in the foreground ends by itself when it looks.
            let _ = control::send(&caller, &Reply::Done {}, &[]);
            drop(caller);
            runner.run();
            process::exit_now(0)
        }
        Err(error) => {
            // Before the answer: when the caller hears it, nothing is left.
            let _ = dir.remove();
            control::send(&caller, &Reply::Refused { why: error.to_string() }, &[])?;
            process::exit_now(1)
        }
    }
}

fn prepare(places: Places, dir: &JobDir, job: Job, claim: Claim, caller: &OwnedFd, options: Options) -> Result<Runner> {
    process::set_name(c"minipod-job");
    process::new_session()?;
    claim.sign(dir)?;
    take_streams(dir, "runner.log")?;
    let owner = options.foreground.then(|| file::duplicate(caller)).transpose()?;
    let mut runner = Runner::new(places, dir.clone(), job, claim, owner, options)?;
    runner.accept()?;
    Ok(runner)
}
