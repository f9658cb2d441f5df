//! Defaults of claims, Services and workloads (`core/v1/defaults.go`, `apps/v1/defaults.go`).

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, PodTemplateSpec, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{canonical, object, spec, text};

pub fn claim(claim: &mut PersistentVolumeClaim) {
    claim.status = None;
    object(&mut claim.metadata);
    claim_spec(claim.spec.get_or_insert_default());
}

pub fn claim_spec(spec: &mut PersistentVolumeClaimSpec) {
    text(&mut spec.volume_mode, "Filesystem");
    spec.resources.iter_mut().flat_map(|resources| resources.limits.iter_mut().chain(&mut resources.requests)).for_each(canonical);
}

pub fn service(service: &mut Service) {
    service.status = None;
    object(&mut service.metadata);
    let spec = service.spec.get_or_insert_default();
    text(&mut spec.type_, "ClusterIP");
    text(&mut spec.session_affinity, "None");
    for port in spec.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
        let unset = matches!(&port.target_port, None | Some(IntOrString::Int(0))) || port.target_port == Some(IntOrString::String(String::new()));
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
}

pub fn deployment(deployment: &mut Deployment) {
    deployment.status = None;
    let asked = deployment.spec.get_or_insert_default();
    asked.replicas.get_or_insert(1);
    template(&mut deployment.metadata, &mut asked.template);
}

pub fn replica_set(set: &mut ReplicaSet) {
    set.status = None;
    let asked = set.spec.get_or_insert_default();
    asked.replicas.get_or_insert(1);
    template(&mut set.metadata, asked.template.get_or_insert_default());
}

pub fn stateful_set(set: &mut StatefulSet) {
    set.status = None;
    let asked = set.spec.get_or_insert_default();
    asked.replicas.get_or_insert(1);
    asked.volume_claim_templates.iter_mut().flatten().for_each(|claim| claim_spec(claim.spec.get_or_insert_default()));
    template(&mut set.metadata, &mut asked.template);
}

pub fn daemon_set(set: &mut DaemonSet) {
    set.status = None;
    template(&mut set.metadata, &mut set.spec.get_or_insert_default().template);
}

/// A workload without labels has those of its pods.
fn template(metadata: &mut ObjectMeta, template: &mut PodTemplateSpec) {
    object(metadata);
    spec(template.spec.get_or_insert_default());
    if metadata.labels.as_ref().is_none_or(|labels| labels.is_empty()) {
        metadata.labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    }
}
