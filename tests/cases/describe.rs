//! `describe` of live pods, as a whole.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::pod::{Pod, exec, once, serve};
use crate::process::{poll, seconds};
use crate::restart::described;
use crate::world::{World, container};
use crate::{Case, case};

/// What `describe` tells of a pod, without what is another at each run: every value of that kind becomes the name of what it is, and
/// must be it. The ids, addresses and paths are those of `pod`, so that none stands where another belongs.
fn masked(text: &str, pod: &Value, story: &str) -> String {
    let status = &pod["status"];
    let mut known = vec![(&status["podIP"], "POD-IP".to_owned()), (&status["hostIP"], "HOST-IP".to_owned()), (&pod["spec"]["nodeName"], "NODE".to_owned())];
    for list in ["initContainerStatuses", "containerStatuses"] {
        for container in status[list].as_array().expect("the pod has started") {
            let name = container["name"].as_str().unwrap_or_default();
            known.extend([(&container["containerID"], format!("ID-OF-{name}")), (&container["imageID"], "IMAGE-ID".to_owned())]);
        }
    }
    let mut known: Vec<(&str, &str)> = known.iter().filter_map(|(value, name)| Some((value.as_str()?, name.as_str()))).chain([(story, "STORY")]).collect();
    // A value that is a part of another one would spoil it.
    known.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
    let text = known.into_iter().fold(text.to_owned(), |text, (value, name)| text.replace(value, name));
    let mut lines = text.lines();
    let mut out: String = lines.by_ref().take_while(|line| *line != "Events:").map(|line| time(line) + "\n").collect();
    out += "Events:\n";
    lines.for_each(|line| out += &(event(line) + "\n"));
    out
}

/// A line with a time as its value.
fn time(line: &str) -> String {
    let Some((label, value)) = line.split_once(":  ").filter(|(label, _)| matches!(label.trim(), "Start Time" | "Started" | "Finished")) else {
        return line.to_owned();
    };
    jiff::fmt::rfc2822::parse(value.trim()).unwrap_or_else(|error| panic!("{line}: {error}"));
    let blanks = value.len() - value.trim_start().len();
    format!("{label}:  {}TIME", " ".repeat(blanks))
}

/// A row of the events; the widths of its cells depend on the ages.
fn event(line: &str) -> String {
    let mut cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    if let Some(age) = cells.get_mut(2).filter(|age| age.ends_with(['s', 'm']) && age.starts_with(|c: char| c.is_ascii_digit())) {
        *age = "AGE";
    }
    format!("  {}", cells.join("  "))
}

/// Every kind of probe, of variable and of volume that a pod may have, and both kinds of init containers.
fn rich() -> Pod {
    let web = "mkdir /www; echo ok >/www/index.html; trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait";
    let ports = json!([{ "name": "http", "containerPort": 8080 }, { "containerPort": 9000, "protocol": "UDP" }]);
    let value_of = |from: &str, key: &str| json!({ from: { "name": if from == "secretKeyRef" { "database" } else { "settings" }, "key": key } });
    let environment = json!([
        { "name": "PLAIN", "value": "one" },
        { "name": "LINES", "value": "first\nsecond" },
        { "name": "EMPTY" },
        { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        { "name": "PLACE", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
        { "name": "CPU", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu", "divisor": "1m" } } },
        { "name": "LEVEL", "valueFrom": value_of("configMapKeyRef", "level") },
        { "name": "PASSWORD", "valueFrom": value_of("secretKeyRef", "password") },
    ]);
    let from = json!([{ "configMapRef": { "name": "settings" } }, { "prefix": "DB_", "secretRef": { "name": "database", "optional": true } }]);
    let mut alive = exec("worker", "true");
    alive["periodSeconds"] = json!(5);
    let downward = json!([{ "path": "name", "fieldRef": { "fieldPath": "metadata.name" } }]);
    Pod::new("rich", "Always")
        .init("first", &once("0", 0))
        .sidecar("beside", &serve("0", 0))
        .with("beside", "livenessProbe", json!({ "grpc": { "port": 5000, "service": "ready" }, "initialDelaySeconds": 3600 }))
        .app("web", web)
        .with("web", "ports", ports)
        .with("web", "resources", json!({ "limits": { "cpu": "500m", "memory": "64Mi" }, "requests": { "cpu": "100m" } }))
        .with("web", "readinessProbe", json!({ "httpGet": { "path": "/index.html", "port": "http" }, "periodSeconds": 1, "failureThreshold": 30 }))
        .with("web", "livenessProbe", json!({ "tcpSocket": { "port": 8080 }, "initialDelaySeconds": 3600, "timeoutSeconds": 3 }))
        .with("web", "env", environment)
        .with("web", "envFrom", from)
        .app("worker", &serve("0", 0))
        .with("worker", "args", json!(["ignored", "two\nlines"]))
        .with("worker", "startupProbe", alive)
        .volume("cache", json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }), &[("web", "/cache"), ("worker", "/cache")])
        .volume("settings", json!({ "configMap": { "name": "settings" } }), &[("web", "/etc/settings")])
        .volume("database", json!({ "secret": { "secretName": "database", "optional": true } }), &[("web", "/etc/database")])
        .volume("about", json!({ "downwardAPI": { "items": downward } }), &[("worker", "/about")])
}

/// The row of the events of a container with this reason.
fn row<'a>(told: &'a str, reason: &str) -> Option<&'a str> {
    told.lines().find(|line| line.split_whitespace().nth(1) == Some(reason) && line.contains("spec.containers{a}: "))
}

fn keep(world: &World, kind: &str, name: &str, data: Value) {
    let field = if kind == "Secret" { "stringData" } else { "data" };
    let file = world.file(&json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name }, field: data }).to_string());
    world.minipod(&["apply", "-f", &file]).ok();
}

pub const CASES: &[Case] = &[
    Case {
        id: "DSC-01",
        needs: &["cgroup.memory", "cgroup.cpu"],
        run: |world| {
            keep(world, "ConfigMap", "settings", json!({ "level": "debug" }));
            keep(world, "Secret", "database", json!({ "password": "swordfish" }));
            let story = world.path("story").display().to_string();
            let mut object: Value = serde_json::from_str(&rich().manifest(&story)).expect("our own manifest");
            object["metadata"]["labels"] = json!({ "tier": "front", "app": "rich" });
            object["metadata"]["annotations"] = json!({ "example.com/note": "short" });
            world.minipod(&["apply", "-f", &world.file(&object.to_string())]).ok();
            let pod = world.wait_ready("rich");
            let told = world.minipod(&["describe", "pod", "rich"]).ok();
            assert!(!told.contains("swordfish"), "a secret is not for reading: {told}");
            let told = masked(&told, &pod, &story);
            let golden: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/data/show/live.txt"].iter().collect();
            if std::env::var_os("UPDATE_GOLDENS").is_some() {
                std::fs::write(&golden, &told).expect("part of the repository");
            }
            let expected = std::fs::read_to_string(&golden).expect("part of the repository");
            let differing = told.lines().zip(expected.lines()).find(|(told, expected)| told != expected);
            assert_eq!(differing, None, "the first line that is told and the one that is expected, of\n{told}");
            assert_eq!(told, expected);
        },
    },
    case("DSC-02", |world| {
        world.apply_with(&Pod::new("p", "Always").app("a", &once("0", 1)), &["--max-backoff", "5s"]);
        let reasons = ["Pulled", "Created", "Started", "BackOff"];
        let mut told = String::new();
        let came = poll(seconds(40), || {
            told = world.minipod(&["describe", "pod", "p"]).ok();
            let waits = described(&told, "State", "Reason") == Some("CrashLoopBackOff");
            (waits && reasons.iter().all(|reason| row(&told, reason).is_some_and(|row| row.contains("(x")))).then_some(())
        });
        assert!(came.is_some(), "no repeated events of a crash loop in {told}");
        assert!(told.contains("    State:          Waiting\n      Reason:       CrashLoopBackOff\n    Last State:     Terminated\n"), "{told}");
        assert_eq!((described(&told, "Last State", "Reason"), described(&told, "Last State", "Exit Code")), (Some("Error"), Some("1")), "{told}");
        for label in ["Started", "Finished"] {
            let shown = described(&told, "Last State", label).map(jiff::fmt::rfc2822::parse);
            assert!(shown.is_some_and(|shown| shown.is_ok()), "{label} in {told}");
        }
        for reason in reasons {
            let row = row(&told, reason).unwrap_or_default();
            let over = row.split_once("(x").and_then(|(_, rest)| rest.split_once(')')).and_then(|(times, _)| times.split_once(" over "));
            let times = over.and_then(|(times, age)| age.ends_with('s').then_some(times)?.parse::<u32>().ok());
            assert!(times.is_some_and(|times| times >= 2), "{row}");
        }
        assert!(container(&world.get("p"), "a")["restartCount"].as_u64() >= Some(1));
    }),
];
