//! The engine of a Job: which pods must be made or deleted now, and how the Job has ended (`pkg/controller/job/job_controller.go`).
//!
//! As pure as the engine of a pod, and turned by the same crank: the owner tells what happened, asks what to do, does it, and tells
//! that. What happened are the pods' statuses; what is done are pods made and deleted.
//!
//! ```text
//!  a pod's status changed ─▶ observe(spec, facts, event, now)
//!                                    │
//!                                    ▼
//!                            decide(spec, facts, now) ─▶ actions, and the moment of the next alarm
//!
//!  the Job      too few pods ──▶ Create, after the back-off
//!               an end in sight ──▶ Settle ──▶ Delete what is active ──▶ nothing runs: Finish ──(ttl)──▶ Leave
//!               suspended ──▶ Delete what is active, as if it had never been
//! ```
//!
//! How the Job ends is decided once and then stays, as upstream keeps it in the conditions FailureTarget and SuccessCriteriaMet: a
//! pod that succeeds while the others are being deleted changes nothing any more. Everything else is derived anew each time from the
//! pods that were ever made.
//!
//! | file | what |
//! | --- | --- |
//! | `spec` | what the manifest asks |
//! | `facts` | the pods, and what happened to them |
//! | `policy` | what podFailurePolicy and successPolicy say of it |
//! | `backoff` | when a replacement may be made |
//! | `decide` | the rules, in upstream's order |
//! | `status` | what `get` and `describe` show |
//! | `hint` | why a Job does not end |

mod backoff;
mod decide;
mod facts;
mod hint;
mod policy;
mod spec;
mod status;
#[cfg(test)]
mod tests;

pub use backoff::{FIRST_MS, MAX_MS};
pub use decide::{Action, decide};
pub use facts::{Event, Facts, Made, Phase, Target, observe};
pub use hint::kept_running;
pub use spec::Spec;
pub use status::{is_true, status};
