//! YAML as kubectl reads it, the defaults of a Pod, and texts that mean harm.

use k8s_openapi::api::core::v1::Pod;
use minipod::manifest::{self, Loaded, Object};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(text: &str) -> Loaded {
    manifest::read(text, "f").unwrap_or_else(|faults| panic!("{text}\n{faults}"))
}

fn json_of(text: &str) -> Value {
    serde_json::to_value(read(text).pods().next().unwrap()).unwrap()
}

fn refused(text: &str) -> String {
    let faults = manifest::read(text, "f").unwrap_err();
    assert!(!faults.drawn(false).is_empty());
    faults.lines().join("\n")
}

const SMALL: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: app\n    image: nginx\n";

#[test]
fn a_small_pod_is_given_what_kubernetes_gives_it() {
    let text = format!(
        "{SMALL}    ports: [{{containerPort: 80}}]\n    resources: {{limits: {{cpu: 0.5, memory: 1024Mi}}, requests: {{cpu: 0.1}}}}\n    volumeMounts: [{{name: v, mountPath: /v}}]\n  \
         volumes: [{{name: v}}, {{name: h, hostPath: {{path: /srv}}}}]\n  hostNetwork: true\n"
    );
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "containers": [{
                "name": "app",
                "image": "nginx",
                "imagePullPolicy": "Always",
                "ports": [{ "containerPort": 80, "hostPort": 80, "protocol": "TCP" }],
                "resources": { "limits": { "cpu": "500m", "memory": "1Gi" }, "requests": { "cpu": "100m", "memory": "1Gi" } },
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "volumeMounts": [{ "name": "v", "mountPath": "/v" }]
            }],
            "volumes": [{ "name": "v", "emptyDir": {} }, { "name": "h", "hostPath": { "path": "/srv", "type": "" } }],
            "hostNetwork": true,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "enableServiceLinks": true,
            "schedulerName": "default-scheduler"
        }
    });
    assert_eq!(json_of(&text), expected);
}

#[test]
fn a_small_job_is_given_what_kubernetes_gives_it() {
    let text = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: pi}\nspec:\n  template:\n    metadata: {labels: {app: pi}}\n    spec:\n      \
                restartPolicy: Never\n      containers: [{name: c, image: perl, resources: {limits: {cpu: 0.5}}}]\n";
    let loaded = read(text);
    let [Object::Job(job)] = loaded.objects.as_slice() else { panic!("{loaded:?}") };
    let expected = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        // A job without labels gets those of its template.
        "metadata": { "name": "pi", "namespace": "default", "labels": { "app": "pi" } },
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "suspend": false,
            "manualSelector": false,
            "podReplacementPolicy": "TerminatingOrFailed",
            "template": {
                "metadata": { "labels": { "app": "pi" } },
                "spec": {
                    "containers": [{
                        "name": "c",
                        "image": "perl",
                        "imagePullPolicy": "Always",
                        // Requests follow from limits in a Pod, not in a template.
                        "resources": { "limits": { "cpu": "500m" } },
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File"
                    }],
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 30,
                    "dnsPolicy": "ClusterFirst",
                    "securityContext": {},
                    "schedulerName": "default-scheduler"
                }
            }
        }
    });
    assert_eq!(serde_json::to_value(job).unwrap(), expected);
}

#[test]
fn a_pod_survives_being_kept_as_json() {
    let pod = read(SMALL).pods().next().unwrap().clone();
    assert_eq!(manifest::from_json(&serde_json::to_value(&pod).unwrap()), Ok(pod));
    assert!(manifest::from_json::<Pod>(&json!({ "apiVersion": "v1", "kind": "Pod", "spec": 1 })).is_err());
}

#[test]
fn what_a_server_once_wrote_into_a_printed_pod_is_not_taken_over() {
    let printed = format!(
        "{}status: {{phase: Failed, newInAnotherVersion: 1}}\n",
        SMALL.replace("  name: web\n", "  name: web\n  uid: x\n  resourceVersion: '5'\n  generation: 3\n  creationTimestamp: 2026-01-01T00:00:00Z\n  deletionTimestamp: 2026-01-01T00:00:00Z\n")
    );
    assert_eq!(read(&printed), read(SMALL));
}

#[test]
fn flow_style_json_and_kyaml_are_the_same_pod() {
    let block = read(SMALL);
    let flow = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: app, image: nginx}]}}";
    let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"app","image":"nginx"}]}}"#;
    let kyaml = "---\n{\n  apiVersion: \"v1\",\n  kind: \"Pod\",\n  # a comment\n  metadata: {\n    name: \"web\",\n  },\n  spec: {\n    containers: [{\n      name: \"app\",\n      image: \"nginx\",\n    }],\n  },\n}\n";
    let windows = SMALL.replace('\n', "\r\n");
    let marked = format!("\u{feff}{SMALL}");
    for text in [flow, json, kyaml, &windows, &marked] {
        assert_eq!(read(text), block, "{text}");
    }
}

#[test]
fn scalars_are_read_as_yaml_1_1() {
    let text = format!(
        "{SMALL}    tty: yes\n    stdin: on\n    stdinOnce: No\n  securityContext: {{runAsUser: 0o17, runAsGroup: 010, supplementalGroups: [0x10, 1_000, 1e3]}}\n"
    );
    let pod = json_of(&text);
    assert_eq!(pod["spec"]["containers"][0]["tty"], true);
    assert_eq!(pod["spec"]["containers"][0]["stdin"], true);
    assert_eq!(pod["spec"]["containers"][0]["stdinOnce"], false);
    assert_eq!(pod["spec"]["securityContext"], json!({ "runAsUser": 15, "runAsGroup": 8, "supplementalGroups": [16, 1000, 1000] }));
}

#[test]
fn keys_become_strings_and_anchors_and_merges_are_expanded() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {1: a, yes: b}}\nspec:\n  containers:\n  - &a\n    name: one\n    image: nginx:1\n  - <<: *a\n    name: two\n";
    let pod = json_of(text);
    assert_eq!(pod["metadata"]["labels"], json!({ "1": "a", "true": "b" }));
    assert_eq!(pod["spec"]["containers"][1]["image"], "nginx:1");
    assert_eq!(pod["spec"]["containers"][1]["name"], "two");
}

#[test]
fn documents_and_lists_hold_several_pods_and_empty_ones_are_skipped() {
    let other = SMALL.replace("web", "other");
    let stream = format!("# first\n---\n{SMALL}---\n# nothing\n---\n---\n{other}...\n");
    let names = |text: &str| read(text).pods().map(|pod| pod.metadata.name.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(names(&stream), ["web", "other"]);
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}\n- {}\n", SMALL.trim_end().replace('\n', "\n  "), other.trim_end().replace('\n', "\n  "));
    assert_eq!(names(&list), ["web", "other"]);
    let faulty = format!("{SMALL}---\n{}", other.replace("image", "imgae"));
    let faults = manifest::read(&faulty, "f").unwrap_err();
    assert_eq!(faults.lines()[1], "f:17:5: spec.containers[0].imgae: unknown field; did you mean \"image\"?");
    assert!(faults.to_string().starts_with("The Pod \"other\" is invalid"));
}

#[test]
fn a_text_without_an_object_is_a_fault() {
    for text in ["", "\n", "# only a comment\n", "---\n---\n", "null", "~\n"] {
        assert!(refused(text).contains("there is no object in this manifest"), "{text:?}");
    }
}

#[test]
fn a_text_that_is_no_yaml_is_one_line_with_its_place() {
    for (text, place) in [
        ("a: b: c\n", "f:1:"),
        ("a:\n\t- b\n", "f:2:"),
        ("a: [1, 2\n", "f:1:4: unclosed bracket"),
        ("a: \"open\n", "f:"),
        ("a: *nope\n", "f:1:4: alias of an anchor that is not defined before it"),
        ("a: .nan\n", "f:1:4: value `.nan` is not a finite number"),
        ("? [a]\n: b\n", "f:1:"),
        ("a: \u{0}\n", "f:1:4: control character U+0000 is not allowed"),
        ("x: y\na: \u{1b}[31m\n", "f:2:4: control character U+001B is not allowed"),
    ] {
        let line = refused(text);
        assert!(line.starts_with(place) && !line.contains('\n') && !line.contains('\u{1b}'), "{text:?}: {line}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_where_they_are() {
    let faults = manifest::read_bytes(b"a: b\nkind: \xff\xfe", "f").unwrap_err();
    assert_eq!(faults.lines(), ["f:2:7: byte 11 is not UTF-8; a manifest is UTF-8 text"]);
    assert!(manifest::read_bytes(SMALL.as_bytes(), "f").is_ok());
}

#[test]
fn a_hostile_text_is_refused_in_one_line() {
    let bomb: String = (b'b'..=b'i').map(|c| format!("{0}: &{0} [{1}]\n", c as char, vec![format!("*{}", (c - 1) as char); 9].join(","))).collect();
    for text in [
        format!("a: &a [x,x,x,x,x,x,x,x,x]\n{bomb}"),
        "[".repeat(20_000),
        "{a: ".repeat(20_000),
        (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
        "- ".repeat(20_000),
        format!("a: {}", "x".repeat(4 << 20)),
        "---\n".repeat(5) + &"a: &a 1\n---\n".repeat(5_000),
    ] {
        let line = refused(&text);
        assert!(line.starts_with("f:") && line.lines().count() == 1 && line.len() < 300, "{}", &line[..line.len().min(500)]);
    }
}

#[test]
fn a_text_with_countless_faults_is_answered_at_once_with_the_first_of_them() {
    let fields: String = (0..2_000).map(|number| format!("  x{number}: 1\n  x{number}: 1\n")).collect();
    let labels: String = (0..2_000).map(|number| format!("    '-{number}': '-'\n")).collect();
    let wrong: String = (0..2_000).map(|number| format!("    - {number}\n")).collect();
    for text in [format!("{SMALL}{fields}"), SMALL.replace("spec:\n", &format!("  labels:\n{labels}spec:\n")), format!("{SMALL}    args:\n{wrong}")] {
        let faults = manifest::read(&text, "f").unwrap_err();
        assert!((20..=501).contains(&faults.faults.len()), "{}", faults.faults.len());
        assert!(faults.drawn(false).lines().count() < 5_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(faults) = manifest::read_bytes(&bytes, "f") {
            prop_assert!(!faults.drawn(false).is_empty() && !faults.to_string().is_empty());
        }
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(text in "([a-c]|[ \n:\\-\\[\\]{}&*!|>'\"#%,?~<]|yes|0x1|1e9|\u{e9}|\r\n){0,60}") {
        if let Err(faults) = manifest::read(&text, "f") {
            prop_assert!(!faults.drawn(true).is_empty() && !faults.faults.is_empty());
        }
    }

    #[test]
    fn no_small_change_of_a_pod_makes_it_panic(at in 0_usize..SMALL.len(), length in 0_usize..12, with in "[ -~\n]{0,6}|\u{e9}|: \\[|null|&a |\\*a|5") {
        let mut text = SMALL.to_owned();
        text.replace_range(at..(at + length).min(SMALL.len()), &with);
        if let Err(faults) = manifest::read(&text, "f") {
            prop_assert!(!faults.drawn(false).is_empty() && faults.faults.iter().all(|fault| fault.line > 0 && fault.column > 0));
        }
    }
}
