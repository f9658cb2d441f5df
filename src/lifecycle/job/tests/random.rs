//! Random lives under watch.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Event, Life, failure_policy, running};

/// One thing that the world may do to a Job.
#[derive(Debug, Clone)]
enum Fate {
    Ends(usize, i32),
    Restarts(usize),
    Vanishes(usize),
    Suspend(bool),
    Later(u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => (0..8usize, prop_oneof![Just(0), Just(0), Just(1), Just(42)]).prop_map(|(pod, code)| Fate::Ends(pod, code)),
        2 => (0..8usize).prop_map(Fate::Restarts),
        1 => (0..8usize).prop_map(Fate::Vanishes),
        1 => any::<bool>().prop_map(Fate::Suspend),
        4 => (1..400u64).prop_map(Fate::Later),
    ]
}

fn any_spec() -> impl Strategy<Value = Value> {
    let numbers = (prop::option::of(0..5i32), 0..4i32, 0..4i32, prop::option::of(0..3i32), prop::option::of(1..600i64));
    let words = (any::<bool>(), any::<bool>(), any::<bool>(), prop::sample::select(vec!["", "Ignore", "FailJob", "Count"]));
    (numbers, words).prop_map(|((completions, parallelism, limit, per_index, deadline), (indexed, in_place, ended_only, rule))| {
        let mut spec = json!({ "parallelism": parallelism, "backoffLimit": limit });
        let indexed = indexed && completions.is_some();
        spec["completions"] = json!(completions);
        spec["activeDeadlineSeconds"] = json!(deadline);
        spec["podReplacementPolicy"] = json!(if ended_only { "Failed" } else { "TerminatingOrFailed" });
        if indexed {
            spec["completionMode"] = json!("Indexed");
            spec["backoffLimitPerIndex"] = json!(per_index);
        }
        match rule {
            "" => spec["restartPolicy"] = json!(if in_place { "OnFailure" } else { "Never" }),
            action => spec["podFailurePolicy"] = failure_policy(action, "In", &[42]),
        }
        spec
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: never too many pods at once, never two of an index, nothing new once the end is decided, an end that does not
    /// change, and no sleep without a reason to wake up while there is work to be had.
    #[test]
    fn no_life_breaks_the_rules(spec in any_spec(), fates in prop::collection::vec(fate(), 0..40)) {
        let mut life = Life::new(spec);
        let mut settled = None;
        for fate in fates.into_iter().chain((0..8).map(|pod| Fate::Ends(pod, 0))) {
            let before = life.facts.pods.len();
            let (_, wake) = life.turn();
            let active = life.facts.active().count();
            prop_assert!(active <= life.spec.parallelism as usize, "{active} at once");
            let mut indexes: Vec<_> = life.facts.active().filter_map(|(_, pod)| pod.index).collect();
            indexes.sort_unstable();
            prop_assert!(indexes.windows(2).all(|pair| pair[0] != pair[1]), "an index twice");
            if let Some(target) = &settled {
                prop_assert_eq!(Some(target), life.facts.target.as_ref());
                prop_assert_eq!(before, life.facts.pods.len(), "a pod after the end was decided");
            }
            settled.clone_from(&life.facts.target);
            let idle = active == 0 && life.facts.terminating() == 0;
            let waits = life.facts.finished.is_some() || life.facts.suspended() || life.spec.parallelism == 0;
            prop_assert!(!idle || waits || wake.is_some(), "asleep for ever: {:#?}", life.facts);
            prop_assert!(life.facts.finished.is_none() || active == 0, "finished with pods that run");
            let status = life.status();
            prop_assert!(status.ready.unwrap_or_default() <= status.active.unwrap_or_default());
            let there = |pod: &usize| life.facts.pods.get(*pod).is_some_and(|pod| !pod.gone);
            match fate {
                Fate::Ends(pod, code) if there(&pod) => life.ends(pod, code),
                Fate::Restarts(pod) if there(&pod) => {
                    let status = running(life.facts.pods[pod].restarts.cast_signed() + 1);
                    life.observe(Event::Seen(pod, &status));
                }
                Fate::Vanishes(pod) if there(&pod) => life.observe(Event::Gone(pod)),
                Fate::Suspend(suspend) => life.observe(Event::Suspend(suspend)),
                Fate::Later(seconds) => life.now += seconds,
                _ => {}
            }
        }
    }
}
