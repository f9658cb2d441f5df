//! ConfigMaps and Secrets: kept, listed, waited for, mounted, changed under a running pod.

use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::pod::{Pod, await_file};
use crate::process::{poll, seconds};
use crate::world::{World, container};
use crate::{Case, case};

/// The manifest of a ConfigMap. JSON is YAML.
pub fn config_map(name: &str, data: Value) -> String {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data }).to_string()
}

/// The manifest of a Secret.
pub fn secret(name: &str, data: Value) -> String {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data }).to_string()
}

fn keep(world: &World, manifest: &str) -> String {
    world.minipod(&["apply", "-f", &world.file(manifest)]).ok()
}

/// Waits until a pod has an event with these words.
fn wait_event(world: &World, pod: &str, words: &str) {
    let mut told = String::new();
    let came = poll(seconds(20), || {
        told = world.minipod(&["get", "events", "--for", &format!("pod/{pod}")]).out;
        told.contains(words).then_some(())
    });
    assert!(came.is_some(), "{words:?} is not among the events: {told}");
}

pub const CASES: &[Case] = &[
    case("VOL-03", |world| {
        let binary = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" },
            "data": { "one": "first value", "two": "second\nline\n" }, "binaryData": { "bin": "AAH/" } });
        keep(world, &binary.to_string());
        keep(world, &secret("hidden", json!({ "pw": "opensesame" })));
        let app = "cd /all; readlink one >/story/link; [ -d \"$(readlink ..data)\" ] && say Stamped; stat -L -c '%a %n' one two bin >/story/modes; \
                   od -An -tx1 bin >/story/bytes; cat two >/story/two; touch /all/new || say ReadOnly; \
                   stat -L -c '%a %u %n' /some/a/b /some/x >/story/items; ls /some >/story/list; ls /none | wc -l >/story/none; \
                   stat -L -c %a /s/pw >/story/pw; grep ' /s ' /proc/mounts | cut -d' ' -f3 >/story/fs; cat /s/pw /f >/story/values";
        let items = json!([{ "key": "one", "path": "a/b", "mode": 0o400 }, { "key": "two", "path": "x" }]);
        let pod = Pod::new("p", "Never")
            .app("a", app)
            .volume("all", json!({ "configMap": { "name": "m" } }), &[("a", "/all")])
            .volume("some", json!({ "configMap": { "name": "m", "items": items, "defaultMode": 0o440 } }), &[("a", "/some")])
            .volume("none", json!({ "configMap": { "name": "nowhere", "optional": true } }), &[("a", "/none")])
            .volume("s", json!({ "secret": { "secretName": "hidden", "defaultMode": 0o400 } }), &[("a", "/s")])
            .volume("f", json!({ "configMap": { "name": "m" } }), &[]);
        let mut mounts = ["story:/story", "all:/all", "some:/some", "none:/none", "s:/s"].map(|pair| {
            let (name, path) = pair.split_once(':').expect("written so");
            json!({ "name": name, "mountPath": path })
        });
        mounts[1]["readOnly"] = json!(false);
        let sub = json!({ "name": "f", "mountPath": "/f", "subPath": "one" });
        world.apply(&pod.with("a", "volumeMounts", json!(mounts.into_iter().chain([sub]).collect::<Vec<_>>())));
        world.wait_phase("p", "Succeeded");
        assert_eq!(world.written("modes"), "644 one\n644 two\n644 bin\n");
        assert_eq!((world.written("bytes").trim(), world.written("two").as_str()), ("00 01 ff", "second\nline\n"));
        assert_eq!((world.written("items").as_str(), world.written("list").as_str()), ("400 0 /some/a/b\n440 0 /some/x\n", "a\nx\n"));
        assert_eq!((world.written("none").trim(), world.written("pw").as_str(), world.written("fs").as_str()), ("0", "400\n", "tmpfs\n"));
        assert_eq!(std::fs::read_to_string(world.path("story/values")).expect("written"), "opensesamefirst value");
        assert!(!world.moments("a ReadOnly").is_empty() && !world.moments("a Stamped").is_empty());
        assert_eq!(world.written("link"), "..data/one\n");
    }),
    case("VOL-06", |world| {
        keep(world, &config_map("m", json!({ "k": "of map" })));
        keep(world, &secret("s", json!({ "k": "of secret" })));
        let resource = |path: &str, resource: &str| json!({ "path": path, "resourceFieldRef": { "containerName": "a", "resource": resource, "divisor": "1" } });
        let labels = json!({ "path": "labels", "fieldRef": { "fieldPath": "metadata.annotations" }, "mode": 0o400 });
        let sources = json!([
            { "configMap": { "name": "m", "items": [{ "key": "k", "path": "map/k" }] } }, { "secret": { "name": "s" } },
            { "downwardAPI": { "items": [labels, resource("sub/cpu", "requests.cpu")] } }, { "configMap": { "name": "nowhere", "optional": true } },
        ]);
        let items = json!([{ "path": "name", "fieldRef": { "fieldPath": "metadata.name" } }, resource("memory", "limits.memory")]);
        let app = "for f in /all/map/k /all/k /all/labels /all/sub/cpu /d/name; do echo \"$(cat $f)\"; done >/story/got; stat -L -c %a /all/labels /d/name >/story/modes; \
                   touch /d/new || say ReadOnly";
        let pod = Pod::new("p", "Never")
            .app("a", app)
            .with("a", "resources", json!({ "requests": { "cpu": "1250m" } }))
            .volume("all", json!({ "projected": { "sources": sources } }), &[("a", "/all")])
            .volume("d", json!({ "downwardAPI": { "items": items, "defaultMode": 0o440 } }), &[("a", "/d")]);
        let mut object: Value = serde_json::from_str(&pod.manifest(&world.path("story").display().to_string())).expect("JSON");
        object["metadata"]["annotations"] = json!({ "b": "two \"words\"", "a": "one" });
        keep(world, &object.to_string());
        world.wait_phase("p", "Succeeded");
        assert_eq!(world.written("got"), "of map\nof secret\na=\"one\"\nb=\"two \\\"words\\\"\"\n2\np\n");
        assert_eq!(world.written("modes"), "400\n440\n");
        assert!(!world.moments("a ReadOnly").is_empty());
    }),
    case("VOL-09", |world| {
        let mounted = |name: &str, value: Option<&str>, expression: &str| {
            let mounts = json!([{ "name": "story", "mountPath": "/story" }, { "name": "v", "mountPath": "/v", "subPathExpr": expression }]);
            let own = json!({ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } });
            let env: Vec<Value> = [own].into_iter().chain(value.map(|value| json!({ "name": "PART", "value": value }))).collect();
            let pod = Pod::new(name, "Never").app("a", "touch /v/mark; say Ran").volume(
                "v",
                json!({ "hostPath": { "path": world.path("v").display().to_string() } }),
                &[],
            );
            world.apply(&pod.with("a", "env", json!(env)).with("a", "volumeMounts", mounts));
        };
        std::fs::create_dir(world.path("v")).expect("our own directory");
        mounted("good", None, "$(POD_NAME)/logs");
        world.wait_phase("good", "Succeeded");
        assert!(world.path("v/good/logs/mark").exists());
        for (name, value, said) in [
            ("up", Some(".."), "unable to provision SubPath `..`: must not contain '..'"),
            ("root", Some("/tmp"), "error SubPath `/tmp` must not be an absolute path"),
            ("missing", None, "missing value for PART"),
            ("empty", Some(""), "missing value for PART"),
        ] {
            mounted(name, value, "$(PART)");
            let pod = world.wait(name, "the refusal", |pod| container(pod, "a")["state"]["waiting"]["reason"] == "CreateContainerConfigError");
            assert_eq!((&container(&pod, "a")["state"]["waiting"]["message"], &pod["status"]["phase"]), (&json!(said), &json!("Pending")));
        }
        assert_eq!(world.moments("a Ran").len(), 1);
    }),
    case("VOL-10", |world| {
        let at = |name: &str| world.path(name).display().to_string();
        std::fs::create_dir(world.path("dir")).expect("our own directory");
        std::fs::write(world.path("file"), "").expect("our own directory");
        let _listener = UnixListener::bind(world.path("socket")).expect("our own directory");
        let good = [
            ("", at("dir")),
            ("Directory", at("dir")),
            ("DirectoryOrCreate", at("new/dir")),
            ("File", at("file")),
            ("FileOrCreate", at("fresh")),
            ("Socket", at("socket")),
            ("CharDevice", "/dev/null".to_owned()),
        ];
        let volumes = good.iter().zip(0..).fold(Pod::new("good", "Never").app("a", "say Ran"), |pod, ((kind, path), number)| {
            pod.volume(&format!("v{number}"), json!({ "hostPath": { "path": path, "type": kind } }), &[("a", &format!("/v{number}"))])
        });
        world.apply(&volumes);
        world.wait_phase("good", "Succeeded");
        for (name, kind, path, what) in [
            ("directory", "Directory", at("file"), "directory"),
            ("or-directory", "DirectoryOrCreate", at("file"), "directory"),
            ("file", "File", at("dir"), "file"),
            ("or-file", "FileOrCreate", at("dir"), "file"),
            ("socket", "Socket", at("file"), "socket file"),
            ("char", "CharDevice", at("file"), "character device"),
            ("block", "BlockDevice", "/dev/null".to_owned(), "block device"),
        ] {
            world.apply(&Pod::new(name, "Never").app("a", "say Ran").volume("v", json!({ "hostPath": { "path": path, "type": kind } }), &[("a", "/v")]));
            wait_event(world, name, &format!("MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: {path} is not a {what}"));
            assert_eq!((world.row(name).status.as_str(), world.row(name).ready.as_str()), ("ContainerCreating", "0/1"));
        }
        assert_eq!(world.moments("a Ran").len(), 1);
    }),
    case("OBJ-01", |world| {
        // What is missing is waited for, and found as soon as it is there.
        let key = json!([{ "name": "LATE", "valueFrom": { "configMapKeyRef": { "name": "late", "key": "k" } } }]);
        world.apply(&Pod::new("by-env", "Never").app("a", "echo $LATE >/story/env").with("a", "env", key));
        let map = json!({ "configMap": { "name": "late" } });
        world.apply(&Pod::new("by-volume", "Never").app("a", "cat /v/k >/story/volume; echo >>/story/volume").volume("v", map, &[("a", "/v")]));
        let pod = world.wait("by-env", "the refusal", |pod| container(pod, "a")["state"]["waiting"]["reason"] == "CreateContainerConfigError");
        assert_eq!(container(&pod, "a")["state"]["waiting"]["message"], "configmap \"late\" not found");
        wait_event(world, "by-env", "Error: configmap \"late\" not found");
        wait_event(world, "by-volume", "MountVolume.SetUp failed for volume \"v\" : configmap \"late\" not found");
        assert_eq!(world.row("by-volume").status, "ContainerCreating");
        keep(world, &config_map("late", json!({ "k": "here" })));
        assert_eq!((world.written("env").as_str(), world.written("volume").as_str()), ("here\n", "here\n"));
    }),
    case("OBJ-02", |world| {
        // A running pod sees the change in its volumes, all at once; not in a subPath, nor in its environment.
        keep(world, &config_map("m", json!({ "a": "old", "b": "old" })));
        keep(world, &secret("s", json!({ "k": "old" })));
        let app = format!(
            "say Started; until grep -q new /v/a && grep -q new /s/k; do sleep 0.02; done; cat /v/a /v/b /sub /s/k >/story/got; echo \" $V\" >>/story/got; ls /v >>/story/got; {}",
            await_file("go")
        );
        let mounts = json!([
            { "name": "story", "mountPath": "/story" }, { "name": "v", "mountPath": "/v" }, { "name": "v", "mountPath": "/sub", "subPath": "a" },
            { "name": "s", "mountPath": "/s" },
        ]);
        let pod = Pod::new("p", "Never")
            .app("a", &app)
            .with("a", "env", json!([{ "name": "V", "valueFrom": { "configMapKeyRef": { "name": "m", "key": "a" } } }]))
            .volume("v", json!({ "configMap": { "name": "m" } }), &[])
            .volume("s", json!({ "projected": { "sources": [{ "secret": { "name": "s" } }] } }), &[]);
        world.apply(&pod.with("a", "volumeMounts", mounts));
        world.wait_story("a Started");
        assert_eq!(keep(world, &config_map("m", json!({ "a": "new", "b": "new", "c": "new" }))), "configmap/m configured\n");
        keep(world, &secret("s", json!({ "k": "new" })));
        let came = poll(seconds(20), || std::fs::read_to_string(world.path("story/got")).ok().filter(|text| text.ends_with("c\n")));
        assert_eq!(came.as_deref(), Some("newnewoldnew old\na\nb\nc\n"));
        // What is gone stays where it is mounted.
        world.minipod(&["delete", "cm", "m"]).ok();
        wait_event(world, "p", "MountVolume.SetUp failed for volume \"v\" : configmap \"m\" not found");
        assert_eq!(world.exec("p", "a", &["cat", "/v/a"]).ok(), "new");
        world.touch("go");
        world.wait_phase("p", "Succeeded");
    }),
    case("OBJ-03", |world| {
        let file =
            world.file(&format!("{}\n---\n{}\n", config_map("settings", json!({ "a": "1", "b": "2" })), secret("hidden", json!({ "pw": "opensesame" }))));
        assert_eq!(world.minipod(&["apply", "-f", &file]).ok(), "configmap/settings created\nsecret/hidden created\n");
        assert_eq!(world.minipod(&["apply", "-f", &file]).ok(), "configmap/settings unchanged\nsecret/hidden unchanged\n");
        let words = |verb: &[&str]| world.minipod(verb).ok().split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert!(words(&["get", "cm"]).starts_with("NAME DATA AGE settings 2 "));
        assert!(words(&["get", "secrets"]).starts_with("NAME TYPE DATA AGE hidden Opaque 1 "));
        assert_eq!(world.minipod(&["get", "configmap/settings", "-o", "jsonpath={.data.a}"]).ok(), "1");
        assert!(world.minipod(&["describe", "cm", "settings"]).ok().contains("\nData\n====\na:\n----\n1\n"));
        let described = world.minipod(&["describe", "secret", "hidden"]).ok();
        assert!(described.contains("pw:  10 bytes") && !described.contains("opensesame"), "{described}");
        // A file with its objects, in the foreground: they are there before the pod.
        let pod = Pod::new("p", "Never").app("a", "echo $V").with(
            "a",
            "env",
            json!([{ "name": "V", "valueFrom": { "configMapKeyRef": { "name": "own", "key": "k" } } }]),
        );
        let both = world.file(&format!("{}---\n{}\n", pod.manifest(&world.path("story").display().to_string()), config_map("own", json!({ "k": "mine" }))));
        let plan = world.minipod(&["explain", &both, "-c", "a", "-o", "oci"]).ok();
        assert!(plan.contains("\"V=mine\""), "{plan}");
        assert_eq!(world.minipod(&["run", &both]).ok(), "[a] mine\n");
        world.minipod(&["get", "cm", "own"]).ok();
        world.minipod(&["delete", "cm", "own"]).ok();
        world.minipod(&["delete", "-f", &file]).ok();
        world.minipod(&["delete", "secret", "hidden"]).fails_with(&["Error from server (NotFound): secrets \"hidden\" not found"]);
        let fixed = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "fixed" }, "immutable": true, "data": { "a": "1" } });
        keep(world, &fixed.to_string());
        world.minipod(&["apply", "-f", &world.file(&config_map("fixed", json!({ "a": "2" })))]).fails_with(&["field is immutable when `immutable` is set"]);
    }),
    case("OBJ-04", |world| {
        // As a pod that was printed by a cluster has it.
        let name = json!({ "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } });
        let sources = json!([
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [name] } },
        ]);
        let app = "cd /var/run/secrets/kubernetes.io/serviceaccount; cat ca.crt >/story/ca; cat token >/story/token; echo >>/story/token; \
                   stat -L -c '%a %u %g' token ca.crt namespace >/story/modes; ls >/story/list";
        let pod = |name: &str| {
            let pod = Pod::new(name, "Never").app("a", app).spec("serviceAccountName", json!("robot"));
            let projected = json!({ "projected": { "sources": sources, "defaultMode": 0o644 } });
            pod.volume("kube-api-access-abcde", projected, &[("a", "/var/run/secrets/kubernetes.io/serviceaccount")])
        };
        world.apply(&pod("p"));
        world.wait_phase("p", "Succeeded");
        assert_eq!((world.written("modes").as_str(), world.written("list").as_str()), ("644 0 0\n644 0 0\n644 0 0\n", "ca.crt\nnamespace\ntoken\n"));
        assert!(world.written("ca").contains("no API server"));
        let token = world.written("token");
        let parts: Vec<&str> = token.trim().split('.').collect();
        assert_eq!((parts.len(), parts[2].len()), (3, 86), "{token}");
        world.apply(&pod("q").spec("securityContext", json!({ "runAsUser": 7, "fsGroup": 8 })).spec("containers", user_writes(&pod("q"))));
        world.wait_phase("q", "Succeeded");
        let said = world.minipod(&["logs", "q"]).ok();
        assert!(said.contains("640 7 8"), "{said}");
    }),
];

/// The containers of a pod, each of which only shows its token's mode and owner: it may not write its story.
fn user_writes(pod: &Pod) -> Value {
    let mut object: Value = serde_json::from_str(&pod.manifest("/tmp")).expect("made from JSON");
    let container = &mut object["spec"]["containers"][0];
    container["command"] = json!(["sh", "-c", "cd /var/run/secrets/kubernetes.io/serviceaccount; stat -L -c '%a %u %g' token; cat token >/dev/null"]);
    object["spec"]["containers"].take()
}
