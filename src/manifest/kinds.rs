//! Which object a document is: its `kind` and `apiVersion`.

use serde_json::Value;

use super::fault::{Fault, Kind};
use super::suggest;
use super::tree::{Mark, Node, Place};

/// Kinds that people put beside or instead of a Pod, with the versions that serve them.
const KNOWN: &[(&str, &[&str])] = &[
    ("Pod", &["v1"]),
    ("List", &["v1"]),
    ("Job", &["batch/v1"]),
    ("CronJob", &["batch/v1"]),
    ("Deployment", &["apps/v1"]),
    ("StatefulSet", &["apps/v1"]),
    ("DaemonSet", &["apps/v1"]),
    ("ReplicaSet", &["apps/v1"]),
    ("ReplicationController", &["v1"]),
    ("PodTemplate", &["v1"]),
    ("PodList", &["v1"]),
    ("ConfigMap", &["v1"]),
    ("Secret", &["v1"]),
    ("PersistentVolumeClaim", &["v1"]),
    ("PersistentVolume", &["v1"]),
    ("StorageClass", &["storage.k8s.io/v1"]),
    ("Service", &["v1"]),
    ("ServiceAccount", &["v1"]),
    ("Namespace", &["v1"]),
    ("LimitRange", &["v1"]),
    ("ResourceQuota", &["v1"]),
    ("Endpoints", &["v1"]),
    ("Event", &["v1", "events.k8s.io/v1"]),
    ("Node", &["v1"]),
    ("Ingress", &["networking.k8s.io/v1"]),
    ("NetworkPolicy", &["networking.k8s.io/v1"]),
    ("HorizontalPodAutoscaler", &["autoscaling/v2", "autoscaling/v1"]),
    ("PodDisruptionBudget", &["policy/v1"]),
    ("PriorityClass", &["scheduling.k8s.io/v1"]),
    ("RuntimeClass", &["node.k8s.io/v1"]),
    ("Role", &["rbac.authorization.k8s.io/v1"]),
    ("RoleBinding", &["rbac.authorization.k8s.io/v1"]),
    ("ClusterRole", &["rbac.authorization.k8s.io/v1"]),
    ("ClusterRoleBinding", &["rbac.authorization.k8s.io/v1"]),
    ("CustomResourceDefinition", &["apiextensions.k8s.io/v1"]),
];

const NO_CRON: &str =
    "kind CronJob is not supported: nothing here waits for its time; make its jobTemplate a Job, and run that from cron(8) or a systemd timer";

/// The kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    Pod,
    Job,
    ConfigMap,
    Secret,
    PersistentVolumeClaim,
    Service,
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
}

/// What a document is.
enum Heading {
    List,
    One(Readable),
}

/// The objects of a document: itself, or the items of a List. What is of a kind that is not read becomes a fault.
pub fn objects<'t>(document: &'t Place, found: &mut Vec<(Readable, &'t Place)>, faults: &mut Vec<Fault>) {
    match heading(document) {
        Ok(Heading::List) => match document.get("items").map(|items| &items.node) {
            Some(Node::List(items)) => items.iter().for_each(|item| objects(item, found, faults)),
            None | Some(Node::Scalar(Value::Null)) => {}
            Some(_) => faults.push(fault(document.get("items").map_or(document.mark, |items| items.mark), "items of a List must be a list")),
        },
        Ok(Heading::One(kind)) => found.push((kind, document)),
        Err(fault) => faults.push(*fault),
    }
}

fn heading(document: &Place) -> Result<Heading, Box<Fault>> {
    let refuse = |mark: Mark, said: String, suggestion: Option<String>| Err(Box::new(Fault { suggestion, ..fault(mark, said) }));
    if !matches!(document.node, Node::Map(_)) {
        return refuse(document.mark, "a Kubernetes object is a mapping with apiVersion, kind, metadata and spec".to_owned(), None);
    }
    let (kind, version) = (document.get("kind"), document.get("apiVersion"));
    let Some(kind_text) = kind.and_then(Place::text).filter(|text| !text.is_empty()) else {
        return refuse(kind.map_or(document.mark, |place| place.mark), "kind must be set, as a string: `kind: Pod`".to_owned(), None);
    };
    let Some(version_text) = version.and_then(Place::text).filter(|text| !text.is_empty()) else {
        return refuse(version.map_or(document.mark, |place| place.mark), "apiVersion must be set, as a string: `apiVersion: v1`".to_owned(), None);
    };
    // Both were read from there.
    let (kind_mark, version_mark) = (kind.unwrap().mark, version.unwrap().mark);
    let unmatched = format!("no matches for kind {kind_text:?} in version {version_text:?}");
    let Some((name, versions)) = KNOWN.iter().find(|(name, _)| *name == kind_text) else {
        let near = suggest::nearest(kind_text, KNOWN.iter().map(|(name, _)| *name)).map(|near| format!("did you mean {near:?}?"));
        return refuse(kind_mark, unmatched, near);
    };
    match *name {
        _ if !versions.contains(&version_text) => refuse(version_mark, unmatched, Some(format!("{name} is in version {:?}", versions[0]))),
        "List" => Ok(Heading::List),
        "Pod" => Ok(Heading::One(Readable::Pod)),
        "Job" => Ok(Heading::One(Readable::Job)),
        "ConfigMap" => Ok(Heading::One(Readable::ConfigMap)),
        "Secret" => Ok(Heading::One(Readable::Secret)),
        "PersistentVolumeClaim" => Ok(Heading::One(Readable::PersistentVolumeClaim)),
        "Service" => Ok(Heading::One(Readable::Service)),
        "Deployment" => Ok(Heading::One(Readable::Deployment)),
        "ReplicaSet" => Ok(Heading::One(Readable::ReplicaSet)),
        "StatefulSet" => Ok(Heading::One(Readable::StatefulSet)),
        "DaemonSet" => Ok(Heading::One(Readable::DaemonSet)),
        _ => {
            let said = if *name == "CronJob" { NO_CRON.to_owned() } else { format!("kind {name} is not supported yet") };
            Err(Box::new(Fault { kind: Kind::NotSupported, ..fault(kind_mark, said) }))
        }
    }
}

fn fault(mark: Mark, said: impl Into<String>) -> Fault {
    let Mark { line, column, length } = mark;
    let (path, kind) = (String::new(), Kind::Syntax);
    Fault { line: line.max(1), column: column.max(1), length, path, kind, value: None, detail: said.into(), suggestion: None, subject: None }
}
