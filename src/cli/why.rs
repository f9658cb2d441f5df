//! Why a pod is not well, in words: what `describe` says after kubectl's own sections, and a foreground `run` at its end.
//!
//! ```text
//! pod.json, events.json ───────────────┐
//! logs, /proc, images ──reading──> View ┴──> reasons ──> one per container or pod: what happened, its last lines, hints
//! ```
//!
//! Judging is pure, and says no more than is known: each cause is a function of one container as it was [`Seen`], and gives a hint or
//! nothing. A pod that is well gives nothing at all. What must be read from the machine for it is read before, in [`reading`].

mod command;
mod ending;
mod neighbours;
pub mod reading;
mod seen;
mod starting;
mod view;
mod waiting;

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Event, Pod};

pub use self::ending::in_words;
use self::seen::Seen;
pub use self::view::{Listener, Owner, Peer, View};
use super::table::harmless;
use crate::pod::{of_ephemeral, pod_spec};

/// What is told of a log at most: lines, and characters of each.
const LINES: usize = 5;
const LONGEST: usize = 160;

/// What is wrong with one container, or with the pod as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// None: the pod.
    pub container: Option<String>,
    /// What happened, or what it does now; goes on after its name.
    pub what: String,
    /// The last lines of its log.
    pub log: Vec<String>,
    pub hints: Vec<Hint>,
    /// Nothing about it is over: a restart, a wait, a program that runs.
    pub goes_on: bool,
}

/// One cause, and what to do about it: three lines at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Its name, for those who must not tell it twice.
    pub cause: &'static str,
    pub lines: Vec<String>,
}

/// A cause: its name, and the lines of its hint if it is the one.
type OfContainer = (&'static str, fn(&Seen<'_>) -> Option<Vec<String>>);
/// Here the first line says what is wrong with the pod.
type OfPod = (&'static str, fn(&Whole<'_>) -> Option<Vec<String>>);

/// Causes that concern one container. Those that explain how it ended come before those that explain what it does now.
const OF_CONTAINER: &[OfContainer] = &[
    ("image", starting::image),
    ("program", starting::program),
    ("config", starting::config),
    ("memory", ending::memory),
    ("grace", ending::grace),
    ("liveness", ending::liveness),
    ("command", ending::command),
    ("option", ending::option),
    ("done", ending::done),
    ("port", neighbours::port),
    ("volume", neighbours::volume),
    ("init", waiting::init),
    ("readiness", waiting::readiness),
];

/// Causes that concern the pod.
const OF_POD: &[OfPod] = &[("deadline", ending::deadline), ("mount", starting::mount), ("sidecar", neighbours::classic_sidecar)];

/// A pod with all that is known of it.
struct Whole<'a> {
    pod: &'a Pod,
    containers: &'a [Seen<'a>],
    events: &'a [Event],
}

/// What is wrong with a pod at `now`, as far as it is known; the pod first, then its containers in their order.
pub fn reasons(pod: &Pod, events: &[Event], view: &View, now: Timestamp) -> Vec<Reason> {
    let ephemeral = ephemeral(pod);
    let containers = Seen::all(pod, &ephemeral, events, view, now);
    let whole = Whole { pod, containers: &containers, events };
    let of_pod = OF_POD.iter().filter_map(|(cause, judge)| {
        let lines = judge(&whole)?;
        let (what, lines) = lines.split_first()?;
        let hints = vec![Hint { cause, lines: lines.to_vec() }];
        Some(Reason { container: None, what: what.clone(), log: Vec::new(), hints, goes_on: true })
    });
    of_pod.chain(containers.iter().filter_map(of_container)).collect()
}

/// The ephemeral containers of a pod as containers like the others.
fn ephemeral(pod: &Pod) -> Vec<Container> {
    pod_spec(pod).ephemeral_containers.iter().flatten().map(of_ephemeral).collect()
}

fn of_container(seen: &Seen<'_>) -> Option<Reason> {
    let hints: Vec<Hint> = OF_CONTAINER.iter().filter_map(|(cause, judge)| Some(Hint { cause, lines: judge(seen)? })).collect();
    let what = match seen.trouble() {
        Some(what) => what,
        None if hints.is_empty() => return None,
        None => seen.now_in_words(),
    };
    let log = seen.log();
    let log = log[log.len().saturating_sub(LINES)..].iter().map(|line| cut(line)).collect();
    Some(Reason { container: Some(seen.container.name.clone()), what, log, hints, goes_on: seen.terminated().is_none() })
}

fn cut(line: &str) -> String {
    let line = harmless(line.trim_end());
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

impl Reason {
    /// The log's lines and the hints, each line indented.
    pub fn details(&self, indent: &str, with_log: bool) -> String {
        let mut text = String::new();
        if with_log && !self.log.is_empty() {
            text += &format!("{indent}the last lines of its log:\n");
            self.log.iter().for_each(|line| text += &format!("{indent}  | {line}\n"));
        }
        for hint in &self.hints {
            for (at, line) in hint.lines.iter().enumerate() {
                text += &format!("{indent}{} {}\n", if at == 0 { "hint:" } else { "     " }, harmless(line));
            }
        }
        text
    }
}

/// As it stands in `describe`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}: {}", self.container.as_deref().unwrap_or("the pod"), harmless(&self.what))?;
        f.write_str(&self.details("    ", true))
    }
}

/// The last section of `describe`, which kubectl does not have; empty for a pod that is well.
pub fn section(reasons: &[Reason]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    format!("\nIn words (by minipod):\n{}", reasons.iter().map(Reason::to_string).collect::<String>())
}
