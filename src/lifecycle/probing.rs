//! When each probe is asked, and what its answers mean (`pkg/kubelet/prober/worker.go`).
//!
//! ```text
//!             runs, postStart done         passed              threshold reached
//!   startup      |--ask--ask--ask-------------|  Started     or  ProbeFailed: killed, and silent until the next instance
//!   liveness                                  |--ask--ask--…     ProbeFailed: the same
//!   readiness                                 |--ask--ask--…     ReadyChanged, until the container has ended
//! ```
//!
//! There is a worker for each container and kind of probe; plain init containers have none. A worker begins anew with each instance. It is
//! asked for nothing but facts: whoever owns the pod takes what is [`due`](Probes::due), says that it was [begun](Probes::begin), and brings
//! the [answer](Probes::answered), which becomes at most one event of the engine and at most one of Kubernetes.
//!
//! Three things of the kubelet are left out: it lets a random part of the period pass before the first attempt, asks for readiness once
//! more with each of its other looks at the pod, and knows of a new state only with such a look.

use super::facts::{Event, Facts, Probe, Running, State};
use super::spec::{C, ContainerSpec, ProbeSpec, Role, Spec};

/// An attempt that came to nothing (the probe itself could not be run) is repeated at once, until this many have (`maxProbeRetries`).
const TRIES: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

    fn of(self, asked: &ContainerSpec) -> Option<ProbeSpec> {
        match self {
            ProbeKind::Startup => asked.startup,
            ProbeKind::Liveness => asked.liveness,
            ProbeKind::Readiness => asked.readiness,
        }
    }

    /// As the kubelet's events begin.
    fn word(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeOutcome {
    Success,
    /// A success that somebody should look at.
    Warning,
    Failure,
    /// The probe could not be run, so it says nothing about the container.
    Unknown,
}

/// A probe to be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    pub c: C,
    pub kind: ProbeKind,
    /// When the attempt has failed, in milliseconds from now.
    pub timeout_ms: u64,
}

/// What follows from an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    pub event: Option<Event>,
    /// A Warning of the container: reason and message.
    pub told: Option<(&'static str, String)>,
}

/// The memory of all probes of a pod, as [`Facts`] is that of its containers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Probes {
    pub workers: Vec<Worker>,
    /// How many attempts there were; numbers them.
    pub attempts: u64,
}

/// The memory of one probe. What it says of an older instance means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Worker {
    pub c: C,
    pub kind: ProbeKind,
    /// The restart count of the instance that the rest is about.
    pub instance: u32,
    /// When the newest attempt began (monotonic milliseconds).
    pub begun: Option<u64>,
    /// The number of the attempt that is not answered yet.
    pub flight: Option<u64>,
    /// Attempts in a row that came to nothing.
    pub unknown: u32,
    /// The newest answer, and how often it has come in a row.
    pub last: Option<bool>,
    pub streak: u32,
}

impl Worker {
    fn new(c: C, kind: ProbeKind, instance: u32) -> Worker {
        Worker { c, kind, instance, begun: None, flight: None, unknown: 0, last: None, streak: 0 }
    }

    /// As it stands towards the instance that runs now.
    fn now(&self, facts: &Facts) -> Worker {
        let instance = facts.container(self.c).restarts;
        if self.instance == instance { *self } else { Worker::new(self.c, self.kind, instance) }
    }

    /// The first moment of its next attempt.
    fn moment(&self, probe: &ProbeSpec, run: &Running) -> u64 {
        match self.begun {
            None => run.since.mono.saturating_add(probe.initial_delay_ms),
            Some(begun) if self.unknown > 0 => begun,
            Some(begun) => begun.saturating_add(probe.period_ms),
        }
    }

    /// Counts an answer. True: it has come often enough in a row.
    fn count(&mut self, good: bool, probe: &ProbeSpec) -> bool {
        self.streak = if self.last == Some(good) { self.streak.saturating_add(1) } else { 1 };
        self.last = Some(good);
        self.streak >= if good { probe.success_threshold } else { probe.failure_threshold }
    }
}

/// Whether this kind of probe is asked of an instance in this state. Startup and liveness probes that have brought their event are silent
/// by that, until the next instance (`onHold`): it has passed, or it is sentenced. A container that is being killed is ready as long as it says so, and
/// nobody asks any more whether it lives.
fn is_asked(kind: ProbeKind, run: &Running) -> bool {
    let killed = run.told || run.doom.is_some();
    match kind {
        _ if run.hook_pending => false,
        ProbeKind::Startup => !run.passed && !killed,
        ProbeKind::Liveness => run.passed && !killed,
        ProbeKind::Readiness => run.passed,
    }
}

impl Probes {
    pub fn new(spec: &Spec) -> Probes {
        let probed = spec.all().filter(|c| spec.role(*c) != Role::Init);
        let workers = probed.flat_map(|c| ProbeKind::ALL.map(|kind| Worker::new(c, kind, 0))).filter(|w| w.kind.of(spec.container(w.c)).is_some());
        Probes { workers: workers.collect(), attempts: 0 }
    }

    /// The attempts due at `now` (monotonic milliseconds), and the moment of the earliest later one.
    pub fn due(&self, spec: &Spec, facts: &Facts, now: u64) -> (Vec<Attempt>, Option<u64>) {
        let (mut attempts, mut wake) = (Vec::new(), None);
        for worker in &self.workers {
            let (Some(run), Some(probe)) = (running(facts, worker.c), worker.kind.of(spec.container(worker.c))) else { continue };
            let worker = worker.now(facts);
            if worker.flight.is_some() || !is_asked(worker.kind, run) {
                continue;
            }
            match worker.moment(&probe, run) {
                at if at > now => wake = Some(wake.map_or(at, |wake: u64| wake.min(at))),
                _ => attempts.push(Attempt { c: worker.c, kind: worker.kind, timeout_ms: probe.timeout_ms }),
            }
        }
        (attempts, wake)
    }

    /// An attempt is under way; its number comes back with the answer.
    pub fn begin(&mut self, facts: &Facts, attempt: &Attempt, now: u64) -> u64 {
        let number = self.attempts;
        self.attempts += 1;
        if let Some(worker) = self.workers.iter_mut().find(|worker| (worker.c, worker.kind) == (attempt.c, attempt.kind)) {
            *worker = worker.now(facts);
            (worker.begun, worker.flight) = (Some(now), Some(number));
        }
        number
    }

    /// The answer to the attempt of this number. One that comes too late for its instance says nothing.
    pub fn answered(&mut self, spec: &Spec, facts: &Facts, number: u64, outcome: ProbeOutcome, message: &str) -> Heard {
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.flight == Some(number)) else { return Heard::default() };
        worker.flight = None;
        let (c, kind) = (worker.c, worker.kind);
        let (Some(run), Some(probe)) = (running(facts, c), kind.of(spec.container(c))) else { return Heard::default() };
        if worker.instance != facts.container(c).restarts || !is_asked(kind, run) {
            return Heard::default();
        }
        let word = kind.word();
        let (good, told) = match outcome {
            ProbeOutcome::Success => (true, None),
            ProbeOutcome::Warning => (true, Some(("ProbeWarning", format!("{word} probe warning: {message}")))),
            ProbeOutcome::Failure => (false, Some(("Unhealthy", format!("{word} probe failed: {message}")))),
            ProbeOutcome::Unknown if worker.unknown + 1 < TRIES => {
                worker.unknown += 1;
                return Heard::default();
            }
            ProbeOutcome::Unknown => {
                worker.unknown = 0;
                let message = format!("{word} probe errored and resulted in unknown state: {message}");
                return Heard { event: None, told: Some(("Unhealthy", message)) };
            }
        };
        worker.unknown = 0;
        let event = match worker.count(good, &probe) {
            true => verdict(c, kind, good, run),
            false => None,
        };
        Heard { event, told }
    }
}

/// What the engine must know of an answer that has come often enough.
fn verdict(c: C, kind: ProbeKind, good: bool, run: &Running) -> Option<Event> {
    match (kind, good) {
        (ProbeKind::Startup, true) => Some(Event::Started(c)),
        (ProbeKind::Startup, false) => Some(Event::ProbeFailed(c, Probe::Startup)),
        (ProbeKind::Liveness, true) => None,
        (ProbeKind::Liveness, false) => Some(Event::ProbeFailed(c, Probe::Liveness)),
        (ProbeKind::Readiness, _) => (run.ready != good).then_some(Event::ReadyChanged(c, good)),
    }
}

fn running(facts: &Facts, c: C) -> Option<&Running> {
    match &facts.container(c).state {
        State::Running(run) => Some(run),
        _ => None,
    }
}
