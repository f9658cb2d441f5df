//! `run` in the foreground: it shows the pod's output, owns the pod, and gives the app's exit code.

use nix::sys::signal::Signal;

use crate::pod::{Pod, once, serve};
use crate::process::{poll, seconds};
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("RUN-01", |world| {
        let app = format!("echo to-stdout; echo to-stderr >&2; {}", once("0", 3));
        let file = world.manifest(&Pod::new("p", "Never").init("i", "echo from-init").app("a", &app));
        let done = world.minipod(&["run", &file]);
        assert_eq!(done.code, 3, "the app's exit code");
        let all = done.out + &done.err;
        for text in ["from-init", "to-stdout", "to-stderr"] {
            assert!(all.lines().any(|line| line.contains(text)), "no {text} in {all}");
        }
        world.assert_nothing_left();
    }),
    case("RUN-02", |world| {
        // One interrupt stops gracefully …
        let file = world.manifest(&Pod::new("p", "Always").sidecar("s", &serve("0", 0)).app("a", &serve("0.5", 0)));
        let run = world.start(&["run", &file]);
        world.wait_story("a Started");
        world.wait_story("s Started");
        run.signal(Signal::SIGINT);
        let done = run.wait();
        assert_eq!(done.code, 0, "{}", done.err);
        world.assert_order(&["a Term", "a Exiting", "s Term", "s Exiting"]);
        world.assert_nothing_left();
    }),
    case("RUN-03", |world| {
        // … and a second one does not wait for the grace.
        let app = "trap 'say Term' TERM; say Started; while :; do sleep 0.05; done";
        let file = world.manifest(&Pod::new("p", "Always").app("a", app).spec("terminationGracePeriodSeconds", serde_json::json!(600)));
        let run = world.start(&["run", &file]);
        world.wait_story("a Started");
        run.signal(Signal::SIGINT);
        world.wait_story("a Term");
        run.signal(Signal::SIGINT);
        assert_eq!(run.wait().code, 137);
        world.assert_nothing_left();
    }),
    case("RUN-04", |world| {
        // Killed outright, the foreground leaves a pod that still ends as it should, by itself.
        let file = world.manifest(&Pod::new("p", "Always").sidecar("s", &serve("0", 0)).app("a", &serve("0.2", 0)));
        let run = world.start(&["run", &file]);
        world.wait_story("a Started");
        world.wait_story("s Started");
        run.signal(Signal::SIGKILL);
        world.wait_story("s Exiting");
        world.assert_order(&["a Term", "a Exiting", "s Term", "s Exiting"]);
        let gone = poll(seconds(10), || (!world.root().join("lib/pods/default/p").exists()).then_some(()));
        assert!(gone.is_some(), "the pod of a killed foreground is still there");
        world.assert_nothing_left();
        drop(run);
    }),
    case("RUN-05", |world| {
        // In the background: back at the prompt while the pod runs, and a second one of the same name is refused.
        let file = world.manifest(&Pod::new("p", "Always").app("a", &serve("0", 0)));
        world.minipod(&["run", "-d", &file]).ok();
        world.wait_story("a Started");
        let again = world.minipod(&["run", "-d", &file]);
        again.fails_with(&["p"]);
        assert_eq!(world.moments("a Started").len(), 1);
        world.minipod(&["delete", "-f", &file]).ok();
        world.assert_nothing_left();
    }),
    case("RUN-06", |world| {
        // Several pods in one file, from stdin, and deleted by the same file.
        let story = world.path("story").display().to_string();
        let one = Pod::new("one", "Always").app("a", &serve("0", 0)).manifest(&story);
        let two = Pod::new("two", "Always").app("b", &serve("0", 0)).manifest(&story);
        let both = format!("{one}---\n{two}");
        world.minipod_with(&["apply", "-f", "-"], both.as_bytes()).ok();
        world.wait_ready("one");
        world.wait_ready("two");
        assert_eq!(world.minipod(&["get", "pods", "-o", "name"]).ok(), "pod/one\npod/two\n");
        let file = world.file(&both);
        world.minipod(&["delete", "-f", &file]).ok();
        world.assert_nothing_left();
    }),
];
