//! The API server's rules, in its words (`pkg/apis/core/validation/validation.go`), one file per topic.
//!
//! Each rule gets the part of the Pod, where it is ([`At`]) and the list of findings; it says what is wrong and goes on,
//! so that all faults are told at once. Rules judge defaulted Pods: an empty string that a default would have filled
//! does not reach them.

mod affinity;
mod claim;
mod containers;
mod env;
mod handlers;
mod job;
mod metadata;
mod names;
mod network;
mod objects;
mod placement;
mod ports;
mod resources;
mod restart;
mod security;
mod service;
mod sources;
mod volumes;
mod warnings;
mod workload;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::fault::Findings;
use super::path::At;

pub use claim::claim;
pub use job::job;
pub use objects::{config_map, secret};
pub use service::service;
pub use sources::subscripted;
pub use workload::{MOST_REPLICAS, daemon_set, deployment, replica_set, stateful_set};

/// Judges a whole, defaulted Pod.
pub fn pod(pod: &Pod, findings: &mut Findings) {
    metadata::object(&pod.metadata, &At::ROOT.field("metadata"), findings);
    if let Some(spec) = &pod.spec {
        self::spec(spec, &At::ROOT.field("spec"), findings);
        warnings::pod(&pod.metadata, spec, &At::ROOT, findings);
    }
}

fn spec(spec: &PodSpec, at: &At, findings: &mut Findings) {
    let volumes = volumes::all(spec, &at.field("volumes"), findings);
    volumes::tokens(spec, &at.field("volumes"), findings);
    containers::all(spec, &volumes, at, findings);
    resources::of_pod(spec, at, findings);
    restart::pod(spec, at, findings);
    network::pod(spec, at, findings);
    security::pod(spec, at, findings);
    placement::pod(spec, at, findings);
    seconds(spec, at, findings);
}

fn seconds(spec: &PodSpec, at: &At, findings: &mut Findings) {
    let most = i64::from(i32::MAX);
    if let Some(deadline) = spec.active_deadline_seconds.filter(|seconds| !(1..=most).contains(seconds)) {
        findings.invalid(&at.field("activeDeadlineSeconds"), deadline, format!("must be between 1 and {most}, inclusive"));
    }
}
