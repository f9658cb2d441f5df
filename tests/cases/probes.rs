//! Probes: when they are asked, and what they do.

use serde_json::{Value, json};

use crate::hooks::assert_event;
use crate::pod::{Pod, await_file, await_line, exec, once, serve};
use crate::process::seconds;
use crate::world::{World, condition, container, restarts};
use crate::{Case, case};

/// A probe that is asked each second: its handler and more fields.
fn probe(handler: Value, more: Value) -> Value {
    let mut probe = json!({ "periodSeconds": 1 });
    for part in [handler, more] {
        let part = part.as_object().cloned().unwrap_or_default();
        probe.as_object_mut().expect("made as an object").extend(part);
    }
    probe
}

/// Waits until the story says something for the `n`th time.
#[track_caller]
fn wait_times(world: &World, words: &str, n: usize) {
    let came = crate::process::poll(seconds(30), || (world.moments(words).len() >= n).then_some(()));
    assert!(came.is_some(), "{words:?} {n} times, not {:?}", world.story());
}

/// A server on this address of the container.
fn server(address: &str) -> String {
    format!("httpd -p {address} -h /; {}", serve("0", 0))
}

pub const CASES: &[Case] = &[
    case("PRB-01", |world| {
        let ready = probe(exec("a", "say Probed"), json!({ "initialDelaySeconds": 2 }));
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)).with("a", "readinessProbe", ready));
        world.wait_story("a Started");
        assert_eq!(condition(&world.get("p"), "Ready")["status"], "False");
        let pod = world.wait_ready("p");
        let waited = world.moments("a Probed")[0] - world.moments("a Started")[0];
        assert!(waited >= 1.5, "asked {waited} s after the start");
        assert_eq!(restarts(&pod, "a"), 0);
    }),
    case("PRB-02", |world| {
        let ready = probe(exec("a", "say Probed; echo not yet; exit 1"), json!({ "failureThreshold": 1 }));
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)).with("a", "readinessProbe", ready));
        wait_times(world, "a Probed", 3);
        let row = world.wait_row("p", "0/1", "Running");
        assert_eq!(row.restarts, "0");
        assert_eq!(world.moments("a Started").len(), 1);
        assert_event(world, "p", "Unhealthy", "Readiness probe failed: not yet");
    }),
    case("PRB-03", |world| {
        let live = |name: &str| probe(exec(name, "cat /health"), json!({ "failureThreshold": 1 }));
        let loses = format!("touch /health; case $(grep -c 'a Lost' /story/lines) in 0) {}; say Lost; rm /health;; esac; {}", await_file("go"), serve("0", 0));
        let pod = Pod::new("p", "Always").app("a", &loses).with("a", "livenessProbe", live("a"));
        world.apply(&pod.app("b", &format!("touch /health; {}", serve("0", 0))).with("b", "livenessProbe", live("b")));
        world.wait_story("b Started");
        world.touch("go");
        let pod = world.wait("p", "one restart of a", |pod| restarts(pod, "a") == 1 && condition(pod, "Ready")["status"] == "True");
        assert_eq!(restarts(&pod, "b"), 0);
        assert_event(world, "p", "Killing", "Container a failed liveness probe, will be restarted");
        assert_event(world, "p", "Unhealthy", "Liveness probe failed: cat: can't open '/health': No such file or directory");
    }),
    case("PRB-05", |world| {
        let live = |port: u16| probe(json!({ "tcpSocket": { "port": port } }), json!({ "failureThreshold": 2, "initialDelaySeconds": 1 }));
        let pod = Pod::new("p", "Always").app("open", &server("8080")).with("open", "livenessProbe", live(8080));
        world.apply(&pod.app("local", &server("127.0.0.1:8081")).with("local", "livenessProbe", live(8081)));
        let pod = world.wait("p", "a restart of local", |pod| restarts(pod, "local") > 0);
        assert_eq!(restarts(&pod, "open"), 0);
    }),
    case("PRB-07", |world| {
        let cgi = |name: &str, to: &str| format!("printf '#!/bin/sh\necho Status: 302 Found; echo Location: {to}; echo' >/www/cgi-bin/{name}; ");
        let www = format!("mkdir -p /www/cgi-bin; echo up >/www/up; {}{}", cgi("here", "/up"), cgi("lost", "/nowhere"));
        let www = format!("{www}{}chmod +x /www/cgi-bin/*; httpd -p 8080 -h /www; {}", cgi("away", "http://192.0.2.9/"), serve("0", 0));
        let get = |path: &str| probe(json!({ "httpGet": { "port": 8080, "path": format!("/cgi-bin/{path}") } }), json!({ "initialDelaySeconds": 1 }));
        let pod = Pod::new("p", "Always").app("here", &www).with("here", "readinessProbe", get("here"));
        let pod = pod.app("away", &serve("0", 0)).with("away", "readinessProbe", get("away"));
        world.apply(&pod.app("lost", &serve("0", 0)).with("lost", "readinessProbe", get("lost")));
        let ready = |pod: &Value, name: &str| container(pod, name)["ready"] == true;
        let pod = world.wait("p", "here and away are ready", |pod| ready(pod, "here") && ready(pod, "away"));
        assert!(!ready(&pod, "lost"));
        assert_event(world, "p", "ProbeWarning", "Readiness probe warning: Probe terminated redirects");
        assert_event(world, "p", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404");
    }),
    case("PRB-08", |world| {
        // A startup probe that fails restarts, though liveness would pass; while it is slow liveness does not act; afterwards it does.
        let fails = probe(exec("a", "exit 1"), json!({ "failureThreshold": 2 }));
        let lives = probe(exec("a", "say Lives"), json!({}));
        let pod = Pod::new("p", "Always").app("a", &serve("0", 0)).with("a", "startupProbe", fails).with("a", "livenessProbe", lives);
        let slow = probe(exec("b", "test -e /story/up"), json!({ "failureThreshold": 100 }));
        let dies = probe(exec("b", "say Asked; exit 1"), json!({ "failureThreshold": 1 }));
        world.apply(&pod.app("b", &serve("0", 0)).with("b", "startupProbe", slow).with("b", "livenessProbe", dies));
        let pod = world.wait("p", "a restart of a", |pod| restarts(pod, "a") > 0);
        assert!(world.moments("a Lives").is_empty() && world.moments("b Asked").is_empty(), "{:?}", world.story());
        assert_eq!(restarts(&pod, "b"), 0);
        world.touch("up");
        world.wait("p", "a restart of b", |pod| restarts(pod, "b") > 0);
        assert_event(world, "p", "Killing", "Container a failed startup probe, will be restarted");
        assert_event(world, "p", "Killing", "Container b failed liveness probe, will be restarted");
    }),
    case("PRB-10", |world| {
        let live = probe(exec("a", "test -e /story/lives"), json!({ "failureThreshold": 1, "terminationGracePeriodSeconds": 1 }));
        world.touch("lives");
        let pod = Pod::new("p", "Always").app("a", "say Started; exec sleep 100000").with("a", "livenessProbe", live);
        world.apply(&pod.spec("terminationGracePeriodSeconds", json!(500)));
        world.wait_story("a Started");
        std::fs::remove_file(world.path("story/lives")).expect("made above");
        let pod = world.wait("p", "a restart", |pod| restarts(pod, "a") > 0);
        assert_eq!(container(&pod, "a")["lastState"]["terminated"]["exitCode"], 137);
    }),
    case("PRB-11", |world| {
        // That a server which answers SERVING passes is tested with the prober; none of our images has one.
        let live = probe(json!({ "grpc": { "port": 9090 } }), json!({ "failureThreshold": 1 }));
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)).with("a", "livenessProbe", live));
        world.wait("p", "a restart", |pod| restarts(pod, "a") > 0);
        assert_event(world, "p", "Unhealthy", "Liveness probe failed: timeout: failed to connect service");
    }),
    case("PRB-12", |world| {
        let ports = json!([{ "name": "web", "containerPort": 8080 }]);
        let get = |port: &str| probe(json!({ "httpGet": { "port": port, "path": "/etc/passwd" } }), json!({ "failureThreshold": 1 }));
        let pod = Pod::new("p", "Always").app("a", &format!("mkdir -p /etc; echo x >/etc/passwd; {}", server("8080"))).with("a", "ports", ports);
        let pod = pod.with("a", "readinessProbe", get("web")).app("b", &serve("0", 0)).with("b", "livenessProbe", get("nope"));
        world.apply(&pod);
        let pod = world.wait_ready("p");
        assert_eq!(restarts(&pod, "b"), 0);
        assert_event(world, "p", "Unhealthy", "Liveness probe errored and resulted in unknown state: no port of the container is named \"nope\"");
    }),
    case("PRB-R1", |world| {
        // A probe that takes too long has failed, and nothing of it stays; one whose command does not exist says nothing.
        let slow = probe(exec("a", "say Asked; sleep 4321 & sleep 1234"), json!({ "failureThreshold": 1 }));
        let none = probe(json!({ "exec": { "command": ["no-such-program"] } }), json!({ "failureThreshold": 1 }));
        let pod = Pod::new("p", "Always").app("a", &serve("0", 0)).with("a", "readinessProbe", slow).with("a", "livenessProbe", none);
        world.apply(&pod);
        wait_times(world, "a Asked", 3);
        assert_event(world, "p", "Unhealthy", "Readiness probe failed: command timed out: \"sh -c ");
        assert_event(
            world,
            "p",
            "Unhealthy",
            "Liveness probe errored and resulted in unknown state: exec: \"no-such-program\": executable file not found in $PATH",
        );
        // Of the newest one there may be the shell, whose words name both, and the two commands.
        let left = world.exec("p", "a", &["ps"]).ok();
        assert!(left.matches("sleep 4321").count() <= 2 && left.matches("sleep 1234").count() <= 2, "{left}");
        assert_eq!(restarts(&world.get("p"), "a"), 0);
    }),
    case("PRB-R2", |world| {
        // The end of a container kills the probe that is under way, and that is not the probe's verdict.
        let live = |name: &str| probe(exec(name, "say Asked; sleep 1000"), json!({ "failureThreshold": 1, "timeoutSeconds": 100 }));
        let pod = Pod::new("p", "OnFailure").app("a", &format!("{}; exit 0", await_line("a Asked"))).with("a", "livenessProbe", live("a"));
        world.apply(&pod);
        let pod = world.wait_phase("p", "Succeeded");
        assert_eq!(restarts(&pod, "a"), 0);
        let pod = Pod::new("q", "OnFailure").app("b", &format!("{}; exit 0", await_line("b Asked"))).with("b", "livenessProbe", live("b"));
        world.apply(&pod.spec("shareProcessNamespace", json!(true)));
        let pod = world.wait_phase("q", "Succeeded");
        assert_eq!(restarts(&pod, "b"), 0);
        assert!(!world.minipod(&["get", "events"]).ok().contains("Unhealthy"), "no probe has failed");
    }),
    case("SID-07", |world| {
        let starts = probe(exec("s", "test -e /story/up"), json!({ "failureThreshold": 100 }));
        world.apply(&Pod::new("p", "Never").sidecar("s", &serve("0", 0)).with("s", "startupProbe", starts).app("a", &once("0", 0)));
        world.wait_story("s Started");
        world.wait_row("p", "0/2", "Init:0/1");
        world.assert_silent("a");
        world.touch("up");
        world.wait_phase("p", "Succeeded");
        world.assert_order(&["s Started", "a Starting", "a Exiting", "s Term"]);
    }),
    case("SID-10-probe", |world| {
        let ready = probe(exec("sidecar", "exit 1"), json!({}));
        world.apply(&Pod::new("p", "Always").sidecar("sidecar", &serve("0", 0)).with("sidecar", "readinessProbe", ready).app("a", &serve("0", 0)));
        world.wait_row("p", "1/2", "Running");
        let pod = world.get("p");
        assert_eq!(condition(&pod, "Ready")["status"], "False");
        assert_eq!(condition(&pod, "Ready")["message"], "containers with unready status: [sidecar]");
    }),
    case("SID-15", |world| {
        let never = probe(exec("s2", "exit 1"), json!({ "failureThreshold": 1000 }));
        let pod = Pod::new("p", "Never").spec("terminationGracePeriodSeconds", json!(180)).sidecar("s1", &serve("0", 0));
        let pod = pod.sidecar("s2", &serve("0", 0)).with("s2", "startupProbe", never).sidecar("s3", &serve("0", 0));
        world.apply(&pod.app("a", &serve("0", 0)));
        world.wait_story("s2 Started");
        let done = world.minipod(&["delete", "pod", "p"]);
        assert!(done.took < seconds(60), "took {:?}", done.took);
        done.ok();
        world.assert_silent("s3");
        world.assert_silent("a");
    }),
    case("SID-21", |world| {
        let starts = |name: &str| probe(exec(name, &format!("test -e /story/{name}-up")), json!({ "failureThreshold": 1000 }));
        let pod = Pod::new("p", "Always").sidecar("s1", &serve("0", 0)).with("s1", "startupProbe", starts("s1"));
        let pod = pod.sidecar("s2", &serve("0", 0)).with("s2", "startupProbe", starts("s2")).app("a", &serve("0", 0));
        world.apply(&pod);
        world.wait_story("s1 Started");
        world.wait_row("p", "0/3", "Init:0/2");
        world.touch("s1-up");
        world.wait_story("s2 Started");
        world.wait_row("p", "1/3", "Init:1/2");
        world.touch("s2-up");
        world.wait_row("p", "3/3", "Running");
    }),
];
