//! What a real kubelet did with a pod, and what the engine makes of the same exits: the last status must be the same.
//!
//! The recordings are not part of this repository. `MINIPOD_STORIES` names a folder of them, each a folder with `pod.yaml` and
//! `story.json` (every pushed status, every instance that ran, its start, end and exit code); run with `--ignored`.
//! Stories of probes and hooks are left out: the recordings do not say when a probe was asked.

mod lifecycle_sim;

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use lifecycle_sim::picture::picture;
use lifecycle_sim::{Answer, EPOCH, World, exit};
use minipod::lifecycle::{C, Ended, Event, Spec};
use serde_json::Value;

/// Not comparable: a file that appears while the pod waits; and a restart that the kubelet made three seconds late, so that the pod
/// ended in another instance of the sidecar.
const APART: &[&str] = &["configmap-appears", "sidecar-restart-onfailure"];

struct Run {
    /// Milliseconds from the start to the end; None if nothing but a signal ended it.
    life: Option<u64>,
    code: i32,
    reason: String,
}

#[test]
#[ignore = "recordings (MINIPOD_STORIES)"]
fn the_last_status_is_the_kubelets() {
    let folder = std::env::var("MINIPOD_STORIES").expect("MINIPOD_STORIES names a folder of recordings");
    let mut faults = Vec::new();
    let mut compared = 0;
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    names.sort();
    for path in names {
        if APART.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        let mut pod: Value = serde_saphyr::from_str(&std::fs::read_to_string(path.join("pod.yaml")).unwrap()).unwrap();
        whole(&mut pod);
        let text = pod.to_string();
        if ["Probe\"", "\"lifecycle\"", "sysctls"].iter().any(|word| text.contains(word)) {
            continue;
        }
        let story: Value = serde_json::from_str(&std::fs::read_to_string(path.join("story.json")).unwrap()).unwrap();
        compared += 1;
        if let Err(fault) = compare(&path, pod, &story) {
            faults.push(fault);
        }
    }
    assert!(faults.is_empty(), "{} of {compared} stories:\n{}", faults.len(), faults.join("\n"));
    println!("{compared} stories end as the kubelet's");
}

/// A mode like 0440 reads as a float without a schema; which one is of no interest here.
fn whole(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => *value = (number.as_f64().unwrap_or_default() as i64).into(),
        Value::Array(list) => list.iter_mut().for_each(whole),
        Value::Object(map) => map.values_mut().for_each(whole),
        _ => {}
    }
}

fn compare(path: &Path, pod: Value, story: &Value) -> Result<(), String> {
    let mut pod: Pod = serde_json::from_value(pod).unwrap();
    pod.metadata.uid = Some("UID".into());
    let spec = Spec::of(&pod);
    let mut world = World::new(&spec, Answer::Spawned);
    let runs = runs(&spec, story);
    refuse(&mut world, story);
    live(&mut world, &runs, story);
    let recorded = drawn(story["statuses"].as_array().unwrap().last().unwrap());
    let ours = picture(world.status.as_ref().unwrap());
    let name = path.file_name().unwrap().to_string_lossy();
    // A crash loop that a deletion cut may be one restart further on one side.
    let loose = |text: &str| if story["deletedAt"].is_null() { text.to_owned() } else { without_counts(text) };
    if loose(&ours) == loose(&recorded) { Ok(()) } else { Err(format!("{name}:\n  kubelet {recorded}\n  minipod {ours}\n          {}", world.story())) }
}

fn without_counts(text: &str) -> String {
    text.split(' ').map(|word| word.split('#').next().unwrap_or(word)).collect::<Vec<_>>().join(" ")
}

fn runs(spec: &Spec, story: &Value) -> BTreeMap<(C, u64), Run> {
    let mut runs = BTreeMap::new();
    for run in story["runs"].as_array().unwrap() {
        let c = spec.find(run["container"].as_str().unwrap()).unwrap();
        let ms = |key: &str| run[key].as_f64().map(|seconds| (seconds * 1000.0) as u64);
        // What ended after the deletion ended because of it.
        let deleted = story["deletedAt"].as_f64().map_or(u64::MAX, |seconds| (seconds * 1000.0) as u64);
        let life = ms("end").filter(|end| *end <= deleted).map(|end| end.saturating_sub(ms("start").unwrap()));
        let code = run["exitCode"].as_i64().unwrap_or(137) as i32;
        let text = story["statuses"].to_string();
        let reason = match code {
            0 => "Completed",
            _ if text.contains("OOMKilled") => "OOMKilled",
            _ => "Error",
        };
        runs.insert((c, run["instance"].as_u64().unwrap()), Run { life, code, reason: reason.into() });
    }
    runs
}

/// Containers of which no instance ever ran were refused; the statuses say how.
fn refuse(world: &mut World, story: &Value) {
    for status in story["statuses"].as_array().unwrap() {
        for container in ["initContainers", "containers"].iter().filter_map(|list| status[list].as_array()).flatten() {
            let name = container["name"].as_str().unwrap();
            let waiting = container["state"]["waiting"]["reason"].as_str().unwrap_or_default();
            let ended = [&container["state"], &container["lastState"]].iter().any(|state| state["terminated"]["reason"] == "StartError");
            let answer = match waiting {
                _ if ended => Answer::Run,
                "ErrImagePull" | "ImagePullBackOff" => Answer::Pull,
                "ErrImageNeverPull" | "InvalidImageName" => Answer::NeverPull,
                "CreateContainerConfigError" | "CreateContainerError" => Answer::Config,
                _ => continue,
            };
            let c = world.find(name);
            world.answers[c.0] = answer;
        }
    }
}

/// Time passes; each instance ends after its recorded life, or by the stop signal if it did then, or by the kill.
fn live(world: &mut World, runs: &BTreeMap<(C, u64), Run>, story: &Value) {
    let deleted = story["deletedAt"].as_f64().map(|seconds| EPOCH + (seconds * 1000.0) as u64);
    let grace_seconds = story["deleteGraceSeconds"].as_u64();
    world.settle();
    let end = EPOCH + 120_000;
    while world.now < end && world.facts.finished.is_none() {
        world.pass(world.now + 10);
        if deleted.is_some_and(|at| at <= world.now && world.facts.stop.is_none()) {
            world.happen(Event::StopAsked { grace_seconds });
        }
        for c in world.spec.all() {
            let minipod::lifecycle::State::Running(run) = &world.facts.container(c).state else { continue };
            let restart = u64::from(world.facts.container(c).restarts);
            let Some(recorded) = runs.get(&(c, restart)) else { continue };
            let over = recorded.life.is_some_and(|life| world.now >= run.since.mono + life);
            let signalled = run.term.is_some() && recorded.code != 137;
            if over && recorded.code != 137 || signalled || over && recorded.reason == "OOMKilled" {
                match recorded.reason.as_str() {
                    "OOMKilled" => {
                        world.happen(Event::Exited(c, Ended { code: recorded.code, signal: None, reason: recorded.reason.clone(), message: String::new() }))
                    }
                    _ => world.happen(exit(c, recorded.code)),
                }
            }
        }
    }
}

/// The recorded status as a picture.
fn drawn(status: &Value) -> String {
    let mut status = status.clone();
    let take = |list: &Value| -> Vec<Value> {
        let fix = |container: &Value| {
            let mut container = container.clone();
            container["imageID"] = "".into();
            for state in ["state", "lastState"] {
                if let Some(end) = container[state]["terminated"].as_object_mut() {
                    end.remove("startedAt");
                }
            }
            container
        };
        list.as_array().map(|list| list.iter().map(fix).collect()).unwrap_or_default()
    };
    status["initContainerStatuses"] = take(&status["initContainers"]).into();
    status["containerStatuses"] = take(&status["containers"]).into();
    status.as_object_mut().unwrap().remove("podIP");
    let status: k8s_openapi::api::core::v1::PodStatus = serde_json::from_value(status).unwrap();
    picture(&status)
}
