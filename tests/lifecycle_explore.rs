//! Every small pod, every event at every moment: breadth first over all that can happen.
//!
//! The rules are those of `lifecycle_sim::watch`. Starts are answered from outside, so that every answer is tried at every moment.
//! Times are kept relative to now and saturated, or the same situation would be new each second. The smaller shapes are visited
//! wholly; of the others the first situations, nearest to the beginning. `MINIPOD_EXPLORE=long` visits all of all, and more shapes.

mod lifecycle_sim;

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use lifecycle_sim::asking::{Asked, Asking, Flight};
use lifecycle_sim::watch::Watch;
use lifecycle_sim::{Answer, World, exit, pod};
use minipod::lifecycle::{At, C, Event, Facts, Hook, PreStop, Probe, ProbeOutcome, SandboxState, Spec, State, Worker};

/// Shapes that together use every rule.
const SHAPES: &[&str] = &[
    "Never grace=3 : a",
    "OnFailure max=10 grace=3 : a",
    "Always max=20 grace=3 : a",
    "Always max=10 grace=3 : a.live.startup",
    "Always max=10 grace=1 : a.pre.post",
    "Never grace=3 : a.pre.live60",
    "Never grace=3 : a b",
    "OnFailure max=10 grace=1 : a b",
    "Never grace=3 deadline=5 : i.init a",
    "OnFailure max=10 grace=1 : i.init a",
    "Never grace=3 : i.init j.init a",
    "Never max=10 grace=3 : s.side a",
    "Never max=10 grace=3 : s.side.pre.startup a",
    "OnFailure max=10 grace=1 : s.side i.init a",
    "Never max=10 grace=3 : s.side t.side a",
    "Never max=10 grace=1 : i.init a.Never.all1",
    "OnFailure max=10 grace=1 : i.init.Never.on1 a",
    "Always max=10 grace=1 : a.Never b.OnFailure",
    "Never grace=3 : a e.eph",
    "OnFailure max=10 grace=1 : i.init a.post e.eph",
    "Never max=10 grace=1 : s.side a.Never.all1 e.eph",
];

/// More of the same, for an hour nobody waits for.
const LONG: &[&str] = &[
    "Always max=300 grace=3 : a",
    "Always max=20 grace=3 : a.live.startup.pre.post",
    "OnFailure max=10 grace=3 : i.init s.side a b",
    "Never max=10 grace=3 : s.side.pre t.side.startup u.side a",
    "Never max=10 grace=3 : i.init s.side a.Never.all1 b",
    "Always max=10 grace=3 deadline=7 : s.side i.init a",
];

/// Shapes whose probes are asked when they are due and answered in every way, together with hooks, stops and lost sandboxes.
const PROBED: &[&str] = &[
    "Always max=10 grace=1 : a.live-p1-f1",
    "Always max=10 grace=1 : a.live-p2-f2.ready-p1-f1",
    "Always max=10 grace=1 : a.startup-p1-f2.live-p1-f1",
    "Always max=10 grace=1 : a.startup-p1-f1.ready-p2-s2-f2",
    "Always max=10 grace=3 : a.post.pre.live-d2-p3-f1",
    "Never grace=3 : a.pre.ready-p1-f1.live-p2-f1",
    "Never max=10 grace=1 : s.side.startup-p1-f1.live-p1-f1 a",
    "OnFailure max=10 grace=1 : s.side.pre.ready-p1-f1 i.init a.ready-p1-f1",
    "Never max=10 grace=1 : a.Never.all1.live-p1-f1 b.ready-p1-f1",
];

#[test]
fn every_small_pod_keeps_every_rule_whatever_happens() {
    let long = std::env::var("MINIPOD_EXPLORE").is_ok_and(|word| word == "long");
    let limit = if long { usize::MAX } else { 12_000 };
    let mut total = 0;
    for shape in SHAPES.iter().chain(LONG.iter().filter(|_| long)) {
        let spec = pod(shape);
        total += explore(World::new(&spec, Answer::Starting), shape, limit);
    }
    println!("{total:>8} situations");
    assert!(total > 20_000, "so few situations prove nothing: {total}");
}

#[test]
fn every_probe_of_a_small_pod_is_asked_in_its_time_and_heard_whatever_happens() {
    let long = std::env::var("MINIPOD_EXPLORE").is_ok_and(|word| word == "long");
    let limit = if long { usize::MAX } else { 6_000 };
    let mut total = 0;
    for shape in PROBED {
        let spec = pod(shape);
        total += explore(World::asking(&spec, Answer::Starting), shape, limit);
    }
    assert!(total > 20_000, "so few situations prove nothing: {total}");
}

fn explore(mut first: World<'_>, shape: &str, limit: usize) -> usize {
    first.tell = false;
    first.settle();
    let mut visited = HashSet::from([fingerprint(&first)]);
    let mut queue = VecDeque::from([(first, Vec::<String>::new())]);
    while let Some((world, path)) = queue.pop_front() {
        for step in steps(&world) {
            let mut next = world.clone();
            let mut path = path.clone();
            path.push(format!("{step:?}"));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take(&mut next, step)));
            assert!(result.is_ok(), "{shape}: after {}", path.join(", "));
            if visited.len() < limit && visited.insert(fingerprint(&next)) {
                queue.push_back((next, path));
            }
        }
    }
    println!("{:>8} {} {shape}", visited.len(), if visited.len() < limit { "(all)" } else { "(first)" });
    visited.len()
}

#[derive(Debug, Clone)]
enum Step {
    Happens(Event),
    Answered(Flight, ProbeOutcome),
    AlarmRings,
    /// A long time passes in which nothing is due.
    Quiet,
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Happens(event) => world.happen(event),
        Step::Answered(flight, outcome) => world.answered(flight, outcome),
        Step::AlarmRings => world.pass(world.wake.expect("only where there is an alarm")),
        Step::Quiet => world.pass(world.now + 700_000),
    }
}

/// Everything that the outside can do now.
fn steps(world: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    if world.facts.finished.is_some() {
        return steps;
    }
    if world.facts.ephemerals.len() < world.spec.ephemerals.len() {
        steps.push(Step::Happens(Event::EphemeralAdded));
    }
    for c in world.spec.all().chain(world.facts.ephemerals()) {
        steps.extend(container_steps(world, c).into_iter().map(Step::Happens));
    }
    for flight in world.asking.iter().flat_map(|asking| &asking.flights) {
        steps.extend([ProbeOutcome::Success, ProbeOutcome::Failure, ProbeOutcome::Unknown].map(|outcome| Step::Answered(*flight, outcome)));
    }
    if world.facts.sandbox.state == SandboxState::Ready && world.facts.sandbox.attempt < 1 {
        steps.push(Step::Happens(Event::SandboxDied));
    }
    let shortest = world.facts.stop.map(|stop| stop.until.saturating_sub(world.now));
    for grace_seconds in [None, Some(0)] {
        let would = grace_seconds.unwrap_or(world.spec.grace_seconds) * 1000;
        if shortest.is_none_or(|shortest| would < shortest) {
            steps.push(Step::Happens(Event::StopAsked { grace_seconds }));
        }
    }
    steps.push(if world.wake.is_some() { Step::AlarmRings } else { Step::Quiet });
    steps
}

fn container_steps(world: &World, c: C) -> Vec<Event> {
    let (asked, container) = (world.spec.container(c), world.facts.container(c));
    if container.starting.is_some() {
        return [Answer::Spawned, Answer::Pull, Answer::Config, Answer::Run].map(|answer| world.answer(c, answer)).to_vec();
    }
    let State::Running(run) = &container.state else { return Vec::new() };
    let mut events = vec![exit(c, 0), exit(c, 1)];
    if run.hook_pending {
        events.extend([Ok(()), Err("no".to_owned())].map(|result| Event::HookDone(c, Hook::PostStart, result)));
    }
    if run.pre_stop == PreStop::Sent {
        events.push(Event::HookDone(c, Hook::PreStop, Ok(())));
    }
    if world.asking.is_some() {
        return events;
    }
    if asked.startup.is_some() && !run.passed && !run.told {
        events.extend([Event::Started(c), Event::ProbeFailed(c, Probe::Startup)]);
    }
    if asked.liveness.is_some() && run.passed && !run.told {
        events.push(Event::ProbeFailed(c, Probe::Liveness));
    }
    events
}

/// A situation, without what can make no difference any more: names, walls clocks, how often, and how long ago beyond the longest memory.
fn fingerprint(world: &World) -> u64 {
    let mut hash = DefaultHasher::new();
    relative_facts(&world.facts, world.now, world.spec).hash(&mut hash);
    relative_watch(&world.watch, world.now, world.spec).hash(&mut hash);
    if let Some(asking) = &world.asking {
        relative_asking(asking, world).hash(&mut hash);
    }
    hash.finish()
}

/// How long ago, or how far ahead, with everything beyond the memory of the rules alike.
fn ago(t: u64, now: u64, memory: u64) -> u64 {
    if t > now { memory + 1 + (t - now) } else { (now - t).min(memory) }
}

fn memory(spec: &Spec) -> u64 {
    spec.max_backoff_ms.max(spec.grace_seconds * 1000 + 2_000) + 1
}

fn relative_facts(facts: &Facts, now: u64, spec: &Spec) -> Facts {
    let mut facts = facts.clone();
    let memory = memory(spec);
    let rel = |at: &mut At| *at = At { mono: ago(at.mono, now, memory), wall: 0 };
    let deadline = spec.active_deadline_seconds.unwrap_or(0) * 1000;
    facts.created = At { mono: ago(facts.created.mono, now, deadline), wall: 0 };
    facts.sandbox.lost.iter_mut().for_each(rel);
    if let Some(stop) = &mut facts.stop {
        rel(&mut stop.at);
        stop.until = ago(stop.until, now, memory);
    }
    let round = facts.round;
    let all = facts.containers.iter_mut().chain(&mut facts.ephemerals);
    for (container, asked) in all.zip(spec.containers.iter().chain(&spec.ephemerals)) {
        let probed = asked.liveness.is_some() || asked.startup.is_some();
        container.restarts = u32::from(container.restarts > 0 && !container.made);
        container.starting = container.starting.map(|_| At::default());
        // Against the memory of ten minutes only ends count, and those are relative themselves.
        let newest = match &container.state {
            State::Exited(exit) => exit.finished.mono,
            _ => now,
        };
        container.backoff.at = u64::from(newest.saturating_sub(container.backoff.at) > 600_000);
        // Of the end before the last only the kills by a probe remember more than its round.
        if let Some(last) = &mut container.last {
            let finished = if probed { At { mono: ago(last.finished.mono, now, memory), wall: 0 } } else { At::default() };
            (last.code, last.label, last.told, last.sentenced, last.started, last.finished) = (0, None, false, false, None, finished);
            (last.reason, last.message) = (String::new(), String::new());
            last.round = (round - last.round).min(1);
        }
        match &mut container.state {
            State::Waiting => {}
            State::Exited(exit) => {
                rel(&mut exit.finished);
                exit.started = None;
                exit.round = (round - exit.round).min(1);
            }
            State::Refused(refusal) => {
                rel(&mut refusal.at);
                refusal.retry = ago(refusal.retry, now, memory);
            }
            State::Running(run) => {
                // It has its place beside the probes, which count from it.
                run.since = At::default();
                run.round = (round - run.round).min(1);
                run.term.iter_mut().for_each(rel);
                run.kill = run.kill.map(|_| At::default());
                if let Some(doom) = &mut run.doom {
                    doom.at = At::default();
                    doom.until = ago(doom.until, now, memory);
                }
            }
        }
        // A pull that fails for the third time is like the second.
        container.pull_delay = container.pull_delay.min(20_000);
    }
    facts.sandbox.attempt = facts.sandbox.attempt.min(2);
    facts.round = 0;
    facts
}

/// What was asked of an instance that has ended makes a difference only by the answer that is still to come.
fn relative_asking(asking: &Asking, world: &World<'_>) -> (Vec<Worker>, Vec<Asked>, Vec<Flight>) {
    const MEMORY: u64 = 4_000;
    let mut asking = asking.clone();
    for worker in &mut asking.probes.workers {
        let current = worker.instance == world.facts.container(worker.c).restarts && world.runs(worker.c);
        worker.instance = u32::from(!current);
        worker.flight = worker.flight.map(|_| 0);
        if !current {
            *worker = Worker { begun: None, unknown: 0, last: None, streak: 0, ..*worker };
        }
        worker.begun = worker.begun.map(|begun| ago(begun, world.now, MEMORY));
        worker.streak = worker.streak.min(4);
    }
    for asked in &mut asking.watch {
        if !world.runs(asked.c) {
            *asked = Asked { since: 0, asked: None, open: false, errors: 0, last: None, streak: 0, over: false, ready: false, ..*asked };
            continue;
        }
        asked.since = ago(asked.since, world.now, MEMORY);
        asked.asked = asked.asked.map(|at| ago(at, world.now, MEMORY));
        asked.streak = asked.streak.min(4);
    }
    asking.flights.iter_mut().for_each(|flight| flight.number = 0);
    asking.flights.sort_by_key(|flight| (flight.c, flight.kind, flight.current));
    (asking.probes.workers, asking.watch, asking.flights)
}

fn relative_watch(watch: &Watch, now: u64, spec: &Spec) -> Watch {
    let mut watch = watch.clone();
    let memory = memory(spec);
    let rel = |t: &mut u64| *t = ago(*t, now, memory);
    watch.sandboxes = watch.sandboxes.min(3);
    watch.lost.iter_mut().for_each(rel);
    watch.all.iter_mut().for_each(rel);
    if let Some((since, until)) = &mut watch.stop {
        rel(since);
        rel(until);
    }
    for (seen, asked) in watch.seen.iter_mut().zip(spec.containers.iter().chain(&spec.ephemerals)) {
        let newest = seen.ended.filter(|_| !seen.running).map_or(now, |(end, ..)| end);
        seen.restarted = u64::from(newest.saturating_sub(seen.restarted) > 600_000);
        match &mut seen.ended {
            Some(ended) if seen.running => *ended = (0, 0, false),
            Some((end, ..)) => rel(end),
            None => {}
        }
        if asked.liveness.is_none() && asked.startup.is_none() {
            seen.ended_before = seen.ended_before.map(|_| now);
        }
        [&mut seen.ended_before, &mut seen.term, &mut seen.refused].into_iter().flatten().for_each(rel);
        if let Some((since, until)) = &mut seen.doom {
            *since = now;
            rel(until);
        }
        seen.pull_wait = seen.pull_wait.min(20_000);
    }
    watch
}
