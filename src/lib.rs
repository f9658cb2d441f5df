//! minipod runs a Kubernetes Pod on one Linux machine, without a cluster or a daemon.
//!
//! The floors, lowest first; a module names only modules on strictly lower floors (`tests/floors.rs` keeps it so):
//!
//! ```text
//! 6 cli         words to calls, results to tables and text, exit codes
//! 5 pod         the only loop: listen, observe, decide, act; the pod's directory
//! 4 container   pod + image + mounts -> OCI runtime spec -> plan -> process
//! 3 image  volume  network  cgroup  probe
//! 2 lifecycle   which container must start, stop or die now          (pure)
//! 1 manifest    YAML becomes a valid, defaulted pod, or faults       (pure)
//! 1 sys         every system call, every `unsafe`
//! 0 error       reason, deed, container, call, object, errno         (pure)
//! ```

pub mod cgroup;
pub mod cli;
pub mod container;
pub mod error;
pub mod image;
pub mod lifecycle;
pub mod manifest;
pub mod network;
pub mod pod;
pub mod probe;
pub mod sys;
pub mod volume;
