//! Agreement with the API server over a folder of real manifests, which is no part of this project:
//! `MINIPOD_CORPUS=FOLDER cargo test --test manifest_corpus -- --ignored --nocapture`.
//!
//! The folder holds `manifests/ID.yaml`, `defaulted/ID.json` (the object as the API server stored it) and `expected.json`
//! (per manifest: id, kind, name, errors). What is refused only because minipod does not do it yet does not count here.

use std::path::Path;

use minipod::manifest::{self, Kind, Object};
use serde_json::Value;

#[test]
#[ignore = "MINIPOD_CORPUS must name a folder of judged manifests"]
fn the_api_servers_verdicts_are_ours() {
    let folder = std::env::var_os("MINIPOD_CORPUS").expect("MINIPOD_CORPUS must name a folder");
    let folder = Path::new(&folder);
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
    let (mut verdicts, mut objects, mut judged, mut compared) = (0, 0, 0, 0);
    let mut differences = Vec::new();
    for entry in expected.as_array().unwrap().iter().filter(|entry| matches!(entry["kind"].as_str(), Some("Pod" | "Job"))) {
        let id = entry["id"].as_str().unwrap();
        let text = std::fs::read_to_string(folder.join(format!("manifests/{id}.yaml"))).unwrap();
        let (loaded, faults) = manifest::examine(&text, id);
        let name = entry["name"].as_str().unwrap_or_default();
        let of_pod = |subject: &Option<String>| subject.as_ref().is_some_and(|subject| subject.ends_with(&format!("{name:?}")));
        let mut ours: Vec<_> = faults.faults.iter().filter(|f| f.kind != Kind::NotSupported && of_pod(&f.subject)).map(|f| f.api_line()).collect();
        let mut theirs: Vec<_> = entry["errors"].as_array().unwrap().iter().map(|e| e.as_str().unwrap().to_owned()).collect();
        ours.sort();
        theirs.sort();
        // The same line twice tells no more than once.
        theirs.dedup();
        judged += 1;
        // A kind that a version does not have is told by each in words of its own.
        let undecoded = theirs.iter().all(|line| line.starts_with("decode: ")) && !theirs.is_empty() && !faults.faults.is_empty();
        match ours == theirs || undecoded {
            true => verdicts += 1,
            false => differences.push(format!("{id}: ours {ours:#?} theirs {theirs:#?}")),
        }
        let Ok(defaulted) = std::fs::read_to_string(folder.join(format!("defaulted/{id}.json"))) else { continue };
        let mut defaulted: Value = serde_json::from_str(&defaulted).unwrap();
        defaulted.as_object_mut().unwrap().remove("status");
        // Where the server made up a name, only what it made it of is ours.
        let generated = defaulted["metadata"]["generateName"].is_string();
        if generated {
            defaulted["metadata"].as_object_mut().unwrap().remove("name");
        }
        let Some(object) = loaded.objects.iter().find(|object| object.metadata().name.as_deref() == defaulted["metadata"]["name"].as_str()) else {
            differences.push(format!("{id}: no such object"));
            continue;
        };
        let mut ours = match object {
            Object::Pod(pod) => serde_json::to_value(pod).unwrap(),
            Object::Job(job) => serde_json::to_value(job).unwrap(),
            Object::ConfigMap(_) | Object::Secret(_) | Object::PersistentVolumeClaim(_) | Object::Service(_) => continue,
        };
        ours.as_object_mut().unwrap().remove("status");
        without_uid(&mut defaulted);
        compared += 1;
        let mut at = Vec::new();
        compare("", &ours, &defaulted, &mut at);
        match at.is_empty() {
            true => objects += 1,
            false => differences.push(format!("{id}: {at:#?}")),
        }
    }
    println!("verdicts {verdicts} of {judged}, defaulted objects {objects} of {compared}\n{}", differences.join("\n"));
    assert_eq!((verdicts, objects), (judged, compared));
}

/// A Job without what it has from its uid, which it is not given yet.
fn without_uid(object: &mut Value) {
    if object["kind"] != "Job" {
        return;
    }
    let spec = object["spec"].as_object_mut().unwrap();
    spec.remove("selector");
    let metadata = spec["template"]["metadata"].as_object_mut().unwrap();
    let labels = metadata["labels"].as_object_mut().unwrap();
    labels.retain(|key, _| !["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"].contains(&key.as_str()));
    if labels.is_empty() {
        metadata.remove("labels");
    }
    if metadata.is_empty() {
        spec["template"].as_object_mut().unwrap().remove("metadata");
    }
}

fn compare(at: &str, ours: &Value, theirs: &Value, differences: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            keys.into_iter()
                .for_each(|key| compare(&format!("{at}.{key}"), a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), differences));
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(index, (a, b))| compare(&format!("{at}[{index}]"), a, b, differences));
        }
        _ if ours != theirs => differences.push(format!("{at}: ours {ours} theirs {theirs}")),
        _ => {}
    }
}
