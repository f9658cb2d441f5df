//! Watches a pod from outside: knows only the events and the actions, and the rules. None of the engine's own derivations is used,
//! so that a fault there cannot excuse itself.

use minipod::lifecycle::{Action, C, Event, FailedAt, Hook, Notice, Phase, Policy, Role, Spec};

const FLOOR: u64 = 2_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    pub starting: bool,
    pub running: bool,
    pub hook_pending: bool,
    pub passed: bool,
    pub doom: Option<(u64, u64)>,
    pub by_probe: bool,
    pub told: bool,
    pub pre: Option<bool>,
    pub term: Option<u64>,
    pub kill: bool,
    /// Of its last end: when, with which code, whether an out-of-memory kill or a failed start, whether a probe wanted it.
    pub ended: Option<(u64, i32, bool)>,
    pub ended_before: Option<u64>,
    /// When it was started last, and how long the wait before its next restart must be.
    pub restarted: u64,
    pub tried: bool,
    pub wait: u64,
    /// A start that made nothing: not again before.
    pub refused: Option<u64>,
    pub pull_wait: u64,
    /// Since the pod last began at its first init container: made; once started (sidecar) or successful (init).
    pub made: bool,
    pub opened: bool,
    pub ever_made: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Watch {
    pub seen: Vec<Seen>,
    pub sandbox: bool,
    pub dead: bool,
    pub sandboxes: u32,
    /// Causes to stop everything: since, until, whether the pod goes on.
    pub stop: Option<(u64, u64)>,
    pub evicted: Option<u64>,
    pub lost: Option<u64>,
    /// A rule wanted all containers to start over.
    pub all: Option<u64>,
    pub finished: Option<Phase>,
    /// How many ephemeral containers have been asked for.
    pub added: usize,
}

impl Watch {
    pub fn new(spec: &Spec) -> Watch {
        Watch { seen: vec![Seen::default(); spec.containers.len() + spec.ephemerals.len()], ..Watch::default() }
    }

    pub fn event(&mut self, spec: &Spec, event: &Event, now: u64) {
        match event {
            Event::SandboxReady { .. } => {
                (self.sandbox, self.lost) = (true, None);
                self.sandboxes += 1;
            }
            Event::SandboxDied if self.sandbox && !self.dead => {
                // Everything begins again anyway.
                (self.dead, self.lost, self.all) = (true, Some(now), None);
                self.begin_again();
            }
            Event::SandboxGone => (self.sandbox, self.dead) = (false, false),
            Event::StopAsked { grace_seconds } => {
                let until = now + grace_seconds.unwrap_or(spec.grace_seconds) * 1000;
                self.stop = Some(self.stop.map_or((now, until), |(since, before)| (since, before.min(until))));
            }
            Event::Evicted { .. } => self.evicted = self.evicted.or(Some(now)),
            Event::ResetDone => {
                self.all = None;
                self.begin_again();
                for seen in &mut self.seen {
                    // A pull that failed before anything was made waits on: there was nothing to remove.
                    let refused = seen.refused.filter(|_| seen.ended.is_none());
                    *seen = Seen { ever_made: seen.ever_made, pull_wait: seen.pull_wait, refused, ..Seen::default() };
                }
            }
            Event::EphemeralAdded => self.added += 1,
            Event::Finished(phase) => self.finished = Some(*phase),
            Event::Starting(c) => self.seen[c.0].starting = true,
            Event::Aborted(c) => self.seen[c.0].starting = false,
            Event::Spawned(c, _) => self.spawned(spec, *c, now),
            Event::StartFailed(c, failure) if failure.at == FailedAt::Run => {
                self.spawned(spec, *c, now);
                self.ended(spec, *c, 128, now);
            }
            Event::StartFailed(c, failure) => {
                self.tried(spec, *c, now);
                let seen = &mut self.seen[c.0];
                let pulls = failure.reason == "ErrImagePull";
                let wait = if pulls { seen.pull_wait.max(10_000) } else { 10_000 };
                seen.pull_wait = if pulls { (wait * 2).min(300_000) } else { seen.pull_wait };
                (seen.starting, seen.refused) = (false, Some(now + wait));
            }
            Event::Exited(c, ended) if self.seen[c.0].running => self.ended(spec, *c, ended.code, now),
            Event::Started(c) if self.seen[c.0].running => {
                self.seen[c.0].passed = true;
                self.open_sidecar(spec, *c);
            }
            Event::HookDone(c, Hook::PostStart, Ok(())) if self.seen[c.0].running => {
                self.seen[c.0].hook_pending = false;
                self.open_sidecar(spec, *c);
            }
            Event::HookDone(c, Hook::PostStart, Err(_)) => self.doom(*c, now, spec.grace_seconds * 1000, false),
            Event::HookDone(c, Hook::PreStop, _) => self.seen[c.0].pre = self.seen[c.0].pre.map(|_| true),
            Event::Resized(c) => self.doom(*c, now, spec.grace_seconds * 1000, true),
            Event::ProbeFailed(c, probe) => {
                let asked = spec.container(*c);
                let own = match probe {
                    minipod::lifecycle::Probe::Startup => asked.startup,
                    minipod::lifecycle::Probe::Liveness => asked.liveness,
                };
                let grace = own.and_then(|own| own.grace_seconds).unwrap_or(spec.grace_seconds);
                self.doom(*c, now, grace * 1000, true);
            }
            _ => {}
        }
    }

    fn begin_again(&mut self) {
        for seen in &mut self.seen {
            (seen.made, seen.opened) = (false, false);
        }
    }

    /// The first try to start it after an end, whatever comes of it.
    fn tried(&mut self, spec: &Spec, c: C, now: u64) {
        let (seen, first) = (&mut self.seen[c.0], spec.max_backoff_ms.min(10_000));
        let Some((end, ..)) = seen.ended.filter(|_| !seen.tried) else { return };
        seen.tried = true;
        // The look that led to this restart saw this end, or, in the sync of a probe's kill, the one before.
        let saw = match (seen.by_probe, seen.ended_before) {
            (false, _) => Some(end),
            (true, None) => None,
            (true, Some(before)) if now == end => Some(before),
            (true, Some(_)) => Some(end),
        };
        if let Some(saw) = saw {
            let goes_on = seen.wait > 0 && saw.saturating_sub(seen.restarted) <= 600_000;
            seen.wait = if goes_on { (seen.wait * 2).min(spec.max_backoff_ms) } else { first };
            seen.restarted = now;
        }
        seen.ended_before = Some(end);
    }

    fn spawned(&mut self, spec: &Spec, c: C, now: u64) {
        self.tried(spec, c, now);
        let (seen, asked) = (&mut self.seen[c.0], spec.container(c));
        (seen.starting, seen.running, seen.made, seen.ever_made) = (false, true, true, true);
        (seen.hook_pending, seen.passed) = (asked.post_start, asked.startup.is_none());
        (seen.doom, seen.by_probe, seen.told, seen.pre, seen.term, seen.kill) = (None, false, false, None, None, false);
        (seen.refused, seen.pull_wait) = (None, 0);
        self.open_sidecar(spec, c);
    }

    fn ended(&mut self, spec: &Spec, c: C, code: i32, now: u64) {
        let asked = spec.container(c);
        let stopping = self.stop.is_some()
            || self.evicted.is_some()
            || self.lost.is_some()
            || self.all.is_some()
            || self.deadline(spec).is_some_and(|at| at <= now)
            || self.nothing_left(spec);
        let seen = &mut self.seen[c.0];
        (seen.running, seen.tried, seen.ended) = (false, false, Some((now, code, seen.by_probe)));
        seen.opened |= asked.role == Role::Init && code == 0 && self.lost.is_none();
        let rule = asked.restart_policy.and_then(|_| asked.restart_rules.iter().find(|rule| rule.codes.contains(&code) != rule.not_in));
        let failed_init = asked.role != Role::Init || code != 0;
        if !stopping && failed_init && !seen.by_probe && rule.is_some_and(|rule| rule.all_containers) {
            self.all = Some(now);
        }
    }

    fn open_sidecar(&mut self, spec: &Spec, c: C) {
        let seen = &mut self.seen[c.0];
        seen.opened |= spec.role(c) == Role::Sidecar && seen.running && !seen.hook_pending && seen.passed && self.lost.is_none();
    }

    fn doom(&mut self, c: C, now: u64, grace: u64, by_probe: bool) {
        let seen = &mut self.seen[c.0];
        if seen.running && seen.doom.is_none() {
            (seen.doom, seen.by_probe) = (Some((now, now + grace)), by_probe);
        }
    }

    fn deadline(&self, spec: &Spec) -> Option<u64> {
        spec.active_deadline_seconds.map(|seconds| super::EPOCH + seconds * 1000)
    }

    /// Whether the policies bring this container back after its last end.
    fn returns(&self, spec: &Spec, c: C) -> bool {
        let (asked, seen) = (spec.container(c), &self.seen[c.0]);
        let Some((_, code, by_probe)) = seen.ended else { return true };
        let policy = asked.restart_policy.unwrap_or(spec.restart_policy);
        if by_probe {
            return policy != Policy::Never;
        }
        if asked.role == Role::Init && code == 0 {
            return false;
        }
        if asked.restart_policy.is_some() && asked.restart_rules.iter().any(|rule| rule.codes.contains(&code) != rule.not_in) {
            return true;
        }
        policy == Policy::Always || policy == Policy::OnFailure && code != 0
    }

    fn nothing_left(&self, spec: &Spec) -> bool {
        let over = |c: C| !self.seen[c.0].running && self.seen[c.0].ended.is_some() && !self.returns(spec, c);
        spec.apps().all(|c| over(c) && self.seen[c.0].refused.is_none())
            || spec.inits().any(|c| spec.role(c) == Role::Init && over(c) && self.seen[c.0].made && self.seen[c.0].ended.is_some_and(|(_, code, _)| code != 0))
    }

    /// Whether any container of the manifest was ever made.
    fn has_begun(&self, spec: &Spec) -> bool {
        spec.all().any(|c| self.seen[c.0].ever_made)
    }

    fn added(&self, spec: &Spec) -> impl Iterator<Item = C> + use<> {
        (spec.containers.len()..spec.containers.len() + self.added).map(C)
    }

    fn idle(&self) -> bool {
        self.seen.iter().all(|seen| !seen.running && !seen.starting)
    }

    /// Whether everything must stop.
    fn stops(&self, spec: &Spec, now: u64) -> bool {
        self.stop.is_some()
            || self.evicted.is_some()
            || self.dead
            || self.all.is_some()
            || self.deadline(spec).is_some_and(|at| at <= now)
            || self.nothing_left(spec)
    }

    pub fn action(&self, spec: &Spec, action: &Action, now: u64) {
        let name = |c: &C| spec.container(*c).name.as_str();
        assert_eq!(self.finished, None, "{action:?} after the end");
        match action {
            Action::StartSandbox { attempt } => {
                assert!(!self.sandbox, "a second sandbox");
                assert_eq!(*attempt, self.sandboxes, "the sandboxes are counted");
                assert!(!self.stops(spec, now), "a sandbox for a pod that stops");
                assert!(spec.restart_policy != Policy::Never || !self.has_begun(spec), "Never, and yet a new sandbox");
            }
            Action::StopSandbox => assert!(self.sandbox && self.idle(), "the sandbox goes before its containers"),
            Action::Start { c, .. } => self.start(spec, *c, now),
            Action::Abort(c) => assert!(self.seen[c.0].starting && self.stops(spec, now), "{} is given up for nothing", name(c)),
            Action::PreStop(c) => {
                let seen = &self.seen[c.0];
                assert!(seen.running && seen.pre.is_none() && seen.term.is_none(), "preStop of {} out of place", name(c));
                assert!(seen.told, "preStop of {} before Killing is told", name(c));
            }
            Action::Term(c) => self.term(spec, *c, now),
            Action::Kill(c) => self.kill(spec, *c, now),
            Action::Tell { c, notice: Notice::Killing, .. } => assert!(self.seen[c.0].running && !self.seen[c.0].told, "{} is told twice", name(c)),
            Action::Tell { c, .. } => assert!(!self.seen[c.0].running && self.seen[c.0].ended.is_some(), "{} does not wait", name(c)),
            Action::Reset => assert!(self.idle() && self.all.is_some() && self.sandbox && !self.dead, "a reset out of place"),
            Action::Finish(phase) => self.finish(spec, *phase, now),
        }
    }

    /// What an action does to what is seen, once it was allowed.
    pub fn did(&mut self, action: &Action, now: u64) {
        match action {
            Action::PreStop(c) => self.seen[c.0].pre = Some(false),
            Action::Term(c) => self.seen[c.0].term = Some(now),
            Action::Kill(c) => self.seen[c.0].kill = true,
            Action::Tell { c, notice: Notice::Killing, .. } => self.seen[c.0].told = true,
            _ => {}
        }
    }

    fn start(&self, spec: &Spec, c: C, now: u64) {
        let (asked, seen) = (spec.container(c), &self.seen[c.0]);
        let name = &asked.name;
        assert!(self.sandbox && !self.dead, "{name} starts without a sandbox");
        assert!(!seen.running && !seen.starting, "{name} starts twice");
        assert!(!self.stops(spec, now), "{name} starts although everything stops");
        if asked.role == Role::Ephemeral {
            assert!(!seen.ever_made, "the ephemeral {name} is started again");
            assert!(self.added(spec).any(|added| added == c), "nobody has asked for {name}");
            return assert!(seen.refused.is_none_or(|due| now >= due), "{name} is started too early");
        }
        for other in spec.all() {
            let there = &self.seen[other.0];
            assert!(!(there.starting || there.running && there.hook_pending), "{name} overtakes the start of {}", spec.container(other).name);
        }
        let app_made = spec.apps().any(|app| self.seen[app.0].made);
        if asked.role != Role::App {
            assert!(!app_made || asked.role == Role::Sidecar, "{name} is initialization, after an app has started");
        }
        if !app_made {
            for before in spec.inits().take_while(|before| *before != c) {
                assert!(self.seen[before.0].opened, "{name} starts before {} has opened the gate", spec.container(before).name);
            }
        }
        if asked.role == Role::Init {
            assert!(!seen.opened, "{name} has succeeded and runs again");
        }
        // Whatever has begun again at the first init container runs again; an app only by its policy.
        if seen.made || asked.role == Role::App {
            assert!(self.returns(spec, c), "{name} is restarted against its policy");
        }
        let due = self.due(c).unwrap_or(now);
        assert!(now >= due, "{name} is started {} ms too early", due - now);
    }

    /// The first moment at which this container may be started again, if it waits at all.
    fn due(&self, c: C) -> Option<u64> {
        let seen = &self.seen[c.0];
        if seen.refused.is_some() {
            return seen.refused;
        }
        let (end, ..) = seen.ended?;
        let at_once = match (seen.by_probe, seen.ended_before) {
            (false, _) => seen.wait == 0 || end - seen.restarted > 600_000,
            (true, None) => true,
            (true, Some(before)) => seen.wait == 0 || before.saturating_sub(seen.restarted) > 600_000 || end - before >= seen.wait,
        };
        Some(if at_once { end } else { end + seen.wait })
    }

    /// Whatever may start has been started, or the alarm is set for it.
    fn nothing_is_forgotten(&self, spec: &Spec, now: u64, wake: Option<u64>) {
        if !self.sandbox || self.stops(spec, now) {
            return;
        }
        for c in self.added(spec).filter(|c| !self.seen[c.0].ever_made && !self.seen[c.0].starting) {
            let (due, name) = (self.seen[c.0].refused.unwrap_or(now), &spec.container(c).name);
            assert!(due > now && wake.is_some_and(|wake| wake <= due), "the ephemeral {name} is held up");
        }
        if spec.all().map(|c| &self.seen[c.0]).any(|seen| seen.starting || seen.running && seen.hook_pending) {
            return;
        }
        let opened = |c: &C| self.seen[c.0].opened;
        let past_inits = spec.apps().any(|app| self.seen[app.0].made) || spec.inits().all(|c| opened(&c));
        let at = spec.inits().find(|c| !opened(c)).filter(|_| !past_inits);
        let sidecars = spec.inits().filter(|c| spec.role(*c) == Role::Sidecar && opened(c));
        let apps = spec.apps().filter(|c| past_inits && self.returns(spec, *c));
        // A sidecar that was open and has not started again closes the gate behind it, if it was the last one made.
        let last_made = spec.inits().rev().find(|c| self.seen[c.0].made).filter(|_| !spec.apps().any(|app| self.seen[app.0].made));
        let held = last_made.is_some_and(|c| spec.role(c) == Role::Sidecar && !(self.seen[c.0].running && self.seen[c.0].passed));
        for c in sidecars.chain(at.filter(|_| !held)).chain(apps.filter(|_| !held)).filter(|c| !self.seen[c.0].running) {
            let (due, name) = (self.due(c).unwrap_or(now), &spec.container(c).name);
            assert!(due > now, "{name} is not started, though nothing holds it up");
            assert!(wake.is_some_and(|wake| wake <= due), "the alarm comes too late for {name}");
        }
    }

    /// When the grace of this container is used up, by everything that wanted it to stop before the end was settled, or asked for it.
    fn until(&self, spec: &Spec, c: C, now: u64) -> Option<u64> {
        let grace = spec.grace_seconds * 1000;
        let deadline = self.deadline(spec).filter(|at| *at <= now);
        let done = self.nothing_left(spec).then(|| self.done_at(spec)).flatten().filter(|_| self.all.is_none());
        let fatal = self.lost.filter(|_| spec.restart_policy == Policy::Never && self.has_begun(spec));
        let asked = self.stop.map(|(since, _)| since);
        let end = [deadline, done, fatal, asked, self.evicted].into_iter().flatten().min().unwrap_or(u64::MAX);
        let with_grace = [deadline, done, self.lost.filter(|_| self.dead)].into_iter().flatten().filter(|at| *at <= end).map(|at| at + grace);
        let doom = self.seen[c.0].doom.map(|(_, until)| until);
        // Of the kubelet, not of the pod.
        let evicted = self.evicted.filter(|at| *at <= end).map(|at| at + 1000);
        with_grace.chain(evicted).chain(self.all).chain(doom).chain(self.stop.map(|(_, until)| until)).min()
    }

    fn done_at(&self, spec: &Spec) -> Option<u64> {
        let ends = |c: C| self.seen[c.0].ended.map(|(at, ..)| at);
        let failed = spec.inits().filter(|c| spec.role(*c) == Role::Init && self.seen[c.0].made && !self.returns(spec, *c) && !self.seen[c.0].running);
        let failed = failed.filter(|c| self.seen[c.0].ended.is_some_and(|(_, code, _)| code != 0)).filter_map(ends).min();
        failed.or_else(|| spec.apps().filter_map(ends).max())
    }

    fn term(&self, spec: &Spec, c: C, now: u64) {
        let (seen, name) = (&self.seen[c.0], &spec.container(c).name);
        assert!(seen.running && seen.term.is_none(), "{name} gets a second stop signal, or is not there");
        assert!(seen.told, "{name} is stopped before it is told");
        let until = self.until(spec, c, now).unwrap_or_else(|| panic!("{name} is stopped for nothing"));
        if now >= until {
            return;
        }
        assert!(!spec.container(c).pre_stop || seen.pre == Some(true), "{name} is stopped before its preStop is done");
        if spec.role(c) == Role::Sidecar && seen.doom.is_none() {
            for other in spec.all().filter(|other| spec.role(*other) == Role::App || spec.role(*other) == Role::Sidecar && *other > c) {
                assert!(!self.seen[other.0].running, "sidecar {name} is stopped before {}", spec.container(other).name);
            }
        }
    }

    fn kill(&self, spec: &Spec, c: C, now: u64) {
        let (seen, name) = (&self.seen[c.0], &spec.container(c).name);
        assert!(seen.running && !seen.kill, "{name} is killed twice, or is not there");
        let term = seen.term.unwrap_or_else(|| panic!("{name} is killed without a stop signal"));
        let until = self.until(spec, c, now).unwrap_or_else(|| panic!("{name} is killed for nothing"));
        assert!(now >= term + FLOOR, "{name} is killed within the floor of two seconds");
        assert!(now >= until, "{name} is killed {} ms before its grace is over", until - now);
    }

    fn finish(&self, spec: &Spec, phase: Phase, now: u64) {
        assert!(self.idle() && !self.sandbox, "the last phase comes before the last process has gone");
        let fatal = self.lost.is_some() && spec.restart_policy == Policy::Never;
        let timed_out = self.evicted.is_some() || self.deadline(spec).is_some_and(|at| at <= now);
        assert!(self.stop.is_some() || fatal || timed_out || self.nothing_left(spec), "the pod ends for nothing");
        let all_zero = spec.apps().all(|c| self.seen[c.0].ended.is_some_and(|(_, code, _)| code == 0));
        match phase {
            Phase::Succeeded => assert!(all_zero, "Succeeded, although an app has not"),
            Phase::Failed if self.stop.is_none() && !timed_out && self.lost.is_none() => {
                assert!(!all_zero, "Failed, although every app has succeeded")
            }
            Phase::Failed => {}
            _ => panic!("{phase:?} is no last phase"),
        }
    }

    /// The engine has nothing to do now: then nothing may be overdue, and somebody must be able to move.
    pub fn settled(&self, spec: &Spec, now: u64, wake: Option<u64>) {
        if self.finished.is_some() {
            return assert_eq!(wake, None, "an alarm after the end");
        }
        assert!(wake.is_some() || !self.idle(), "nothing runs, nothing is due: the pod is stuck");
        self.nothing_is_forgotten(spec, now, wake);
        for c in spec.all().chain(self.added(spec)).filter(|c| self.seen[c.0].running) {
            let (seen, name) = (&self.seen[c.0], &spec.container(c).name);
            let Some(until) = self.until(spec, c, now) else { continue };
            assert!(seen.told, "nobody was told that {name} is stopped");
            if self.all.is_none() {
                assert!(now < until || seen.term.is_some(), "the grace of {name} is over, and it has no stop signal");
                let app = spec.role(c) != Role::Sidecar || seen.doom.is_some();
                let hooked = spec.container(c).pre_stop && seen.pre != Some(true);
                assert!(!app || hooked || seen.term.is_some(), "nothing holds {name} up, and it has no stop signal");
                assert!(!spec.container(c).pre_stop || seen.pre.is_some() || seen.term.is_some(), "preStop of {name} does not begin at once");
            }
            if let Some(term) = seen.term {
                assert!(seen.kill || now < until.max(term + FLOOR), "{name} outlives its grace");
            }
        }
    }
}
