//! What has happened to the pod so far: [`Facts`], changed only by [`observe`], which records and decides nothing.

use super::backoff::Backoff;
use super::spec::{C, Spec};

/// A moment. Only `mono` decides; `wall` is for showing, and may jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct At {
    /// Milliseconds of a clock that never goes back.
    pub mono: u64,
    /// Milliseconds since 1970.
    pub wall: i64,
}

/// The state of the whole pod, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Facts {
    /// When the pod was accepted: its `startTime`, from which `activeDeadlineSeconds` counts.
    pub created: At,
    pub sandbox: Sandbox,
    /// Counts how often the pod began at its first init container. What an instance of an older round achieved does not open a gate.
    pub round: u32,
    /// Someone asked the pod to stop.
    pub stop: Option<Stop>,
    /// The pod used more than it may, and must go.
    pub evicted: Option<Evicted>,
    /// One for each of [`Spec::containers`].
    pub containers: Vec<Container>,
    /// One for each of [`Spec::ephemerals`] that has been asked for.
    pub ephemerals: Vec<Container>,
    /// The phase the pod ended in. Nothing happens after it.
    pub finished: Option<(Phase, At)>,
}

impl Facts {
    /// A pod to which nothing has happened yet.
    pub fn new(spec: &Spec, created: At) -> Facts {
        let containers = spec.containers.iter().map(|_| Container::default()).collect();
        Facts { created, sandbox: Sandbox::default(), round: 0, stop: None, evicted: None, containers, ephemerals: Vec::new(), finished: None }
    }

    /// The ephemeral containers, in the order in which they were asked for. [`Spec::all`] has the others.
    pub fn ephemerals(&self) -> impl DoubleEndedIterator<Item = C> + use<> {
        (self.containers.len()..self.containers.len() + self.ephemerals.len()).map(C)
    }

    pub fn container(&self, c: C) -> &Container {
        self.containers.get(c.0).unwrap_or_else(|| &self.ephemerals[c.0 - self.containers.len()])
    }

    pub(super) fn container_mut(&mut self, c: C) -> &mut Container {
        let ordered = self.containers.len();
        self.containers.get_mut(c.0).unwrap_or_else(|| &mut self.ephemerals[c.0 - ordered])
    }
}

/// The pod's terminal phases and the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }

    /// As `status.phase` says it.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }
}

/// The reason of a sandbox that was not tried, because the pod fits on no node: the scheduler's event.
pub const UNSCHEDULABLE: &str = "FailedScheduling";

/// The pause process and the network that all containers share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Sandbox {
    /// The number of the sandbox that is there, or would be made next; the first is 0.
    pub attempt: u32,
    pub state: SandboxState,
    /// When the last one was lost; None from the next one on.
    pub lost: Option<At>,
    /// Kept after the sandbox is gone: a finished pod still shows its address.
    pub ips: Vec<String>,
}

impl Sandbox {
    /// Why the pod is not scheduled, if it is not.
    pub fn unschedulable(&self) -> Option<&str> {
        match &self.state {
            SandboxState::Failed { reason, message, .. } if reason == UNSCHEDULABLE => Some(message),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum SandboxState {
    /// Not made yet, or removed.
    #[default]
    None,
    /// It could not be made; tried again later. Nothing of it is left.
    Failed {
        reason: String,
        message: String,
        at: At,
    },
    Ready,
    /// The pause process has ended, or the network is lost; the remains are not cleared away yet.
    Dead,
}

/// A deletion. A second one may only shorten it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stop {
    pub at: At,
    /// When the grace is used up (monotonic milliseconds).
    pub until: u64,
}

/// An eviction: the first one counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Evicted {
    pub at: At,
    /// What was too much, in the kubelet's words: `status.message`.
    pub message: String,
}

/// What has happened to one container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Container {
    pub state: State,
    /// A start that takes its time (an image is pulled) was begun and has not been answered yet.
    pub starting: Option<At>,
    /// The end before the current instance: `lastState`.
    pub last: Option<Exit>,
    /// `restartCount`: of the instance in `state`, or of the next one if none was made in this round of a full restart.
    pub restarts: u32,
    /// The next instance counts as a restart.
    pub made: bool,
    pub backoff: Backoff,
    /// The delay after the next failed pull in a row, in milliseconds; 0: the first.
    pub pull_delay: u64,
    /// What is known of the image and the newest instance.
    pub ids: Ids,
}

/// Names given by whoever makes containers; passed through to the status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Ids {
    /// `status.image`; the manifest's image while it is empty.
    pub image: String,
    pub image_id: String,
    /// With its scheme: `minipod://…`.
    pub container_id: String,
    /// The signal that asks it to end (KEP 4960).
    pub stop_signal: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// The last try to start it made no instance.
    Refused(Refusal),
    Running(Running),
    Exited(Exit),
}

/// Why a container is not there: `waiting.reason` and `waiting.message`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    pub kind: Refused,
    pub reason: String,
    pub message: String,
    /// As in [`Failure`].
    pub image: Option<String>,
    pub at: At,
    /// Not tried again before (monotonic milliseconds).
    pub retry: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// A pull failed: tried again after 10 s, 20 s … 300 s.
    Pull,
    /// Something is missing that may appear: tried again every 10 s.
    Missing,
    /// Removed because a neighbour's rule said RestartAllContainers; its turn comes again.
    Removed,
}

/// A living instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Running {
    pub since: At,
    pub round: u32,
    /// The postStart hook has not answered yet; until then the container does not count as running for anyone but the kernel.
    pub hook_pending: bool,
    /// The startup probe has passed, or there is none.
    pub passed: bool,
    /// The last word of the readiness probe. Without such a probe nobody asks for it.
    pub ready: bool,
    /// It must end, though its pod goes on.
    pub doom: Option<Doom>,
    /// `Killing` has been told.
    pub told: bool,
    pub pre_stop: PreStop,
    pub term: Option<At>,
    pub kill: Option<At>,
}

impl Running {
    /// The gate of whatever stands behind it: postStart is done and the startup probe has passed.
    pub fn started(&self) -> bool {
        !self.hook_pending && self.passed
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PreStop {
    #[default]
    NotSent,
    Sent,
    Done,
}

/// Why one container is being killed while its pod goes on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Doom {
    pub why: Cause,
    pub at: At,
    /// When its grace is used up (monotonic milliseconds).
    pub until: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    Liveness,
    Startup,
    /// postStart failed, with this message.
    PostStart(String),
    /// Its resources changed, and its resizePolicy says RestartContainer.
    Resize,
}

/// An instance's end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Exit {
    pub code: i32,
    pub signal: Option<i32>,
    pub reason: String,
    pub message: String,
    /// The epoch (`wall` 0) if it never ran (StartError); None if nobody knows any more (RestartAllContainers).
    pub started: Option<At>,
    pub finished: At,
    pub round: u32,
    pub container_id: String,
    /// A probe or a resize had sentenced it: its policy alone decides, and the delay looks further back.
    pub sentenced: bool,
    /// It was being stopped together with its pod.
    pub stopped: bool,
    /// What a container that will be started again shows instead of this end: RunContainerError, PostStartHookError.
    pub label: Option<(String, String)>,
    /// `BackOff` has been told.
    pub told: bool,
}

impl Exit {
    /// An init container's failure (`isInitContainerFailed`): OOMKilled counts even with exit code 0.
    pub fn failed(&self) -> bool {
        self.code != 0 || self.reason == "OOMKilled"
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Probe {
    Startup,
    Liveness,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    PostStart,
    PreStop,
}

/// Where a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailedAt {
    /// The image: ErrImagePull, ErrImageNeverPull, InvalidImageName … The pod stays Pending, also under Never.
    Image,
    /// Before an instance was made: CreateContainerConfigError, CreateContainerError. The pod stays Pending.
    Config,
    /// An instance was made and could not run (RunContainerError): it counts as an end, StartError 128.
    Run,
}

/// Why a start failed; `reason` is what the container shows while it waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Failure {
    pub at: FailedAt,
    pub reason: String,
    pub message: String,
    /// The image that could not be had, if one is known; a volume may be an image, too.
    pub image: Option<String>,
}

/// How a process ended, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ended {
    /// 128 + n if killed by signal n.
    pub code: i32,
    pub signal: Option<i32>,
    /// Completed, Error or OOMKilled.
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notice {
    /// `Killing`: it is being stopped; its startup and liveness probes stop too.
    Killing,
    /// `BackOff`: it waits before it is started again.
    BackOff,
}

/// Something that happened outside, or an action that was performed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// Answers StartSandbox.
    SandboxReady {
        ips: Vec<String>,
    },
    /// Answers StartSandbox; whatever was half-made is removed.
    SandboxFailed {
        reason: String,
        message: String,
    },
    /// Something that was missing may be there now: what waits for a volume or a configuration is tried again at once.
    LookAgain,
    /// The pause process ended, or the network is lost.
    SandboxDied,
    /// Answers StopSandbox.
    SandboxGone,
    /// A first answer to Start that takes its time (a pull); Spawned, StartFailed or Aborted follows later.
    Starting(C),
    /// Answers Start: the program runs.
    Spawned(C, Ids),
    /// Answers Start.
    StartFailed(C, Failure),
    /// Answers Abort: nothing of the begun start is left.
    Aborted(C),
    /// The startup probe has passed. Not sent for a container without one.
    Started(C),
    ReadyChanged(C, bool),
    /// The running instance must give way to one with other resources.
    Resized(C),
    /// A probe of the running instance has failed often enough.
    ProbeFailed(C, Probe),
    /// A hook has answered, or could not be run. Not to be sent for a hook of an older instance.
    HookDone(C, Hook, Result<(), String>),
    Exited(C, Ended),
    /// Answers PreStop: the hook has begun.
    PreStopSent(C),
    /// Answers Term.
    TermSent(C),
    /// Answers Kill.
    KillSent(C),
    /// Answers Tell.
    Told(C, Notice),
    /// The pod uses more than it may; what, in the kubelet's words.
    Evicted {
        message: String,
    },
    /// Someone wants the pod to stop; None: with the manifest's grace.
    StopAsked {
        grace_seconds: Option<u64>,
    },
    /// Someone wants an ephemeral container: the next of [`Spec::ephemerals`].
    EphemeralAdded,
    /// Answers Reset: all containers' remains are gone, volumes and sandbox stay.
    ResetDone,
    /// Answers Finish.
    Finished(Phase),
}
