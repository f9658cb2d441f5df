//! What happened to a pod, as Kubernetes events: kept, counted, shown by `describe` and `get events`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::dir::Dir;
use crate::error::Result;
use crate::lifecycle::Role;

/// More than these are never kept; the oldest go. A pod that crash-loops for a year repeats few events often.
const KEPT: usize = 500;

/// An event's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Warning,
}

/// The events of one pod or job, as far as they are written and not yet.
#[derive(Debug)]
pub struct Journal {
    about: ObjectReference,
    events: Vec<Event>,
    unwritten: bool,
}

impl Journal {
    pub fn new(namespace: &str, name: &str, uid: &str) -> Journal {
        Journal::about("v1", "Pod", namespace, name, uid)
    }

    pub fn of_job(namespace: &str, name: &str, uid: &str) -> Journal {
        Journal::about("batch/v1", "Job", namespace, name, uid)
    }

    fn about(api_version: &str, kind: &str, namespace: &str, name: &str, uid: &str) -> Journal {
        let about = ObjectReference {
            api_version: Some(api_version.into()),
            kind: Some(kind.into()),
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            uid: Some(uid.into()),
            ..Default::default()
        };
        Journal { about, events: Vec::new(), unwritten: false }
    }

    /// Records an event of the pod, or of one container in it. The same words about the same object are counted, as the API server's
    /// event correlator does (client-go `tools/record/events_cache.go`).
    pub fn tell(&mut self, kind: Kind, reason: &str, container: Option<(Role, &str)>, message: &str, now: Timestamp) {
        let field_path = container.map(|(role, name)| match role {
            Role::App => format!("spec.containers{{{name}}}"),
            Role::Ephemeral => format!("spec.ephemeralContainers{{{name}}}"),
            Role::Init | Role::Sidecar => format!("spec.initContainers{{{name}}}"),
        });
        self.unwritten = true;
        let same = |event: &Event| {
            event.reason.as_deref() == Some(reason) && event.message.as_deref() == Some(message) && event.involved_object.field_path == field_path
        };
        if let Some(known) = self.events.iter_mut().find(|event| same(event)) {
            known.count = known.count.map(|count| count.saturating_add(1));
            known.last_timestamp = Some(Time(now));
            return;
        }
        if self.events.len() == KEPT {
            self.events.remove(0);
        }
        let name = format!("{}.{:x}", self.about.name.as_deref().unwrap_or_default(), now.as_nanosecond());
        self.events.push(Event {
            metadata: ObjectMeta { name: Some(name), namespace: self.about.namespace.clone(), ..Default::default() },
            involved_object: ObjectReference { field_path, ..self.about.clone() },
            reason: Some(reason.into()),
            message: Some(message.into()),
            type_: Some(if kind == Kind::Normal { "Normal" } else { "Warning" }.into()),
            source: Some(EventSource { component: Some("minipod".into()), ..Default::default() }),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Default::default()
        });
    }

    /// Writes what is new.
    pub fn write(&mut self, dir: &Dir) -> Result<()> {
        if !self.unwritten {
            return Ok(());
        }
        dir.write_events(&self.events)?;
        self.unwritten = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_counted_and_others_are_not() {
        let mut journal = Journal::new("default", "web", "u");
        let at = |second| Timestamp::from_second(second).unwrap();
        journal.tell(Kind::Warning, "BackOff", Some((Role::App, "a")), "Back-off", at(1));
        journal.tell(Kind::Warning, "BackOff", Some((Role::App, "a")), "Back-off", at(5));
        journal.tell(Kind::Warning, "BackOff", Some((Role::App, "b")), "Back-off", at(6));
        assert_eq!(journal.events.iter().map(|e| e.count.unwrap()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(journal.events[0].last_timestamp, Some(Time(at(5))));
        assert_eq!(journal.events[0].involved_object.field_path.as_deref(), Some("spec.containers{a}"));
    }
}
