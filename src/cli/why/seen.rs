//! One container as it is seen: what it was told to be, what became of it, what was told about it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Event, Pod, PodSpec};

use super::ending::in_words;
use super::view::View;
use crate::cli::{duration, events, logs};
use crate::pod::pod_spec;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Init,
    Sidecar,
    App,
    Ephemeral,
}

pub struct Seen<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub container: &'a Container,
    pub role: Role,
    pub status: Option<&'a ContainerStatus>,
    /// Those about it, oldest first.
    pub events: Vec<&'a Event>,
    pub view: &'a View,
    pub now: Timestamp,
}

/// Waiting for one's turn is no trouble.
const TURN_TO_COME: &[&str] = &["ContainerCreating", "PodInitializing"];

/// Whether a container has run for so long that its earlier ends are no trouble of today: as the kubelet, which then forgets the
/// back-off (10 minutes, `MaxContainerBackOff` twice).
pub fn has_settled(status: &ContainerStatus, now: Timestamp) -> bool {
    const SETTLED: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);
    let since = status.state.as_ref().and_then(|state| state.running.as_ref()?.started_at.as_ref());
    since.is_some_and(|since| now.duration_since(since.0) >= SETTLED)
}

impl<'a> Seen<'a> {
    /// All containers of a pod: inits first, `ephemeral` (those of the pod, as [`of_ephemeral`](crate::pod::of_ephemeral) gives them) last.
    pub fn all(pod: &'a Pod, ephemeral: &'a [Container], events: &'a [Event], view: &'a View, now: Timestamp) -> Vec<Seen<'a>> {
        let spec = pod_spec(pod);
        let inits = spec.init_containers.iter().flatten().map(|container| match container.restart_policy.as_deref() {
            Some("Always") => (Role::Sidecar, container),
            _ => (Role::Init, container),
        });
        let apps = spec.containers.iter().map(|container| (Role::App, container));
        let all = inits.chain(apps).chain(ephemeral.iter().map(|container| (Role::Ephemeral, container)));
        let seen = |(role, container): (Role, &'a Container)| {
            let part = format!("{{{}}}", container.name);
            let is_about = |event: &&Event| event.involved_object.field_path.as_ref().is_some_and(|path| path.ends_with(&part));
            let events = events::sorted(events).into_iter().filter(is_about).collect();
            Seen { pod, spec, container, role, status: logs::status_of(pod, &container.name), events, view, now }
        };
        all.map(seen).collect()
    }

    pub fn name(&self) -> &'a str {
        &self.container.name
    }

    pub fn image(&self) -> &'a str {
        self.container.image.as_deref().unwrap_or_default()
    }

    pub fn pod_name(&self) -> &'a str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// Since when it runs.
    pub fn running(&self) -> Option<Option<Timestamp>> {
        let running = self.status?.state.as_ref()?.running.as_ref()?;
        Some(running.started_at.as_ref().map(|at| at.0))
    }

    pub fn waiting(&self) -> Option<&'a ContainerStateWaiting> {
        self.status?.state.as_ref()?.waiting.as_ref()
    }

    /// How it ended, if it is not to run again.
    pub fn terminated(&self) -> Option<&'a ContainerStateTerminated> {
        self.status?.state.as_ref()?.terminated.as_ref()
    }

    /// How it ended last, now or before the present run; forgotten once it has settled.
    pub fn end(&self) -> Option<&'a ContainerStateTerminated> {
        let before = || self.status.filter(|status| !has_settled(status, self.now))?.last_state.as_ref()?.terminated.as_ref();
        self.terminated().or_else(before).filter(|end| !self.was_left(end))
    }

    /// A debugging shell at a terminal ends with the code of what was typed last: whoever typed it has seen what came of it.
    fn was_left(&self, end: &ContainerStateTerminated) -> bool {
        let started = end.reason.as_deref() != Some("StartError");
        self.role == Role::Ephemeral && self.container.stdin == Some(true) && self.container.tty == Some(true) && started
    }

    pub fn restarts(&self) -> i32 {
        self.status.map_or(0, |status| status.restart_count)
    }

    /// The reason and the words with which it waits, or ended without ever having run.
    pub fn refusal(&self) -> Option<(&'a str, &'a str)> {
        let of = |reason: &'a Option<String>, message: &'a Option<String>| Some((reason.as_deref()?, message.as_deref().unwrap_or_default()));
        let waiting = self.waiting().and_then(|waiting| of(&waiting.reason, &waiting.message));
        waiting.filter(|(reason, _)| *reason != "CrashLoopBackOff").or_else(|| self.end().and_then(|end| of(&end.reason, &end.message)))
    }

    pub fn log(&self) -> &'a [String] {
        self.view.logs.get(self.name()).map_or(&[], Vec::as_slice)
    }

    /// The last line of its log with one of these words (in lower case).
    pub fn logged(&self, words: &[&str]) -> Option<&'a str> {
        let has = |line: &&String| words.iter().any(|word| line.to_lowercase().contains(word));
        self.log().iter().rev().find(has).map(String::as_str)
    }

    /// The newest event with this reason whose message has these words.
    pub fn told(&self, reason: &str, words: &str) -> Option<&'a Event> {
        let is = |event: &&&Event| event.reason.as_deref() == Some(reason) && event.message.as_ref().is_some_and(|message| message.contains(words));
        self.events.iter().rfind(is).copied()
    }

    /// What a failed probe of this kind (`Readiness` ...) said last.
    pub fn probe_said(&self, kind: &str) -> Option<&'a str> {
        let head = format!("{kind} probe ");
        let message = self.told("Unhealthy", &head)?.message.as_deref()?;
        Some(message.split_once(": ").map_or(message, |(_, answer)| answer).trim())
    }

    /// When this run was asked to end, by anybody.
    pub fn asked_to_end(&self, end: &ContainerStateTerminated) -> Option<Timestamp> {
        let at = events::last_seen(self.told("Killing", "")?)?;
        // The times of a status have whole seconds, those of events do not.
        let slack = jiff::SignedDuration::from_secs(1);
        let after = end.started_at.as_ref().is_none_or(|started| at >= started.0);
        let before = end.finished_at.as_ref().is_some_and(|finished| at <= finished.0.saturating_add(slack).unwrap_or(at));
        (after && before).then_some(at)
    }

    pub fn is_being_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Whether the pod's last word is spoken.
    pub fn pod_is_over(&self) -> bool {
        matches!(self.pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
    }

    /// Its own restart policy, else its pod's; an ephemeral container runs once whatever the pod's says.
    pub fn restart_policy(&self) -> &'a str {
        if self.role == Role::Ephemeral {
            return "Never";
        }
        self.container.restart_policy.as_deref().or(self.spec.restart_policy.as_deref()).unwrap_or("Always")
    }

    /// What went wrong with it, as far as its status tells.
    pub fn trouble(&self) -> Option<String> {
        let end = self.end().filter(|end| end.exit_code != 0 && self.asked_to_end(end).is_none());
        let times = match self.restarts() {
            0 => String::new(),
            1 => ", and was started again once".to_owned(),
            times => format!(", and was started again {times} times"),
        };
        if let Some(waiting) = self.waiting() {
            let reason = waiting.reason.as_deref().filter(|reason| !TURN_TO_COME.contains(reason))?;
            return Some(match (reason, self.end()) {
                ("CrashLoopBackOff", Some(end)) => format!("{}{times}; now it waits for the next start (CrashLoopBackOff)", in_words(end)),
                _ => match waiting.message.as_deref().filter(|message| !message.is_empty()) {
                    Some(message) => format!("cannot be started: {reason}: {message}"),
                    None => format!("cannot be started: {reason}"),
                },
            });
        }
        let end = end?;
        Some(match self.running() {
            Some(_) => format!("runs, but before that {}{times}", in_words(end)),
            None => format!("{}{times}", in_words(end)),
        })
    }

    /// What it does now.
    pub fn now_in_words(&self) -> String {
        if let Some(since) = self.running() {
            let ready =
                if matches!(self.role, Role::Init | Role::Ephemeral) || self.status.is_some_and(|status| status.ready) { "" } else { ", and is not ready" };
            let before = self.end().map(|end| format!("; before that it {}", in_words(end))).unwrap_or_default();
            return format!("has run for {}{ready}{before}", duration::since(since, self.now));
        }
        match self.terminated() {
            Some(end) => in_words(end),
            None => "waits".to_owned(),
        }
    }
}
