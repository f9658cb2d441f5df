//! The kinds of objects whose state can be waited for.

use anyhow::Result;
use serde_json::Value;

use crate::cli::get::{Kind, Refusal, Selector};
use crate::cli::pods;
use crate::pod::dir::{self, JobDir, PodDir};
use crate::pod::job;
use crate::pod::places::Places;
use crate::sys::notify::Notify;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Pod,
    Job,
}

impl Subject {
    /// Reads a word of the command line.
    pub fn of(word: &str) -> Result<Subject, Refusal> {
        match Kind::of(word) {
            Some(Kind::Pod) => Ok(Subject::Pod),
            Some(Kind::Job) => Ok(Subject::Job),
            Some(kind) => Err(Refusal::client(format!("nothing of {} changes by itself: pods and jobs can be waited for", kind.plural()))),
            None => Err(Kind::unknown(word)),
        }
    }

    pub fn kind(self) -> Kind {
        match self {
            Subject::Pod => Kind::Pod,
            Subject::Job => Kind::Job,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Subject::Pod => "pod",
            Subject::Job => "job",
        }
    }

    /// Watches all that [`read`](Subject::read) and [`select`](Subject::select) read.
    pub fn watch(self, places: &Places, notify: &Notify) -> Result<()> {
        Ok(match self {
            Subject::Pod => dir::watch(places, notify),
            Subject::Job => dir::watch_jobs(places, notify),
        }?)
    }

    /// The object by its name, if there is one.
    pub fn read(self, places: &Places, namespace: &str, name: &str) -> Result<Option<Value>> {
        let object = match self {
            Subject::Pod => pods::read(places, namespace, name)?.map(serde_json::to_value),
            Subject::Job => {
                let known = JobDir::new(places, namespace, name).read()?;
                known.map(|known| job::truth(places, known)).transpose()?.map(serde_json::to_value)
            }
        };
        Ok(object.transpose()?)
    }

    /// The names of those in a namespace whose labels fit.
    pub fn select(self, places: &Places, namespace: &str, selector: &Selector) -> Result<Vec<String>> {
        let mut names = Vec::new();
        match self {
            Subject::Pod => {
                for dir in dir::all(places)?.into_iter().filter(|dir| dir.namespace == namespace) {
                    names.extend(dir.read()?.filter(|known| selector.matches(known.pod.metadata.labels.as_ref())).map(|_| dir.name.clone()));
                }
            }
            Subject::Job => {
                for dir in dir::all_jobs(places)?.into_iter().filter(|dir| dir.namespace == namespace) {
                    names.extend(dir.read()?.filter(|known| selector.matches(known.job.metadata.labels.as_ref())).map(|_| dir.name.clone()));
                }
            }
        }
        Ok(names)
    }

    /// Waits until nothing of an object that was deleted is left on disk either.
    pub fn wait_until_gone(self, places: &Places, namespace: &str, name: &str) -> Result<()> {
        Ok(match self {
            Subject::Pod => PodDir::new(places, namespace, name).wait_until_gone(),
            Subject::Job => JobDir::new(places, namespace, name).wait_until_gone(),
        }?)
    }

    /// Why the object's status will not change any more, if it will not.
    pub fn finished(self, object: &Value) -> Option<String> {
        match self {
            Subject::Pod => {
                let phase = object["status"]["phase"].as_str().filter(|phase| matches!(*phase, "Succeeded" | "Failed"))?;
                Some(format!("the pod has ended ({phase})"))
            }
            Subject::Job => {
                let mut true_ones = object["status"]["conditions"].as_array()?.iter().filter(|condition| condition["status"] == "True");
                true_ones.find_map(|condition| match condition["type"].as_str()? {
                    "Complete" => Some("the job is complete".to_owned()),
                    "Failed" => Some(format!("the job has failed ({})", condition["reason"].as_str().unwrap_or("unknown"))),
                    _ => None,
                })
            }
        }
    }
}
