//! Restarts and the crash loop.

use serde_json::json;

use crate::pod::{Pod, await_file, once, serve};
use crate::world::{World, condition, container, restarts};
use crate::{Case, case};

/// First run exits 1, second exits 0, third runs until it is told to stop.
fn thrice(name: &str) -> String {
    format!("say Starting; case $(grep -c '{name} Starting' /story/lines) in 1) exit 1;; 2) exit 0;; esac; trap 'exit 0' TERM; sleep 100000 & wait")
}

pub const CASES: &[Case] = &[
    case("RST-01", |world| {
        for (pod, policy) in [("always", "Always"), ("onfailure", "OnFailure"), ("never", "Never")] {
            world.apply_with(&Pod::new(pod, policy).app(pod, &thrice(pod)), &["--max-backoff", "1s"]);
        }
        let never = world.wait_phase("never", "Failed");
        assert_eq!(restarts(&never, "never"), 0);
        let onfailure = world.wait_phase("onfailure", "Succeeded");
        assert_eq!(restarts(&onfailure, "onfailure"), 1);
        let always = world.wait("always", "its third run", |pod| restarts(pod, "always") == 2 && condition(pod, "Ready")["status"] == "True");
        assert_eq!(always["status"]["phase"], "Running");
    }),
    case("RST-02", |world| {
        // Real waits: at once, then 10 s; and the third is announced as 20 s.
        let watch = world.start(&["get", "pods", "-w"]);
        world.apply(&Pod::new("p", "Always").app("a", &once("0", 1)));
        let pod = world.wait("p", "a wait of 20 s", |pod| container(pod, "a")["state"]["waiting"]["message"].as_str().is_some_and(|m| m.contains("20s")));
        let message = container(&pod, "a")["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned();
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        assert_eq!(message, format!("back-off 20s restarting failed container=a pod=p_default({uid})"));
        assert_eq!(container(&pod, "a")["lastState"]["terminated"]["exitCode"], 1);
        let (starts, ends) = (world.moments("a Starting"), world.moments("a Exiting"));
        assert!(starts[1] - ends[0] < 5.0, "the first restart is at once: {starts:?} {ends:?}");
        let second = starts[2] - ends[1];
        assert!((9.9..16.0).contains(&second), "the second restart waits 10 s, not {second}");
        watch.wait_for("CrashLoopBackOff");
        let told = World::statuses(&watch, "p");
        assert!(told.iter().any(|status| status == "CrashLoopBackOff"), "{told:?}");
        let events = world.minipod(&["describe", "pod", "p"]).ok();
        assert!(events.lines().any(|l| l.contains("BackOff") && l.contains("Back-off restarting failed container a in pod p_default")), "{events}");
    }),
    case("RST-07", |world| {
        let pod = Pod::new("p", "Never").app("a", &once("0.1", 0)).with("a", "restartPolicy", json!("Always"));
        world.apply_with(&pod, &["--max-backoff", "1s"]);
        world.wait("p", "two restarts", |pod| restarts(pod, "a") >= 2);
    }),
    case("RST-09", |world| {
        let rules = json!([{ "action": "RestartAllContainers", "exitCodes": { "operator": "In", "values": [42] } }]);
        let source = format!("echo x >>/kept/n; say Starting; case $(wc -l </kept/n) in 1) {}; exit 42;; esac; {}", await_file("go"), serve("0", 0));
        let pod = Pod::new("p", "Never").init("i", &format!("touch /lost-i; {}", once("0", 0))).sidecar("s", &serve("0", 0)).app("a", &source);
        let pod = pod.app("b", &format!("[ -e /lost ] && say Found; touch /lost; {}", serve("0", 0)));
        let pod =
            pod.with("a", "restartPolicy", json!("Never")).with("a", "restartPolicyRules", rules).volume("kept", json!({ "emptyDir": {} }), &[("a", "/kept")]);
        world.apply(&pod);
        world.wait_story("b Started");
        let ip = world.get("p")["status"]["podIP"].clone();
        world.touch("go");
        let pod = world.wait("p", "the second round", |pod| restarts(pod, "b") == 1 && condition(pod, "Ready")["status"] == "True");
        for name in ["i", "s", "a", "b"] {
            assert_eq!(restarts(&pod, name), 1, "{name}");
            assert_eq!(container(&pod, name)["lastState"]["terminated"]["reason"], "RestartingAllContainers", "{name}");
        }
        assert_eq!(pod["status"]["phase"], "Running");
        assert_eq!(pod["status"]["podIP"], ip, "the same sandbox");
        assert_eq!(condition(&pod, "AllContainersRestarting")["status"], "False");
        assert!(world.moments("b Found").is_empty(), "its root file system was thrown away");
        world.assert_order(&["i Starting", "s Started", "a Starting", "b Term", "s Term", "i Starting", "s Started", "a Starting", "a Started"]);
    }),
    case("ORD-10", |world| {
        let pod = Pod::new("p", "OnFailure").init("i", &once("0", 0)).app("c1", &once("0", 0)).app("c2", &serve("0", 1));
        world.apply(&pod);
        world.wait_story("c2 Started");
        world.wait("p", "c1 completed", |pod| container(pod, "c1")["state"]["terminated"]["exitCode"] == 0);
        world.kill_pauses();
        world.wait("p", "c2 runs again", |pod| restarts(pod, "c2") == 1 && container(pod, "c2")["ready"] == true);
        world.assert_order(&["c2 Started", "c2 Term", "c2 Exiting", "i Starting", "i Exiting", "c2 Started"]);
        assert_eq!(world.moments("c1 Starting").len(), 1, "{:?}", world.story());
    }),
    case("RST-13", |world| {
        let script = format!("if [ -e /kept/mark ]; then [ ! -e /lost ] && say Kept-and-lost; {}; fi; touch /kept/mark /lost; exit 1", serve("0", 0));
        world.apply(&Pod::new("p", "Always").app("a", &script).volume("kept", json!({ "emptyDir": {} }), &[("a", "/kept")]));
        world.wait_story("a Kept-and-lost");
        world.wait("p", "one restart", |pod| restarts(pod, "a") == 1);
    }),
];
