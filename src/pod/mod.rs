//! A pod's life on this machine: its directory, and the one process that looks after it.
//!
//! ```text
//!  minipod run ──fork──▶ supervisor: one thread, one loop
//!                          wait ──▶ observe ──▶ decide ──▶ act ─┐
//!                           ▲   pidfds, pipes, socket, timer    │
//!                           └────────────────────────────────────┘
//!      lib/pods/NS/NAME/   lock         held while the supervisor lives; its pid is in it
//!                          pod.json     the Pod with its status, replaced whole
//!                          events.json  what happened, as Kubernetes events
//!                          control      stop, exec
//!      log/pods/…          what the containers wrote
//! ```
//!
//! A job has a directory and a process of its own, which makes its pods by the same way as the command does: see [`job`].
//!
//! There is no daemon: whoever wants to know reads the directory, whoever wants something done asks the socket. When the
//! lock is free and the status is not final, the supervisor died; its containers are then killed by the kernel (but for programs that
//! changed their user themselves), and the reader says so.

mod admission;
mod attempt;
mod compose;
pub mod control;
pub mod dir;
pub mod explain;
mod ground;
mod handler;
mod image_volumes;
mod instance;
pub mod job;
mod journal;
pub mod objects;
pub mod places;
mod propagation;
mod sandbox;
pub mod start;
pub mod status;
mod supervisor;
mod user;
mod users;

pub use ground::{all_containers, find_container, of_ephemeral, pod_spec};
