//! The rules of probes, one row each: a sentence, a pod, what happens, and what is asked and told.
//!
//! The notation of pods and scripts is in `lifecycle_sim`. Beside its words, `@a.live+` answers what was asked, with success (`+`),
//! failure (`-`), a warning (`~`) or nothing (`?`); `@a.live=-` lets every later attempt fail at once. Every row is also watched by
//! `lifecycle_sim::asking` and `lifecycle_sim::watch`.

mod lifecycle_sim;

use lifecycle_sim::asking::word;
use lifecycle_sim::{Answer, World, pod};
use minipod::lifecycle::{ProbeKind, ProbeOutcome, look};

/// A sentence, a pod, a script, and what comes of it: `SECONDS: what what | SECONDS: what`.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// What is asked and told.
const ASKED: &[Row] = &[
    ("a probe is asked as soon as its container runs, and then once in a period", "Always : a.live-p3", "@a.live=+ +7", "0: a.live | 3: a.live | 6: a.live"),
    ("not before its delay is over", "Always : a.live-d5-p3", "@a.live=+ +8", "5: a.live | 8: a.live"),
    ("and not twice at once", "Always : a.ready-p1", "+5", "0: a.ready"),
    ("an answer that took longer than the period is followed by the next question", "Always : a.ready-p1", "+5 @a.ready+", "0: a.ready | 5: a.ready"),
    ("but one within the period waits for its end", "Always : a.ready-p10", "+4 @a.ready+ +6", "0: a.ready | 10: a.ready"),
    ("nothing else is asked before the startup probe has passed", "Always : a.startup-p2.live-p1.ready-p1", "+1 @a.startup? +1", "0: a.startup | 1: a.startup"),
    (
        "then the others are asked at once, and the startup probe never again",
        "Always : a.startup-p2.live-p5.ready-p5",
        "+1 @a.startup+ @a.live=+ @a.ready=+ +6",
        "0: a.startup | 1: a.live a.ready | 6: a.live a.ready",
    ),
    ("their delay counts from the start of the container", "Always : a.startup.live-d3", "+1 @a.startup+ +2", "0: a.startup | 3: a.live"),
    ("a container is asked nothing while its postStart runs", "Always : a.post.startup", "+4 a:post", "4: a.startup"),
    (
        "failures are told one by one, and the threshold is reached in a row",
        "Always : a.live-p1-f2",
        "@a.live- +1 @a.live+ +1 @a.live- +1 @a.live-",
        "0: a.live [Unhealthy: Liveness probe failed: MESSAGE] | 1: a.live | 2: a.live [Unhealthy: Liveness probe failed: MESSAGE] | \
         3: a.live [Unhealthy: Liveness probe failed: MESSAGE]",
    ),
    (
        "a container that is sentenced is not asked whether it lives",
        "Always grace=9 : a.live-p1-f1",
        "+0 @a.live- +5",
        "0: a.live [Unhealthy: Liveness probe failed: MESSAGE]",
    ),
    ("nor whether it has started", "Always grace=9 : a.startup-p1-f1", "@a.startup- +5", "0: a.startup [Unhealthy: Startup probe failed: MESSAGE]"),
    (
        "but whether it is ready, to its end",
        "Always grace=9 : a.live-p1-f1.ready-p2",
        "@a.ready=+ @a.live- +5",
        "0: a.live a.ready [Unhealthy: Liveness probe failed: MESSAGE] | 2: a.ready | 4: a.ready",
    ),
    ("so it is with a pod that stops", "Always grace=9 : a.live-p1.ready-p2", "@a.ready=+ stop @a.live- +5", "0: a.live a.ready | 2: a.ready | 4: a.ready"),
    ("the next instance is asked anew, and after its own delay", "Always : a.live-d2-p3", "@a.live=+ +3 a=0 +1.9 +0.1", "2: a.live | 5: a.live"),
    ("an answer about the instance before says nothing", "Always : a.live-p1-f1", "a=0 @a.live- +1", "0: a.live a.live"),
    (
        "failures of the instance before do not count",
        "Always : a.live-p1-f2",
        "@a.live- a=0 @a.live-",
        "0: a.live [Unhealthy: Liveness probe failed: MESSAGE] a.live [Unhealthy: Liveness probe failed: MESSAGE]",
    ),
    (
        "a probe that could not be run is tried three times, then told",
        "Always : a.live-p5-f1",
        "@a.live=? +5",
        "0: a.live a.live a.live [Unhealthy: Liveness probe errored and resulted in unknown state: MESSAGE] | \
         5: a.live a.live a.live [Unhealthy: Liveness probe errored and resulted in unknown state: MESSAGE]",
    ),
    ("a warning is a success that is told", "Always : a.ready-p5", "@a.ready~ +1", "0: a.ready [ProbeWarning: Readiness probe warning: MESSAGE]"),
    ("a plain init container is asked nothing", "Always : i.init a.ready", "+1 i=0", "1: a.ready"),
    ("a sidecar is asked like an app", "Always : s.side.startup-p1.live-p1 a", "+1 @s.startup+", "0: s.startup | 1: s.live"),
    ("nothing is asked of what does not run", "Always max=10 : a.live-p1", "a=1 @a.live=+ a=1 +9", "0: a.live a.live"),
    ("nor in a pod that has ended", "Never : a.ready-p1", "@a.ready=+ a=0 +9", "0: a.ready"),
];

/// What is done.
const DONE: &[Row] = &[
    ("a failed liveness probe restarts", "Always grace=3 : a.live-p1-f2", "@a.live=- +1 a=143 +0", "0: sandbox#0 a | 1: term-a a#1"),
    ("a startup probe that fails too often restarts", "Always grace=3 : a.startup-p1-f3", "@a.startup=- +2 a=143", "0: sandbox#0 a | 2: term-a a#1"),
    (
        "the startup probe of a sidecar opens the gate",
        "Never : s.side.startup-p2 i.init a",
        "+1 @s.startup=- @s.startup- +1 @s.startup=+ +2",
        "0: sandbox#0 s | 4: i",
    ),
    ("a failed readiness probe stops nothing", "Always : a.ready-p1-f1", "@a.ready=- +100", "0: sandbox#0 a"),
    ("under Never a failed liveness probe ends the pod", "Never grace=3 : a.live-p1-f1", "@a.live- a=0", "0: sandbox#0 a term-a down Succeeded"),
    ("preStop comes before the signal of a probe's kill", "Always grace=9 : a.pre.live-f1", "@a.live- +2 a:pre", "0: sandbox#0 a pre-a | 2: term-a"),
];

/// Which containers are ready, after a script.
const READY: &[Row] = &[
    ("a container with a readiness probe is not ready at first", "Always : a.ready b", "+1", "b"),
    ("it is when the probe has succeeded", "Always : a.ready b", "@a.ready+", "a b"),
    ("as often as was asked for", "Always : a.ready-p1-s2", "@a.ready+", ""),
    ("in a row", "Always : a.ready-p1-s2", "@a.ready+ +1 @a.ready- +1 @a.ready+", ""),
    ("and then at last", "Always : a.ready-p1-s2", "@a.ready+ +1 @a.ready+", "a"),
    ("it stays so until the probe has failed as often as was asked for", "Always : a.ready-p1-f2", "@a.ready+ +1 @a.ready-", "a"),
    ("and is not ready then", "Always : a.ready-p1-f2", "@a.ready+ +1 @a.ready- +1 @a.ready-", ""),
    ("an attempt that came to nothing changes nothing", "Always : a.ready-p1-f1", "@a.ready+ +1 @a.ready=?", "a"),
    ("a new instance is not ready before it says so", "Always : a.ready", "@a.ready+ a=0", ""),
];

fn outcome(word: &str) -> ProbeOutcome {
    match word {
        "+" => ProbeOutcome::Success,
        "~" => ProbeOutcome::Warning,
        "-" => ProbeOutcome::Failure,
        "?" => ProbeOutcome::Unknown,
        _ => panic!("no answer: {word}"),
    }
}

fn answer(world: &mut World, text: &str) {
    let (name, rest) = text.split_once('.').expect("@NAME.PROBE…");
    let at = rest.find(|c: char| !c.is_ascii_alphabetic()).expect("an answer");
    let (probe, said) = rest.split_at(at);
    let c = world.find(name);
    let kind = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness].into_iter().find(|kind| word(*kind) == probe).expect("a probe");
    let asking = world.asking.as_mut().expect("probes are asked");
    let flight = asking.flights.iter().copied().find(|flight| (flight.c, flight.kind) == (c, kind));
    if let Some(said) = said.strip_prefix('=') {
        asking.always.retain(|always| (always.0, always.1) != (c, kind));
        asking.always.push((c, kind, outcome(said)));
    }
    if let Some(flight) = flight {
        world.answered(flight, outcome(said.trim_start_matches('=')));
    }
}

fn every(rows: &[Row], draw: impl Fn(&World) -> String) {
    let mut faults = Vec::new();
    for (sentence, notation, script, expected) in rows {
        let spec = pod(notation);
        let mut world = World::asking(&spec, Answer::Spawned);
        world.settle();
        for word in script.split_whitespace() {
            match word.strip_prefix('@') {
                Some(text) => answer(&mut world, text),
                None => world.word(word),
            }
        }
        if draw(&world) != *expected {
            faults.push(format!("{sentence}: {notation} {script}\n  is     {}\n  not    {expected}", draw(&world)));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn probes_are_asked_and_told_as_each_rule_says() {
    every(ASKED, |world| world.asking.as_ref().unwrap().told());
}

#[test]
fn their_answers_do_what_each_rule_says() {
    every(DONE, |world| world.story());
}

#[test]
fn readiness_is_what_its_probe_says() {
    every(READY, |world| {
        let statuses = world.status.as_ref().unwrap().container_statuses.as_ref().unwrap();
        statuses.iter().filter(|status| status.ready).map(|status| status.name.as_str()).collect::<Vec<_>>().join(" ")
    });
}

#[test]
fn a_pod_without_probes_sleeps_for_ever() {
    let spec = pod("Always : s.side a");
    let mut world = World::asking(&spec, Answer::Spawned);
    world.settle();
    assert_eq!(world.wake, None, "{:?}", spec.all().map(|c| look(&spec, &world.facts, c, world.now)).collect::<Vec<_>>());
}
