//! One container: from what the manifest says to a process, and nothing of pods' lives.
//!
//! ```text
//! Pod + Container + Image + mounts ──spec──▶ OCI runtime spec ──plan──▶ [Step, Step, … Exec]
//!                                            (explain -o oci)           (explain)   │
//!                                                                                   ▼ launch
//!                             supervisor ──clone3──▶ child: walks the steps, execve
//!                                  ▲                    │ eight bytes: step, call, errno
//!                                  └────────────────────┘ end of file: exec happened
//! ```
//!
//! `spec` and `plan` are pure, so that a start can be printed before anything happens; `step` makes each step's calls;
//! `launch` clones and listens; `pause` is the plan of the process that holds the pod's namespaces; `log` is the format of
//! the files that a container's output goes to. An `exec` into a container is the same walk over a shorter plan.

pub mod launch;
pub mod log;
pub mod pause;
pub mod plan;
pub mod seccomp;
pub mod spec;
pub mod step;
pub mod sysctl;
