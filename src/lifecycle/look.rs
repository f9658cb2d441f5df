//! What a container shows: waiting, and why; running; or terminated. The waiting reasons are read off the same facts, and with the
//! same functions, as the decision to wait, so that what is shown and what is done cannot disagree.

use super::ending::{Why, drain};
use super::facts::{Facts, Refusal, Refused, State};
use super::spec::{C, Role, Spec};
use super::verdict::comes_back;

/// A fresh failure is shown by its own name for so long (milliseconds), before the wait that follows it is shown.
pub const FRESH_MS: u64 = 2_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// If the container has ended, that end is now its `lastState`.
    Waiting(Waiting),
    Running,
    Exited,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: Option<String>,
}

impl Waiting {
    fn new(reason: &str, message: &str) -> Waiting {
        Waiting { reason: reason.into(), message: Some(message.into()).filter(|m: &String| !m.is_empty()) }
    }
}

/// What this container shows at `now` (monotonic milliseconds).
pub fn look(spec: &Spec, facts: &Facts, c: C, now: u64) -> Look {
    let container = facts.container(c);
    // An ended pod does not change any more.
    let now = facts.finished.map_or(now, |(_, at)| at.mono);
    let drain = drain(spec, facts, now);
    // Of a pod being deleted nothing comes back, so nothing says why it has not come back yet.
    let deleted = drain.is_some_and(|drain| drain.why == Why::Deleted);
    let turn_to_come = || Look::Waiting(Waiting::new(if spec.inits().next().is_some() { "PodInitializing" } else { "ContainerCreating" }, ""));
    match &container.state {
        State::Refused(refusal) if !deleted => Look::Waiting(refused(spec, c, refusal, now)),
        State::Waiting | State::Refused(_) => turn_to_come(),
        State::Running(run) if run.hook_pending && drain.is_none() => turn_to_come(),
        State::Running(_) => Look::Running,
        State::Exited(exit) if exit.round != facts.round && drain.is_none() && matches!(spec.role(c), Role::Init | Role::Sidecar) => turn_to_come(),
        State::Exited(exit) if deleted || drain.is_some_and(|drain| exit.finished.mono >= drain.since) => Look::Exited,
        State::Exited(exit) if comes_back(spec, facts, c).is_some() => {
            let end = exit.finished.mono;
            let wait = container.backoff.due(exit, container.last.as_ref()) - end;
            match &exit.label {
                Some((reason, message)) if wait == 0 || now < end.saturating_add(FRESH_MS) => Look::Waiting(Waiting::new(reason, message)),
                _ if wait > 0 => Look::Waiting(crash_loop(spec, c, wait)),
                _ => Look::Exited,
            }
        }
        State::Exited(_) => Look::Exited,
    }
}

/// When a look that does not depend on any event changes by itself, if it is later than `now`.
pub fn turns(spec: &Spec, facts: &Facts, c: C, now: u64) -> Option<u64> {
    let fresh = match &facts.container(c).state {
        State::Refused(Refusal { kind: Refused::Pull, at, .. }) => at.mono,
        State::Exited(exit) if exit.label.is_some() && comes_back(spec, facts, c).is_some() => exit.finished.mono,
        _ => return None,
    };
    Some(fresh.saturating_add(FRESH_MS)).filter(|at| *at > now)
}

fn refused(spec: &Spec, c: C, refusal: &Refusal, now: u64) -> Waiting {
    if refusal.kind == Refused::Pull && now >= refusal.at.mono.saturating_add(FRESH_MS) {
        let image = refusal.image.as_ref().unwrap_or(&spec.container(c).image);
        return Waiting::new("ImagePullBackOff", &format!("Back-off pulling image \"{image}\": {}: {}", refusal.reason, refusal.message));
    }
    Waiting::new(&refusal.reason, &refusal.message)
}

fn crash_loop(spec: &Spec, c: C, wait: u64) -> Waiting {
    let name = &spec.container(c).name;
    Waiting::new("CrashLoopBackOff", &format!("back-off {} restarting failed container={name} pod={spec}", duration(wait)))
}

/// A wait as Go prints it: `20s`, `2m40s`, `5m0s`. The tools that read the message know no other form.
fn duration(ms: u64) -> String {
    let (minutes, seconds, rest) = (ms / 60_000, ms / 1000 % 60, ms % 1000);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:03}").trim_end_matches('0').to_owned() };
    match minutes {
        0 => format!("{seconds}{fraction}s"),
        1..60 => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{}h{}m{seconds}{fraction}s", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn a_wait_is_told_as_go_does() {
        let told = [1_500, 10_000, 80_000, 160_000, 300_000, 3_600_000].map(duration);
        assert_eq!(told, ["1.5s", "10s", "1m20s", "2m40s", "5m0s", "1h0m0s"]);
    }
}
