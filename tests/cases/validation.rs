//! Manifests that a cluster would refuse: refused here with the same path and words, all at once, and nothing is started.

use serde_json::{Value, json};

use crate::pod::{Pod, once};
use crate::world::World;
use crate::{Case, case};

/// Demands that neither `run` nor `apply` starts anything of a manifest, that both say all of this, and `validate` too.
#[track_caller]
fn refused(world: &World, file: &str, wanted: &[&str]) {
    for words in [&["run", file][..], &["apply", "-f", file], &["validate", file]] {
        world.minipod(words).fails_with(wanted);
    }
    assert_eq!(world.minipod(&["get", "pods"]).ok(), "", "something was started");
    world.assert_nothing_left();
}

const BROKEN: &str = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Sometimes
  initContainers:
  - {name: i, image: busybox, readinessProbe: {exec: {command: [\"true\"]}}}
  containers:
  - name: a
    image: busybox
    command: [touch, /story/started]
    ports: [{containerPort: 70000}]
    volumeMounts: [{name: v, mountPath: /x}]
    resources: {limits: {cpu: 1}, requests: {cpu: 2}}
";

pub const CASES: &[Case] = &[
    case("VAL-01", |world| {
        refused(
            world,
            &world.file(BROKEN),
            &[
                "The Pod \"p\" is invalid:",
                "* spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                "* spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
                "* spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "* spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
                "* spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ],
        );
    }),
    case("VAL-03", |world| {
        let probed = Pod::new("p", "Never").init("i", &once("0", 0)).with("i", "readinessProbe", json!({ "exec": { "command": ["true"] } })).app("a", "");
        let said =
            "The Pod \"p\" is invalid: spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always";
        refused(world, &world.manifest(&probed), &[said]);
    }),
    case("VAL-04", |world| {
        let ports = |number: u16| json!([{ "containerPort": number, "hostPort": 8080 }]);
        let twice = Pod::new("p", "Never").app("a", "").with("a", "ports", ports(80)).app("b", "").with("b", "ports", ports(81));
        refused(world, &world.manifest(&twice), &["spec.containers[1].ports[0].hostPort: Duplicate value: \"TCP//8080\""]);
        let named =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  initContainers: [{name: a, image: busybox}]\n  containers: [{name: a, image: busybox}]\n";
        refused(world, &world.file(named), &["spec.initContainers[0].name: Duplicate value: \"a\""]);
    }),
    Case {
        id: "VAL-05",
        needs: &["setpriv"],
        run: |world| {
            // Programs read findings; nobody needs root, or any state, to be told.
            let (broken, sound) = (world.file(BROKEN), world.manifest(&Pod::new("q", "Never").app("a", "true")));
            let program = world.path("minipod");
            let built = std::env::var("MINIPOD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_minipod").to_owned());
            // By a process of its own: another thread's child would hold a file that we write ourselves, and ETXTBSY would be the answer.
            world.tool("cp", &[&built, &program.display().to_string()]).ok();
            let program = program.display().to_string();
            let judge = |words: &[&str]| world.tool("setpriv", &[&["--reuid=65534", "--regid=65534", "--clear-groups", &program, "validate"], words].concat());
            let done = judge(&["-o", "json", &broken, &sound]);
            assert_eq!(done.code, 1, "{}", done.err);
            let findings: Vec<Value> = serde_json::from_str(&done.out).expect("a JSON list");
            let port = findings.iter().find(|it| it["field"] == "spec.containers[0].ports[0].containerPort").expect("the port's finding");
            for (key, value) in [
                ("file", json!(broken)),
                ("object", json!("Pod/p")),
                ("severity", json!("error")),
                ("type", json!("Invalid value")),
                ("value", json!(70000)),
                ("detail", json!("must be between 1 and 65535, inclusive")),
                ("line", json!(12)),
            ] {
                assert_eq!(port[key], value, "{key}");
            }
            assert!(findings.len() == 5 && findings.iter().all(|it| it["object"] == "Pod/p"), "{findings:#?}");
            assert_eq!(judge(&[&sound]).ok(), "pod/q is valid\n");
            // The defaulted object, and several files.
            let yaml = judge(&["-o", "yaml", &sound, &sound]).ok();
            assert!(yaml.contains("schedulerName: default-scheduler") && yaml.contains("\n---\napiVersion"), "{yaml}");
            assert!(
                judge(&["--fields", "Job"]).ok().lines().any(|line| line.starts_with("Job ") && line.contains(" spec.completions ") && line.ends_with("done"))
            );
        },
    },
];
