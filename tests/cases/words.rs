//! Why a pod is not well, in words: the last section of `describe`, and the end of a `run`.

use serde_json::json;

use crate::pod::{Pod, await_file, serve};
use crate::process::{poll, seconds};
use crate::world::World;
use crate::{Case, case};

/// Waits until the words of `describe` have all of these; gives them.
fn wait_words(world: &World, pod: &str, wanted: &[&str]) -> String {
    let mut told = String::new();
    let found = poll(seconds(15), || {
        told = world.minipod(&["describe", "pod", pod]).ok();
        let words = told.split_once("\nIn words (by minipod):\n")?.1;
        wanted.iter().all(|word| words.contains(word)).then(|| words.to_owned())
    });
    found.unwrap_or_else(|| panic!("not all of {wanted:?} in {told}"))
}

pub const CASES: &[Case] = &[
    case("WHY-01", |world| {
        // Work that ends, under Always; and a pod that is well says nothing.
        world.apply(&Pod::new("p", "Always").app("a", "say Done"));
        wait_words(world, "p", &["a: ", "ended with exit code 0", "its work is done", "`restartPolicy: OnFailure`"]);
        world.apply(&Pod::new("well", "Always").app("a", &serve("0", 0)));
        world.wait_ready("well");
        let told = world.minipod(&["describe", "pod", "well"]).ok();
        assert!(told.contains("\nEvents:") && !told.contains("In words"), "{told}");
    }),
    case("WHY-02", |world| {
        // A port that a neighbour has: found in the pod's network, by the socket's owner.
        let holder = format!("httpd -p 8080; say Started; {}", await_file("go"));
        let app = "until grep -q 'holder Started' /story/lines; do sleep 0.02; done; httpd -f -p 8080; sleep 0.1; echo 'bind 0.0.0.0:8080: Address already in use'; exit 1";
        world.apply(&Pod::new("p", "Never").app("holder", &holder).app("late", app));
        let words = wait_words(world, "p", &["late: ended with exit code 1", "Port 8080 is taken: container holder listens on it."]);
        assert!(words.contains("| bind 0.0.0.0:8080: Address already in use\n"), "{words}");
        assert!(!words.contains("  holder:"), "the holder is well: {words}");
        world.touch("go");
    }),
    case("WHY-03", |world| {
        // A program that is not in the image, in the foreground: what the image has instead.
        let file = world.manifest(&Pod::new("p", "Never").app("a", "").with("a", "command", json!(["/bin/bash", "-c", "true"])));
        let done = world.minipod(&["run", &file]);
        assert_eq!(done.code, 128, "{}", done.err);
        for word in
            ["container a ended with exit code 128 (its program was never started)", "hint: Image busybox has no /bin/bash.", "/bin/sh", "Correct command"]
        {
            assert!(done.err.contains(word), "no {word:?} in {}", done.err);
        }
    }),
    case("WHY-04", |world| {
        // A classic sidecar keeps the pod of a done app.
        world.apply(&Pod::new("p", "OnFailure").app("a", "say Done").app("proxy", &serve("0", 0)));
        world.wait_story("proxy Started");
        wait_words(world, "p", &["the pod: goes on only because proxy still runs; a has ended with 0", "move proxy from `containers:` to `initContainers:`"]);
    }),
    Case {
        id: "WHY-05",
        needs: &["cgroup.memory"],
        run: |world| {
            // Out of memory, in the foreground, of one of two containers: its limit, and its last lines.
            let hog = "echo growing; sleep 0.1; exec tail /dev/zero";
            let pod = Pod::new("p", "Never").app("hog", hog).with("hog", "resources", json!({ "limits": { "memory": "16Mi" } })).sidecar("s", &serve("0", 0));
            let done = world.minipod(&["run", &world.manifest(&pod)]);
            assert_eq!(done.code, 137, "{}", done.err);
            for word in ["container hog ended with exit code 137 (killed by SIGKILL): OOMKilled", "| growing", "its limit of 16Mi", "resources.limits.memory"] {
                assert!(done.err.contains(word), "no {word:?} in {}", done.err);
            }
        },
    },
    case("WHY-06", |world| {
        // A volume that the reader has elsewhere.
        let reader = "tail -F /var/log/app.log & wait";
        let pod = Pod::new("p", "Always").app("reader", reader).app("writer", &format!("echo x >/var/log/app.log; {}", serve("0", 0)));
        world.apply(
            &pod.volume("logs", json!({ "emptyDir": {} }), &[("reader", "/logs"), ("writer", "/var/log")]).spec("terminationGracePeriodSeconds", json!(0)),
        );
        wait_words(world, "p", &["here volume logs is mounted at /logs; at /var/log it is in container writer", "Use /logs/app.log"]);
    }),
    case("WHY-07", |world| {
        // Asked to stop, it goes on: the grace is named. A shell that did not find a command is named, too.
        let file = world.manifest(&Pod::new("p", "Never").init("i", "frobnicate --now").app("a", "true"));
        let done = world.minipod(&["run", &file]);
        assert_eq!(done.code, 120, "{}", done.err);
        assert!(done.err.contains("init container i ended with exit code 127 (a shell did not find the command)"), "{}", done.err);
        assert!(done.err.contains("no `frobnicate` in its $PATH"), "{}", done.err);
        let stubborn =
            Pod::new("q", "Never").sidecar("s", "trap '' TERM; say Started; while :; do sleep 0.05; done").app("a", &crate::pod::await_line("s Started"));
        let done = world.minipod(&["run", &world.manifest(&stubborn.spec("terminationGracePeriodSeconds", json!(1)))]);
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(done.err.contains("container s ended with exit code 137") && done.err.contains("when its grace of 1s was over"), "{}", done.err);
    }),
    case("WHY-08", |world| {
        // A container that was added to look into the pod, and could not: the pod itself is well.
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)));
        world.wait_ready("p");
        world.minipod(&["debug", "p", "--image", "busybox:1.36", "-c", "look", "--", "sh", "-c", "frobnicate /proc/1"]);
        let what = "look: ended with exit code 127 (a shell did not find the command)";
        wait_words(world, "p", &[what, "| sh: frobnicate: not found", "Image busybox:1.36 has no `frobnicate` in its $PATH"]);
    }),
];
