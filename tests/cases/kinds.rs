//! Claims, Services, and the pods of workload templates.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use crate::pod::{Pod, serve, until};
use crate::process::{poll, seconds};
use crate::world::{World, condition};
use crate::{Case, case};

fn claim(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } })
}

fn service(name: &str, selector: Value, more: Value) -> Value {
    let mut spec = json!({ "selector": selector, "ports": [{ "name": "http", "port": 80 }] });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec })
}

/// A workload of pods that wait to be told to stop.
fn workload(kind: &str, name: &str, replicas: u32, script: &str, more: Value) -> Value {
    let container = json!({ "name": "c", "image": "busybox", "command": ["sh", "-c", format!("trap 'exit 0' TERM; {script}; sleep 100000 & wait")] });
    let mut spec = json!({ "replicas": replicas, "selector": { "matchLabels": { "app": name } },
        "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": [container] } } });
    for (key, value) in more.as_object().unwrap() {
        if value.is_null() {
            spec.as_object_mut().unwrap().remove(key);
        } else if key == "volumeMounts" {
            spec["template"]["spec"]["containers"][0][key] = value.clone();
        } else {
            spec[key] = value.clone();
        }
    }
    json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn apply(world: &World, object: &Value) -> String {
    world.minipod(&["apply", "-f", &world.file(&object.to_string())]).ok()
}

fn of_claim(name: &str) -> Value {
    json!({ "persistentVolumeClaim": { "claimName": name } })
}

fn names(world: &World) -> Vec<String> {
    let mut names: Vec<String> = world.pods().into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

/// The addresses of a name, as a pod is told them; sorted.
fn addresses(world: &World, pod: &str, name: &str) -> Vec<String> {
    let done = world.exec(pod, "c", &["nslookup", "-type=a", name]);
    let mut found: Vec<String> = done.out.lines().filter_map(|line| line.strip_prefix("Address: ")).map(str::to_owned).collect();
    found.sort();
    found
}

#[track_caller]
fn wait_addresses(world: &World, pod: &str, name: &str, expected: &[String]) {
    let mut last = Vec::new();
    let came = poll(seconds(20), || {
        last = addresses(world, pod, name);
        (last == expected).then_some(())
    });
    assert!(came.is_some(), "{name} is {last:?} and not {expected:?}");
}

fn ip(pod: &Value) -> String {
    pod["status"]["podIP"].as_str().unwrap_or_default().to_owned()
}

pub const CASES: &[Case] = &[
    case("KND-01", |world| {
        assert_eq!(apply(world, &claim("data")), "persistentvolumeclaim/data created\n");
        assert_eq!(apply(world, &claim("data")), "persistentvolumeclaim/data unchanged\n");
        let row = world.minipod(&["get", "pvc"]).ok();
        assert!(row.contains("data") && row.contains("Bound") && row.contains("1Gi") && row.contains("RWO"), "{row}");
        let writer =
            Pod::new("writer", "Never").app("a", "stat -c '%a %u' /d; echo kept >/d/file; stat -c '%g' /d/file").volume("d", of_claim("data"), &[("a", "/d")]);
        world.apply(&writer);
        world.wait_phase("writer", "Succeeded");
        world.wait_logs(&["writer"], "777 0\n0\n");
        world.delete("writer");
        let reader = Pod::new("reader", "Never")
            .app("a", &format!("cat /d/file; stat -c '%g' /d/file; touch /d/new 2>/dev/null || echo sealed; {}", until("go", 0)))
            .volume("d", json!({ "persistentVolumeClaim": { "claimName": "data", "readOnly": true } }), &[("a", "/d")]);
        world.apply(&reader);
        world.wait_logs(&["reader"], "kept\n0\nsealed\n");
        assert!(world.minipod(&["describe", "pvc", "data"]).ok().contains("reader"));
        world.minipod(&["delete", "pvc", "data"]).fails_with(&["is in use by pod reader", "pvc-protection"]);
        world.touch("go");
        world.wait_phase("reader", "Succeeded");
        // fsGroup is for what outlives the pod, too.
        let grouped = Pod::new("grouped", "Never").app("a", "stat -c '%g' /d/file; id -G").spec("securityContext", json!({ "fsGroup": 123 }));
        world.apply(&grouped.volume("d", of_claim("data"), &[("a", "/d")]));
        world.wait_phase("grouped", "Succeeded");
        let held = world.root().join("lib/claims/default/data");
        assert_eq!(fs::metadata(held.join("file")).unwrap().gid(), 123);
        assert_eq!(fs::metadata(&held).unwrap().permissions().mode() & 0o7777, 0o2777);
        assert!(world.minipod(&["delete", "pvc", "data"]).ok().contains("persistentvolumeclaim \"data\" deleted"));
        assert!(!held.exists());
    }),
    case("KND-02", |world| {
        world.apply(&Pod::new("p", "Never").app("a", "echo came >/d/file").volume("d", of_claim("late"), &[("a", "/d")]));
        let pod = world.wait("p", "condition PodScheduled", |pod| condition(pod, "PodScheduled")["status"] == "False");
        let scheduled = condition(&pod, "PodScheduled");
        assert_eq!(scheduled["reason"], "Unschedulable");
        assert_eq!(scheduled["message"], "0/1 nodes are available: persistentvolumeclaim \"late\" not found.");
        assert_eq!((pod["status"]["conditions"].as_array().unwrap().len(), pod["status"].get("containerStatuses")), (1, None));
        world.wait_row("p", "0/1", "Pending");
        assert!(world.minipod(&["get", "events"]).ok().contains("FailedScheduling"));
        apply(world, &claim("late"));
        let pod = world.wait_phase("p", "Succeeded");
        assert_eq!(condition(&pod, "PodScheduled")["status"], "True");
        assert_eq!(fs::read_to_string(world.root().join("lib/claims/default/late/file")).unwrap(), "came\n");
        // One that waits can be deleted.
        world.apply(&Pod::new("q", "Never").app("a", "true").volume("d", of_claim("never"), &[("a", "/d")]));
        world.wait("q", "condition PodScheduled", |pod| condition(pod, "PodScheduled")["status"] == "False");
        world.delete("q");
    }),
    case("KND-03", |world| {
        let template = json!({ "metadata": { "labels": { "of": "pod" } }, "spec": claim("x")["spec"] });
        let pod =
            Pod::new("p", "Always").app("a", &serve("0", 0)).volume("scratch", json!({ "ephemeral": { "volumeClaimTemplate": template } }), &[("a", "/s")]);
        world.apply(&pod);
        let running = world.wait_ready("p");
        let made: Value = serde_json::from_str(&world.minipod(&["get", "pvc", "p-scratch", "-o", "json"]).ok()).unwrap();
        assert_eq!((&made["metadata"]["ownerReferences"][0]["uid"], &made["metadata"]["labels"]["of"]), (&running["metadata"]["uid"], &json!("pod")));
        world.exec("p", "a", &["touch", "/s/file"]).ok();
        let held = world.root().join("lib/claims/default/p-scratch");
        assert!(held.join("file").exists());
        world.delete("p");
        assert!(!held.exists());
        world.minipod(&["get", "pvc", "p-scratch"]).fails_with(&["persistentvolumeclaims \"p-scratch\" not found"]);
    }),
    case("KND-04", |world| {
        let web = |name: &str, probe: &str| {
            let probe = json!({ "exec": { "command": ["test", "-e", probe] }, "periodSeconds": 1 });
            Pod::new(name, "Always").app("c", &serve("0", 0)).with("c", "readinessProbe", probe)
        };
        world.file("");
        for (name, probe) in [("one", "/story"), ("two", "/story/two-is-ready")] {
            let manifest = web(name, probe).manifest(&world.path("story").display().to_string());
            let mut object: Value = serde_json::from_str(&manifest).unwrap();
            object["metadata"]["labels"] = json!({ "app": "web" });
            apply(world, &object);
        }
        let client = Pod::new("client", "Always").app("c", &serve("0", 0));
        world.apply(&client);
        world.wait_ready("client");
        assert_eq!(apply(world, &service("web", json!({ "app": "web" }), json!({}))), "service/web created\n");
        apply(world, &service("all", json!({ "app": "web" }), json!({ "publishNotReadyAddresses": true })));
        apply(world, &service("nobody", json!({ "app": "none" }), json!({})));
        let one = ip(&world.wait_ready("one"));
        let two = ip(&world.wait("two", "an address", |pod| !ip(pod).is_empty()));
        let mut both = vec![one.clone(), two];
        both.sort();
        for name in ["web.default", "web.default.svc", "web.default.svc.cluster.local"] {
            wait_addresses(world, "client", name, std::slice::from_ref(&one));
        }
        wait_addresses(world, "client", "all.default.svc.cluster.local", &both);
        wait_addresses(world, "client", "nobody.default.svc.cluster.local", &[]);
        let port = world.exec("client", "c", &["nslookup", "-type=srv", "_http._tcp.web.default.svc.cluster.local"]).out;
        assert!(port.contains("0 100 80 one.default.svc.cluster.local"), "{port}");
        world.touch("two-is-ready");
        world.wait_ready("two");
        wait_addresses(world, "client", "web.default.svc.cluster.local", &both);
        let row = world.minipod(&["get", "svc", "web", "-o", "wide"]).ok();
        assert!(["ClusterIP", "None", "80/TCP", "app=web"].iter().all(|cell| row.contains(cell)), "{row}");
        let described = world.minipod(&["describe", "svc", "web"]).ok();
        assert!(both.iter().all(|ip| described.contains(&format!("{ip}:80"))), "{described}");
        world.minipod(&["delete", "svc", "web"]).ok();
        wait_addresses(world, "client", "web.default.svc.cluster.local", &[]);
    }),
    case("KND-07", |world| {
        // A Service that stands for another name: one of this machine, or one outside.
        let external = |name: &str, target: &str| {
            let spec = json!({ "type": "ExternalName", "externalName": target });
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec })
        };
        apply(world, &external("inside", "p.default.svc.cluster.local"));
        apply(world, &external("outside", "example.org"));
        world.apply(&Pod::new("p", "Always").app("c", &serve("0", 0)));
        let own = ip(&world.wait_ready("p"));
        wait_addresses(world, "p", "inside.default.svc.cluster.local", &[own]);
        let alias = world.exec("p", "c", &["nslookup", "-type=cname", "outside.default.svc.cluster.local"]).out;
        assert!(alias.contains("canonical name = example.org"), "{alias}");
        let row = world.minipod(&["get", "svc", "outside"]).ok();
        assert!(row.contains("ExternalName") && row.contains("example.org"), "{row}");
    }),
    case("KND-05", |world| {
        let web = |replicas: u32, script: &str| world.file(&workload("Deployment", "web", replicas, script, json!({})).to_string());
        let file = web(2, "echo one");
        let applied = world.minipod(&["apply", "-f", &file]);
        assert!(applied.err.contains("spec.replicas: 2 pods are made once"), "{}", applied.err);
        let first = names(world);
        assert!(first.len() == 2 && first.iter().all(|name| applied.out.contains(&format!("pod/{name} created"))), "{first:?} {}", applied.out);
        let again = world.minipod(&["apply", "-f", &file]).ok();
        assert!(again.lines().count() == 2 && again.lines().all(|line| line.ends_with("unchanged")), "{again}");
        let pod = world.wait_ready(&first[0]);
        let owner = &pod["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["kind"], &pod["metadata"]["labels"]["app"]), (&json!("ReplicaSet"), &json!("web")));
        assert!(first[0].starts_with(&format!("{}-", owner["name"].as_str().unwrap())));
        // Another template makes other pods; nothing replaces those that are there, but nothing forgets them either.
        let other = web(1, "echo two");
        let changed = world.minipod(&["apply", "-f", &other]);
        assert!(first.iter().all(|name| changed.err.contains(&format!("pod/{name} is of an earlier template or count and stays"))), "{}", changed.err);
        assert_eq!(names(world).len(), 3);
        world.minipod(&["delete", "-f", &other, "--now"]).ok();
        assert_eq!(names(world), [""; 0]);
        apply(world, &workload("DaemonSet", "agent", 1, "true", json!({ "replicas": null })));
        assert!(names(world).len() == 1 && names(world)[0].starts_with("agent-"), "{:?}", names(world));
        world.minipod(&["apply", "-f", &world.file("apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\n")]).fails_with(&["make its jobTemplate a Job"]);
    }),
    case("KND-06", |world| {
        let more = json!({ "serviceName": "dbs", "volumeMounts": [{ "name": "data", "mountPath": "/d" }],
            "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": claim("x")["spec"] }] });
        let set = workload("StatefulSet", "db", 2, "echo $(hostname) >>/d/log", more);
        let file = world.file(&format!("{set}\n---\n{}\n", service("dbs", json!({ "app": "db" }), json!({}))));
        let applied = world.minipod(&["apply", "-f", &file]).ok();
        assert!(
            ["service/dbs", "persistentvolumeclaim/data-db-0", "persistentvolumeclaim/data-db-1", "pod/db-0", "pod/db-1"]
                .iter()
                .all(|name| applied.contains(&format!("{name} created")))
        );
        let first = ip(&world.wait_ready("db-0"));
        world.wait_ready("db-1");
        wait_addresses(world, "db-1", "db-0.dbs.default.svc.cluster.local", std::slice::from_ref(&first));
        assert_eq!(world.exec("db-1", "c", &["cat", "/d/log"]).ok(), "db-1\n");
        // What a StatefulSet has kept outlives it, and is found again.
        world.minipod(&["delete", "-f", &file, "--now"]).ok();
        assert_eq!(names(world), [""; 0]);
        world.minipod(&["apply", "-f", &file]).ok();
        world.wait_ready("db-1");
        assert_eq!(world.exec("db-1", "c", &["cat", "/d/log"]).ok(), "db-1\ndb-1\n");
        world.minipod(&["delete", "-f", &file, "--now"]).ok();
        world.minipod(&["delete", "pvc", "--all"]).ok();
        assert!(!world.root().join("lib/claims/default").exists());
    }),
];
