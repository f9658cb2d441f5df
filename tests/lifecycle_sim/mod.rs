//! A pod without processes: a small notation for pods, and a world in which the engine's actions happen at once.
#![allow(dead_code)] // each test binary uses its own part

pub mod asking;
pub mod picture;
pub mod watch;

use asking::{Asking, Flight};
use k8s_openapi::api::core::v1::PodStatus;
use minipod::lifecycle::{
    Action, At, C, ContainerSpec, Ended, Event, Facts, FailedAt, Failure, Hook, Policy, Probe, ProbeOutcome, ProbeSpec, Role, Rule, Spec, State, decide, look,
    observe, status,
};
use watch::Watch;

/// The start of the monotonic clock; not 0, so that a forgotten subtraction shows.
pub const EPOCH: u64 = 1_000_000;

/// A pod from its notation: `POLICY [grace=S] [deadline=S] [max=S] : CONTAINER …`, a container being
/// `NAME[.init|.side|.eph][.startup][.live][.ready][.post][.pre][.Never|.OnFailure|.Always][.on42][.all42]`. A probe may have numbers:
/// `.live-d5-p1-t2-s1-f3`, delay, period and timeout in seconds, thresholds of success and failure. An ephemeral container is known
/// from the beginning, and there once it is added.
pub fn pod(notation: &str) -> Spec {
    let (head, body) = notation.split_once(':').expect("POLICY : CONTAINERS");
    let list = |ephemeral: bool| body.split_whitespace().map(container).filter(|c| (c.role == Role::Ephemeral) == ephemeral).collect();
    let mut spec = Spec {
        name: "p".into(),
        namespace: "ns".into(),
        uid: "UID".into(),
        generation: None,
        restart_policy: Policy::Always,
        grace_seconds: 30,
        active_deadline_seconds: None,
        max_backoff_ms: 300_000,
        readiness_gates: Vec::new(),
        containers: list(false),
        ephemerals: list(true),
    };
    for word in head.split_whitespace() {
        match word.split_once('=') {
            None => spec.restart_policy = policy(word).unwrap_or_else(|| panic!("no policy: {word}")),
            Some(("grace", s)) => spec.grace_seconds = s.parse().unwrap(),
            Some(("deadline", s)) => spec.active_deadline_seconds = Some(s.parse().unwrap()),
            Some(("max", s)) => spec.max_backoff_ms = s.parse::<u64>().unwrap() * 1000,
            Some(("gate", name)) => spec.readiness_gates.push(name.into()),
            Some(_) => panic!("unknown word {word}"),
        }
    }
    spec
}

fn policy(word: &str) -> Option<Policy> {
    match word {
        "Always" => Some(Policy::Always),
        "OnFailure" => Some(Policy::OnFailure),
        "Never" => Some(Policy::Never),
        _ => None,
    }
}

fn container(notation: &str) -> ContainerSpec {
    let mut words = notation.split('.');
    let mut spec = ContainerSpec::plain(words.next().unwrap(), Role::App, "busybox:1.36");
    let rule = |codes: &str, all_containers| Rule { all_containers, not_in: false, codes: vec![codes.parse().unwrap()] };
    for word in words {
        match word {
            "init" => spec.role = Role::Init,
            "eph" => spec = ContainerSpec::ephemeral(&spec.name, &spec.image),
            "side" => (spec.role, spec.restart_policy) = (Role::Sidecar, Some(Policy::Always)),
            "live60" => spec.liveness = Some(ProbeSpec { grace_seconds: Some(60), ..Default::default() }),
            "post" => spec.post_start = true,
            "pre" => spec.pre_stop = true,
            _ if word.starts_with("startup") => spec.startup = Some(probe(word)),
            _ if word.starts_with("live") => spec.liveness = Some(probe(word)),
            _ if word.starts_with("ready") => spec.readiness = Some(probe(word)),
            _ if policy(word).is_some() => spec.restart_policy = policy(word),
            _ if word.starts_with("on") => spec.restart_rules.push(rule(&word[2..], false)),
            _ if word.starts_with("all") => spec.restart_rules.push(rule(&word[3..], true)),
            _ => panic!("unknown word {word} in {notation}"),
        }
    }
    spec
}

fn probe(notation: &str) -> ProbeSpec {
    let mut probe = ProbeSpec::default();
    for word in notation.split('-').skip(1) {
        let number: u64 = word[1..].parse().unwrap();
        match &word[..1] {
            "d" => probe.initial_delay_ms = number * 1000,
            "p" => probe.period_ms = number * 1000,
            "t" => probe.timeout_ms = number * 1000,
            "s" => probe.success_threshold = number as u32,
            "f" => probe.failure_threshold = number as u32,
            _ => panic!("unknown number {word} in {notation}"),
        }
    }
    probe
}

/// How a start is answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    Spawned,
    /// The answer comes later, from outside.
    Starting,
    Pull,
    NeverPull,
    Config,
    Run,
}

#[derive(Clone)]
pub struct World<'a> {
    pub spec: &'a Spec,
    pub facts: Facts,
    pub now: u64,
    pub wake: Option<u64>,
    pub answers: Vec<Answer>,
    pub sandbox_fails: bool,
    /// Every action, with its time in milliseconds since the beginning.
    pub deeds: Vec<(u64, Action)>,
    /// Deeds and statuses are kept.
    pub tell: bool,
    pub status: Option<PodStatus>,
    pub watch: Watch,
    /// Where probes are asked; else whoever plays tells of them as he likes.
    pub asking: Option<Asking>,
}

impl<'a> World<'a> {
    /// A world in which probes are asked.
    pub fn asking(spec: &'a Spec, answer: Answer) -> World<'a> {
        World { asking: Some(Asking::new(spec)), ..World::new(spec, answer) }
    }

    pub fn new(spec: &'a Spec, answer: Answer) -> World<'a> {
        let facts = Facts::new(spec, at(EPOCH));
        let answers = vec![answer; spec.containers.len() + spec.ephemerals.len()];
        let watch = Watch::new(spec);
        World { spec, facts, now: EPOCH, wake: None, answers, sandbox_fails: false, deeds: Vec::new(), tell: true, status: None, watch, asking: None }
    }

    /// Something happens, and the engine acts until it has nothing left to do.
    pub fn happen(&mut self, event: Event) {
        self.record(event);
        self.settle();
    }

    /// An attempt is answered.
    pub fn answered(&mut self, flight: Flight, outcome: ProbeOutcome) {
        self.bring(flight, outcome);
        self.settle();
    }

    fn bring(&mut self, flight: Flight, outcome: ProbeOutcome) {
        let asking = self.asking.as_mut().expect("only where probes are asked");
        if let Some(event) = asking.answer(self.spec, &self.facts, &self.watch.seen, flight, outcome, self.now) {
            self.record(event);
        }
    }

    fn record(&mut self, event: Event) {
        self.watch.event(self.spec, &event, self.now);
        if let (Some(asking), Event::Spawned(c, _)) = (&mut self.asking, &event) {
            asking.spawned(*c, self.now);
        }
        observe(self.spec, &mut self.facts, event, at(self.now));
    }

    pub fn settle(&mut self) {
        for _ in 0..100 {
            let (actions, wake) = decide(self.spec, &self.facts, self.now);
            assert_eq!((&actions, wake), (&decide(self.spec, &self.facts, self.now).0, wake), "deciding twice is as good as once");
            assert!(wake.is_none_or(|wake| wake > self.now), "the alarm is set for the past: {wake:?} at {}", self.now);
            self.wake = wake;
            self.show();
            if actions.is_empty() {
                if self.ask() {
                    continue;
                }
                self.watch.settled(self.spec, self.now, wake);
                return self.nothing_changes_before_the_alarm();
            }
            for action in actions {
                self.watch.action(self.spec, &action, self.now);
                if self.tell {
                    self.deeds.push((self.now - EPOCH, action.clone()));
                }
                self.watch.did(&action, self.now);
                self.perform(action);
            }
        }
        panic!("the engine does not come to rest");
    }

    /// Begins the probes that are due. True: one was answered at once.
    fn ask(&mut self) -> bool {
        let Some(asking) = &mut self.asking else { return false };
        if let Some((flight, outcome)) = asking.begin(self.spec, &self.facts, &self.watch.seen, self.now) {
            self.bring(flight, outcome);
            return true;
        }
        self.wake = [self.wake, asking.probes.due(self.spec, &self.facts, self.now).1].into_iter().flatten().min();
        asking.settled(self.spec, &self.facts, &self.watch.seen, self.wake, self.now);
        false
    }

    fn show(&mut self) {
        if self.tell {
            let status = status(self.spec, &self.facts, self.status.as_ref(), at(self.now));
            picture::judge(self.spec, &self.facts, self.status.as_ref(), &status);
            self.status = Some(status);
        }
    }

    fn nothing_changes_before_the_alarm(&self) {
        let last = self.wake.map_or(self.now + 1_000_000, |wake| wake - 1);
        assert_eq!(decide(self.spec, &self.facts, last).0, [], "something is due before the alarm");
        if let Some(asking) = &self.asking {
            assert_eq!(asking.probes.due(self.spec, &self.facts, last).0, [], "a probe is due before the alarm");
        }
        for c in self.spec.all().chain(self.facts.ephemerals()) {
            let looks = [self.now, last].map(|now| look(self.spec, &self.facts, c, now));
            assert_eq!(looks[0], looks[1], "what {} shows changes before the alarm", self.spec.container(c).name);
        }
    }

    fn perform(&mut self, action: Action) {
        let event = match action {
            Action::StartSandbox { .. } if self.sandbox_fails => {
                Event::SandboxFailed { reason: "FailedCreatePodSandBox".into(), message: "no address left".into() }
            }
            Action::StartSandbox { .. } => Event::SandboxReady { ips: vec!["10.88.0.2".into()] },
            Action::StopSandbox => Event::SandboxGone,
            Action::Start { c, .. } => self.answer(c, self.answers[c.0]),
            Action::Abort(c) => Event::Aborted(c),
            Action::PreStop(c) => Event::PreStopSent(c),
            Action::Term(c) => Event::TermSent(c),
            Action::Kill(c) => Event::KillSent(c),
            Action::Tell { c, notice, .. } => Event::Told(c, notice),
            Action::Reset => Event::ResetDone,
            Action::Finish(phase) => Event::Finished(phase),
        };
        let killed = match event {
            Event::KillSent(c) => Some(c),
            _ => None,
        };
        self.record(event);
        if let Some(c) = killed {
            self.record(exit(c, 137));
        }
    }

    pub fn answer(&self, c: C, answer: Answer) -> Event {
        let failed = |at, reason: &str, message: &str| Event::StartFailed(c, Failure { at, reason: reason.into(), message: message.into(), image: None });
        match answer {
            Answer::Spawned => Event::Spawned(c, Default::default()),
            Answer::Starting => Event::Starting(c),
            Answer::Pull => failed(FailedAt::Image, "ErrImagePull", "not found"),
            Answer::NeverPull => failed(FailedAt::Image, "ErrImageNeverPull", "not present"),
            Answer::Config => failed(FailedAt::Config, "CreateContainerConfigError", "configmap \"x\" not found"),
            Answer::Run => failed(FailedAt::Run, "RunContainerError", "no such file"),
        }
    }

    /// Time passes up to `until`; the alarm rings whenever it is due.
    pub fn pass(&mut self, until: u64) {
        while let Some(wake) = self.wake.filter(|wake| *wake <= until) {
            self.now = wake;
            self.settle();
        }
        self.now = self.now.max(until);
        self.settle();
    }

    pub fn find(&self, name: &str) -> C {
        self.spec.find(name).unwrap_or_else(|| panic!("no container {name}"))
    }

    pub fn runs(&self, c: C) -> bool {
        matches!(self.facts.container(c).state, State::Running(_))
    }

    /// One word of a script. `+5` seconds pass; `a=1` a ends with code 1; `a=oom`; `a:WORD` something about a; `a!ANSWER` how a's
    /// starts are answered from now on; `stop`, `stop=5`; `add` the next ephemeral container; `lost` the sandbox; `evict`; `nosandbox`, `sandbox`.
    pub fn word(&mut self, word: &str) {
        if let Some(seconds) = word.strip_prefix('+') {
            let ms = (seconds.parse::<f64>().unwrap() * 1000.0) as u64;
            return self.pass(self.now + ms);
        }
        if let Some((name, answer)) = word.split_once('!').filter(|(name, _)| !name.contains(':')) {
            let c = self.find(name);
            self.answers[c.0] = match answer {
                "ok" => Answer::Spawned,
                "later" => Answer::Starting,
                "pull" => Answer::Pull,
                "never" => Answer::NeverPull,
                "config" => Answer::Config,
                "run" => Answer::Run,
                _ => panic!("unknown answer {answer}"),
            };
            return;
        }
        match (word, word.split_once('='), word.split_once(':')) {
            ("nosandbox", ..) => self.sandbox_fails = true,
            ("sandbox", ..) => self.sandbox_fails = false,
            ("add", ..) => self.happen(Event::EphemeralAdded),
            ("lost", ..) => self.happen(Event::SandboxDied),
            ("evict", ..) => self.happen(Event::Evicted { message: "Too much of it. ".into() }),
            ("stop", ..) => self.happen(Event::StopAsked { grace_seconds: None }),
            (_, Some(("stop", grace)), _) => self.happen(Event::StopAsked { grace_seconds: Some(grace.parse().unwrap()) }),
            (_, Some((name, "oom")), _) => {
                let c = self.find(name);
                self.happen(Event::Exited(c, Ended { code: 137, signal: None, reason: "OOMKilled".into(), message: String::new() }))
            }
            (_, Some((name, code)), _) => self.happen(exit(self.find(name), code.parse().unwrap())),
            (_, _, Some((name, what))) => {
                let c = self.find(name);
                let failed = |hook, text: &str| Event::HookDone(c, hook, Err(text.into()));
                self.happen(match what {
                    "started" => Event::Started(c),
                    "ready" => Event::ReadyChanged(c, true),
                    "unready" => Event::ReadyChanged(c, false),
                    "unhealthy" => Event::ProbeFailed(c, Probe::Liveness),
                    "resize" => Event::Resized(c),
                    "stuck" => Event::ProbeFailed(c, Probe::Startup),
                    "post" => Event::HookDone(c, Hook::PostStart, Ok(())),
                    "post!" => failed(Hook::PostStart, "hook failed"),
                    "pre" => Event::HookDone(c, Hook::PreStop, Ok(())),
                    "pre!" => failed(Hook::PreStop, "hook failed"),
                    "spawned" => Event::Spawned(c, Default::default()),
                    _ => panic!("unknown word {word}"),
                })
            }
            _ => panic!("unknown word {word}"),
        }
    }

    /// Runs a script; the pod begins before its first word, unless that says how a start or the sandbox is answered.
    pub fn play(&mut self, script: &str) {
        let prepares = |word: &&str| word.contains('!') && !word.contains(':') || *word == "nosandbox";
        let words: Vec<&str> = script.split_whitespace().collect();
        let first = words.iter().position(|word| !prepares(word)).unwrap_or(words.len());
        words[..first].iter().for_each(|word| self.word(word));
        self.settle();
        words[first..].iter().for_each(|word| self.word(word));
    }

    /// What was done: `SECONDS: deed deed | SECONDS: deed`. What was told is left out.
    pub fn story(&self) -> String {
        let mut moments: Vec<(u64, Vec<String>)> = Vec::new();
        for (at, action) in &self.deeds {
            let Some(deed) = deed(self.spec, action) else { continue };
            match moments.last_mut() {
                Some((last, deeds)) if last == at => deeds.push(deed),
                _ => moments.push((*at, vec![deed])),
            }
        }
        let moments: Vec<String> = moments.iter().map(|(at, deeds)| format!("{}: {}", *at as f64 / 1000.0, deeds.join(" "))).collect();
        moments.join(" | ")
    }
}

fn deed(spec: &Spec, action: &Action) -> Option<String> {
    let name = |c: &C| spec.container(*c).name.clone();
    Some(match action {
        Action::StartSandbox { attempt } => format!("sandbox#{attempt}"),
        Action::StopSandbox => "down".into(),
        Action::Start { c, restart: 0 } => name(c),
        Action::Start { c, restart } => format!("{}#{restart}", name(c)),
        Action::Abort(c) => format!("abort-{}", name(c)),
        Action::PreStop(c) => format!("pre-{}", name(c)),
        Action::Term(c) => format!("term-{}", name(c)),
        Action::Kill(c) => format!("kill-{}", name(c)),
        Action::Tell { .. } => return None,
        Action::Reset => "reset".into(),
        Action::Finish(phase) => phase.word().into(),
    })
}

pub fn at(mono: u64) -> At {
    At { mono, wall: 1_700_000_000_000 + mono as i64 }
}

pub fn exit(c: C, code: i32) -> Event {
    let reason = if code == 0 { "Completed" } else { "Error" };
    Event::Exited(c, Ended { code, signal: None, reason: reason.into(), message: String::new() })
}
