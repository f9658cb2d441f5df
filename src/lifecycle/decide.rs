//! What to do now: [`decide`]. Either the pod converges to what its manifest wants, or it drains; nothing else.

use super::ending::{Drain, Why, deadline, drain};
use super::facts::{Cause, Doom, Facts, Notice, Phase, PreStop, Running, SandboxState, State};
use super::look::turns;
use super::observe::RETRY_MS;
use super::phase;
use super::spec::{C, Policy, Role, Spec};
use super::verdict::comes_back;

/// Between the stop signal and the kill lies at least this (milliseconds), however little grace is left (`minimumGracePeriodInSeconds`).
pub const FLOOR_MS: u64 = 2_000;

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make the pause and the network; answered by SandboxReady or SandboxFailed. `attempt` above 0 means the one before was lost.
    StartSandbox { attempt: u32 },
    /// Kill the pause, take the network down; answered by SandboxGone.
    StopSandbox,
    /// Start the next instance; `restart` is its restartCount and so names its log file. Answered by Starting, Spawned or StartFailed.
    Start { c: C, restart: u32 },
    /// Give up a start that was answered by Starting; answered by Aborted.
    Abort(C),
    /// Run the preStop hook; answered by PreStopSent, later by HookDone.
    PreStop(C),
    /// Send the stop signal to the main process; answered by TermSent.
    Term(C),
    /// Kill every process of the container; answered by KillSent, later by Exited.
    Kill(C),
    /// Record a Kubernetes event about the container with this message (reason: the notice's name); answered by Told.
    Tell { c: C, notice: Notice, message: String },
    /// Remove all containers (RestartAllContainers); sandbox and volumes stay. Answered by ResetDone.
    Reset,
    /// Nothing runs any more and nothing will: the pod's last phase. Answered by Finished.
    Finish(Phase),
}

/// The actions due at `now` (monotonic milliseconds), and the earliest later moment at which the answer, or what the status
/// shows, may change without an event. At most one of the actions starts something, so that every start sees what came of the one before.
pub fn decide(spec: &Spec, facts: &Facts, now: u64) -> (Vec<Action>, Option<u64>) {
    let mut turn = Turn { spec, facts, now, actions: Vec::new(), wake: None };
    if facts.finished.is_some() {
        return (turn.actions, None);
    }
    let drain = drain(spec, facts, now);
    match &drain {
        Some(drain) => turn.drain(drain),
        None => turn.converge(),
    }
    if !drain.is_some_and(|drain| drain.ends) {
        turn.wake_at(deadline(spec, facts));
    }
    spec.all().chain(facts.ephemerals()).for_each(|c| turn.wake_at(turns(spec, facts, c, now)));
    (turn.actions, turn.wake)
}

/// One answer, as it comes about.
struct Turn<'a> {
    spec: &'a Spec,
    facts: &'a Facts,
    now: u64,
    actions: Vec<Action>,
    wake: Option<u64>,
}

impl Turn<'_> {
    fn wake_at(&mut self, moment: Option<u64>) {
        self.wake = [self.wake, moment.filter(|at| *at > self.now)].into_iter().flatten().min();
    }

    fn run(&self, c: C) -> Option<&Running> {
        match &self.facts.container(c).state {
            State::Running(run) => Some(run),
            _ => None,
        }
    }

    fn runs(&self, c: C) -> bool {
        self.run(c).is_some()
    }

    // --- converge: what the manifest wants and is not there yet ---------------------------------

    fn converge(&mut self) {
        match self.facts.sandbox.state {
            SandboxState::None => return self.actions.push(Action::StartSandbox { attempt: self.facts.sandbox.attempt }),
            SandboxState::Failed { at, .. } => {
                let retry = at.mono.saturating_add(RETRY_MS);
                if retry <= self.now {
                    self.actions.push(Action::StartSandbox { attempt: self.facts.sandbox.attempt });
                }
                return self.wake_at(Some(retry));
            }
            // A dead sandbox is a reason to drain.
            SandboxState::Ready | SandboxState::Dead => {}
        }
        for c in self.spec.all() {
            if let Some(doom) = self.run(c).and_then(|run| run.doom.clone()) {
                self.stop(c, doom.until, true, || sentence(self.spec, c, &doom));
            }
            self.tell_back_off(c);
        }
        // Not held up by anything that holds the others up: it may be there to find out what that is.
        for c in self.facts.ephemerals() {
            let container = self.facts.container(c);
            if container.starting.is_none() && matches!(container.state, State::Waiting | State::Refused(_)) {
                self.start(c);
            }
        }
        // Starts are sequential: the next waits for this one's pull and postStart.
        let busy = self.spec.all().any(|c| self.facts.container(c).starting.is_some() || self.run(c).is_some_and(|run| run.hook_pending));
        if !busy {
            self.start_what_is_due();
        }
    }

    fn tell_back_off(&mut self, c: C) {
        let Some(exit) = comes_back(self.spec, self.facts, c) else { return };
        if !exit.told && self.due(c) > self.now {
            let message = format!("Back-off restarting failed container {} in pod {}", self.spec.container(c).name, self.spec);
            self.actions.push(Action::Tell { c, notice: Notice::BackOff, message });
        }
    }

    /// The gate between two entries of `initContainers` looks only at the one before it: an earlier sidecar that waits in
    /// back-off holds nobody up (`computeInitContainerActions`).
    fn start_what_is_due(&mut self) {
        let inits: Vec<C> = self.spec.inits().collect();
        let reached = inits.iter().rposition(|c| self.in_this_round(*c));
        for c in inits.iter().take(reached.map_or(0, |last| last + 1)) {
            if !self.runs(*c) && !self.has_succeeded(*c) {
                self.start(*c);
            }
        }
        // An app container of this round proves that the gates were open once; they are not asked again.
        let app_made = self.spec.apps().any(|c| self.in_this_round(c));
        let open = reached.is_none_or(|last| self.lets_on(inits[last]));
        let next = reached.map_or(0, |last| last + 1);
        match inits.get(next) {
            Some(c) if open && !app_made => self.start(*c),
            None if open || app_made => {
                let spec = self.spec;
                for c in spec.apps() {
                    let idle = matches!(self.facts.container(c).state, State::Waiting | State::Refused(_));
                    if idle || comes_back(spec, self.facts, c).is_some() {
                        self.start(c);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether an instance of it was made since the pod last began at its first init container.
    fn in_this_round(&self, c: C) -> bool {
        let container = self.facts.container(c);
        match &container.state {
            State::Running(run) => run.round == self.facts.round,
            State::Exited(exit) => exit.round == self.facts.round,
            State::Waiting | State::Refused(_) => container.last.as_ref().is_some_and(|exit| exit.round == self.facts.round),
        }
    }

    fn has_succeeded(&self, c: C) -> bool {
        let State::Exited(exit) = &self.facts.container(c).state else { return false };
        self.spec.role(c) == Role::Init && exit.round == self.facts.round && !exit.failed()
    }

    /// Whether what stands behind this init container or sidecar may start.
    fn lets_on(&self, c: C) -> bool {
        match self.spec.role(c) {
            Role::Sidecar => self.run(c).is_some_and(Running::started),
            _ => self.has_succeeded(c),
        }
    }

    fn due(&self, c: C) -> u64 {
        let container = self.facts.container(c);
        match &container.state {
            State::Refused(refusal) => refusal.retry,
            State::Exited(exit) => container.backoff.due(exit, container.last.as_ref()),
            State::Waiting | State::Running(_) => self.now,
        }
    }

    fn start(&mut self, c: C) {
        let (due, container) = (self.due(c), self.facts.container(c));
        if due > self.now {
            return self.wake_at(Some(due));
        }
        if !self.actions.iter().any(|action| matches!(action, Action::Start { .. })) {
            self.actions.push(Action::Start { c, restart: container.restarts + u32::from(container.made) });
        }
    }

    // --- drain: everything stops, and then the pod ends or begins again --------------------------

    fn drain(&mut self, drain: &Drain) {
        let mut still = false;
        for c in self.spec.all().chain(self.facts.ephemerals()) {
            if self.facts.container(c).starting.is_some() {
                self.actions.push(Action::Abort(c));
                still = true;
            }
            let Some(run) = self.run(c) else { continue };
            still = true;
            let doomed = run.doom.as_ref().map(|doom| doom.until);
            let until = doomed.map_or(drain.until, |doomed| doomed.min(drain.until));
            let turn = doomed.is_some() || self.is_its_turn(c, drain);
            let message = if drain.why == Why::RestartAll { "killing".into() } else { stopping(self.spec, c) };
            self.stop(c, until, turn, || message);
        }
        if still {
            return;
        }
        let sandbox = matches!(self.facts.sandbox.state, SandboxState::Ready | SandboxState::Dead);
        self.actions.push(match drain.why {
            Why::RestartAll if !drain.ends => Action::Reset,
            _ if sandbox => Action::StopSandbox,
            _ => Action::Finish(phase::last(self.spec, self.facts, self.now)),
        });
    }

    /// Apps and plain inits stop at once. A sidecar waits until all apps and all later sidecars have ended, or the grace has.
    /// RestartAllContainers takes its victims one by one: the apps in order, then the sidecars and inits from the last. Nobody waits for
    /// an ephemeral container, nor does it for anybody (`newTerminationOrdering` knows none).
    fn is_its_turn(&self, c: C, drain: &Drain) -> bool {
        if self.spec.role(c) == Role::Ephemeral {
            return true;
        }
        if drain.why == Why::RestartAll {
            return self.spec.apps().chain(self.spec.inits().rev()).find(|c| self.runs(*c)) == Some(c);
        }
        self.spec.role(c) != Role::Sidecar
            || self.now >= drain.until
            || !self.spec.all().any(|other| match self.spec.role(other) {
                Role::App => self.runs(other),
                Role::Sidecar => other > c && self.runs(other),
                Role::Init | Role::Ephemeral => false,
            })
    }

    /// The way to the end of one container: it is told, preStop runs, its turn comes, the stop signal, the kill.
    fn stop(&mut self, c: C, until: u64, turn: bool, message: impl FnOnce() -> String) {
        let Some(run) = self.run(c) else { return };
        let (term, kill, pre_stop, told) = (run.term, run.kill, run.pre_stop, run.told);
        if !told {
            self.actions.push(Action::Tell { c, notice: Notice::Killing, message: message() });
        }
        let Some(term) = term else {
            let hooked = self.spec.container(c).pre_stop && pre_stop != PreStop::Done && self.now < until;
            if hooked && pre_stop == PreStop::NotSent {
                self.actions.push(Action::PreStop(c));
            }
            if !hooked && turn {
                self.actions.push(Action::Term(c));
            }
            return self.wake_at(Some(until));
        };
        let at = term.mono.saturating_add(FLOOR_MS).max(until);
        if kill.is_none() && at <= self.now {
            self.actions.push(Action::Kill(c));
        }
        self.wake_at(Some(at));
    }
}

fn stopping(spec: &Spec, c: C) -> String {
    format!("Stopping container {}", spec.container(c).name)
}

/// The `Killing` message for a container that is killed while its pod goes on.
fn sentence(spec: &Spec, c: C, doom: &Doom) -> String {
    let asked = spec.container(c);
    let probe = match doom.why {
        Cause::PostStart(_) => return "FailedPostStartHook".into(),
        Cause::Resize => return format!("Container {} resize requires restart", asked.name),
        Cause::Liveness => "liveness",
        Cause::Startup => "startup",
    };
    match asked.role {
        Role::Sidecar => format!("Init container {} failed {probe} probe", asked.name),
        _ if asked.restart_policy.unwrap_or(spec.restart_policy) == Policy::Never => stopping(spec, c),
        _ => format!("Container {} failed {probe} probe, will be restarted", asked.name),
    }
}
