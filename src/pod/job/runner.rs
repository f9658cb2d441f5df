//! The runner's loop: the supervisor's, one floor up. What to do is decided by `lifecycle::job`, which is pure; here pods are made and
//! deleted, and what becomes of them is read from where everybody reads it.

use std::os::fd::OwnedFd;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Request, template};
use crate::error::{Error, Result};
use crate::lifecycle::At;
use crate::lifecycle::job::{self, Action, Event, Facts, Spec, Target};
use crate::pod::control::{self, Reply};
use crate::pod::dir::{Claim, JobDir, PodDir};
use crate::pod::journal::{Journal, Kind};
use crate::pod::places::Places;
use crate::pod::start::{self, Options};
use crate::pod::status;
use crate::sys::notify::Notify;
use crate::sys::poll::Poll;
use crate::sys::process::{self, Child};
use crate::sys::socket;

/// Where an event of the poll set comes from; packed into its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Listener,
    Owner,
    Files,
    Client(usize),
    /// A pod's supervisor has ended.
    Supervisor(usize),
}

pub struct Runner {
    places: Places,
    dir: JobDir,
    job: Job,
    spec: Spec,
    facts: Facts,
    options: Options,
    /// By the pods' places in `facts`.
    pods: Vec<(PodDir, Option<Child>)>,
    journal: Journal,
    notify: Notify,
    poll: Poll,
    listener: OwnedFd,
    owner: Option<OwnedFd>,
    clients: Vec<Option<OwnedFd>>,
    /// job.json lacks something beside the status.
    unwritten: bool,
    _claim: Claim,
}

/// A wait longer than this, in milliseconds, is worth giving memory back first.
const TRIM_AFTER: u64 = 50;

impl Runner {
    pub fn new(places: Places, dir: JobDir, job: Job, claim: Claim, owner: Option<OwnedFd>, options: Options) -> Result<Runner> {
        let mut spec = Spec::of(&job);
        spec.max_backoff = options.max_backoff_ms.unwrap_or(spec.max_backoff);
        let suspended = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default();
        let listener = socket::listen(crate::sys::file::open_dir(dir.path())?, control::SOCKET)?;
        let (poll, notify) = (Poll::new()?, Notify::new()?);
        poll.add(&listener, Source::Listener.token())?;
        poll.add(&notify, Source::Files.token())?;
        owner.as_ref().map_or(Ok(()), |owner| poll.add(owner, Source::Owner.token()))?;
        let mut journal = Journal::of_job(&dir.namespace, &dir.name, job.metadata.uid.as_deref().unwrap_or_default());
        if suspended {
            journal.tell(Kind::Normal, "Suspended", None, "Job suspended", Timestamp::now());
        }
        Ok(Runner {
            facts: Facts::new(suspended, now()),
            // What ends with the command in the foreground is the job; its pods end with the job.
            options: Options { foreground: false, ..options },
            pods: Vec::new(),
            clients: Vec::new(),
            unwritten: true,
            _claim: claim,
            places,
            dir,
            job,
            spec,
            journal,
            notify,
            poll,
            listener,
            owner,
        })
    }

    /// Writes the job's first status: it is accepted.
    pub fn accept(&mut self) -> Result<()> {
        self.publish()
    }

    /// Looks after the job until it has finished and nothing is to be waited for, or until it is gone.
    pub fn run(mut self) {
        loop {
            let (actions, wake) = job::decide(&self.spec, &self.facts, now().mono);
            if let Err(error) = self.publish() {
                // A full disk must not end the job: what could not be written is tried again with the next change.
                eprintln!("minipod: {error}");
            }
            if actions.is_empty() {
                // Nobody's any more, and nothing will happen: what is on disk tells all.
                if self.facts.finished.is_some() && self.spec.ttl.is_none() && self.owner.is_none() && self.facts.leaving.is_none() {
                    break;
                }
                self.wait(wake);
            }
            for action in actions {
                if action == Action::Leave {
                    return self.leave();
                }
                self.perform(action);
            }
        }
        let socket = self.dir.path().join(control::SOCKET);
        if let Err(error) = std::fs::remove_file(&socket) {
            eprintln!("minipod: {}", Error::io("unlink", socket.display(), &error));
        }
    }

    fn observe(&mut self, event: Event<'_>) {
        job::observe(&self.spec, &mut self.facts, event, now());
    }

    fn tell(&mut self, kind: Kind, reason: &str, message: &str) {
        self.journal.tell(kind, reason, None, message, Timestamp::now());
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Create { index, earlier_failures } => self.create(index, earlier_failures),
            Action::Delete { pod, spared } => self.delete(pod, spared),
            Action::Settle(target) => self.observe(Event::Settled(target)),
            Action::Finish => self.finish(),
            Action::Leave => {}
        }
    }

    fn create(&mut self, index: Option<u32>, earlier_failures: (u32, u32)) {
        let failures = self.spec.backoff_limit_per_index.map(|_| earlier_failures);
        let pod = template::pod(&self.job, index, failures);
        match start::start(&self.places, pod, &self.options) {
            Ok(start::Started { dir, supervisor, .. }) => {
                let number = self.pods.len();
                let watched = self.notify.watch_dir(dir.path()).and_then(|()| self.poll.add(&supervisor, Source::Supervisor(number).token()));
                self.tell(Kind::Normal, "SuccessfulCreate", &format!("Created pod: {}", dir.name));
                self.observe(Event::Created { name: dir.name.clone(), index, earlier_failures });
                self.pods.push((dir, Some(supervisor)));
                if let Err(error) = watched {
                    self.complain(&error);
                }
                // What happened before the watch held.
                self.look(number);
            }
            // A name of five letters was taken: the next has others.
            Err(start::Refusal::AlreadyExists(_)) => {}
            Err(start::Refusal::Failed(error)) => {
                self.tell(Kind::Warning, "FailedCreate", &format!("Error creating: {error}"));
                self.observe(Event::Refused);
            }
        }
    }

    /// Asks for a pod to be gone; does not wait for it.
    fn delete(&mut self, pod: usize, spared: bool) {
        // One that has ended by itself is let go when its supervisor has let go of it: see `handle`.
        if self.facts.pods[pod].ended.is_some() && self.pods[pod].1.is_some() {
            return self.observe(Event::Deleted { pod, spared });
        }
        let grace = self.facts.leaving.flatten();
        match start::delete(&self.places, &self.pods[pod].0, grace, false) {
            Ok(Some(())) => self.tell(Kind::Normal, "SuccessfulDelete", &format!("Deleted pod: {}", self.facts.pods[pod].name)),
            Ok(None) => {}
            Err(error) => self.complain(&error),
        }
        self.observe(Event::Deleted { pod, spared });
        self.look(pod);
    }

    fn finish(&mut self) {
        self.observe(Event::Finished);
        let told = self.facts.target.as_ref().map(|(target, _)| target.clone());
        match told {
            Some(Target { success: false, reason, message }) => self.tell(Kind::Warning, reason, &message),
            _ => self.tell(Kind::Normal, "Completed", "Job completed"),
        }
        if let Err(error) = self.publish() {
            self.complain(&error);
        }
        if let Some(owner) = &self.owner {
            // The run in the foreground reads the end from the files; it closes its side when it has.
            let _ = control::send(owner, &Reply::Done {}, &[]);
        }
    }

    /// Reads how a pod is.
    fn look(&mut self, pod: usize) {
        let (dir, supervisor) = &self.pods[pod];
        match dir.read() {
            // Another pod may have its name by now.
            Ok(Some(known)) if super::is_owned_by(&known.pod, &self.job) => {
                let truth = status::truth(known).status.unwrap_or_default();
                if let Some(hint) = job::kept_running(&truth) {
                    self.tell(Kind::Warning, "ContainerRunsOn", &hint);
                }
                self.observe(Event::Seen(pod, &truth));
            }
            // Its directory goes last, and its supervisor right after it.
            Ok(_) if supervisor.is_none() || !dir.is_supervised() => self.observe(Event::Gone(pod)),
            Ok(_) => {}
            Err(error) => self.complain(&error),
        }
    }

    fn wait(&mut self, wake: Option<u64>) {
        if wake.is_none_or(|wake| wake > now().mono + TRIM_AFTER) && self.poll.wait(Some(TRIM_AFTER)).is_ok_and(|tokens| tokens.is_empty()) {
            process::trim_memory();
        }
        // Rounded up: waking early would find nothing due and spin.
        match self.poll.wait(wake.map(|wake| wake.saturating_sub(now().mono) + 1)) {
            Ok(tokens) => tokens.into_iter().filter_map(Source::of).for_each(|source| self.handle(source)),
            Err(error) => self.complain(&error),
        }
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Listener => self.accept_client(),
            Source::Owner => self.hear_owner(),
            Source::Client(number) => self.hear_client(number),
            Source::Files => {
                if let Err(error) = self.notify.drain() {
                    self.complain(&error);
                }
                let alive: Vec<usize> = (0..self.pods.len()).filter(|pod| !self.facts.pods[*pod].gone).collect();
                alive.into_iter().for_each(|pod| self.look(pod));
            }
            Source::Supervisor(pod) => {
                if let Some(supervisor) = self.pods[pod].1.take() {
                    self.poll.remove(&supervisor);
                    if let Err(error) = supervisor.wait() {
                        self.complain(&error);
                    }
                }
                self.look(pod);
                let made = &self.facts.pods[pod];
                if made.leaves && !made.gone {
                    self.delete(pod, true);
                }
            }
        }
    }

    fn accept_client(&mut self) {
        match socket::accept(&self.listener) {
            Ok(Some(client)) if socket::peer_uid(&client) == Ok(0) => {
                let number = self.clients.iter().position(Option::is_none).unwrap_or_else(|| {
                    self.clients.push(None);
                    self.clients.len() - 1
                });
                match self.poll.add(&client, Source::Client(number).token()) {
                    Ok(()) => self.clients[number] = Some(client),
                    Err(error) => self.complain(&error),
                }
            }
            Ok(_) => {}
            Err(error) => self.complain(&error),
        }
    }

    /// The owner may ask for a stop as a client may; that it has gone is a stop too.
    fn hear_owner(&mut self) {
        let Some(owner) = self.owner.take() else { return };
        match control::receive::<Request>(&owner) {
            Ok(Some((Request::Stop { grace_seconds }, _))) => {
                self.owner = Some(owner);
                self.ask_leave(grace_seconds);
            }
            Ok(Some(_)) => self.owner = Some(owner),
            Ok(None) | Err(_) => self.ask_leave(None),
        }
    }

    fn hear_client(&mut self, number: usize) {
        let Some(client) = self.clients[number].take() else { return };
        let answered = match control::receive::<Request>(&client) {
            Ok(Some((Request::Stop { grace_seconds }, _))) => {
                self.ask_leave(grace_seconds);
                control::send(&client, &Reply::Done {}, &[])
            }
            Ok(Some((Request::Suspend { suspend }, _))) => {
                self.suspend(suspend);
                control::send(&client, &Reply::Done {}, &[])
            }
            Ok(None) => return,
            Err(error) => control::send(&client, &Reply::Refused { why: error.to_string() }, &[]),
        };
        if answered.is_ok() {
            self.clients[number] = Some(client);
        }
    }

    fn suspend(&mut self, suspend: bool) {
        if suspend == self.facts.suspended() {
            return;
        }
        self.observe(Event::Suspend(suspend));
        let (reason, message) = if suspend { ("Suspended", "Job suspended") } else { ("Resumed", "Job resumed") };
        self.tell(Kind::Normal, reason, message);
        self.job.spec.get_or_insert_default().suspend = Some(suspend);
        let generation = self.job.metadata.generation.get_or_insert(1);
        *generation += 1;
        self.unwritten = true;
    }

    fn ask_leave(&mut self, grace_seconds: Option<u64>) {
        // The owner's going after a request of its own must not lengthen the grace again.
        if self.facts.leaving.is_some() && grace_seconds.is_none() {
            return;
        }
        self.observe(Event::Leave { grace_seconds });
        let at = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        self.job.metadata.deletion_timestamp.get_or_insert(Time(at));
        self.unwritten = true;
    }

    fn publish(&mut self) -> Result<()> {
        let status = job::status(&self.spec, &self.facts);
        if self.job.status.as_ref() != Some(&status) || self.unwritten {
            self.job.status = Some(status);
            self.unwritten = true;
            self.dir.write_job(&self.job)?;
            self.unwritten = false;
        }
        self.journal.write(&self.dir)
    }

    /// What goes wrong in looking after a job is told beside its events, and never stops the loop.
    fn complain(&mut self, error: &Error) {
        eprintln!("minipod: {error}");
        self.tell(Kind::Warning, "RunnerError", &error.to_string());
    }

    fn leave(self) {
        if let Err(error) = self.dir.remove() {
            eprintln!("minipod: {error}");
        }
    }
}

fn now() -> At {
    At { mono: process::boot_millis(), wall: Timestamp::now().as_millisecond() }
}

impl Source {
    fn token(self) -> u64 {
        let (kind, number) = match self {
            Source::Listener => (0, 0),
            Source::Owner => (1, 0),
            Source::Files => (2, 0),
            Source::Client(number) => (3, number),
            Source::Supervisor(pod) => (4, pod),
        };
        kind << 32 | number as u64
    }

    fn of(token: u64) -> Option<Source> {
        let number = (token & u64::from(u32::MAX)) as usize;
        Some(match token >> 32 {
            0 => Source::Listener,
            1 => Source::Owner,
            2 => Source::Files,
            3 => Source::Client(number),
            4 => Source::Supervisor(number),
            _ => return None,
        })
    }
}
