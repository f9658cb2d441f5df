//! Variables: literal, expanded, from objects, from the pod itself; and the command that they are put into.

use serde_json::{Value, json};

use crate::objects::{config_map, secret};
use crate::pod::{Pod, serve};
use crate::world::{World, container};
use crate::{Case, case};

/// Runs a pod whose one app writes the variables that begin with `E_` (a word in each) and ends; gives them, sorted.
fn variables(world: &World, pod: &str, changes: &[(&str, Value)]) -> Vec<String> {
    let app = "env | grep ^E_ | sort >/story/all.new; mv /story/all.new /story/all";
    let pod = changes.iter().fold(Pod::new(pod, "Never").app("a", app), |pod, (field, value)| pod.with("a", field, value.clone()));
    world.apply(&pod);
    world.wait_phase(pod.name(), "Succeeded");
    world.written("all").lines().map(str::to_owned).collect()
}

pub const CASES: &[Case] = &[
    case("ENV-01", |world| {
        let env = json!([
            { "name": "E_FOO", "value": "a" }, { "name": "E_BAR", "value": "$(E_FOO)-b" }, { "name": "E_BAZ", "value": "$(E_LATER)" },
            { "name": "E_LIT", "value": "$$(E_FOO)" }, { "name": "E_LATER", "value": "later" },
        ]);
        let all = variables(world, "p", &[("env", env)]);
        assert_eq!(all, ["E_BAR=a-b", "E_BAZ=$(E_LATER)", "E_FOO=a", "E_LATER=later", "E_LIT=$(E_FOO)"]);
    }),
    case("ENV-03", |world| {
        let pod = Pod::new("p", "Never").app("a", "").with("a", "command", json!(["sh", "-c", "TEST=wrong echo $(TEST) >/story/got"]));
        world.apply(&pod.with("a", "env", json!([{ "name": "TEST", "value": "right" }])));
        assert_eq!(world.written("got"), "right\n");
    }),
    case("ENV-04", |world| {
        world.minipod(&["apply", "-f", &world.file(&config_map("one", json!({ "A": "one", "B": "one" })))]).ok();
        world.minipod(&["apply", "-f", &world.file(&config_map("two", json!({ "B": "two", "C": "two" })))]).ok();
        world.minipod(&["apply", "-f", &world.file(&secret("hidden", json!({ "pw": "opensesame" })))]).ok();
        let from = json!([
            { "prefix": "E_", "configMapRef": { "name": "one" } }, { "prefix": "E_", "configMapRef": { "name": "two" } },
            { "configMapRef": { "name": "nowhere", "optional": true } }, { "secretRef": { "name": "nowhere", "optional": true } },
            { "prefix": "E_", "secretRef": { "name": "hidden" } },
        ]);
        let env = json!([
            { "name": "E_C", "value": "mine" }, { "name": "E_SUM", "value": "$(E_A)+$(E_B)+$(E_C)" },
            { "name": "E_KEY", "valueFrom": { "secretKeyRef": { "name": "hidden", "key": "pw" } } },
            { "name": "E_NONE", "valueFrom": { "configMapKeyRef": { "name": "one", "key": "none", "optional": true } } },
        ]);
        let all = variables(world, "p", &[("envFrom", from), ("env", env)]);
        assert_eq!(all, ["E_A=one", "E_B=two", "E_C=mine", "E_KEY=opensesame", "E_SUM=one+two+mine", "E_pw=opensesame"]);
        let kept = std::fs::read_to_string(world.root().join("lib/pods/default/p/pod.json")).expect("the pod is there");
        assert!(!kept.contains("opensesame"), "the secret is in pod.json");
    }),
    case("ENV-06", |world| {
        let field = |path: &str| json!({ "fieldRef": { "fieldPath": path } });
        let resource = |name: &str, divisor: &str| json!({ "resourceFieldRef": { "resource": name, "divisor": divisor } });
        let named = [
            ("E_NAME", field("metadata.name")),
            ("E_NAMESPACE", field("metadata.namespace")),
            ("E_UID", field("metadata.uid")),
            ("E_POD_IP", field("status.podIP")),
            ("E_HOST_IP", field("status.hostIP")),
            ("E_NODE", field("spec.nodeName")),
            ("E_CPU", resource("requests.cpu", "1")),
            ("E_MILLI", resource("requests.cpu", "1m")),
            ("E_MEMORY", resource("requests.memory", "1Mi")),
            ("E_ALL_MEMORY", resource("limits.memory", "1")),
            ("E_ALL_CPU", resource("limits.cpu", "1")),
        ];
        let env: Vec<Value> = named.into_iter().map(|(name, from)| json!({ "name": name, "valueFrom": from })).collect();
        let resources = json!({ "requests": { "cpu": "1250m", "memory": "64Mi" } });
        let all = variables(world, "p", &[("env", json!(env)), ("resources", resources)]);
        let pod = world.get("p");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kib: u64 = std::fs::read_to_string("/proc/meminfo").expect("procfs").split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("MemTotal");
        let expected = [
            (
                "E_ALL_CPU",
                std::fs::read_to_string("/proc/stat").expect("procfs").lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1).to_string(),
            ),
            ("E_ALL_MEMORY", (kib * 1024).to_string()),
            ("E_CPU", "2".to_owned()),
            ("E_HOST_IP", text(&pod["status"]["hostIP"])),
            ("E_MEMORY", "64".to_owned()),
            ("E_MILLI", "1250".to_owned()),
            ("E_NAME", "p".to_owned()),
            ("E_NAMESPACE", "default".to_owned()),
            ("E_NODE", text(&pod["spec"]["nodeName"])),
            ("E_POD_IP", text(&pod["status"]["podIP"])),
            ("E_UID", text(&pod["metadata"]["uid"])),
        ];
        assert_eq!(all, expected.map(|(name, value)| format!("{name}={value}")));
    }),
    case("ENV-08", |world| {
        // An init container writes a file of variables, which the app is started with.
        let init = "printf \"# made\\nGREETING='hello\\nthere'\\n\" >/vars/env";
        let from = |key: &str, optional: bool| json!({ "fileKeyRef": { "volumeName": "vars", "path": "env", "key": key, "optional": optional } });
        let env = json!([{ "name": "G", "valueFrom": from("GREETING", false) }, { "name": "N", "valueFrom": from("NONE", true) }]);
        let pod = Pod::new("p", "Never").init("i", init).app("a", "echo \"$G,${N-unset}\" >/story/got").with("a", "env", env);
        world.apply(&pod.volume("vars", json!({ "emptyDir": {} }), &[("i", "/vars")]));
        world.wait_phase("p", "Succeeded");
        assert_eq!(world.written("got"), "hello\nthere,unset\n");
    }),
    case("CMD-01", |world| {
        // The image has the entrypoint `git` and the command `--help`.
        let run = |name: &str, changes: &[(&str, Value)], said: &str| {
            let pod = Pod::new(name, "Never").app("a", "").with("a", "image", json!("alpine/git")).with("a", "command", json!([]));
            world.apply(&changes.iter().fold(pod, |pod, (field, value)| pod.with("a", field, value.clone())));
            world.wait_phase(name, "Succeeded");
            let told = world.minipod(&["logs", name]).ok();
            assert!(told.starts_with(said), "{name}: {told}");
        };
        run("neither", &[], "usage: git");
        run("args", &[("args", json!(["--version"]))], "git version");
        run("command", &[("command", json!(["echo", "only this"]))], "only this\n");
        run("both", &[("command", json!(["echo", "this"])), ("args", json!(["and that"]))], "this and that\n");
        run("there", &[("command", json!(["pwd"])), ("workingDir", json!("/made/here"))], "/made/here\n");
        let nothing = json!({ "name": "x", "value": "$(UNSET)" });
        let pod = Pod::new("missing", "Never").app("a", &serve("0", 0)).with("a", "envFrom", json!([{ "secretRef": { "name": "nowhere" } }]));
        world.apply(&pod.with("a", "env", json!([nothing])));
        let pod = world.wait("missing", "the refusal", |pod| container(pod, "a")["state"]["waiting"]["reason"] == "CreateContainerConfigError");
        assert_eq!(container(&pod, "a")["state"]["waiting"]["message"], "secret \"nowhere\" not found");
        assert_eq!(pod["status"]["phase"], "Pending");
    }),
];
