//! The loop: wait, observe, decide, act. One thread, one process for each pod.
//!
//! ```text
//!     ┌──▶ decide(spec, facts, now) ──▶ publish the status ──┬─ actions ─▶ perform ──┐
//!     │                                                      └─ none ────▶ wait for a descriptor, or until `wake`
//!     │                                                                              │
//!     └───────────────────────── observe ◀────────── event ──────────────────────────┘
//! ```
//!
//! What to do is decided by `lifecycle`, which is pure; here it is done, and what happens is told back. Nothing here remembers a
//! "current step": the facts are the state. Who asks is heard in `clients`, what is told stands in `told`, probes and hooks are in `asking`.

mod asking;
pub(super) mod attached;
mod clients;
mod ephemeral;
mod errand;
mod measuring;
mod objects;
mod pulling;
mod resizing;
mod source;
mod told;

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use self::asking::Asking;
use self::ephemeral::Awaited;
use self::measuring::Measuring;
use self::pulling::Pulling;
use self::resizing::Resizing;
use self::source::Source;
use super::attempt::Remains;
use super::control::{self, Reply, Request};
use super::dir::{Claim, PodDir};
use super::ground::{self, Ground, all_containers, pod_spec};
use super::instance::{self, Home, Instance};
use super::journal::{Journal, Kind};
use super::objects::claims;
use super::objects::token::Tokens;
use super::sandbox::Sandbox;
use crate::error::Result;
use crate::lifecycle::{self, Action, At, C, Event, Facts, FailedAt, Hook, Spec, UNSCHEDULABLE};
use crate::network::Names;
use crate::sys::notify::Notify;
use crate::sys::poll::Poll;
use crate::sys::{process, removal, socket};
use crate::volume::Volumes;

/// Where others find the supervisor.
pub struct Desk {
    poll: Poll,
    listener: OwnedFd,
    owner: Option<OwnedFd>,
}

impl Desk {
    /// Opens the control socket in the pod's directory, and listens to the owner of a foreground run.
    pub fn open(dir: &PodDir, owner: Option<OwnedFd>) -> Result<Desk> {
        let listener = socket::listen(crate::sys::file::open_dir(dir.path())?, control::SOCKET)?;
        let poll = Poll::new()?;
        poll.add(&listener, Source::Listener.token())?;
        owner.as_ref().map_or(Ok(()), |owner| poll.add(owner, Source::Owner.token()))?;
        Ok(Desk { poll, listener, owner })
    }
}

pub struct Supervisor {
    ground: Ground,
    pod: Pod,
    spec: Spec,
    facts: Facts,
    names: Names,
    volumes: Option<Volumes>,
    sandbox: Option<Sandbox>,
    instances: Vec<Option<Instance>>,
    journal: Journal,
    poll: Poll,
    listener: OwnedFd,
    owner: Option<OwnedFd>,
    clients: Vec<Option<OwnedFd>>,
    /// Those of them who have added a container that is not started yet.
    awaited: Vec<Awaited>,
    /// Somebody asked for the pod to be gone, not only to end.
    removed_at_end: bool,
    /// Something has happened since the status was put together.
    stale: bool,
    /// pod.json lacks something.
    unwritten: bool,
    deadline_told: bool,
    asking: Asking,
    /// A change of resources that is not carried out yet.
    resizing: Option<Resizing>,
    /// Images that are being pulled.
    pulls: Vec<Pulling>,
    /// Watches the objects that the pod asks for, if it asks for any.
    objects: Option<Notify>,
    /// Of service accounts, in its volumes.
    tokens: Tokens,
    /// The volumes that may not grow at will.
    measuring: Measuring,
    /// Something was done since memory was last given back.
    untrimmed: bool,
    remains: Remains,
    _claim: Claim,
}

impl Supervisor {
    /// Takes over a prepared pod, in a process of its own.
    pub fn new(ground: Ground, pod: Pod, claim: Claim, desk: Desk, max_backoff_ms: Option<u64>) -> Supervisor {
        let mut spec = Spec::of(&pod);
        spec.max_backoff_ms = max_backoff_ms.unwrap_or(spec.max_backoff_ms);
        let facts = Facts::new(&spec, now());
        let journal = Journal::new(&ground.dir.namespace, &ground.dir.name, &spec.uid);
        Supervisor {
            asking: Asking::new(&spec),
            resizing: None,
            pulls: Vec::new(),
            objects: None,
            tokens: Tokens::default(),
            measuring: Measuring::default(),
            untrimmed: true,
            remains: Remains::default(),
            names: ground.network.names(),
            instances: spec.all().map(|_| None).collect(),
            ground,
            pod,
            spec,
            facts,
            volumes: None,
            sandbox: None,
            journal,
            poll: desk.poll,
            listener: desk.listener,
            owner: desk.owner,
            clients: Vec::new(),
            awaited: Vec::new(),
            removed_at_end: false,
            stale: true,
            unwritten: true,
            deadline_told: false,
            _claim: claim,
        }
    }

    /// Records something that the pod's owner should know before its first container starts.
    pub fn warn(&mut self, reason: &str, message: &str) {
        self.journal.tell(Kind::Warning, reason, None, message, Timestamp::now());
    }

    /// Writes the pod's first status: it is accepted.
    pub fn accept(&mut self) -> Result<()> {
        self.publish()
    }

    /// The pod is not accepted: what it stood on is removed again.
    pub fn give_up(self) {
        self.ground.clear();
    }

    /// Looks after the pod until nothing of it runs and nothing will; then leaves, or waits for its owner to leave, and cleans up.
    pub fn run(mut self) {
        self.watch_objects();
        while self.facts.finished.is_none() {
            self.go_on_resizing();
            let (actions, wake) = lifecycle::decide(&self.spec, &self.facts, now().mono);
            self.tell_deadline();
            // Before anything is done about it, so that an end is seen even where the next start follows at once.
            self.publish_or_complain();
            if actions.is_empty()
                && let Ok(next) = self.begin_probes()
            {
                self.wait([wake, next].into_iter().flatten().min());
                self.stale |= wake.is_some_and(|wake| wake <= now().mono);
            }
            for action in actions {
                self.untrimmed = true;
                let event = self.perform(action);
                self.act_upon(event);
            }
        }
        self.end();
    }

    fn observe(&mut self, event: Event) {
        self.stale = true;
        lifecycle::observe(&self.spec, &mut self.facts, event, now());
    }

    /// Observes what came of an action. The postStart of a container belongs to its start, and begins with it.
    fn act_upon(&mut self, event: Event) {
        self.answer_awaiting(&event);
        let spawned = match &event {
            Event::Spawned(c, _) if self.spec.container(*c).post_start => Some(*c),
            _ => None,
        };
        self.observe(event);
        if let Some(done) = spawned.and_then(|c| self.begin_hook(c, Hook::PostStart)) {
            self.observe(done);
        }
    }

    /// Does one thing, and tells what came of it.
    fn perform(&mut self, action: Action) -> Event {
        match action {
            Action::StartSandbox { attempt } => self.start_sandbox(attempt),
            Action::StopSandbox => self.stop_sandbox(),
            Action::Start { c, restart } => self.begin_pull(c, restart).unwrap_or_else(|| self.start(c, restart, false)),
            Action::Abort(c) => self.abort_pull(c),
            Action::PreStop(c) => self.begin_hook(c, Hook::PreStop).unwrap_or(Event::PreStopSent(c)),
            Action::Term(c) => self.signal(c, Event::TermSent(c)),
            Action::Kill(c) => self.kill(c),
            Action::Tell { c, notice, message } => self.tell(c, notice, &message),
            Action::Reset => self.reset(),
            Action::Finish(phase) => self.finish(phase),
        }
    }

    fn start_sandbox(&mut self, attempt: u32) -> Event {
        if attempt > 0 {
            self.journal.tell(Kind::Normal, "SandboxChanged", None, "Pod sandbox changed, it will be killed and re-created.", Timestamp::now());
        }
        let started = self.set_up_volumes().and_then(|()| Sandbox::start(&self.ground, &self.pod, &mut self.journal, Timestamp::now()));
        match started {
            Ok(sandbox) => {
                let ips = sandbox.ips();
                let watched = self.poll.add(&sandbox.pause, Source::Pause.token()).and_then(|()| match &sandbox.dns {
                    Some(dns) => self.poll.add(dns, Source::Dns.token()),
                    None => Ok(()),
                });
                self.sandbox = Some(sandbox);
                self.complain_of(watched.err());
                Event::SandboxReady { ips }
            }
            Err(error) => {
                let reason = error.reason.unwrap_or("FailedCreatePodSandBox");
                let message =
                    if ["FailedMount", UNSCHEDULABLE].contains(&reason) { error.to_string() } else { format!("Failed to create pod sandbox: {error}") };
                self.journal.tell(Kind::Warning, reason, None, &message, Timestamp::now());
                Event::SandboxFailed { reason: reason.into(), message }
            }
        }
    }

    /// All volumes are there before the sandbox, and stay until the pod is gone (§20).
    fn set_up_volumes(&mut self) -> Result<()> {
        if self.volumes.is_none() {
            let spec = pod_spec(&self.pod);
            let memory = crate::cgroup::limits::of_pod(spec).memory_bytes.or(Some(self.ground.machine.memory));
            claims::bind(&self.ground.places, &self.pod)?;
            let claim = |volume: &Volume| claims::directory_of(&self.ground.places, &self.pod, volume);
            self.volumes = Some(Volumes::set_up(spec, &self.ground.volumes(), memory, &|volume| self.files_of(volume), &claim)?);
            self.watch_volumes();
        }
        Ok(())
    }

    fn stop_sandbox(&mut self) -> Event {
        self.cut_off_errands();
        if let Some(sandbox) = self.sandbox.take() {
            let errors = sandbox.stop(&self.ground);
            self.complain_of(errors);
        }
        Event::SandboxGone
    }

    /// Starts a container whose image is in the store, or was `pulled` for this start.
    fn start(&mut self, c: C, restart: u32, pulled: bool) -> Event {
        let (Some(sandbox), Some(volumes)) = (&self.sandbox, &self.volumes) else {
            let failure =
                lifecycle::Failure { at: FailedAt::Config, reason: "CreateContainerError".into(), message: "the pod has no sandbox".into(), image: None };
            return Event::StartFailed(c, failure);
        };
        let home = Home { ground: &self.ground, sandbox, volumes, pod: &self.pod };
        let spare = self.remains.take_spare(c);
        let started = self.target_of(c).and_then(|target| instance::start(&home, &container_of(&self.pod, c), target, restart, spare.as_deref()));
        match started {
            Ok((instance, ids, unenforced)) => {
                self.tell_started(c, pulled, &unenforced);
                let watched = self.watch(c, &instance);
                self.instances[c.0] = Some(instance);
                self.complain_of(watched.err());
                Event::Spawned(c, ids)
            }
            Err(error) => {
                let failure = instance::failure_of(&error);
                self.tell_failed_start(c, pulled, &failure);
                Event::StartFailed(c, failure)
            }
        }
    }

    fn watch(&self, c: C, instance: &Instance) -> Result<()> {
        self.poll.add(&instance.child, Source::Exit(c).token())?;
        instance.outputs.iter().try_for_each(|(stream, output)| self.poll.add(output, Source::Output(c, *stream).token()))
    }

    fn signal(&mut self, c: C, event: Event) -> Event {
        if let Some(instance) = &self.instances[c.0] {
            let sent = instance.child.signal(instance.stop_signal);
            self.complain_of(sent.err());
        }
        event
    }

    /// All of the container, not its main process alone: a shared PID namespace would keep the others.
    fn kill(&mut self, c: C) -> Event {
        if let Some(instance) = &self.instances[c.0] {
            let killed = instance.cgroup.kill().and_then(|()| instance.child.signal(libc::SIGKILL));
            self.complain_of(killed.err());
        }
        Event::KillSent(c)
    }

    /// All containers have ended, and each end took its root and its cgroup with it. What could not be removed then goes now; the sandbox
    /// and the volumes stay.
    fn reset(&mut self) -> Event {
        self.cut_off_errands();
        self.remains = Remains::default();
        let removed = removal::remove_tree(self.ground.dir.path().join("containers"));
        self.complain_of(removed.err());
        Event::ResetDone
    }

    /// Nothing runs any more: the sandbox goes, then the last phase is told.
    fn finish(&mut self, phase: lifecycle::Phase) -> Event {
        self.pulls.clear();
        self.stop_measuring();
        self.stop_asking();
        self.stop_sandbox();
        Event::Finished(phase)
    }

    /// Waits until something happens or `wake` is reached, and observes it.
    fn wait(&mut self, wake: Option<u64>) {
        let dns = self.sandbox.as_ref().and_then(|sandbox| sandbox.dns.as_ref()).and_then(|dns| dns.deadline());
        let resizing = self.resizing.as_ref().and_then(|resizing| resizing.retry);
        let own = [self.patience(), self.tokens.deadline(), self.measuring.deadline(), self.remains.deadline()];
        let until = own.into_iter().chain([wake, dns, resizing]).flatten().min();
        let pause = until.map_or(u64::MAX, |until| until.saturating_sub(now().mono));
        if pause > QUIET && (!self.remains.is_tidy() || self.untrimmed && pause > WORTH_TRIMMING) {
            self.rest(pause);
        }
        // Rounded up: waking early would find nothing due and spin.
        let ready = self.poll.wait(until.map(|until| until.saturating_sub(now().mono) + 1));
        match ready {
            Ok(tokens) => {
                let mut sources: Vec<Source> = tokens.into_iter().filter_map(Source::of).collect();
                sources.sort_by_key(|source| source.turn());
                sources.into_iter().for_each(|source| self.handle(source));
            }
            Err(error) => self.complain_of(Some(error)),
        }
        self.look_at_deadlines();
        self.renew_tokens();
        self.measure_volumes();
        if self.remains.deadline().is_some_and(|due| due <= now().mono) {
            self.tidy();
        }
        if dns.is_some_and(|deadline| deadline <= now().mono) {
            self.serve_dns();
        }
        self.leave_late();
    }

    /// What can be left for a quiet moment is done in one. Before a long wait nothing of what starting needed is kept in memory.
    fn rest(&mut self, pause: u64) {
        match self.poll.wait(Some(QUIET)) {
            Ok(tokens) if tokens.is_empty() => {
                self.tidy();
                if pause > WORTH_TRIMMING {
                    process::trim_memory();
                    self.untrimmed = false;
                }
            }
            // Level-triggered: the wait that follows finds it again.
            _ => {}
        }
    }

    fn tidy(&mut self) {
        let errors = self.remains.tidy(&self.ground, now().mono);
        self.complain_of(errors);
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Listener => self.accept_client(),
            Source::Owner => self.hear_owner(),
            Source::Client(number) => self.hear_client(number),
            Source::Pause => self.observe(Event::SandboxDied),
            Source::Dns => self.serve_dns(),
            Source::Errand(number) => self.hear_errand(number, true),
            Source::Said(number) => self.hear_errand(number, false),
            Source::Prober => self.hear_prober(),
            Source::Objects => self.hear_objects(),
            Source::Pull(c) => self.hear_pull(c),
            Source::Measured => self.hear_measured(),
            Source::Exit(c) => self.reap(c),
            Source::Output(c, stream) => self.pump(c, stream),
            Source::Room(c) => self.make_room(c),
        }
        if source == Source::Pause
            && let Some(sandbox) = &self.sandbox
        {
            self.poll.remove(&sandbox.pause);
        }
    }

    fn reap(&mut self, c: C) {
        let exit = match self.instances[c.0].as_ref().map(|instance| instance.child.try_wait()) {
            Some(Ok(Some(exit))) => exit,
            Some(Err(error)) => return self.complain_of(Some(error)),
            _ => return,
        };
        if let Some(instance) = self.instances[c.0].take() {
            // A client may hold a copy of the pidfd; the poll set would then go on telling of it.
            self.poll.remove(&instance.child);
            self.remains.add(c, instance.directory.clone(), now().mono);
            let (ended, errors) = instance.finish(&container_of(&self.pod, c), exit, Timestamp::now());
            self.complain_of(errors);
            self.wake_hooks_of(c);
            self.observe(Event::Exited(c, ended));
        }
    }

    fn serve_dns(&mut self) {
        let served = match self.sandbox.as_mut().and_then(|sandbox| sandbox.dns.as_mut()) {
            Some(dns) => dns.serve(now().mono, &mut self.names),
            None => Ok(()),
        };
        self.complain_of(served.err());
    }

    /// Writes status and events where everybody reads them, if they changed.
    fn publish(&mut self) -> Result<()> {
        if self.stale {
            let status = lifecycle::status(&self.spec, &self.facts, self.pod.status.as_ref(), now());
            let mut status = super::status::complete(status, &self.pod);
            self.tell_resources(&mut status);
            self.unwritten |= self.pod.status.as_ref() != Some(&status);
            self.pod.status = Some(status);
            self.stale = false;
        }
        if self.unwritten {
            self.ground.dir.write_pod(&self.pod)?;
            self.unwritten = false;
        }
        self.journal.write(&self.ground.dir)
    }

    fn publish_or_complain(&mut self) {
        if let Err(error) = self.publish() {
            eprintln!("minipod: {error}");
        }
    }

    /// The pod has ended: the last status is written, what it stood on is removed; if it is to be gone, all of it.
    fn end(mut self) {
        self.publish_or_complain();
        let (dir, logs, places) = (self.ground.dir.clone(), self.ground.logs.clone(), self.ground.places.clone());
        let mut errors = self.volumes.map(Volumes::tear_down).unwrap_or_default();
        errors.extend(self.ground.clear());
        errors.extend(ground::clear_directory(dir.path()));
        if let Some(owner) = self.owner.take() {
            // The run in the foreground reads the end from the files; it closes its side when it has, however long its terminal is stuck.
            let _ = control::send(&owner, &Reply::Done {}, &[]);
            while matches!(control::receive::<Request>(&owner), Ok(Some(_))) {}
            self.removed_at_end = true;
        }
        if self.removed_at_end {
            errors.extend(removal::remove_tree(&logs).err());
            errors.extend(claims::forget_owned(&places, &dir.namespace, &self.spec.uid));
            errors.extend(dir.remove().err());
        }
        errors.iter().for_each(|error| eprintln!("minipod: {error}"));
    }
}

/// When nothing has happened for as long, in milliseconds, nobody waits for us.
const QUIET: u64 = 50;
/// Memory that a shorter wait, in milliseconds, gives back has to be fetched again soon: with a probe each second that is a tenth of all work.
const WORTH_TRIMMING: u64 = 2_000;

fn container_of(pod: &Pod, c: C) -> Cow<'_, Container> {
    let spec = pod_spec(pod);
    let ephemerals = spec.ephemeral_containers.iter().flatten().map(|ephemeral| Cow::Owned(ground::of_ephemeral(ephemeral)));
    all_containers(spec).map(Cow::Borrowed).chain(ephemerals).nth(c.0).expect("the engine's containers are the pod's")
}

/// Kubernetes' times have no fractions.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn now() -> At {
    At { mono: process::boot_millis(), wall: Timestamp::now().as_millisecond() }
}
