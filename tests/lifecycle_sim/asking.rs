//! Probes in a pod without processes: they are begun as soon as they are due, and answered from outside. And somebody who watches them,
//! knowing only the rules.

use minipod::lifecycle::{Attempt, C, Event, Facts, Heard, Probe, ProbeKind, ProbeOutcome, ProbeSpec, Probes, Spec};

use super::EPOCH;
use super::watch::Seen;

#[derive(Clone, Debug)]
pub struct Asking {
    pub probes: Probes,
    /// Begun and not answered yet.
    pub flights: Vec<Flight>,
    /// How attempts are answered at once.
    pub always: Vec<(C, ProbeKind, ProbeOutcome)>,
    /// `SECONDS: a.live`, and what was told, in order.
    pub story: Vec<(u64, String)>,
    pub watch: Vec<Asked>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    pub number: u64,
    pub c: C,
    pub kind: ProbeKind,
    /// Its instance still runs.
    pub current: bool,
}

/// What is known of one probe of the instance that was started last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    pub c: C,
    pub kind: ProbeKind,
    pub since: u64,
    pub asked: Option<u64>,
    pub open: bool,
    pub errors: u32,
    pub last: Option<bool>,
    pub streak: u32,
    pub over: bool,
    pub ready: bool,
}

const KINDS: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

pub fn asked_for(spec: &Spec, c: C, kind: ProbeKind) -> Option<ProbeSpec> {
    let asked = spec.container(c);
    match kind {
        ProbeKind::Startup => asked.startup,
        ProbeKind::Liveness => asked.liveness,
        ProbeKind::Readiness => asked.readiness,
    }
}

pub fn word(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Startup => "startup",
        ProbeKind::Liveness => "live",
        ProbeKind::Readiness => "ready",
    }
}

impl Asked {
    fn new(c: C, kind: ProbeKind, since: u64) -> Asked {
        Asked { c, kind, since, asked: None, open: false, errors: 0, last: None, streak: 0, over: false, ready: false }
    }

    /// Whether this probe may be asked of a container that is as it was seen.
    fn may(&self, seen: &Seen) -> bool {
        let sentenced = seen.told || seen.doom.is_some();
        seen.running && !seen.hook_pending && seen.passed == (self.kind != ProbeKind::Startup) && (self.kind == ProbeKind::Readiness || !sentenced)
    }

    fn moment(&self, probe: &ProbeSpec) -> u64 {
        match (self.asked, self.errors) {
            (None, _) => self.since + probe.initial_delay_ms,
            (Some(asked), 0) => asked + probe.period_ms,
            (Some(asked), _) => asked,
        }
    }

    fn ask(&mut self, seen: &Seen, probe: &ProbeSpec, now: u64) {
        assert!(self.may(seen), "{self:?} is asked although it may not be: {seen:?}");
        assert!(!self.open, "{self:?} is asked twice at once");
        assert!(!self.over, "{self:?} has had its say and is asked again");
        assert!(now >= self.moment(probe), "{self:?} is asked {} ms too early", self.moment(probe) - now);
        (self.asked, self.open) = (Some(now), true);
    }

    /// The answer to an attempt that counts, and what must come of it.
    fn answer(&mut self, probe: &ProbeSpec, outcome: ProbeOutcome) -> (Option<Event>, bool) {
        if outcome == ProbeOutcome::Unknown {
            self.errors = (self.errors + 1) % 3;
            return (None, self.errors == 0);
        }
        self.errors = 0;
        let good = outcome != ProbeOutcome::Failure;
        self.streak = if self.last == Some(good) { self.streak + 1 } else { 1 };
        self.last = Some(good);
        let told = matches!(outcome, ProbeOutcome::Warning | ProbeOutcome::Failure);
        if self.streak < if good { probe.success_threshold } else { probe.failure_threshold } {
            return (None, told);
        }
        let event = match (self.kind, good) {
            (ProbeKind::Startup, true) => Some(Event::Started(self.c)),
            (ProbeKind::Startup, false) => Some(Event::ProbeFailed(self.c, Probe::Startup)),
            (ProbeKind::Liveness, true) => None,
            (ProbeKind::Liveness, false) => Some(Event::ProbeFailed(self.c, Probe::Liveness)),
            (ProbeKind::Readiness, _) if self.ready == good => None,
            (ProbeKind::Readiness, _) => Some(Event::ReadyChanged(self.c, good)),
        };
        self.ready = good;
        self.over = event.is_some() && self.kind != ProbeKind::Readiness;
        (event, told)
    }
}

impl Asking {
    pub fn new(spec: &Spec) -> Asking {
        let all = spec.all().flat_map(|c| KINDS.map(|kind| Asked::new(c, kind, EPOCH)));
        let watch = all.filter(|asked| asked_for(spec, asked.c, asked.kind).is_some()).collect();
        Asking { probes: Probes::new(spec), flights: Vec::new(), always: Vec::new(), story: Vec::new(), watch }
    }

    /// A new instance begins with a clean slate.
    pub fn spawned(&mut self, c: C, now: u64) {
        self.watch.iter_mut().filter(|asked| asked.c == c).for_each(|asked| *asked = Asked::new(c, asked.kind, now));
        self.flights.iter_mut().filter(|flight| flight.c == c).for_each(|flight| flight.current = false);
    }

    /// Begins what is due. The first one that is answered at once is given back with its answer.
    pub fn begin(&mut self, spec: &Spec, facts: &Facts, seen: &[Seen], now: u64) -> Option<(Flight, ProbeOutcome)> {
        let (attempts, _) = self.probes.due(spec, facts, now);
        for attempt in attempts {
            let Attempt { c, kind, timeout_ms } = attempt;
            let probe = asked_for(spec, c, kind).expect("only a probe that exists");
            assert_eq!(timeout_ms, probe.timeout_ms);
            let watch = self.watch.iter_mut().find(|asked| (asked.c, asked.kind) == (c, kind)).expect("only a probe that exists");
            watch.ask(&seen[c.0], &probe, now);
            self.story.push((now, format!("{}.{}", spec.container(c).name, word(kind))));
            let flight = Flight { number: self.probes.begin(facts, &attempt, now), c, kind, current: true };
            if let Some((.., outcome)) = self.always.iter().find(|always| (always.0, always.1) == (c, kind)) {
                return Some((flight, *outcome));
            }
            self.flights.push(flight);
        }
        None
    }

    /// Brings an answer, and gives the event that follows from it.
    pub fn answer(&mut self, spec: &Spec, facts: &Facts, seen: &[Seen], flight: Flight, outcome: ProbeOutcome, now: u64) -> Option<Event> {
        self.flights.retain(|other| other.number != flight.number);
        let Flight { c, kind, .. } = flight;
        let Heard { event, told } = self.probes.answered(spec, facts, flight.number, outcome, "MESSAGE");
        let watch = self.watch.iter_mut().find(|asked| (asked.c, asked.kind) == (c, kind)).expect("only a probe that exists");
        watch.open &= !flight.current;
        let counts = flight.current && watch.may(&seen[c.0]);
        let expected = if counts { watch.answer(&asked_for(spec, c, kind).expect("it exists"), outcome) } else { (None, false) };
        assert_eq!((&event, told.is_some()), (&expected.0, expected.1), "{flight:?} is answered {outcome:?}: {watch:?}");
        if let Some((reason, message)) = told {
            self.story.push((now, format!("[{reason}: {message}]")));
        }
        event
    }

    /// Nothing that is due has been forgotten, and the alarm rings for what comes next.
    pub fn settled(&self, spec: &Spec, facts: &Facts, seen: &[Seen], wake: Option<u64>, now: u64) {
        let (due, next) = self.probes.due(spec, facts, now);
        assert!(due.is_empty(), "{due:?} are due and not begun");
        assert!(next.is_none_or(|next| wake.is_some_and(|wake| wake <= next)), "the alarm is not set for the next probe");
        for asked in self.watch.iter().filter(|asked| asked.may(&seen[asked.c.0]) && !asked.open && !asked.over) {
            let due = asked.moment(&asked_for(spec, asked.c, asked.kind).expect("it exists"));
            assert!(due > now, "{asked:?} is not asked, though nothing holds it up");
            assert!(wake.is_some_and(|wake| wake <= due), "the alarm comes too late for {asked:?}");
        }
    }

    /// `SECONDS: what what | SECONDS: what`
    pub fn told(&self) -> String {
        let mut moments: Vec<(u64, Vec<&str>)> = Vec::new();
        for (at, what) in &self.story {
            match moments.last_mut() {
                Some((last, all)) if last == at => all.push(what),
                _ => moments.push((*at, vec![what])),
            }
        }
        moments.iter().map(|(at, all)| format!("{}: {}", (at - EPOCH) as f64 / 1000.0, all.join(" "))).collect::<Vec<_>>().join(" | ")
    }
}
