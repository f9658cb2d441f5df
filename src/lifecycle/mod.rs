//! The engine of a pod: which container must start, stop or die now, and what the pod looks like meanwhile.
//!
//! It is a pure machine: no clock, no call, no log. Whoever owns the pod waits for something to happen, records it, asks what to do,
//! and does it:
//!
//! ```text
//!        something happened: a process ended, a probe answered, someone asked, the alarm rang
//!                |
//!                v
//!   observe(spec, facts, event, now)        records; decides nothing
//!                |
//!                v
//!   decide(spec, facts, now) ---> actions, and the moment of the next alarm
//!                |                   |
//!                |                   v
//!                |        each is performed, and its answer is an event again, until there are none
//!                v
//!   status(spec, facts, previous, now)      what `get` and `describe` show
//! ```
//!
//! No "current step" is stored anywhere. What to do follows from the facts alone each time, so a pod can be taken up again by whoever
//! can restore its facts, and deciding twice is as good as once.
//!
//! ```text
//! one container     Waiting ----> Running ----> Exited --(back-off)--> Running ----> …
//!                     |   ^          |             |
//!                     v   |          | doom        | the verdict: done, restart, restart all
//!                   Refused          v             v
//!                  (no image,     told, preStop,  lastState
//!                   no config)    Term, Kill
//!
//! the pod            StartSandbox -> inits and sidecars in order -> apps in order -> … -> drain -> StopSandbox -> Finish
//!                         ^                                                           |
//!                         '-------------- the sandbox was lost: everything again -----'
//! ```
//!
//! Ephemeral containers stand beside all this: their numbers begin behind those of the ordered containers, and no order, gate, phase or
//! condition knows of them. They start as soon as there is a sandbox, run once, and stop when the pod drains.
//!
//! There are two ways to act, and no third. A pod **converges**: it walks the order, each gate lets the next one on, and what ended
//! is started again when its back-off is over. Or it **drains**: apps and plain inits stop at once, sidecars from the last to the
//! first, all within one grace. Why it drains, and since when, is derived as well; the earliest cause gives the reason, the
//! shortest grace counts.
//!
//! | file | what |
//! | --- | --- |
//! | `spec` | what the manifest asks |
//! | `facts`, `observe` | what happened |
//! | `verdict` | whether what ended comes back |
//! | `backoff` | and when |
//! | `ending` | why everything stops |
//! | `decide` | converge, drain |
//! | `probing` | when probes are asked, and what their answers mean |
//! | `look`, `phase`, `conditions`, `status` | what it looks like |
//! | `job` | an engine of the same kind, one floor up in meaning: which pods a Job must make and delete |
//!
//! Rules for the owner:
//! - One action at a time, in the order given; its answer is observed before the next `decide`. A start that takes long is answered
//!   by `Starting` first; meanwhile the loop goes on, and `Abort` may come.
//! - Of what happened at once, a hook's answer is observed before the exit of its program, and both before the next `decide`.
//! - A message of an older instance (a probe, a hook) is not sent: the facts know only the current one.
//! - `Tell` carries the message of a Kubernetes event that follows from the state alone. The others belong to the deed: Pulling,
//!   Pulled, Created, Started, Failed with a start; FailedPostStartHook and FailedPreStopHook with a hook's error; Unhealthy and
//!   ProbeWarning with the answer to a probe; SandboxChanged with a StartSandbox whose attempt is above 0; DeadlineExceeded when [`drain`]
//!   first says [`Why::Deadline`].
//! - Probes have a machine of their own beside the engine, [`Probes`]: what it says is due is asked, and its answers are events. The
//!   alarm is the earlier one of both.

mod backoff;
mod conditions;
mod decide;
mod ending;
mod facts;
pub mod job;
mod look;
mod observe;
mod phase;
mod probing;
mod spec;
mod status;
mod verdict;

pub use backoff::Backoff;
pub use decide::{Action, decide};
pub use ending::{Drain, Why, drain};
pub use facts::*;
pub use look::{Look, Waiting, look};
pub use observe::observe;
pub use probing::{Attempt, Heard, ProbeKind, ProbeOutcome, Probes, Worker};
pub use spec::*;
pub use status::status;
