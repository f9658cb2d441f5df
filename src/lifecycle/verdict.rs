//! Whether a container that ended comes back (`ShouldContainerBeRestarted`, `ContainerShouldRestart`).

use super::facts::{Exit, Facts, State};
use super::spec::{C, Policy, Role, Spec};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it ended.
    Done,
    Restart,
    /// A rule wants every container of the pod to start over (KEP 5532).
    RestartAll,
}

/// What the rules say about this end, in the kubelet's order: the container's own rules, its own policy, the pod's policy.
/// Whether the pod goes on at all is another question.
pub fn verdict(spec: &Spec, c: C, exit: &Exit) -> Verdict {
    let asked = spec.container(c);
    if asked.role == Role::Ephemeral {
        return Verdict::Done;
    }
    let policy = asked.restart_policy.unwrap_or(spec.restart_policy);
    let restart = |yes| if yes { Verdict::Restart } else { Verdict::Done };
    if exit.sentenced {
        // A probe's sentence is no exit that rules or OnFailure could judge: a clean end on SIGTERM comes back too.
        return restart(policy != Policy::Never);
    }
    if asked.role == Role::Init && !exit.failed() {
        return Verdict::Done;
    }
    if asked.restart_policy.is_some()
        && let Some(rule) = asked.restart_rules.iter().find(|rule| rule.fits(exit.code))
    {
        return if rule.all_containers { Verdict::RestartAll } else { Verdict::Restart };
    }
    restart(policy.restarts(exit.failed()))
}

/// Whether this container has ended and will be started again, if its pod goes on; then how it ended. A RestartAllContainers that a
/// lost sandbox has overtaken is a restart like any other.
pub fn comes_back<'a>(spec: &Spec, facts: &'a Facts, c: C) -> Option<&'a Exit> {
    match &facts.container(c).state {
        State::Exited(exit) if verdict(spec, c, exit) == Verdict::Restart => Some(exit),
        State::Exited(exit) if verdict(spec, c, exit) == Verdict::RestartAll && exit.round != facts.round => Some(exit),
        _ => None,
    }
}

/// Whether this container has ended for good.
pub fn is_done(spec: &Spec, facts: &Facts, c: C) -> bool {
    matches!(&facts.container(c).state, State::Exited(exit) if verdict(spec, c, exit) == Verdict::Done)
}
