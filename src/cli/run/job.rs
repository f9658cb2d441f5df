//! A job in the foreground: changes of its status and of its pods', and what all of them write, until it has finished.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::OwnedFd;

use anyhow::{Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nix::sys::signal::Signal;

use super::{Colours, DEADLINE, FILES, OWNER, SIGNALS, already_exists, pod_job};
use crate::cli::get::{Kind, job_row, row};
use crate::cli::logs::follow::{Follower, From, Instance, Sight, Step};
use crate::cli::table::harmless;
use crate::cli::{logs, pods, why};
use crate::container::log::{Line, Stream};
use crate::lifecycle::job::is_true;
use crate::pod::control::{self, Reply, Request};
use crate::pod::dir::{self, JobDir};
use crate::pod::job::{Refusal, Started};
use crate::pod::places::Places;
use crate::pod::start::Options;
use crate::sys::notify::Notify;
use crate::sys::poll::{Poll, Signals};

/// The job failed, or was stopped before it had finished.
const FAILED: u8 = 1;

/// Runs a job until it ends, and removes it; its exit code.
pub fn run(places: &Places, job: Job, options: &Options) -> Result<u8> {
    match pod_job::start(places, job, options) {
        Ok(Started { dir, job, owner: Some(owner) }) => {
            let signals = Signals::take(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
            let colours = Colours::of(&pod_job::first_pod(&job));
            Foreground { places, dir, job, owner, signals, stops: 0, told: BTreeMap::new(), warned: BTreeSet::new(), colours }.watch()
        }
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
    owner: OwnedFd,
    signals: Signals,
    /// How often we were asked to stop.
    stops: u32,
    /// The last line of the job and of each pod, by name.
    told: BTreeMap<String, String>,
    /// The warnings that were told.
    warned: BTreeSet<String>,
    colours: Colours,
}

impl Foreground<'_> {
    fn watch(mut self) -> Result<u8> {
        let notify = Notify::new()?;
        notify.watch_dir(self.dir.path())?;
        dir::watch(self.places, &notify)?;
        let (places, job) = (self.places, self.job.clone());
        let look = move || {
            let mut instances = Vec::new();
            for (dir, pod) in pod_job::pods(places, &job)? {
                instances.extend(logs::all_instances(&pods::place(places, dir, pod))?.instances);
            }
            // Others may come as long as the job has not ended, which is heard from its runner.
            Ok(Sight { instances, complete: false })
        };
        let mut follower = Follower::new(notify, From::default(), look);
        let mut poll = Poll::new()?;
        poll.add(&self.owner, OWNER)?;
        poll.add(&self.signals, SIGNALS)?;
        poll.add(follower.notify(), FILES)?;
        let mut ended = false;
        loop {
            match follower.step()? {
                Step::Line(instance, line) => self.print(instance, &line)?,
                Step::End => break,
                Step::Wait if ended => break,
                Step::Wait => {
                    self.tell()?;
                    ended = self.wait(&mut poll, &mut follower)?;
                }
            }
        }
        self.finish()
    }

    /// Waits for something; true when the runner says that the job has finished, or has gone itself.
    fn wait(&mut self, poll: &mut Poll, follower: &mut Follower<'_>) -> Result<bool> {
        let mut ended = false;
        for token in poll.wait(None)? {
            match token {
                // Not taken from the socket: `finish` hears it again.
                OWNER => ended = true,
                SIGNALS => self.stop()?,
                _ => {}
            }
        }
        // Before the look: a pod that was made meanwhile must be watched first.
        dir::watch(self.places, follower.notify())?;
        follower.look_again()?;
        Ok(ended)
    }

    /// The first time gracefully, the second time at once.
    fn stop(&mut self) -> Result<()> {
        while let Some(_signal) = self.signals.next() {
            self.stops += 1;
            let grace_seconds = (self.stops > 1).then_some(0);
            eprintln!("{}: stopping{}", self.dir.name, if self.stops > 1 { " without grace" } else { "; once more stops it without grace" });
            match control::send(&self.owner, &Request::Stop { grace_seconds }, &[]) {
                // It has gone already.
                Err(error) if error.is(libc::EPIPE) => {}
                sent => sent?,
            }
        }
        Ok(())
    }

    /// A line for each change of what `get` would show of the job and its pods, and for each new warning.
    fn tell(&mut self) -> Result<()> {
        let now = Timestamp::now();
        if let Some(known) = self.dir.read()? {
            let row = job_row(&known.job, now);
            self.tell_line(&row.name, format!("{}  {}", row.status, row.completions));
            self.tell_warnings(&self.dir.name.clone(), &self.dir.events()?);
        }
        for (dir, pod) in pod_job::pods(self.places, &self.job)? {
            let row = row(&pod, now);
            self.tell_line(&row.name, format!("{}  {}", row.status, row.ready));
            // A pod may go while it is looked at, with its events.
            self.tell_warnings(&dir.name, &dir.events().unwrap_or_default());
        }
        Ok(())
    }

    fn tell_line(&mut self, name: &str, line: String) {
        if self.told.get(name) != Some(&line) {
            let (on, off) = (self.colours.status.render(), self.colours.status.render_reset());
            eprintln!("{on}{name}: {line}{off}");
            self.told.insert(name.to_owned(), line);
        }
    }

    fn tell_warnings(&mut self, name: &str, events: &[Event]) {
        for event in events.iter().filter(|event| event.type_.as_deref() == Some("Warning")) {
            let line = format!("{name}: {}: {}", event.reason.as_deref().unwrap_or_default(), event.message.as_deref().unwrap_or_default());
            if !self.warned.contains(&line) {
                eprintln!("{line}");
                self.warned.insert(line);
            }
        }
    }

    /// What went wrong in the last pod that failed, in words; its log was shown already.
    fn tell_reasons(&self) -> Result<()> {
        let pods = pod_job::pods(self.places, &self.job)?;
        let Some((dir, pod)) = pods.iter().filter(|(_, pod)| failed(pod).is_some()).max_by_key(|(_, pod)| failed(pod)) else { return Ok(()) };
        for reason in why::reasons(pod, &dir.events()?, &pods::view(self.places, pod), Timestamp::now()) {
            let whose = reason.container.as_ref().map_or("the pod".to_owned(), |name| format!("container {name}"));
            eprint!("{}: {whose} {}\n{}", dir.name, harmless(&reason.what), reason.details("  ", false));
        }
        Ok(())
    }

    fn print(&self, instance: &Instance, line: &Line<'_>) -> Result<()> {
        let style = self.colours.of_container(&instance.container);
        let mut text = Vec::with_capacity(line.content.len() + 48);
        if line.begins {
            write!(text, "{}[{}/{}]{} ", style.render(), instance.pod, instance.container, style.render_reset())?;
        }
        text.extend_from_slice(line.content);
        if line.ends {
            text.push(b'\n');
        }
        match line.stream {
            Stream::Stdout => std::io::stdout().write_all(&text)?,
            Stream::Stderr => std::io::stderr().write_all(&text)?,
        }
        Ok(())
    }

    /// Waits for the runner's last word, reads the end, and lets the job go.
    fn finish(mut self) -> Result<u8> {
        while !matches!(control::receive::<Reply>(&self.owner)?, Some((Reply::Done {}, _)) | None) {}
        self.tell()?;
        let known = self.dir.read()?;
        let code = match &known {
            Some(known) if pod_job::is_finished(&known.job) => {
                let code = exit_code(&known.job);
                if code != 0 {
                    self.tell_reasons()?;
                }
                code
            }
            // It was stopped, and has gone with all that was its own.
            None if self.stops > 0 => FAILED,
            Some(known) if known.supervised => FAILED,
            _ => {
                pod_job::delete(self.places, &self.dir, None)?;
                bail!("the runner of job {} ended unexpectedly; the job is cleaned up", self.dir.name);
            }
        };
        let dir = self.dir.clone();
        // Closing it is what makes the runner remove the job.
        drop(self.owner);
        dir.wait_until_gone()?;
        Ok(code)
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
