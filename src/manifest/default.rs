//! What an object is given when it does not say: Kubernetes' `pkg/apis/core/v1/defaults.go` and `batch/v1/defaults.go`, field by field.
//!
//! Defaults come before validation, as in the API server, so validation and everything above see only full Pods.

mod kept;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EmptyDirVolumeSource, EnvVarSource, HTTPGetAction, Pod, PodSpec, Probe, ResourceRequirements, Secret, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::huge_pages;
use super::quantity::Quantity;

pub use kept::{claim, daemon_set, deployment, replica_set, service, stateful_set};

const MODE: i32 = 0o644;

/// Fills in everything that Kubernetes fills in; canonical quantities included.
pub fn pod(pod: &mut Pod) {
    pod.status = None;
    object(&mut pod.metadata);
    let spec = pod.spec.get_or_insert_default();
    self::spec(spec);
    // What follows a Pod is given, and a template is not: the pods that are made of it will be.
    spec.enable_service_links.get_or_insert(true);
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    containers.filter_map(|container| container.resources.as_mut()).for_each(requests);
    if let Some(mut resources) = spec.resources.take() {
        pod_requirements(&mut resources, spec);
        spec.resources = Some(resources);
    }
}

/// `SetDefaults_Job`. The selector and the labels that carry the uid come with the uid.
pub fn job(job: &mut Job) {
    job.status = None;
    object(&mut job.metadata);
    let spec = job.spec.get_or_insert_default();
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
    }
    spec.parallelism.get_or_insert(1);
    // With a limit for each index there is none for all together.
    spec.backoff_limit.get_or_insert(if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 });
    text(&mut spec.completion_mode, "NonIndexed");
    spec.suspend.get_or_insert(false);
    spec.manual_selector.get_or_insert(false);
    text(&mut spec.pod_replacement_policy, if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" });
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules);
    rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten()).for_each(|pattern| text(&mut pattern.status, "True"));
    self::spec(spec.template.spec.get_or_insert_default());
    // A job without labels is found by those of its pods.
    if job.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
        job.metadata.labels = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).filter(|labels| !labels.is_empty());
    }
}

pub fn config_map(map: &mut ConfigMap) {
    object(&mut map.metadata);
}

/// `SetDefaults_Secret`, and what the registry does with `stringData`: it overrides `data`, and is never read again.
pub fn secret(secret: &mut Secret) {
    object(&mut secret.metadata);
    text(&mut secret.type_, "Opaque");
    let texts = secret.string_data.take().into_iter().flatten();
    let texts: BTreeMap<_, _> = texts.map(|(key, text)| (key, ByteString(text.into_bytes()))).collect();
    if !texts.is_empty() {
        secret.data.get_or_insert_default().extend(texts);
    }
}

/// A manifest may be the printout of an object that lived elsewhere; this one is new (`registry/rest/create.go`).
fn object(metadata: &mut ObjectMeta) {
    (metadata.uid, metadata.resource_version, metadata.self_link) = (None, None, None);
    (metadata.generation, metadata.deletion_grace_period_seconds) = (None, None);
    (metadata.creation_timestamp, metadata.deletion_timestamp, metadata.managed_fields) = (None, None, None);
    text(&mut metadata.namespace, "default");
}

/// What a Pod and a template are given alike (`SetDefaults_PodSpec`, `SetDefaults_Container` and their like).
fn spec(spec: &mut PodSpec) {
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.security_context.get_or_insert_default();
    service_account(spec);
    if let Some(overhead) = &mut spec.overhead {
        canonical(overhead);
    }
    spec.volumes.iter_mut().flatten().for_each(volume);
    let host_network = spec.host_network == Some(true);
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    containers.for_each(|each| container(each, host_network));
    if let Some(resources) = &mut spec.resources {
        resources.limits.iter_mut().chain(&mut resources.requests).for_each(canonical);
    }
}

/// Sets a text that is absent or empty, which are the same thing in Go.
fn text(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

/// The old and the new name of the same field follow each other.
fn service_account(spec: &mut PodSpec) {
    let name = spec.service_account_name.clone().filter(|name| !name.is_empty()).or_else(|| spec.service_account.clone());
    spec.service_account_name.clone_from(&name);
    spec.service_account = name;
}

fn container(container: &mut Container, host_network: bool) {
    let image = container.image.clone().unwrap_or_default();
    text(&mut container.image_pull_policy, pull_policy(&image));
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or_default() == 0 && port.container_port != 0 {
            port.host_port = Some(port.container_port);
        }
    }
    let resources = container.resources.get_or_insert_default();
    resources.limits.iter_mut().chain(&mut resources.requests).for_each(canonical);
    let handlers = container.lifecycle.iter_mut().flat_map(|lifecycle| lifecycle.post_start.iter_mut().chain(&mut lifecycle.pre_stop));
    handlers.filter_map(|handler| handler.http_get.as_mut()).for_each(http_get);
    let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    probes.into_iter().flatten().for_each(probe);
    container.env.iter_mut().flatten().filter_map(|env| env.value_from.as_mut()).for_each(source);
}

/// The rule of `SetDefaults_Container`: a tag that may move is asked for each time, anything else once.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let tag = name.rsplit('/').next().unwrap_or(name).split_once(':').map(|(_, tag)| tag);
    match (tag, digest) {
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

/// Requests that are not given equal the limits.
fn requests(resources: &mut ResourceRequirements) {
    let Some(limits) = resources.limits.as_ref().filter(|limits| !limits.is_empty()) else { return };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

/// A pod as a whole that has limits requests what its containers do together, or else its limit (KEP-2837, `defaultPodRequests`); only of
/// what it shares out.
fn pod_requirements(resources: &mut ResourceRequirements, spec: &PodSpec) {
    resources.limits.iter_mut().chain(&mut resources.requests).for_each(canonical);
    if resources.limits.as_ref().is_none_or(BTreeMap::is_empty) {
        return;
    }
    // More than what a container has cannot be lent to it, so what is left over for the pod counts as requested.
    let huge = resources.limits.iter().flatten().filter(|(name, _)| huge_pages::is_resource(name));
    let huge: Vec<_> = huge.map(|(name, limit)| (name.clone(), limit.clone())).collect();
    for (name, limit) in huge {
        resources.requests.get_or_insert_default().entry(name).or_insert(limit);
    }
    for name in ["cpu", "memory"] {
        let sum = together(spec, name);
        let limit = resources.limits.as_ref().and_then(|limits| limits.get(name)).cloned();
        if let Some(request) = sum.map(|sum| Text(sum.to_string())).or(limit) {
            resources.requests.get_or_insert_default().entry(name.to_owned()).or_insert(request);
        }
    }
}

/// What the containers request at most at one moment: all apps and sidecars, or an init container with the sidecars that
/// were started before it. None if no container says anything.
pub(super) fn together(spec: &PodSpec, name: &str) -> Option<Quantity> {
    let request = |container: &Container| {
        let text = container.resources.as_ref()?.requests.as_ref()?.get(name)?;
        Quantity::parse(&text.0).ok()
    };
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let said = spec.containers.iter().chain(inits).filter_map(request).next()?;
    let (mut sidecars, mut most) = (said.zero(), said.zero());
    for container in inits {
        let with = sidecars + request(container).unwrap_or(Quantity::ZERO);
        most = most.max(with);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = with;
        }
    }
    Some(most.max(spec.containers.iter().filter_map(request).fold(sidecars, |sum, each| sum + each)))
}

/// What cannot be read stays for validation to refuse.
fn canonical(list: &mut BTreeMap<String, Text>) {
    for text in list.values_mut() {
        if let Ok(quantity) = Quantity::parse(&text.0) {
            text.0 = quantity.to_milli().to_string();
        }
    }
}

fn plain(text: &mut Option<Text>) {
    if let Some(text) = text
        && let Ok(quantity) = Quantity::parse(&text.0)
    {
        text.0 = quantity.to_string();
    }
}

fn probe(probe: &mut Probe) {
    let number = |field: &mut Option<i32>, value| {
        if field.unwrap_or_default() == 0 {
            *field = Some(value);
        }
    };
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(http_get);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http_get(get: &mut HTTPGetAction) {
    text(&mut get.path, "/");
    text(&mut get.scheme, "HTTP");
}

fn source(source: &mut EnvVarSource) {
    if let Some(field) = &mut source.field_ref {
        text(&mut field.api_version, "v1");
    }
    if let Some(resource) = &mut source.resource_field_ref {
        divisor(&mut resource.divisor);
    }
    if let Some(file) = &mut source.file_key_ref {
        file.optional.get_or_insert(false);
    }
}

/// The API server's object always has one, `0` for none.
fn divisor(field: &mut Option<Text>) {
    plain(field);
    field.get_or_insert_with(|| Text("0".to_owned()));
}

fn volume(volume: &mut Volume) {
    // Told apart by being its own default but for the name.
    if *volume == (Volume { name: volume.name.clone(), ..Volume::default() }) {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(empty) = &mut volume.empty_dir {
        plain(&mut empty.size_limit);
    }
    if let Some(host) = &mut volume.host_path {
        host.type_.get_or_insert_default();
    }
    if let Some(image) = &mut volume.image {
        let reference = image.reference.clone().unwrap_or_default();
        text(&mut image.pull_policy, pull_policy(&reference));
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(MODE);
    }
    if let Some(map) = &mut volume.config_map {
        map.default_mode.get_or_insert(MODE);
    }
    if let Some(api) = &mut volume.downward_api {
        api.default_mode.get_or_insert(MODE);
        api.items.iter_mut().flatten().for_each(downward);
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(MODE);
        projected.sources.iter_mut().flatten().for_each(projection);
    }
    remote(volume);
}

/// Claims, and volumes that are refused here, but whose defaults a printed Pod shows.
fn remote(volume: &mut Volume) {
    if let Some(iscsi) = &mut volume.iscsi {
        text(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        text(&mut rbd.pool, "rbd");
        text(&mut rbd.user, "admin");
        text(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut volume.azure_disk {
        text(&mut disk.caching_mode, "ReadWrite");
        text(&mut disk.kind, "Shared");
        text(&mut disk.fs_type, "ext4");
        disk.read_only.get_or_insert(false);
    }
    if let Some(scale) = &mut volume.scale_io {
        text(&mut scale.storage_mode, "ThinProvisioned");
        text(&mut scale.fs_type, "xfs");
    }
    if let Some(template) = volume.ephemeral.as_mut().and_then(|ephemeral| ephemeral.volume_claim_template.as_mut()) {
        template.metadata.get_or_insert_default();
        kept::claim_spec(&mut template.spec);
    }
}

fn projection(source: &mut VolumeProjection) {
    if let Some(token) = &mut source.service_account_token {
        token.expiration_seconds.get_or_insert(3600);
    }
    source.downward_api.iter_mut().flat_map(|api| api.items.iter_mut().flatten()).for_each(downward);
}

fn downward(file: &mut k8s_openapi::api::core::v1::DownwardAPIVolumeFile) {
    if let Some(field) = &mut file.field_ref {
        text(&mut field.api_version, "v1");
    }
    if let Some(resource) = &mut file.resource_field_ref {
        divisor(&mut resource.divisor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.25", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:aa", "IfNotPresent"),
            ("nginx:latest@sha256:aa", "Always"),
            ("nginx:1@sha256:aa", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
