//! A workload becomes what its template makes: pods, and a StatefulSet's claims.
//!
//! ```text
//! Deployment web, replicas 2   web-5d6c8bd9b7-x2kqp, web-5d6c8bd9b7-c9s4m     (the hash is the template's)
//! ReplicaSet web, DaemonSet web    web-x2kqp …                                (a DaemonSet: one, there is one node)
//! StatefulSet web              web-0, web-1, and of each volumeClaimTemplate  data-web-0, data-web-1
//! ```
//!
//! There is no controller: this happens once, when the manifest is read, and what comes out are plain objects, which everything
//! else treats as if they stood in the file. What Kubernetes chooses by chance (the last five characters of a name, the
//! uid of the owner) is made of the workload's name here, so that the same file always means the same pods: applied twice it
//! changes nothing, and deleting it finds them. The owner's uid stays when the template changes.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use super::{Object, default};

/// The letters of generated names (apimachinery `util/rand`): no vowels, nothing that looks like something else.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Names that are made by chance end in so many letters.
const LETTERS_AT_END: u32 = 5;
/// The most of a name that is taken over before them (`MaxGeneratedNameLength`).
const LONGEST_PREFIX: usize = 58;
/// A claim that a StatefulSet's template made bears its name; it outlives the set, unless the retention policy says otherwise.
pub const RETAINED_OF: &str = "minipod/retained-of";

/// What all kinds of workloads have.
#[derive(Debug, Clone)]
pub struct Workload {
    pub kind: &'static str,
    pub metadata: ObjectMeta,
    pub selector: LabelSelector,
    pub template: PodTemplateSpec,
    pub replicas: i32,
    pub stateful: Option<Stateful>,
}

/// What a StatefulSet has beside it.
#[derive(Debug, Clone)]
pub struct Stateful {
    pub service: Option<String>,
    /// The first ordinal.
    pub start: i32,
    pub claims: Vec<PersistentVolumeClaim>,
    /// Its claims go with it.
    pub claims_deleted: bool,
}

impl From<&Deployment> for Workload {
    fn from(deployment: &Deployment) -> Workload {
        let spec = deployment.spec.clone().unwrap_or_default();
        let replicas = spec.replicas.unwrap_or(1);
        Workload { kind: "Deployment", metadata: deployment.metadata.clone(), selector: spec.selector, template: spec.template, replicas, stateful: None }
    }
}

impl From<&ReplicaSet> for Workload {
    fn from(set: &ReplicaSet) -> Workload {
        let spec = set.spec.clone().unwrap_or_default();
        let (template, replicas) = (spec.template.unwrap_or_default(), spec.replicas.unwrap_or(1));
        Workload { kind: "ReplicaSet", metadata: set.metadata.clone(), selector: spec.selector, template, replicas, stateful: None }
    }
}

impl From<&DaemonSet> for Workload {
    fn from(set: &DaemonSet) -> Workload {
        let spec = set.spec.clone().unwrap_or_default();
        Workload { kind: "DaemonSet", metadata: set.metadata.clone(), selector: spec.selector, template: spec.template, replicas: 1, stateful: None }
    }
}

impl From<&StatefulSet> for Workload {
    fn from(set: &StatefulSet) -> Workload {
        let spec = set.spec.clone().unwrap_or_default();
        let policy = spec.persistent_volume_claim_retention_policy.and_then(|policy| policy.when_deleted);
        let stateful = Stateful {
            service: spec.service_name.filter(|name| !name.is_empty()),
            start: spec.ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0),
            claims: spec.volume_claim_templates.unwrap_or_default(),
            claims_deleted: policy.as_deref() == Some("Delete"),
        };
        let replicas = spec.replicas.unwrap_or(1);
        Workload { kind: "StatefulSet", metadata: set.metadata.clone(), selector: spec.selector, template: spec.template, replicas, stateful: Some(stateful) }
    }
}

impl Workload {
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The hash of the template, as Kubernetes writes one: other templates have others.
    fn hash(&self) -> String {
        // What has no JSON was never read.
        let text = serde_json::to_vec(&self.template).unwrap_or_default();
        fnv(&text).to_string().bytes().map(letter).collect()
    }

    /// The owner's uid: the same as long as the workload has its kind and its name.
    fn uid(&self) -> String {
        let text = format!("{}/{}/{}", self.kind, self.metadata.namespace.as_deref().unwrap_or_default(), self.name());
        let part = |salt: u8| fnv(&[&[salt], text.as_bytes()].concat());
        // RFC 9562: version 8, variant 10.
        let (b, c, d) = (part(1), part(2), part(3));
        format!("{:08x}-{:04x}-8{:03x}-{:04x}-{:04x}{:08x}", part(0), b >> 16, b & 0xfff, c >> 16 & 0x3fff | 0x8000, c & 0xffff, d)
    }

    /// The pod of an ordinal, or of a number from 0 on.
    pub fn pod(&self, number: i32) -> Pod {
        let hash = self.hash();
        let template = self.template.clone();
        let from = template.metadata.unwrap_or_default();
        let name = match (&self.stateful, self.kind) {
            (Some(_), _) => format!("{}-{number}", self.name()),
            (None, "Deployment") => at_random(&format!("{}-{hash}-", self.name()), number),
            (None, _) => at_random(&format!("{}-", self.name()), number),
        };
        let mut pod = Pod { spec: template.spec, ..Default::default() };
        let labels = [("pod-template-hash", hash.clone()), ("controller-revision-hash", hash.clone()), ("pod-template-generation", "1".into())];
        let given = match self.kind {
            "Deployment" => &labels[..1],
            "DaemonSet" => &labels[1..],
            "StatefulSet" => &labels[1..2],
            _ => &[],
        };
        let mut all = from.labels.unwrap_or_default();
        all.extend(given.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        if let Some(stateful) = &self.stateful {
            all.insert("controller-revision-hash".into(), format!("{}-{hash}", self.name()));
            all.insert("statefulset.kubernetes.io/pod-name".into(), name.clone());
            all.insert("apps.kubernetes.io/pod-index".into(), number.to_string());
            let spec = pod.spec.get_or_insert_default();
            (spec.hostname, spec.subdomain) = (Some(name.clone()), stateful.service.clone().or_else(|| spec.subdomain.clone()));
            stateful.give_claims(spec.volumes.get_or_insert_default(), &name);
        }
        pod.metadata = ObjectMeta {
            name: Some(name),
            namespace: self.metadata.namespace.clone(),
            labels: Some(all),
            annotations: from.annotations,
            owner_references: Some(vec![self.owner(&hash)]),
            ..Default::default()
        };
        default::pod(&mut pod);
        pod
    }

    /// The pods of a Deployment belong to its ReplicaSet.
    fn owner(&self, hash: &str) -> OwnerReference {
        let (kind, name) = match self.kind {
            "Deployment" => ("ReplicaSet", format!("{}-{hash}", self.name())),
            kind => (kind, self.name().to_owned()),
        };
        OwnerReference { api_version: "apps/v1".into(), kind: kind.into(), name, uid: self.uid(), controller: Some(true), block_owner_deletion: Some(true) }
    }

    /// The claims of the pod of an ordinal.
    fn claims(&self, number: i32) -> Vec<PersistentVolumeClaim> {
        let Some(stateful) = &self.stateful else { return Vec::new() };
        let made = |template: &PersistentVolumeClaim| {
            let from = &template.metadata;
            let mut labels = from.labels.clone().unwrap_or_default();
            labels.extend(self.selector.match_labels.clone().unwrap_or_default());
            let mut annotations = from.annotations.clone().unwrap_or_default();
            if !stateful.claims_deleted {
                annotations.insert(RETAINED_OF.into(), self.name().to_owned());
            }
            let mut claim = PersistentVolumeClaim { spec: template.spec.clone(), ..Default::default() };
            claim.metadata = ObjectMeta {
                name: Some(claim_name(template, &format!("{}-{number}", self.name()))),
                namespace: self.metadata.namespace.clone(),
                labels: Some(labels).filter(|labels| !labels.is_empty()),
                annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
                ..Default::default()
            };
            default::claim(&mut claim);
            claim
        };
        stateful.claims.iter().map(made).collect()
    }
}

impl Stateful {
    /// A claim takes the place of the template's volume of its name.
    fn give_claims(&self, volumes: &mut Vec<Volume>, pod: &str) {
        for template in &self.claims {
            let name = template.metadata.name.clone().unwrap_or_default();
            volumes.retain(|volume| volume.name != name);
            let source = PersistentVolumeClaimVolumeSource { claim_name: claim_name(template, pod), read_only: None };
            volumes.push(Volume { name, persistent_volume_claim: Some(source), ..Default::default() });
        }
    }
}

fn claim_name(template: &PersistentVolumeClaim, pod: &str) -> String {
    format!("{}-{pod}", template.metadata.name.as_deref().unwrap_or_default())
}

/// All that a workload makes, claims before their pods.
pub fn pods(workload: impl Into<Workload>) -> Vec<Object> {
    let workload = workload.into();
    let start = workload.stateful.as_ref().map_or(0, |stateful| stateful.start);
    let count = workload.replicas.clamp(0, super::validate::MOST_REPLICAS);
    let numbers = start..start.saturating_add(count);
    let claims = numbers.clone().flat_map(|number| workload.claims(number)).map(|claim| Object::PersistentVolumeClaim(Box::new(claim)));
    let claims: Vec<Object> = claims.collect();
    claims.into_iter().chain(numbers.map(|number| Object::Pod(Box::new(workload.pod(number))))).collect()
}

/// The prefix with five letters that look like chance; other numbers have others.
fn at_random(prefix: &str, number: i32) -> String {
    let most = (LETTERS.len() as u64).pow(LETTERS_AT_END);
    // The step has no factor in common with `most`, which is a power of 3: no two numbers meet.
    let mut at = (u64::from(fnv(prefix.as_bytes())) + u64::from(number.unsigned_abs()) * 7_919_351) % most;
    let mut end = String::new();
    for _ in 0..LETTERS_AT_END {
        end.push(LETTERS[(at % LETTERS.len() as u64) as usize] as char);
        at /= LETTERS.len() as u64;
    }
    format!("{}{end}", &prefix[..prefix.floor_char_boundary(LONGEST_PREFIX)])
}

fn letter(byte: u8) -> char {
    LETTERS[usize::from(byte) % LETTERS.len()] as char
}

/// FNV-1a, 32 bits.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::manifest;

    fn made(text: &str) -> Vec<Object> {
        manifest::read(text, "f").unwrap_or_else(|faults| panic!("{faults}")).objects
    }

    fn names(objects: &[Object]) -> Vec<&str> {
        objects.iter().map(|object| object.metadata().name.as_deref().unwrap()).collect()
    }

    fn deployment(replicas: i32, image: &str) -> String {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{replicas: {replicas}, selector: {{matchLabels: {{app: w}}}}, \
             template: {{metadata: {{labels: {{app: w}}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}}}}}"
        )
    }

    const STATEFUL: &str = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {replicas: 2, serviceName: dbs, \
        selector: {matchLabels: {app: d}}, template: {metadata: {labels: {app: d}}, spec: {containers: [{name: c, image: i, \
        volumeMounts: [{name: data, mountPath: /d}]}]}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], \
        resources: {requests: {storage: 1Gi}}}}]}}";

    #[test]
    fn the_pods_of_a_deployment_are_named_by_it_and_by_its_template() {
        let pods = made(&deployment(3, "i"));
        assert_eq!(names(&pods), names(&made(&deployment(3, "i"))), "the same file means the same pods");
        let [Object::Pod(first), ..] = pods.as_slice() else { panic!("{pods:?}") };
        let (owner, hash) = (&first.metadata.owner_references.as_ref().unwrap()[0], &first.metadata.labels.as_ref().unwrap()["pod-template-hash"]);
        assert_eq!((owner.kind.as_str(), &owner.name), ("ReplicaSet", &format!("web-{hash}")));
        assert!(names(&pods).iter().all(|name| name.strip_prefix(&format!("web-{hash}-")).is_some_and(|end| end.len() == 5)), "{:?}", names(&pods));
        assert_eq!(first.spec.as_ref().unwrap().enable_service_links, Some(true), "a pod of a template is given what a pod is given");
        let other = made(&deployment(3, "j"));
        assert!(names(&pods).iter().all(|name| !names(&other).contains(name)), "another template, other pods");
        assert_eq!(other[0].metadata().owner_references.as_ref().unwrap()[0].uid, owner.uid);
    }

    #[test]
    fn no_two_pods_have_one_name() {
        let names: BTreeSet<String> = (0..1000).map(|number| at_random("web-abc-", number)).collect();
        assert_eq!(names.len(), 1000);
        assert_eq!(at_random(&"n".repeat(100), 0).len(), 63);
    }

    #[test]
    fn a_pod_of_a_stateful_set_keeps_its_name_and_its_claim() {
        let objects = made(STATEFUL);
        assert_eq!(names(&objects), ["data-db-0", "data-db-1", "db-0", "db-1"]);
        let Object::Pod(pod) = &objects[3] else { panic!("{objects:?}") };
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-1"), Some("dbs")));
        assert_eq!(spec.volumes.as_ref().unwrap()[0].persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-1");
        assert_eq!(pod.metadata.labels.as_ref().unwrap()["apps.kubernetes.io/pod-index"], "1");
        assert_eq!(objects[0].metadata().annotations.as_ref().unwrap()[RETAINED_OF], "db");
        let deleted = STATEFUL.replace("replicas: 2", "ordinals: {start: 5}, persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}");
        let objects = made(&deleted);
        assert_eq!(names(&objects), ["data-db-5", "db-5"]);
        assert_eq!(objects[0].metadata().annotations, None);
    }

    #[test]
    fn a_daemon_set_has_one_pod_and_no_replicas_none() {
        let daemon = deployment(1, "i").replace("Deployment", "DaemonSet").replace("replicas: 1, ", "");
        assert_eq!(made(&daemon).len(), 1);
        assert_eq!(made(&deployment(0, "i")), []);
    }
}
