//! What is told: the Kubernetes events that follow from a deed. Those that follow from the state alone come from `lifecycle` as words.

use jiff::Timestamp;

use super::{Supervisor, now};
use crate::cgroup::Unenforced;
use crate::error::Error;
use crate::lifecycle::{self, C, Event, FailedAt, Notice, Why};
use crate::pod::journal::Kind;

impl Supervisor {
    pub(super) fn tell(&mut self, c: C, notice: Notice, message: &str) -> Event {
        match notice {
            Notice::Killing => self.tell_of(c, Kind::Normal, "Killing", message),
            Notice::BackOff => self.tell_of(c, Kind::Warning, "BackOff", message),
        }
        Event::Told(c, notice)
    }

    /// The kubelet's events of a start (`kuberuntime_container.go`, since 1.35).
    pub(super) fn tell_started(&mut self, c: C, pulled: bool, unenforced: &[Unenforced]) {
        self.tell_present(c, pulled);
        self.tell_of(c, Kind::Normal, "Created", "Container created");
        self.tell_of(c, Kind::Normal, "Started", "Container started");
        unenforced.iter().for_each(|missing| self.tell_of(c, Kind::Warning, "Unenforced", &missing.to_string()));
    }

    /// That the image is there; one that was pulled has been told of.
    fn tell_present(&mut self, c: C, pulled: bool) {
        if !pulled {
            let image = self.spec.container(c).image.clone();
            self.tell_of(c, Kind::Normal, "Pulled", &format!("Container image {image:?} already present on machine and can be accessed by the pod"));
        }
    }

    pub(super) fn tell_failed_start(&mut self, c: C, pulled: bool, failure: &lifecycle::Failure) {
        let image = failure.image.clone().unwrap_or_else(|| self.spec.container(c).image.clone());
        let shown = match (failure.at, failure.reason.as_str()) {
            (FailedAt::Image, "InvalidImageName") => {
                self.tell_of(c, Kind::Warning, "InspectFailed", &failure.message);
                &failure.reason
            }
            (FailedAt::Image, "ErrImageNeverPull") => {
                self.tell_of(c, Kind::Warning, "ErrImageNeverPull", &failure.message);
                &failure.reason
            }
            (FailedAt::Image, _) => {
                self.tell_of(c, Kind::Normal, "BackOff", &format!("Back-off pulling image {image:?}"));
                self.tell_of(c, Kind::Warning, "Failed", &format!("Failed to pull image {image:?}: {}", failure.message));
                &failure.reason
            }
            (FailedAt::Config, _) => {
                self.tell_present(c, pulled);
                &failure.message
            }
            (FailedAt::Run, _) => {
                self.tell_present(c, pulled);
                self.tell_of(c, Kind::Normal, "Created", "Container created");
                &failure.message
            }
        };
        self.tell_of(c, Kind::Warning, "Failed", &format!("Error: {shown}"));
    }

    /// Records an event of a container.
    pub(super) fn tell_of(&mut self, c: C, kind: Kind, reason: &str, message: &str) {
        let container = (self.spec.role(c), self.spec.container(c).name.as_str());
        self.journal.tell(kind, reason, Some(container), message, Timestamp::now());
    }

    /// Once, when the end of the pod turns out to be its deadline's doing.
    pub(super) fn tell_deadline(&mut self) {
        let late = lifecycle::drain(&self.spec, &self.facts, now().mono).is_some_and(|drain| drain.why == Why::Deadline);
        if late && !self.deadline_told {
            self.deadline_told = true;
            self.journal.tell(Kind::Normal, "DeadlineExceeded", None, "Pod was active on the node longer than the specified deadline", Timestamp::now());
        }
    }

    /// What goes wrong in looking after a pod is told beside its events, and never stops the loop.
    pub(super) fn complain_of(&mut self, errors: impl IntoIterator<Item = Error>) {
        for error in errors {
            eprintln!("minipod: {error}");
            self.journal.tell(Kind::Warning, "SupervisorError", None, &error.to_string(), Timestamp::now());
        }
    }
}
