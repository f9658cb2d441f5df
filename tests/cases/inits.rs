//! Init containers: one after the other, and what their failure does.

use serde_json::{Value, json};

use crate::pod::{Pod, await_file, once, serve, until};
use crate::world::{World, condition, container, restarts};
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("ORD-01", |world| {
        let pod = Pod::new("p", "Never").init("i1", &once("0.3", 0)).init("i2", &once("0.3", 0)).init("i3", &once("0.3", 0)).app("a", &once("0", 0));
        world.apply(&pod);
        world.wait_phase("p", "Succeeded");
        world.assert_order(&["i1 Starting", "i1 Exiting", "i2 Starting", "i2 Exiting", "i3 Starting", "i3 Exiting", "a Starting", "a Exiting"]);
        assert_eq!(world.story().len(), 8, "each ran once: {:?}", world.story());
    }),
    case("ORD-02", |world| {
        let pod = Pod::new("p", "Always").init("i1", &once("0", 0)).init("i2", &once("0", 0)).init("i3", &once("0", 0)).app("a", &serve("0", 0));
        world.apply(&pod);
        let pod = world.wait_ready("p");
        let row = world.row("p");
        assert_eq!((&*row.ready, &*row.status, &*row.restarts), ("1/1", "Running", "0"));
        assert_eq!(condition(&pod, "Initialized")["status"], "True");
        let told = world.minipod(&["describe", "pod", "p"]).ok();
        for name in ["i1", "i2", "i3"] {
            let status = container(&pod, name);
            assert_eq!(status["state"]["terminated"]["reason"], "Completed", "{name}");
            assert_eq!(status["ready"], true, "{name}");
            let part = section(&told, name);
            for (field, value) in [("State:", "Terminated"), ("Reason:", "Completed"), ("Exit Code:", "0"), ("Ready:", "True"), ("Restart Count:", "0")] {
                assert!(part.iter().any(|l| l.trim().strip_prefix(field).is_some_and(|v| v.trim() == value)), "{name}: no {field} {value} in {part:?}");
            }
        }
    }),
    case("ORD-03", |world| {
        let watch = world.start(&["get", "pods", "-w"]);
        world.apply(&Pod::new("p", "Always").init("i1", &until("go1", 0)).init("i2", &until("go2", 0)).app("a", &serve("0", 0)));
        world.wait_story("i1 Starting");
        world.wait_row("p", "0/1", "Init:0/2");
        world.touch("go1");
        world.wait_row("p", "0/1", "Init:1/2");
        world.touch("go2");
        world.wait_row("p", "1/1", "Running");
        watch.wait_for("Running");
        let told = World::statuses(&watch, "p");
        let told: Vec<&str> = told.iter().map(String::as_str).filter(|s| !["Pending", "ContainerCreating"].contains(s)).collect();
        assert!(
            [&["Init:0/2", "Init:1/2", "PodInitializing", "Running"][..], &["Init:0/2", "Init:1/2", "Running"]].contains(&&told[..]),
            "the watch told {told:?}"
        );
    }),
    case("ORD-07", |world| {
        let app = "say Starting; [ $(grep -c 'a Starting' /story/lines) -gt 3 ] || exit 1; trap 'exit 0' TERM; sleep 100000 & wait";
        let pod = Pod::new("p", "Always").init("i1", &once("0", 0)).init("i2", &once("0", 0)).init("i3", &once("0", 0)).app("a", app);
        world.apply_with(&pod, &["--max-backoff", "1s"]);
        let pod = world.wait("p", "a running after 3 crashes", |pod| restarts(pod, "a") >= 3 && container(pod, "a")["state"]["running"].is_object());
        for init in ["i1", "i2", "i3"] {
            assert_eq!(world.moments(&format!("{init} Starting")).len(), 1, "{init} ran once");
            assert_eq!(restarts(&pod, init), 0);
        }
    }),
    case("INI-01", |world| {
        world.apply(&Pod::new("p", "Never").init("i1", &once("0", 1)).app("a", &once("0", 0)));
        let pod = world.wait_phase("p", "Failed");
        let row = world.row("p");
        assert_eq!((&*row.ready, &*row.status, &*row.restarts), ("0/1", "Init:Error", "0"));
        assert_eq!(container(&pod, "a")["state"]["waiting"]["reason"], "PodInitializing");
        assert_eq!(condition(&pod, "Ready")["status"], "False");
        assert_eq!(condition(&pod, "Ready")["reason"], "PodFailed");
        world.assert_silent("a");
    }),
    case("INI-02", |world| {
        world.apply(&Pod::new("p", "Never").init("i1", &once("0", 0)).init("i2", &once("0", 1)).app("a", &once("0", 0)));
        let pod = world.wait_phase("p", "Failed");
        assert_eq!(container(&pod, "i1")["ready"], true);
        assert_eq!(exit(&pod, "i1"), (json!(0), json!("Completed")));
        assert_eq!(container(&pod, "i2")["ready"], false);
        assert_eq!(exit(&pod, "i2"), (json!(1), json!("Error")));
        world.assert_silent("a");
    }),
    case("INI-03", |world| {
        let watch = world.start(&["get", "pods", "-w"]);
        world.apply_with(&Pod::new("p", "Always").init("i1", &once("0", 1)).init("i2", &once("0", 0)).app("a", &once("0", 0)), &["--max-backoff", "1s"]);
        let pod = world.wait("p", "three restarts of i1", |pod| restarts(pod, "i1") >= 3);
        assert_eq!(pod["status"]["phase"], "Pending");
        let initialized = condition(&pod, "Initialized");
        assert_eq!(initialized["status"], "False");
        assert_eq!(initialized["reason"], "ContainersNotInitialized");
        assert_eq!(initialized["message"], "containers with incomplete status: [i1 i2]");
        for name in ["i2", "a"] {
            assert_eq!(container(&pod, name)["state"]["waiting"]["reason"], "PodInitializing", "{name}");
            world.assert_silent(name);
        }
        // The kubelet shows the wait late and shortly, we may show it at once: either word may be the lasting one.
        watch.wait_for("Init:CrashLoopBackOff");
        let told = World::statuses(&watch, "p");
        assert!(told.iter().all(|s| ["Pending", "Init:0/2", "Init:Error", "Init:CrashLoopBackOff"].contains(&&**s)), "{told:?}");
        assert!(world.row("p").restarts.starts_with(|c: char| ('3'..='9').contains(&c)));
    }),
    case("INI-06", |world| {
        let pod = Pod::new("p", "Never").init("i1", &once("0", 0)).with("i1", "image", json!("no-such-image:1")).app("a", &once("0", 0));
        let watch = world.start(&["get", "pods", "-w"]);
        world.apply(&pod);
        let reasons = ["ErrImagePull", "ImagePullBackOff"];
        let pod = world.wait("p", "an image error", |pod| container(pod, "i1")["state"]["waiting"]["reason"].as_str().is_some_and(|r| reasons.contains(&r)));
        assert_eq!(pod["status"]["phase"], "Pending");
        watch.wait_for("Init:ErrImagePull");
        watch.wait_for("Init:ImagePullBackOff");
        assert_eq!(world.get("p")["status"]["phase"], "Pending");
        world.assert_silent("a");
    }),
    case("INI-10", |world| {
        let rules = json!([{ "action": "Restart", "exitCodes": { "operator": "In", "values": [42] } }]);
        let script = "say Starting; if mkdir /story/once 2>/dev/null; then exit 42; fi; exit 0";
        let pod = Pod::new("p", "Never").init("i", script).with("i", "restartPolicy", json!("Never")).with("i", "restartPolicyRules", rules);
        world.apply_with(&pod.app("a", &once("0", 0)), &["--max-backoff", "1s"]);
        let pod = world.wait_phase("p", "Succeeded");
        assert_eq!(restarts(&pod, "i"), 1);
        world.assert_order(&["i Starting", "i Starting", "a Starting"]);
    }),
    case("INI-R1", |world| {
        // An init that fails once under OnFailure: run again, then the pod goes on.
        let init = format!("say Starting; if mkdir /story/once 2>/dev/null; then exit 42; fi; {}; exit 0", await_file("go"));
        world.apply_with(&Pod::new("p", "OnFailure").init("i1", &init).app("a", &once("0", 0)), &["--max-backoff", "1s"]);
        world.wait("p", "one restart of i1", |pod| restarts(pod, "i1") == 1);
        world.touch("go");
        let pod = world.wait_phase("p", "Succeeded");
        assert_eq!(restarts(&pod, "i1"), 1);
        assert_eq!(container(&pod, "i1")["lastState"]["terminated"]["exitCode"], 42);
    }),
];

/// Exit code and reason of a container that ended.
pub fn exit(pod: &Value, name: &str) -> (Value, Value) {
    let ended = &container(pod, name)["state"]["terminated"];
    (ended["exitCode"].clone(), ended["reason"].clone())
}

/// The lines of `describe` about one container.
fn section<'a>(told: &'a str, name: &str) -> Vec<&'a str> {
    let head = format!("  {name}:");
    let after = told.lines().skip_while(|line| *line != head).skip(1);
    after.take_while(|line| line.starts_with("    ")).collect()
}
