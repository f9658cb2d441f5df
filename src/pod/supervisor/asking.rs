//! Probes and hooks: carried out when their time has come, and their answers brought to where they belong.
//!
//! ```text
//! probes.due ─┐                ┌─ Exec ──▶ an errand in the container     (pidfd, pipe, deadline) ─┐
//!             ├─▶ carry_out ──▶├─ Ask ───▶ the prober, another process    (its descriptor) ────────┼─▶ bring_home ──▶ event
//! a hook ─────┘                └─ Sleep ─▶ a deadline ─────────────────────────────────────────────┘
//! ```
//!
//! Nothing here waits. What could not even be begun is brought home at once.

use std::collections::BTreeMap;

use super::errand::{End, Errand};
use super::{Source, Supervisor, container_of, now};
use crate::error::Error;
use crate::lifecycle::{Attempt, C, Event, Hook, ProbeKind, ProbeOutcome, Probes, Spec, State};
use crate::pod::handler::{self, Way};
use crate::pod::journal::Kind;
use crate::probe::{Ask, Outcome, Prober, Target};

/// A hook has no limit of its own: what ends it is its container's end. A request gets a day, in milliseconds.
const NO_LIMIT: u64 = 86_400_000;

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Probe { c: C, kind: ProbeKind, number: u64 },
    Hook { c: C, hook: Hook, instance: u32 },
}

/// What came of it.
enum Came {
    /// The command ended; with what it said, or what is said of it if it was late.
    Ended(End, String),
    Answered(Outcome, String),
    Slept,
    /// It could not be begun.
    Not(String),
}

/// An errand, and who sent it; None once he has his answer.
struct Sent {
    errand: Errand,
    c: C,
    kind: Option<ProbeKind>,
    purpose: Option<Purpose>,
}

/// All that is under way.
pub(super) struct Asking {
    probes: Probes,
    errands: Vec<Option<Sent>>,
    prober: Option<Prober>,
    asked: BTreeMap<u64, Purpose>,
    /// Numbers the questions to the prober.
    questions: u64,
    sleeps: Vec<(u64, Purpose)>,
}

impl Asking {
    pub fn new(spec: &Spec) -> Asking {
        Asking { probes: Probes::new(spec), errands: Vec::new(), prober: None, asked: BTreeMap::new(), questions: 0, sleeps: Vec::new() }
    }

    /// The next moment at which an errand or a sleep is over.
    fn deadline(&self) -> Option<u64> {
        let errands = self.errands.iter().flatten().filter_map(|sent| sent.errand.deadline());
        errands.chain(self.sleeps.iter().map(|(until, _)| *until)).min()
    }
}

impl Supervisor {
    /// Begins the probes that are due. False: one was over at once, so there may be something to decide. The moment is that of the
    /// next probe, errand or sleep.
    pub(super) fn begin_probes(&mut self) -> Result<Option<u64>, Settled> {
        let at = now().mono;
        let (attempts, mut next) = self.asking.probes.due(&self.spec, &self.facts, at);
        for attempt in &attempts {
            let number = self.asking.probes.begin(&self.facts, attempt, at);
            let way = self.way_of_probe(attempt);
            let purpose = Purpose::Probe { c: attempt.c, kind: attempt.kind, number };
            if let Some(came) = self.carry_out(purpose, way, Some(attempt.timeout_ms)) {
                self.bring_home(purpose, came);
                return Err(Settled);
            }
        }
        if !attempts.is_empty() {
            next = self.asking.probes.due(&self.spec, &self.facts, at).1;
        }
        Ok([next, self.asking.deadline()].into_iter().flatten().min())
    }

    fn ip(&self) -> &str {
        self.facts.sandbox.ips.first().map_or("", String::as_str)
    }

    fn way_of_probe(&self, attempt: &Attempt) -> Result<Way, String> {
        let container = container_of(&self.pod, attempt.c);
        let probe = match attempt.kind {
            ProbeKind::Startup => &container.startup_probe,
            ProbeKind::Liveness => &container.liveness_probe,
            ProbeKind::Readiness => &container.readiness_probe,
        };
        handler::of_probe(probe.as_ref().ok_or("missing probe")?, &container, self.ip())
    }

    /// Begins a hook. Some: it is over already, and this is how.
    pub(super) fn begin_hook(&mut self, c: C, hook: Hook) -> Option<Event> {
        let purpose = Purpose::Hook { c, hook, instance: self.facts.container(c).restarts };
        let way = self.way_of_hook(c, hook);
        let came = self.carry_out(purpose, way, None)?;
        self.hook_event(c, hook, came)
    }

    fn way_of_hook(&self, c: C, hook: Hook) -> Result<Way, String> {
        let container = container_of(&self.pod, c);
        let hooks = container.lifecycle.as_ref();
        let hook = match hook {
            Hook::PostStart => hooks.and_then(|hooks| hooks.post_start.as_ref()),
            Hook::PreStop => hooks.and_then(|hooks| hooks.pre_stop.as_ref()),
        };
        handler::of_hook(hook.ok_or("missing hook")?, &container, self.ip())
    }

    /// Begins something. Some: it is over already.
    fn carry_out(&mut self, purpose: Purpose, way: Result<Way, String>, timeout_ms: Option<u64>) -> Option<Came> {
        match way {
            Err(why) => Some(Came::Not(why)),
            Ok(Way::Exec(command)) => self.send(purpose, &command, timeout_ms),
            Ok(Way::Ask(target)) => self.ask(purpose, target, timeout_ms.unwrap_or(NO_LIMIT)),
            Ok(Way::Sleep(0)) => Some(Came::Slept),
            Ok(Way::Sleep(ms)) => {
                self.asking.sleeps.push((now().mono.saturating_add(ms), purpose));
                None
            }
        }
    }

    fn send(&mut self, purpose: Purpose, command: &[String], timeout_ms: Option<u64>) -> Option<Came> {
        let (c, kind) = match purpose {
            Purpose::Probe { c, kind, .. } => (c, Some(kind)),
            Purpose::Hook { c, .. } => (c, None),
        };
        // The last one cannot be killed (a dead file system holds it): another one would join it there.
        let stuck = self.asking.errands.iter().flatten().find(|sent| kind.is_some() && (sent.c, sent.kind) == (c, kind));
        if let Some(stuck) = stuck {
            return Some(Came::Ended(End::Late, stuck.errand.overdue()));
        }
        let Some(instance) = &self.instances[c.0] else { return Some(Came::Not("the container does not run".into())) };
        let errand = match Errand::begin(instance, command, timeout_ms, now().mono) {
            Ok(errand) => errand,
            Err(error) => return Some(Came::Not(error.to_string())),
        };
        let errands = &mut self.asking.errands;
        let number = errands.iter().position(Option::is_none).unwrap_or_else(|| {
            errands.push(None);
            errands.len() - 1
        });
        let watched = self.poll.add(errand.process(), Source::Errand(number).token());
        let watched = watched.and_then(|()| self.poll.add(errand.output(), Source::Said(number).token()));
        errands[number] = Some(Sent { errand, c, kind, purpose: Some(purpose) });
        self.complain_of(watched.err());
        None
    }

    fn ask(&mut self, purpose: Purpose, target: Target, timeout_ms: u64) -> Option<Came> {
        let id = self.asking.questions;
        self.asking.questions += 1;
        let asked = self.prober().and_then(|prober| prober.ask(&Ask { id, target, timeout_ms }));
        if let Err(error) = asked {
            return Some(Came::Not(error.to_string()));
        }
        self.asking.asked.insert(id, purpose);
        None
    }

    /// The prober, from the first question on.
    fn prober(&mut self) -> Result<&Prober, Error> {
        if self.asking.prober.is_none() {
            let prober = Prober::start().map_err(|error| error.doing("starting the prober"))?;
            self.poll.add(&prober, Source::Prober.token())?;
            self.asking.prober = Some(prober);
        }
        self.asking.prober.as_ref().ok_or_else(|| Error::said("there is no prober"))
    }

    pub(super) fn hear_prober(&mut self) {
        let Some(prober) = &self.asking.prober else { return };
        match prober.answers() {
            Ok(answers) => {
                for answer in answers {
                    if let Some(purpose) = self.asking.asked.remove(&answer.id) {
                        self.bring_home(purpose, Came::Answered(answer.outcome, answer.message));
                    }
                }
            }
            Err(error) => {
                // It died: what it was asked nobody will answer, and the next question starts another one.
                self.stop_prober();
                for purpose in std::mem::take(&mut self.asking.asked).into_values() {
                    self.bring_home(purpose, Came::Not(error.to_string()));
                }
            }
        }
    }

    fn stop_prober(&mut self) {
        if let Some(prober) = self.asking.prober.take() {
            self.poll.remove(&prober);
            prober.stop();
        }
    }

    /// An errand has something to say, or has ended.
    pub(super) fn hear_errand(&mut self, number: usize, ended: bool) {
        let Some(sent) = self.asking.errands.get_mut(number).and_then(Option::as_mut) else { return };
        let heard = match ended {
            true => sent.errand.reap(now().mono),
            false => sent.errand.listen().map(|more| {
                if !more {
                    self.poll.remove(sent.errand.output());
                }
            }),
        };
        self.complain_of(heard.err());
        self.settle_errand(number);
    }

    fn settle_errand(&mut self, number: usize) {
        let Some(sent) = self.asking.errands[number].as_mut() else { return };
        let certain = sent.kind.is_none();
        let end = sent.purpose.and_then(|purpose| Some((purpose, sent.errand.told(certain, now().mono)?)));
        let end = end.map(|(purpose, end)| match end {
            End::Late => (purpose, Came::Ended(End::Late, sent.errand.overdue())),
            end => (purpose, Came::Ended(end, sent.errand.said())),
        });
        if end.is_some() {
            sent.purpose = None;
        }
        if sent.errand.is_reaped() && sent.purpose.is_none() {
            self.poll.remove(sent.errand.process());
            self.poll.remove(sent.errand.output());
            self.asking.errands[number] = None;
        } else if sent.errand.is_reaped() {
            // Its pidfd would be ready for ever.
            self.poll.remove(sent.errand.process());
        }
        if let Some((purpose, came)) = end {
            self.bring_home(purpose, came);
        }
    }

    /// What time alone brings: commands whose time is up, sleeps that are over.
    pub(super) fn look_at_deadlines(&mut self) {
        let at = now().mono;
        if self.asking.deadline().is_none_or(|deadline| deadline > at) {
            return;
        }
        for number in 0..self.asking.errands.len() {
            if let Some(sent) = self.asking.errands[number].as_mut() {
                let hurried = sent.errand.hurry(at);
                self.complain_of(hurried.err());
                self.settle_errand(number);
            }
        }
        let over: Vec<_> = self.asking.sleeps.extract_if(.., |(until, _)| *until <= at).collect();
        over.into_iter().for_each(|(_, purpose)| self.bring_home(purpose, Came::Slept));
    }

    /// A container has ended: nobody sleeps for it any more.
    pub(super) fn wake_hooks_of(&mut self, ended: C) {
        self.asking.sleeps.retain(|(_, purpose)| !matches!(purpose, Purpose::Hook { c, .. } if *c == ended));
    }

    /// All containers have ended, and whatever was in them. The kernel keeps a PID namespace until everybody in it is reaped.
    pub(super) fn cut_off_errands(&mut self) {
        for number in 0..self.asking.errands.len() {
            if let Some(sent) = self.asking.errands[number].as_mut() {
                let cut = sent.errand.cut_off();
                sent.purpose = None;
                self.complain_of(cut.err());
                self.settle_errand(number);
            }
        }
    }

    /// The pod is over.
    pub(super) fn stop_asking(&mut self) {
        self.cut_off_errands();
        self.stop_prober();
    }

    /// Brings an answer to where it belongs.
    fn bring_home(&mut self, purpose: Purpose, came: Came) {
        match purpose {
            Purpose::Probe { c, number, .. } => {
                let (outcome, message) = probe_outcome(came);
                let heard = self.asking.probes.answered(&self.spec, &self.facts, number, outcome, &message);
                if let Some((reason, message)) = heard.told {
                    self.tell_of(c, Kind::Warning, reason, &message);
                }
                heard.event.into_iter().for_each(|event| self.observe(event));
            }
            // The facts know only the newest instance.
            Purpose::Hook { c, instance, .. } if self.facts.container(c).restarts != instance => {}
            Purpose::Hook { c, hook, .. } => {
                let event = self.hook_event(c, hook, came);
                event.into_iter().for_each(|event| self.observe(event));
            }
        }
    }

    /// A hook's answer as the engine hears it. That it failed is told, but not why: what a hook says may be a secret, so it is only
    /// shown with the container (`kuberuntime_container.go`).
    fn hook_event(&mut self, c: C, hook: Hook, came: Came) -> Option<Event> {
        if let Came::Answered(Outcome::Warning, message) = &came {
            self.tell_of(c, Kind::Warning, "LifecycleHTTPFallback", message);
        }
        let result = self.hook_result(c, hook, came);
        if result.is_err() {
            let (reason, message) = match hook {
                Hook::PostStart => ("FailedPostStartHook", "PostStartHook failed"),
                Hook::PreStop => ("FailedPreStopHook", "PreStopHook failed"),
            };
            self.tell_of(c, Kind::Warning, reason, message);
        }
        matches!(self.facts.container(c).state, State::Running(_) | State::Exited(_)).then_some(Event::HookDone(c, hook, result))
    }

    /// The message of a failed hook is the kubelet's (`pkg/kubelet/lifecycle/handlers.go`).
    fn hook_result(&self, c: C, hook: Hook, came: Came) -> Result<(), String> {
        let (way, said) = (self.way_of_hook(c, hook), if let Came::Ended(_, said) = &came { said.clone() } else { String::new() });
        let command = match &way {
            Ok(Way::Exec(command)) => command.join(" "),
            _ => String::new(),
        };
        let why = match came {
            Came::Slept | Came::Ended(End::Code(0), _) | Came::Answered(Outcome::Success | Outcome::Warning, _) => return Ok(()),
            Came::Ended(End::Code(code), _) => format!("command '{command}' exited with {code}: "),
            Came::Ended(End::Late, overdue) => overdue,
            Came::Ended(End::NotRun(error), _) => error.to_string(),
            Came::Answered(_, message) | Came::Not(message) => message,
        };
        let what = match way {
            Ok(Way::Exec(_)) => format!("Exec lifecycle hook ([{command}])"),
            Ok(Way::Ask(Target::Http { path, .. })) => format!("HTTP lifecycle hook ({})", path.trim_start_matches('/')),
            _ => "Lifecycle hook".into(),
        };
        let name = &self.spec.container(c).name;
        Err(format!("{what} for Container {name:?} in Pod \"{}\" failed - error: {why}, message: {said:?}", self.spec))
    }
}

/// A probe was over before it had begun, and what it came to is observed.
pub(super) struct Settled;

fn probe_outcome(came: Came) -> (ProbeOutcome, String) {
    match came {
        Came::Ended(End::Code(0), said) => (ProbeOutcome::Success, said),
        Came::Ended(End::Code(_) | End::Late, said) => (ProbeOutcome::Failure, said),
        Came::Ended(End::NotRun(error), _) => (ProbeOutcome::Unknown, error.to_string()),
        Came::Answered(outcome, message) => (of_prober(outcome), message),
        Came::Slept => (ProbeOutcome::Success, String::new()),
        Came::Not(why) => (ProbeOutcome::Unknown, why),
    }
}

fn of_prober(outcome: Outcome) -> ProbeOutcome {
    match outcome {
        Outcome::Success => ProbeOutcome::Success,
        Outcome::Warning => ProbeOutcome::Warning,
        Outcome::Failure => ProbeOutcome::Failure,
        Outcome::Unknown => ProbeOutcome::Unknown,
    }
}
