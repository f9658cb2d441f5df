//! Native sidecars (init containers that are kept running) and classic ones (a second app container).

use serde_json::json;

use crate::inits::exit;
use crate::pod::{Pod, await_line, once, serve, until};
use crate::process::seconds;
use crate::world::{condition, container, restarts};
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("SID-01", |world| {
        // Each later container waits for the line of the sidecar before it: so the two overlap, or the case never ends.
        let pod = Pod::new("p", "Never")
            .init("i1", &once("0.2", 0))
            .sidecar("s1", &serve("0", 0))
            .init("i2", &format!("{}; {}", await_line("s1 Started"), once("0.2", 0)))
            .sidecar("s2", &serve("0", 0))
            .init("i3", &format!("{}; {}", await_line("s2 Started"), once("0.2", 0)))
            .app("a", &once("0.2", 0));
        world.apply(&pod);
        let pod = world.wait_phase("p", "Succeeded");
        world.assert_order(&["i1 Starting", "i1 Exiting", "s1 Started", "i2 Starting", "i2 Exiting", "s2 Started", "i3 Starting", "i3 Exiting", "a Starting"]);
        world.assert_order(&["a Exiting", "s2 Term", "s2 Exiting", "s1 Term", "s1 Exiting"]);
        assert_eq!(world.story().len(), 14, "each ran once: {:?}", world.story());
        assert_eq!(restarts(&pod, "s1") + restarts(&pod, "s2"), 0);
    }),
    case("SID-02", |world| {
        world.apply(&Pod::new("p", "Never").sidecar("s", &serve("0", 0)).app("a", &until("go", 0)));
        world.wait_story("s Started");
        world.wait_story("a Starting");
        assert!(world.moments("s Term").is_empty());
        world.touch("go");
        world.wait_phase("p", "Succeeded");
        world.assert_order(&["a Starting", "a Exiting", "s Term"]);
        let row = world.row("p");
        assert_eq!((&*row.ready, &*row.status), ("0/2", "Completed"));
    }),
    case("SID-03", |world| {
        let mut pod = Pod::new("p", "Never");
        for name in ["s1", "s2", "s3"] {
            pod = pod.sidecar(name, &serve("0.5", 0));
        }
        let all = ["s1", "s2", "s3"].map(|name| await_line(&format!("{name} Started"))).join("; ");
        world.apply(&pod.app("a", &format!("{all}; {}", once("0", 0))));
        let pod = world.wait_phase("p", "Succeeded");
        world.assert_order(&["a Exiting", "s3 Term", "s3 Exiting", "s2 Term", "s2 Exiting", "s1 Term", "s1 Exiting"]);
        for name in ["a", "s1", "s2", "s3"] {
            assert_eq!(exit(&pod, name), (json!(0), json!("Completed")), "{name}");
        }
    }),
    case("SID-04", |world| {
        world.apply(&Pod::new("p", "Never").sidecar("s", &serve("0", 1)).app("a", &format!("{}; {}", await_line("s Started"), once("0", 0))));
        let pod = world.wait_phase("p", "Succeeded");
        assert_eq!(exit(&pod, "s"), (json!(1), json!("Error")));
        assert_eq!(exit(&pod, "a"), (json!(0), json!("Completed")));
    }),
    case("SID-05", |world| {
        let twice = "until [ $(grep -c 's Exiting' /story/lines) -ge 2 ]; do sleep 0.02; done";
        let again = "until [ $(grep -c 's Exiting' /story/lines) -ge 4 ]; do sleep 0.02; done";
        let pod = Pod::new("p", "Never")
            .sidecar("s", &once("0.1", 0))
            .init("i", &format!("say Starting; {twice}; say Exiting"))
            .app("a", &format!("say Starting; {again}; say Exiting"));
        world.apply_with(&pod, &["--max-backoff", "1s"]);
        let pod = world.wait_phase("p", "Succeeded");
        assert!(restarts(&pod, "s") >= 3, "restarted before and after the app started: {}", restarts(&pod, "s"));
        assert_eq!(world.moments("a Starting").len(), 1, "the app ran once");
        let (starts, ends) = (world.moments("s Starting"), world.moments("s Exiting"));
        // The first restart is at once, the later ones wait; a lower bound holds on any machine.
        for at in 2..starts.len() {
            let waited = starts[at] - ends[at - 1];
            assert!(waited >= 0.9, "restart {at} came {waited} s after the exit");
        }
        assert!(starts[1] - ends[0] < seconds(1).as_secs_f64(), "the first restart does not wait");
    }),
    case("SID-10", |world| {
        world.apply(&Pod::new("p", "Always").sidecar("s", &serve("0", 0)).app("a", &serve("0", 0)));
        let pod = world.wait_ready("p");
        let row = world.row("p");
        assert_eq!((&*row.ready, &*row.status), ("2/2", "Running"));
        assert_eq!(condition(&pod, "ContainersReady")["status"], "True");
    }),
    case("SID-11", |world| {
        let watch = world.start(&["get", "pods", "-w"]);
        world.apply(&Pod::new("p", "Never").sidecar("s", &serve("0", 0)).with("s", "image", json!("no-such-image:1")).app("a", &once("0", 0)));
        watch.wait_for("Init:ErrImagePull");
        watch.wait_for("Init:ImagePullBackOff");
        let pod = world.get("p");
        assert_eq!(pod["status"]["phase"], "Pending");
        assert_eq!(condition(&pod, "Initialized")["status"], "False");
        assert_eq!(container(&pod, "a")["state"]["waiting"]["reason"], "PodInitializing");
        world.assert_silent("a");
    }),
    case("SID-12", |world| {
        let init = format!("{}; {}", await_line("s Started"), once("0.2", 1));
        world.apply(&Pod::new("p", "Never").sidecar("s", &serve("0", 0)).init("i", &init).app("a", &once("0", 0)));
        let pod = world.wait_phase("p", "Failed");
        world.assert_order(&["s Started", "i Starting", "i Exiting", "s Term", "s Exiting"]);
        world.assert_silent("a");
        assert_eq!(exit(&pod, "i"), (json!(1), json!("Error")));
    }),
    case("CLS-01", |world| {
        world.apply(&Pod::new("p", "Never").app("a", &once("0", 0)).app("b", &serve("0", 0)));
        world.wait_row("p", "1/2", "NotReady");
        assert_eq!(world.get("p")["status"]["phase"], "Running");
        assert!(world.moments("b Term").is_empty(), "nothing stops a classic sidecar");
        world.delete("p");
        world.assert_order(&["b Term", "b Exiting"]);
    }),
    case("CLS-02", |world| {
        world.apply(&Pod::new("p", "Never").app("a", &once("0", 1)).app("b", &until("go", 0)));
        world.wait_row("p", "1/2", "Error");
        assert_eq!(world.get("p")["status"]["phase"], "Running");
        world.touch("go");
        let pod = world.wait_phase("p", "Failed");
        assert_eq!(container(&pod, "b")["state"]["terminated"]["exitCode"], 0);
    }),
];
