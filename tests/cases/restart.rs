//! Restarts and the crash loop.

use serde_json::json;

use crate::ending::second;
use crate::pod::{Pod, await_file, once, serve};
use crate::process::{poll, seconds, slow};
use crate::world::{World, condition, container, restarts};
use crate::{Case, case};

/// First run exits 1, second exits 0, third runs until it is told to stop.
fn thrice(name: &str) -> String {
    format!("say Starting; case $(grep -c '{name} Starting' /story/lines) in 1) exit 1;; 2) exit 0;; esac; trap 'exit 0' TERM; sleep 100000 & wait")
}

/// How long each restart waited: from what the container said last to what its next instance said first.
fn waits(world: &World, name: &str) -> Vec<f64> {
    let (starts, ends) = (world.moments(&format!("{name} Starting")), world.moments(&format!("{name} Exiting")));
    starts.iter().skip(1).zip(ends).map(|(start, end)| start - end).collect()
}

/// A line `LABEL: VALUE` of the section that begins with `head` in a `describe`.
pub fn described<'a>(text: &'a str, head: &str, label: &str) -> Option<&'a str> {
    let section = text.split_once(&format!("    {head}:"))?.1;
    section.lines().find_map(|line| line.trim().strip_prefix(label)?.strip_prefix(':')).map(str::trim)
}

/// Those that spend their time waiting: nothing is proved if the waits are made shorter.
pub const LONG_CASES: &[Case] = &[
    case("RST-04", |world| {
        // At once, 10 s, 20 s, 40 s.
        let fifth = format!("say Starting; if [ $(grep -c 'a Starting' /story/lines) -lt 5 ]; then say Exiting; exit 3; fi; {}", serve("0", 0));
        world.apply(&Pod::new("p", "Always").app("a", &fifth));
        let came = poll(seconds(120), || (world.moments("a Starting").len() == 5).then_some(()));
        assert!(came.is_some(), "there was no fourth restart: {:?}", world.story());
        let waits = waits(world, "a");
        assert!(waits[0] < 5.0, "the first restart is at once: {waits:?}");
        for (at, (least, most)) in [(9.9, 16.0), (19.9, 30.0), (39.9, 60.0)].into_iter().enumerate() {
            assert!((least..=most).contains(&waits[at + 1]) || (slow() && waits[at + 1] > least), "restart {}: {waits:?}", at + 2);
        }
        let pod = world.wait_ready("p");
        assert_eq!(restarts(&pod, "a"), 4);
        let (status, told) = (container(&pod, "a"), world.minipod(&["describe", "pod", "p"]).ok());
        let last = &status["lastState"]["terminated"];
        // In whole seconds.
        let wait = second(&status["state"]["running"]["startedAt"]) - second(&last["finishedAt"]);
        assert!((39..=60).contains(&wait) || (slow() && wait > 60), "the status says {wait} s");
        assert_eq!(described(&told, "Last State", "Reason"), Some("Error"), "{told}");
        assert_eq!(described(&told, "Last State", "Exit Code"), Some("3"), "{told}");
        for (label, time) in [("Started", "startedAt"), ("Finished", "finishedAt")] {
            let shown = described(&told, "Last State", label).and_then(|shown| jiff::fmt::rfc2822::parse(shown).ok());
            assert_eq!(shown.map(|shown| shown.timestamp().as_second()), Some(second(&last[time])), "{label} in {told}");
        }
    }),
    case("RST-05", |world| {
        world.apply_with(&Pod::new("p", "Always").app("a", &once("0", 1)), &["--max-backoff", "5s"]);
        let pod = world.wait("p", "a wait", |pod| container(pod, "a")["state"]["waiting"]["message"].as_str().is_some_and(|m| m.starts_with("back-off")));
        let message = &container(&pod, "a")["state"]["waiting"]["message"];
        assert!(message.as_str().is_some_and(|message| message.starts_with("back-off 5s restarting failed container=a")), "{message}");
        let came = poll(seconds(60), || (world.moments("a Starting").len() == 5).then_some(()));
        assert!(came.is_some(), "there was no fourth restart: {:?}", world.story());
        let waits = waits(world, "a");
        assert!(waits[0] < 5.0, "the first restart is at once: {waits:?}");
        // 10, 20 and 40 s without the limit.
        assert!(waits[1..].iter().all(|wait| *wait >= 4.9 && (*wait <= 7.0 || slow())), "{waits:?}");
    }),
];

pub const CASES: &[Case] = &[
    case("RST-15", |world| {
        // What ended starts wrote is removed even if the pod is never quiet.
        let pod = Pod::new("p", "Always").app("a", "say Starting; echo x >/written; exit 1").app("b", "while usleep 10000; do echo more; done");
        world.apply_with(&pod, &["--max-backoff", "1s"]);
        let came = poll(seconds(60), || (world.moments("a Starting").len() >= 5).then_some(()));
        assert!(came.is_some(), "it did not start five times: {:?}", world.story());
        let kept = || std::fs::read_dir(world.root().join("lib/pods/default/p/containers")).expect("the pod runs").flatten().map(|entry| entry.file_name());
        let few = poll(seconds(10), || (kept().filter(|name| name.to_string_lossy().starts_with("a.")).count() <= 2).then_some(()));
        assert!(few.is_some(), "kept: {:?}", kept().collect::<Vec<_>>());
        world.delete("p");
        world.assert_nothing_left();
    }),
    case("RST-14", |world| {
        // Whatever a start did to its root, the next one finds it as the image has it.
        let app = "say Starting; for path in /new /etc/new; do [ -e $path ] && say Stale $path; done; [ -e /bin/cat ] || say Gone; \
                   say Mode $(stat -c %a:%u /) Words $(stat -c %a:%s /dev/termination-log); mkdir -p /new/a/b; touch /etc/new; rm /bin/cat; \
                   echo over >/dev/termination-log; chmod 600 /dev/termination-log; chown 7 / && chmod 700 /; say Exiting; exit 1";
        world.apply_with(&Pod::new("p", "Always").app("a", app), &["--max-backoff", "1s"]);
        let came = poll(seconds(60), || (world.moments("a Exiting").len() >= 5).then_some(()));
        assert!(came.is_some(), "it did not start five times: {:?}", world.story());
        world.delete("p");
        world.assert_nothing_left();
        let told: Vec<String> = world.story().into_iter().map(|(_, words)| words).filter(|words| !words.ends_with("ing")).collect();
        assert!(told.len() >= 5 && told.iter().all(|words| words == "a Mode 755:0 Words 666:0"), "{told:?}");
    }),
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
    case("RST-11", |world| {
        let watch = world.start(&["get", "pods", "-w"]);
        world.apply(&Pod::new("p", "Always").app("a", "").with("a", "command", json!(["/no/such/program", "--now"])));
        let pod = world.wait("p", "its back-off", |pod| container(pod, "a")["state"]["waiting"]["reason"] == "CrashLoopBackOff");
        watch.wait_for("RunContainerError");
        watch.wait_for("CrashLoopBackOff");
        let last = &container(&pod, "a")["lastState"]["terminated"];
        assert_eq!((&last["reason"], &last["exitCode"]), (&json!("StartError"), &json!(128)), "{last}");
        assert!(last["message"].as_str().is_some_and(|message| message.contains("/no/such/program")), "{last}");
        assert_eq!(pod["status"]["phase"], "Running", "it comes back");
        let told = world.minipod(&["describe", "pod", "p"]).ok();
        let failed = |line: &&str| line.contains(" Failed ") && line.contains("spec.containers{a}: Error: ") && line.contains("/no/such/program");
        assert!(told.lines().any(|line| failed(&line)), "{told}");
    }),
    case("RST-12", |world| {
        // As PID 1 of a namespace it would not hear its own signal. `$$` is one dollar in a command of a manifest.
        let pod = Pod::new("p", "Never").app("a", "say Starting; kill -SEGV $$$$; say Survived").spec("shareProcessNamespace", json!(true));
        world.apply(&pod);
        let pod = world.wait_phase("p", "Failed");
        let end = &container(&pod, "a")["state"]["terminated"];
        assert_eq!((&end["exitCode"], &end["reason"]), (&json!(139), &json!("Error")), "{end}");
        assert_eq!(world.row("p").status, "Error");
        world.assert_order(&["a Starting"]);
        assert!(world.moments("a Survived").is_empty());
    }),
    case("RST-13", |world| {
        let script = format!("if [ -e /kept/mark ]; then [ ! -e /lost ] && say Kept-and-lost; {}; fi; touch /kept/mark /lost; exit 1", serve("0", 0));
        world.apply(&Pod::new("p", "Always").app("a", &script).volume("kept", json!({ "emptyDir": {} }), &[("a", "/kept")]));
        world.wait_story("a Kept-and-lost");
        world.wait("p", "one restart", |pod| restarts(pod, "a") == 1);
    }),
];
