//! YAML text becomes valid, defaulted objects (Pods, Jobs, and what is kept for them), or a list of faults with file, line, column and path.
//!
//! ```text
//! text ─ yaml ─> located tree ─ kinds ─> one tree per object ─ decode ─> Object ─ default ─> validate ─> Loaded
//!                                             │                  │                             │
//!                                             └─ support ────────┴───────── findings ──────────┴──────> Faults
//! ```
//!
//! Everything is judged before anything starts, and everything is told at once: the text is parsed a single time into a
//! tree that knows where each key and value stands ([`tree`]), so a rule that is broken deep inside still points at its
//! line. Three judges look at it: the types ([`decode`]), the table of what minipod does ([`support`]), and the API
//! server's rules ([`validate`]), which speak its words.
//!
//! A further kind of object has a word in [`kinds`], a table in [`support`], its defaults, its rules, and a line in `Object`.
//!
//! A workload (a Deployment and its like) leaves here as the pods and claims that its template makes ([`workload`]).
//!
//! What this floor does not do: it reads no file, knows no clock and no machine, and gives no uid; an object with
//! `generateName` leaves here without a name.

mod decode;
mod default;
pub mod expand;
mod fault;
pub mod huge_pages;
pub mod indexes;
mod kinds;
mod path;
pub mod quantity;
mod suggest;
pub mod support;
mod tree;
mod validate;
pub mod workload;
mod yaml;
mod zero;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use default::pod as default_pod;
pub use expand::expand;
pub use fault::{Fault, Faults, Kind, Subject, Warning};
pub use quantity::Quantity;
pub use validate::subscripted;

use fault::{Findings, Syntax};
use kinds::Readable;
use support::Table;
use tree::Place;

/// One object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    Pod(Box<Pod>),
    Job(Box<Job>),
    ConfigMap(Box<ConfigMap>),
    Secret(Box<Secret>),
    PersistentVolumeClaim(Box<PersistentVolumeClaim>),
    Service(Box<Service>),
}

impl Object {
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Object::Pod(pod) => &pod.metadata,
            Object::Job(job) => &job.metadata,
            Object::ConfigMap(map) => &map.metadata,
            Object::Secret(secret) => &secret.metadata,
            Object::PersistentVolumeClaim(claim) => &claim.metadata,
            Object::Service(service) => &service.metadata,
        }
    }

    pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Object::Pod(pod) => &mut pod.metadata,
            Object::Job(job) => &mut job.metadata,
            Object::ConfigMap(map) => &mut map.metadata,
            Object::Secret(secret) => &mut secret.metadata,
            Object::PersistentVolumeClaim(claim) => &mut claim.metadata,
            Object::Service(service) => &mut service.metadata,
        }
    }
}

impl Object {
    /// As an API server would store it: without the fields that are set to nothing.
    pub fn stored(&self) -> Value {
        let json = match self {
            Object::Pod(pod) => serde_json::to_value(pod),
            Object::Job(job) => serde_json::to_value(job),
            Object::ConfigMap(map) => serde_json::to_value(map),
            Object::Secret(secret) => serde_json::to_value(secret),
            Object::PersistentVolumeClaim(claim) => serde_json::to_value(claim),
            Object::Service(service) => serde_json::to_value(service),
        };
        // They came from JSON.
        let mut json = json.unwrap_or_default();
        zero::remove(&mut json);
        json
    }
}

/// What a manifest holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// In the order of the text; defaulted.
    pub objects: Vec<Object>,
    /// In the order in which they were found, object by object.
    pub warnings: Vec<Warning>,
}

impl Loaded {
    /// The Pods alone.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.objects.iter().filter_map(|object| match object {
            Object::Pod(pod) => Some(&**pod),
            _ => None,
        })
    }
}

/// Reads every object of a manifest. `file` is only a name for the messages.
pub fn read(text: &str, file: &str) -> Result<Loaded, Faults> {
    faultless(examine(text, file))
}

fn faultless((loaded, faults): (Loaded, Faults)) -> Result<Loaded, Faults> {
    if faults.faults.is_empty() { Ok(loaded) } else { Err(faults) }
}

/// As [`read`], for bytes that may be no text.
pub fn read_bytes(bytes: &[u8], file: &str) -> Result<Loaded, Faults> {
    faultless(examine_bytes(bytes, file))
}

/// As [`examine`], for bytes that may be no text.
pub fn examine_bytes(bytes: &[u8], file: &str) -> (Loaded, Faults) {
    match std::str::from_utf8(bytes) {
        Ok(text) => examine(text, file),
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            let (line, column) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1);
            let fault = Fault::from(Syntax::new(line, column, format!("byte {} is not UTF-8; a manifest is UTF-8 text", error.valid_up_to())));
            (Loaded::default(), Faults::new(file, &before, vec![fault]))
        }
    }
}

/// As [`read`], for those who want to see the faults and what was understood in spite of them. The list of faults may
/// be empty here.
pub fn examine(text: &str, file: &str) -> (Loaded, Faults) {
    let mut loaded = Loaded::default();
    let mut faults = Vec::new();
    match yaml::documents(text) {
        Err(syntax) => faults.push(syntax.into()),
        Ok(documents) => {
            let mut objects = Vec::new();
            documents.iter().for_each(|document| kinds::objects(document, &mut objects, &mut faults));
            if objects.is_empty() && faults.is_empty() {
                faults.push(Syntax::new(1, 1, "there is no object in this manifest; a Pod begins with `apiVersion: v1` and `kind: Pod`".to_owned()).into());
            }
            objects.into_iter().for_each(|(kind, tree)| self::object(kind, tree, &mut loaded, &mut faults));
        }
    }
    (loaded, Faults::new(file, text, faults))
}

fn object(kind: Readable, tree: &Place, loaded: &mut Loaded, faults: &mut Vec<Fault>) {
    let metadata = tree.get("metadata");
    let name = metadata.and_then(|it| it.get("name").or_else(|| it.get("generateName"))).and_then(Place::text).unwrap_or_default();
    let mut findings = Findings::new(tree, Subject { kind: format!("{kind:?}"), name: name.to_owned() });
    let found = &mut findings;
    let objects = match kind {
        Readable::Pod => vec![Object::Pod(judged(tree, &support::POD, default::pod, validate::pod, found))],
        Readable::Job => vec![Object::Job(judged(tree, &support::JOB, default::job, validate::job, found))],
        Readable::ConfigMap => vec![Object::ConfigMap(judged(tree, &support::CONFIG_MAP, default::config_map, validate::config_map, found))],
        Readable::Secret => vec![Object::Secret(judged(tree, &support::SECRET, default::secret, validate::secret, found))],
        Readable::PersistentVolumeClaim => vec![Object::PersistentVolumeClaim(judged(tree, &support::CLAIM, default::claim, validate::claim, found))],
        Readable::Service => vec![Object::Service(judged(tree, &support::SERVICE, default::service, validate::service, found))],
        Readable::Deployment => workload::pods(&*judged(tree, &support::DEPLOYMENT, default::deployment, validate::deployment, found)),
        Readable::ReplicaSet => workload::pods(&*judged(tree, &support::REPLICA_SET, default::replica_set, validate::replica_set, found)),
        Readable::StatefulSet => workload::pods(&*judged(tree, &support::STATEFUL_SET, default::stateful_set, validate::stateful_set, found)),
        Readable::DaemonSet => workload::pods(&*judged(tree, &support::DAEMON_SET, default::daemon_set, validate::daemon_set, found)),
    };
    loaded.warnings.append(&mut findings.warnings);
    loaded.objects.extend(objects);
    faults.extend(findings.finish());
}

/// Types, support, defaults, rules: in this order for every kind, as in the API server.
fn judged<T: DeserializeOwned + Default>(tree: &Place, table: &Table, fill: fn(&mut T), judge: fn(&T, &mut Findings), findings: &mut Findings) -> Box<T> {
    let mut object = Box::new(decode::object(tree, table, findings));
    support::judge(tree, table, findings);
    fill(&mut object);
    judge(&object, findings);
    object
}

/// A file of settings that is no Kubernetes object: its only document, null if it is empty. The error is one line.
pub fn settings(text: &str) -> Result<Value, String> {
    let told = |syntax: Syntax| {
        let fault = Fault::from(syntax);
        format!("line {}: {}", fault.line, fault.detail)
    };
    match yaml::documents(text).map_err(told)?.as_slice() {
        [] => Ok(Value::Null),
        [one] => Ok(one.json()),
        several => Err(format!("it has {} documents, but settings are one", several.len())),
    }
}

/// An object from its JSON, as it is kept on disk: the one way to read one beside a manifest. The error is one line.
pub fn from_json<T: DeserializeOwned>(json: &Value) -> Result<T, String> {
    decode::from_value(json)
}
