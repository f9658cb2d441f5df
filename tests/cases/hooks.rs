//! Lifecycle hooks: what runs beside the program, and before its end.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::inits::exit;
use crate::pod::{Pod, await_line, exec, once, serve};
use crate::process::{poll, seconds};
use crate::world::{World, container, restarts};
use crate::{Case, case};

/// Demands an event of the pod.
#[track_caller]
pub fn assert_event(world: &World, pod: &str, reason: &str, message: &str) {
    let told = || world.minipod(&["describe", "pod", pod]).ok();
    let is_there = |told: &str| told.lines().any(|line| line.contains(reason) && line.contains(message));
    // What one container shows does not say how far another is.
    let came = poll(seconds(20), || is_there(&told()).then_some(()));
    assert!(came.is_some(), "no event {reason} {message:?} in: {}", told());
}

/// The moment of the only line with these words.
#[track_caller]
fn moment(world: &World, words: &str) -> f64 {
    let moments = world.moments(words);
    assert_eq!(moments.len(), 1, "{words:?} once in {:?}", world.story());
    moments[0]
}

pub const CASES: &[Case] = &[
    case("ORD-05", |world| {
        let hook = json!({ "postStart": exec("c1", "sleep 0.5; say Hooked") });
        world.apply(&Pod::new("p", "Always").app("c1", &serve("0", 0)).app("c2", &serve("0", 0)).with("c1", "lifecycle", hook));
        world.wait_ready("p");
        world.wait_story("c2 Started");
        world.assert_order(&["c1 Started", "c1 Hooked", "c2 Started"]);
    }),
    case("HOK-01", |world| {
        // Each waits for the other: so they run at once, on the same files, or the pod is never ready.
        let script = format!("say Starting; until [ -e /hooked ]; do sleep 0.02; done; {}", serve("0", 0));
        let hook = exec("a", &format!("{}; touch /hooked", await_line("a Starting")));
        world.apply(&Pod::new("p", "Always").app("a", &script).with("a", "lifecycle", json!({ "postStart": hook })));
        world.wait_story("a Started");
        world.wait_ready("p");
    }),
    case("HOK-03", |world| {
        let hook = |name: &str| json!({ "preStop": exec(name, "say PreStop; sleep 0.3; say PreStopped") });
        world.apply(&Pod::new("p", "Never").app("a", &serve("0", 0)).with("a", "lifecycle", hook("a")));
        world.wait_story("a Started");
        world.apply(&Pod::new("q", "Never").app("b", &once("0", 0)).with("b", "lifecycle", hook("b")));
        world.wait_phase("q", "Succeeded");
        world.delete("p");
        world.assert_order(&["a Started", "a PreStop", "a PreStopped", "a Term", "a Exiting"]);
        assert!(world.moments("b PreStop").is_empty(), "b had ended by itself: {:?}", world.story());
    }),
    case("HOK-04", |world| {
        // Within the grace the whole sleep; beyond it only what the grace leaves, then two seconds to the kill.
        let sleep = |seconds| json!({ "preStop": { "sleep": { "seconds": seconds } } });
        world.apply(&Pod::new("p", "Never").app("a", &serve("0", 0)).with("a", "lifecycle", sleep(2)));
        world.apply(&Pod::new("q", "Never").app("b", "trap 'say Term' TERM; say Started; while :; do sleep 0.05; done").with("b", "lifecycle", sleep(10)));
        world.wait_story("a Started");
        world.wait_story("b Started");
        let took = world.minipod(&["delete", "pod", "p"]).took;
        assert!(took.as_secs_f64() >= 2.0, "the hook sleeps for 2 s, but the pod was gone after {took:?}");
        moment(world, "a Exiting");
        let done = world.minipod(&["delete", "pod", "q", "--grace-period=1"]);
        assert!((3.0..9.0).contains(&done.took.as_secs_f64()), "signal after 1 s, kill after 3 s, not {:?}", done.took);
        moment(world, "b Term");
    }),
    case("HOK-06", |world| {
        let hooks = json!({ "postStart": { "sleep": { "seconds": 0 } }, "preStop": { "sleep": { "seconds": 0 } } });
        world.apply(&Pod::new("p", "Never").app("a", &serve("0", 0)).with("a", "lifecycle", hooks));
        world.wait_story("a Started");
        world.wait_ready("p");
        world.delete("p");
        world.assert_order(&["a Started", "a Term", "a Exiting"]);
    }),
    case("HOK-R1", |world| {
        // A failed postStart kills, after preStop; what the hook said is shown with the container, not in the event.
        let hooks = json!({ "postStart": exec("a", &format!("{}; echo why; exit 7", await_line("a Started"))), "preStop": exec("a", "say PreStop") });
        world.apply_with(&Pod::new("p", "Always").app("a", &serve("0", 0)).with("a", "lifecycle", hooks.clone()), &["--max-backoff", "1s"]);
        let pod = world.wait("p", "a failed hook", |pod| container(pod, "a")["state"]["waiting"]["reason"] == "PostStartHookError");
        let message = container(&pod, "a")["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("exited with 7") && message.contains("message: \"why\\n\""), "{message}");
        world.wait("p", "a restart", |pod| restarts(pod, "a") > 0);
        crate::process::poll(crate::process::seconds(30), || (world.moments("a Started").len() > 1).then_some(()));
        world.assert_order(&["a Started", "a PreStop", "a Term", "a Exiting", "a Started"]);
        assert_event(world, "p", "FailedPostStartHook", "PostStartHook failed");
        assert_event(world, "p", "Killing", "FailedPostStartHook");
        world.delete("p");
        world.apply(&Pod::new("q", "Never").app("a", &serve("0", 0)).with("a", "lifecycle", hooks));
        let pod = world.wait_phase("q", "Succeeded");
        assert_eq!((exit(&pod, "a"), restarts(&pod, "a")), ((json!(0), json!("Completed")), 0));
    }),
    case("HOK-R2", |world| {
        // An HTTP hook is heard by the server; any answer is good, none is not.
        let hook = |port: &str, path: &str| json!({ "postStart": { "httpGet": { "port": port, "path": path } } });
        let www = "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\nread up idle </proc/uptime; echo \"$up s Hooked\" >>/story/lines; echo; echo ok' \
                   >/www/cgi-bin/hook; chmod +x /www/cgi-bin/hook; httpd -p 8080 -h /www";
        let ports = json!([{ "name": "web", "containerPort": 8080 }, { "name": "closed", "containerPort": 8081 }]);
        let pod = Pod::new("p", "Always").sidecar("s", &format!("{www}; {}", serve("0", 0))).with("s", "ports", ports.clone());
        let pod = pod.with("s", "startupProbe", json!({ "tcpSocket": { "port": "web" }, "periodSeconds": 1 }));
        let pod = pod.app("a", &serve("0", 0)).with("a", "ports", ports.clone()).with("a", "lifecycle", hook("web", "/cgi-bin/hook"));
        let pod = pod.app("b", &serve("0", 0)).with("b", "ports", ports.clone()).with("b", "lifecycle", hook("web", "/nowhere"));
        world.apply(&pod.app("c", &serve("0", 0)).with("c", "ports", ports).with("c", "lifecycle", hook("closed", "/")));
        world.wait("p", "c's failed hook", |pod| restarts(pod, "c") > 0);
        world.assert_order(&["s Hooked", "b Started"]);
        let pod = world.get("p");
        assert_eq!((restarts(&pod, "a"), restarts(&pod, "b")), (0, 0), "{}", pod["status"]);
        assert_event(world, "p", "FailedPostStartHook", "spec.containers{c}");
    }),
    case("SID-16", |world| {
        // preStop hooks that never end: all begin at once, the grace goes by, two seconds later all are killed.
        let mut pod = Pod::new("p", "Never").spec("terminationGracePeriodSeconds", json!(1));
        for name in ["s1", "s2", "s3"] {
            let hook = json!({ "preStop": exec(name, "say PreStop; sleep 100000") });
            pod = pod.sidecar(name, "say Started; exec sleep 100000").with(name, "lifecycle", hook);
        }
        world.apply(&pod.app("a", &format!("{}; {}", await_line("s3 Started"), once("0", 0))));
        let pod = world.wait_phase("p", "Succeeded");
        for name in ["s1", "s2", "s3"] {
            assert_eq!(exit(&pod, name), (json!(137), json!("Error")), "{name}");
            moment(world, &format!("{name} PreStop"));
        }
        assert_event(world, "p", "FailedPreStopHook", "PreStopHook failed");
    }),
    case("SID-18", |world| {
        let deaf = "say Started; exec sleep 100000";
        let pod = Pod::new("p", "Never").spec("terminationGracePeriodSeconds", json!(2)).sidecar("s1", deaf).sidecar("s2", &serve("0.5", 0));
        let file = world.manifest(&pod.sidecar("s3", deaf).app("a", deaf));
        let run = world.start(&["run", &file]);
        world.wait_story("a Started");
        // The last status is kept until the pod's owner has seen it, which is not now.
        run.signal(Signal::SIGSTOP);
        let delete = world.start(&["delete", "pod", "p"]);
        let pod = world.wait_phase("p", "Failed");
        run.signal(Signal::SIGCONT);
        delete.wait().ok();
        run.wait();
        for name in ["a", "s1", "s3"] {
            assert_eq!(exit(&pod, name), (json!(137), json!("Error")), "{name}");
        }
        assert_eq!(exit(&pod, "s2"), (json!(0), json!("Completed")));
    }),
    case("SID-20", |world| {
        let hook = |name: &str, stay: &str| json!({ "preStop": exec(name, &format!("say PreStop; sleep {stay}; say PreStopped")) });
        let live = json!({ "exec": exec("s", "say Probed")["exec"], "periodSeconds": 1 });
        let pod = Pod::new("p", "Always").sidecar("s", &serve("0", 0)).with("s", "lifecycle", hook("s", "0")).with("s", "livenessProbe", live);
        world.apply(&pod.app("a", &serve("0", 0)).with("a", "lifecycle", hook("a", "2.5")));
        world.wait_story("a Started");
        world.wait_story("s Probed");
        world.delete("p");
        world.assert_order(&["a PreStop", "a PreStopped", "a Term", "a Exiting", "s Term", "s Exiting"]);
        let (told, probed) = (moment(world, "s PreStop"), world.moments("s Probed"));
        // One that had begun may still have had its word.
        assert!(probed.iter().all(|at| *at <= told + 0.5), "probed at {probed:?}, though it was being stopped from {told} on");
        moment(world, "s Started");
    }),
];
