//! Cgroups: a pod's processes are started in them, limited, read, frozen, killed and swept away with them.
//!
//! ```text
//! <cgroup2 mount>/minipod/pod<UID>/            the pod: weight and limits of the whole
//!                         pod<UID>/pause       holds the namespaces
//!                         pod<UID>/web-0       one directory per start of a container: never used twice,
//!                         pod<UID>/web-1       as one that was killed kills what comes after
//! <v1 mount>/minipod/pod<UID>/web-1            the same, only in hierarchies whose controller the pod needs
//! ```
//!
//! Every process is in cgroup2, cloned straight into it (clone3 with CLONE_INTO_CGROUP), and there it is found and killed,
//! whatever hierarchy limits it. Where a controller lives in a v1 hierarchy, the child also moves itself there
//! ([`Cgroup::join_files`]).
//!
//! [`hierarchy`] finds out what this machine has, [`limits`] turns a pod's resources into numbers, [`setting`] numbers into
//! files, [`devices`] device rules into a program; these are pure but for their last step. [`PodCgroup`] and [`Cgroup`] act.
//! What a machine cannot enforce comes back as [`Unenforced`]: nothing is dropped in silence.
//!
//! Not here: who gets killed when, and what an out-of-memory kill means for a container (`lifecycle`, `pod`).

pub mod devices;
mod directory;
mod group;
pub mod hierarchy;
pub mod limits;
mod pod;
pub mod setting;

pub use devices::{DeviceProgram, Devices};
pub use group::{Cgroup, Usage};
pub use hierarchy::{Controller, Hierarchies};
pub use limits::{Limits, Qos};
pub use pod::{PodCgroup, Unenforced, clear_pod, list_pods, remove_base, usage_of};
