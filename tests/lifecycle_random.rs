//! Long random lives of random pods, which shrink to a short story when a rule breaks.

mod lifecycle_sim;

use lifecycle_sim::{Answer, World, exit, pod};
use minipod::lifecycle::{C, Event, Hook, PreStop, Probe, ProbeOutcome, State};
use proptest::prelude::*;

fn a_container() -> impl Strategy<Value = String> {
    let flags = proptest::sample::subsequence(vec![".startup-p2-f2", ".live-d3", ".live60", ".ready-p1-s2", ".post", ".pre"], 0..=3);
    let own = prop_oneof![5 => Just(""), 1 => Just(".Never"), 1 => Just(".OnFailure.on1"), 1 => Just(".Never.all1")];
    (flags, own).prop_map(|(flags, own)| format!("{own}{}", flags.concat()))
}

fn an_init() -> impl Strategy<Value = String> {
    prop_oneof![Just(".init".to_owned()), Just(".init.Never.on1".to_owned()), a_container().prop_map(|flags| format!(".side{}", without_policy(&flags)))]
}

/// A sidecar's policy is Always, or it would be none.
fn without_policy(flags: &str) -> String {
    flags.replace(".Never", "").replace(".OnFailure", "")
}

fn a_pod() -> impl Strategy<Value = String> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    let deadline = prop_oneof![3 => Just(String::new()), 1 => (1u64..100).prop_map(|s| format!("deadline={s}"))];
    let inits = proptest::collection::vec(an_init(), 0..4);
    let apps = proptest::collection::vec(a_container(), 1..4);
    (policy, 0u64..40, 1u64..60, deadline, inits, apps).prop_map(|(policy, grace, max, deadline, inits, apps)| {
        let inits = inits.iter().enumerate().map(|(n, flags)| format!("i{n}{flags}"));
        let apps = apps.iter().enumerate().map(|(n, flags)| format!("a{n}{flags}"));
        format!("{policy} grace={grace} max={max} {deadline} : {}", inits.chain(apps).collect::<Vec<_>>().join(" "))
    })
}

/// One thing that may happen; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    Ends(usize, i32),
    Answers(usize, bool),
    Probes(usize, bool),
    NextStarts(usize, Answer),
    Passes(u64),
    AlarmRings,
    Lost,
    Sandboxes(bool),
    Evicted,
    Stop(Option<u64>),
}

fn a_step() -> impl Strategy<Value = Step> {
    let answer = prop_oneof![
        4 => Just(Answer::Spawned), 2 => Just(Answer::Starting), 1 => Just(Answer::Pull),
        1 => Just(Answer::NeverPull), 1 => Just(Answer::Config), 1 => Just(Answer::Run),
    ];
    prop_oneof![
        6 => (0usize..8, prop_oneof![Just(0), Just(1), Just(2)]).prop_map(|(c, code)| Step::Ends(c, code)),
        6 => (0usize..8, any::<bool>()).prop_map(|(c, ok)| Step::Answers(c, ok)),
        2 => (0usize..8, any::<bool>()).prop_map(|(c, ok)| Step::Probes(c, ok)),
        2 => (0usize..8, answer).prop_map(|(c, answer)| Step::NextStarts(c, answer)),
        4 => (1u64..700_000).prop_map(Step::Passes),
        4 => (1u64..5_000).prop_map(Step::Passes),
        4 => Just(Step::AlarmRings),
        1 => Just(Step::Lost),
        1 => any::<bool>().prop_map(Step::Sandboxes),
        1 => Just(Step::Evicted),
        1 => proptest::option::of(0u64..50).prop_map(Step::Stop),
    ]
}

fn live(world: &mut World, step: &Step) {
    let of = |n: usize| C(n % world.spec.containers.len());
    match *step {
        Step::Ends(n, code) => {
            if world.runs(of(n)) {
                world.happen(exit(of(n), code))
            }
        }
        Step::Answers(n, ok) => answers(world, of(n), ok),
        Step::Probes(n, ok) => probes(world, of(n), ok),
        Step::NextStarts(n, answer) => {
            let c = of(n);
            world.answers[c.0] = answer
        }
        Step::Passes(ms) => world.pass(world.now + ms),
        Step::AlarmRings => world.pass(world.wake.unwrap_or(world.now)),
        Step::Lost => world.happen(Event::SandboxDied),
        Step::Sandboxes(fails) => world.sandbox_fails = fails,
        Step::Evicted if world.facts.finished.is_none() => world.happen(Event::Evicted { message: "Too much of it. ".into() }),
        Step::Stop(grace_seconds) if world.facts.finished.is_none() => world.happen(Event::StopAsked { grace_seconds }),
        Step::Evicted | Step::Stop(_) => {}
    }
}

fn answers(world: &mut World, c: C, ok: bool) {
    let result = if ok { Ok(()) } else { Err("no".to_owned()) };
    let container = world.facts.container(c);
    match &container.state {
        _ if container.starting.is_some() => {
            let event = world.answer(c, if ok { Answer::Spawned } else { Answer::Pull });
            world.happen(event)
        }
        State::Running(run) if run.hook_pending => world.happen(Event::HookDone(c, Hook::PostStart, result)),
        State::Running(run) if run.pre_stop == PreStop::Sent => world.happen(Event::HookDone(c, Hook::PreStop, result)),
        _ => {}
    }
}

fn probes(world: &mut World, c: C, ok: bool) {
    if let Some(asking) = &world.asking {
        let outcome = if ok { ProbeOutcome::Success } else { ProbeOutcome::Failure };
        let flights: Vec<_> = asking.flights.iter().filter(|flight| flight.c == c).copied().collect();
        return flights.into_iter().for_each(|flight| world.answered(flight, outcome));
    }
    let asked = world.spec.container(c);
    let State::Running(run) = &world.facts.container(c).state else { return };
    if asked.startup.is_some() && !run.passed && !run.told {
        world.happen(if ok { Event::Started(c) } else { Event::ProbeFailed(c, Probe::Startup) })
    } else if asked.liveness.is_some() && run.passed && !run.told && !ok {
        world.happen(Event::ProbeFailed(c, Probe::Liveness))
    } else if asked.readiness.is_some() {
        world.happen(Event::ReadyChanged(c, ok))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_life_breaks_a_rule(notation in a_pod(), steps in proptest::collection::vec(a_step(), 1..80)) {
        let spec = pod(&notation);
        let mut world = World::new(&spec, Answer::Spawned);
        world.settle();
        for step in &steps {
            live(&mut world, step);
        }
    }

    #[test]
    fn no_probe_is_asked_too_early_or_forgotten(notation in a_pod(), steps in proptest::collection::vec(a_step(), 1..80)) {
        let spec = pod(&notation);
        let mut world = World::asking(&spec, Answer::Spawned);
        world.settle();
        for step in &steps {
            live(&mut world, step);
        }
    }

    #[test]
    fn every_life_ends_within_its_grace_and_the_floor_when_it_is_asked_to(notation in a_pod(), steps in proptest::collection::vec(a_step(), 1..40), grace in 0u64..50) {
        let spec = pod(&notation);
        let mut world = World::new(&spec, Answer::Spawned);
        world.settle();
        for step in &steps {
            live(&mut world, step);
        }
        if world.facts.finished.is_none() {
            world.happen(Event::StopAsked { grace_seconds: Some(grace) });
        }
        world.pass(world.now + grace * 1000 + 2_000);
        prop_assert!(world.facts.finished.is_some(), "{} still lives: {}", notation, world.story());
    }
}
