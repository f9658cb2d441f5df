//! The kinds of objects that are kept, and the words that mean them.

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::Refusal;
use crate::manifest::Object;

/// The kinds of objects that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pod,
    Job,
    ConfigMap,
    Secret,
    PersistentVolumeClaim,
    Service,
}

impl Kind {
    /// Reads a word of the command line: singular, plural, short, or with its group.
    pub fn of(word: &str) -> Option<Kind> {
        match word {
            "pods" | "pod" | "po" => Some(Kind::Pod),
            "jobs" | "job" | "jobs.batch" | "job.batch" => Some(Kind::Job),
            "configmaps" | "configmap" | "cm" => Some(Kind::ConfigMap),
            "secrets" | "secret" => Some(Kind::Secret),
            "persistentvolumeclaims" | "persistentvolumeclaim" | "pvc" => Some(Kind::PersistentVolumeClaim),
            "services" | "service" | "svc" => Some(Kind::Service),
            _ => None,
        }
    }

    pub fn of_object(object: &Object) -> Kind {
        match object {
            Object::Pod(_) => Kind::Pod,
            Object::Job(_) => Kind::Job,
            Object::ConfigMap(_) => Kind::ConfigMap,
            Object::Secret(_) => Kind::Secret,
            Object::PersistentVolumeClaim(_) => Kind::PersistentVolumeClaim,
            Object::Service(_) => Kind::Service,
        }
    }

    /// `Job`, as objects say it themselves.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Pod => "Pod",
            Kind::Job => "Job",
            Kind::ConfigMap => "ConfigMap",
            Kind::Secret => "Secret",
            Kind::PersistentVolumeClaim => "PersistentVolumeClaim",
            Kind::Service => "Service",
        }
    }

    /// `job.batch`, as kubectl names one.
    pub fn resource(self) -> &'static str {
        match self {
            Kind::Pod => "pod",
            Kind::Job => "job.batch",
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
            Kind::PersistentVolumeClaim => "persistentvolumeclaim",
            Kind::Service => "service",
        }
    }

    /// `jobs.batch`, as the API server names them.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Pod => "pods",
            Kind::Job => "jobs.batch",
            Kind::ConfigMap => "configmaps",
            Kind::Secret => "secrets",
            Kind::PersistentVolumeClaim => "persistentvolumeclaims",
            Kind::Service => "services",
        }
    }

    pub fn unknown(word: &str) -> Refusal {
        let workloads =
            ["deployment", "deployments", "deploy", "statefulset", "statefulsets", "sts", "daemonset", "daemonsets", "ds", "replicaset", "replicasets", "rs"];
        if workloads.contains(&word.trim_end_matches(".apps")) {
            return Refusal::client(format!("of a {word} only its pods are kept: `minipod get pods -l LABELS`, `minipod delete -f FILE`"));
        }
        Refusal::client(format!(
            "the server doesn't have a resource type {word:?}; there are pods, jobs, configmaps, secrets, persistentvolumeclaims, services and events"
        ))
    }
}

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Objects of a kind; those of the names alone, if there are any.
    Objects(Kind, Vec<String>),
    Events,
}

impl What {
    /// Reads `pods [NAME...]`, `pod/NAME...`, the same with another kind, or `events`.
    pub fn read(words: &[String]) -> std::result::Result<What, Refusal> {
        let (first, names) = words
            .split_first()
            .ok_or_else(|| Refusal::client("you must say what to list: pods, jobs, configmaps, secrets, persistentvolumeclaims, services or events"))?;
        if let Some((word, _)) = first.split_once('/') {
            let kind = Kind::of(word);
            let name = |word: &String| match word.split_once('/') {
                Some((word, name)) if kind.is_some() && Kind::of(word) == kind && !name.is_empty() => Ok(name.to_owned()),
                _ => Err(Refusal::client(format!("there is no {word:?} here: name pods as pod/NAME, jobs as job/NAME"))),
            };
            let names = words.iter().map(name).collect::<std::result::Result<_, _>>()?;
            return Ok(What::Objects(kind.unwrap_or(Kind::Pod), names));
        }
        match first.as_str() {
            "events" | "event" | "ev" if names.is_empty() => Ok(What::Events),
            "events" | "event" | "ev" => Err(Refusal::client("events are listed all together: leave out the names")),
            word => Kind::of(word).map(|kind| What::Objects(kind, names.to_vec())).ok_or_else(|| Kind::unknown(word)),
        }
    }

    /// The names, if objects are listed.
    pub fn names(&self) -> Option<&[String]> {
        match self {
            What::Objects(_, names) => Some(names),
            What::Events => None,
        }
    }
}

/// A kind of object that has a line in a table.
pub trait Listed: Metadata<Ty = ObjectMeta> + Serialize + Clone {
    type Row: Line;
    const OF: Kind;
    const HEADERS: &'static [&'static str];
    const WIDE_HEADERS: &'static [&'static str];

    fn row(&self, now: Timestamp) -> Self::Row;
}

/// A line of a table.
pub trait Line {
    fn namespace(&self) -> &str;

    /// The cells under the headers, or the wide ones.
    fn cells(&self, wide: bool) -> Vec<&str>;

    /// Whether a watch has nothing new to tell: all but the passing of time is the same.
    fn same_but_for_age(&self, other: &Self) -> bool;
}
