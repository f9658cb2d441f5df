//! What is wrong from outside: one clear line, an exit code other than 0, and nothing left.

use serde_json::json;

use crate::needs::OWN_MACHINE;
use crate::pod::{Pod, await_file, once, serve};
use crate::process::{Done, poll, seconds};
use crate::world::{World, container, program, restarts};
use crate::{Case, case};

/// Demands one message, with at most one hint below it, and that nothing of the pod was made.
#[track_caller]
fn refused(world: &World, done: &Done, words: &[&str]) {
    done.fails_with(words);
    let lines: Vec<&str> = done.err.lines().filter(|line| !line.trim().is_empty()).collect();
    let hints = lines.iter().filter(|line| line.starts_with("hint:")).count();
    assert!(hints <= 1 && lines.len() - hints <= 1, "not one line: {}", done.err);
    world.assert_nothing_left();
}

pub const CASES: &[Case] = &[
    case("BAD-01", |world| {
        refused(world, &world.minipod(&["run", "/no/such/pod.yaml"]), &["/no/such/pod.yaml", "ENOENT"]);
        refused(world, &world.minipod(&["apply", "-f", "/"]), &["/"]);
    }),
    case("BAD-02", |world| {
        // A manifest's faults are drawn in their lines, so there may be several lines; the place must be among them.
        let broken = world.file("apiVersion: v1\nkind: Pod\nmetadata: {name: p\nspec:\n  containers: []\n");
        let done = world.minipod(&["run", &broken]);
        done.fails_with(&[&broken]);
        assert!(done.err.contains(":3") || done.err.contains(":4") || done.err.contains("line "), "no line number: {}", done.err);
        let typo = world.file("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: a, image: busybox, comand: [sh]}\n");
        world.minipod(&["run", &typo]).fails_with(&["comand", "command", &typo]);
        let empty = world.file("");
        world.minipod(&["run", &empty]).fails_with(&[&empty]);
        world.assert_nothing_left();
    }),
    case("BAD-14", |world| {
        let elsewhere = world.file("apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec:\n  containers:\n  - {name: a, image: busybox}\n");
        for verb in [&["run", "-d"][..], &["apply"]] {
            let words: Vec<&str> = verb.iter().chain(&["-n", "office", "-f", &elsewhere]).copied().collect();
            refused(world, &world.minipod(&words), &["the namespace from the provided object \"shop\" does not match the namespace \"office\""]);
        }
    }),
    case("BAD-03", |world| {
        let file = world.manifest(&Pod::new("p", "Never").app("a", &once("0", 0)).with("a", "image", json!("no-such-image:1")));
        refused(world, &world.minipod(&["run", &file]), &["no-such-image:1"]);
    }),
    case("BAD-04", |world| {
        let file = world.manifest(&Pod::new("p", "Never").app("a", "").with("a", "command", json!(["/no/such/program"])));
        let done = world.minipod(&["run", &file]);
        // 128 is the exit code of StartError, not of a crash of ours.
        assert_eq!(done.code, 128, "{}", done.err);
        for text in ["/no/such/program", "ENOENT"] {
            assert!(done.err.contains(text), "no {text:?} in {:?}", done.err);
        }
        world.assert_nothing_left();
    }),
    case("BAD-05", |world| {
        let pod = Pod::new("p", "Never").app("a", &once("0", 0)).with("a", "volumeMounts", json!([{ "name": "nothing", "mountPath": "/x" }]));
        let file = world.manifest(&pod);
        world.minipod(&["run", &file]).fails_with(&["spec.containers[0].volumeMounts[0].name: Not found: \"nothing\""]);
        world.assert_nothing_left();
    }),
    case("BAD-06", |world| {
        // Not supported yet is refused by its path before anything starts, never ignored.
        let file = world.manifest(&Pod::new("p", "Never").app("a", &once("0", 0)).with("a", "volumeDevices", json!([{ "name": "v", "devicePath": "/dev/x" }])));
        world.minipod(&["run", &file]).fails_with(&["spec.containers[0].volumeDevices"]);
        world.assert_silent("a");
        world.assert_nothing_left();
    }),
    Case {
        id: "BAD-07",
        needs: &["setpriv"],
        run: |world| {
            let file = world.manifest(&Pod::new("p", "Never").app("a", &once("0", 0)));
            // The program may lie where nobody else may look: copy it to where anyone may.
            let program = world.path("minipod");
            let built = std::env::var("MINIPOD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_minipod").to_owned());
            // By a process of its own: another thread's child would hold a file that we write ourselves, and ETXTBSY would be the answer.
            world.tool("cp", &[&built, &program.display().to_string()]).ok();
            let done = world.tool("setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups", &program.display().to_string(), "run", &file]);
            refused(world, &done, &["root"]);
        },
    },
    Case {
        id: "BAD-11",
        needs: &["unshare"],
        run: |world| {
            // No cgroup2 anywhere: said before anything is made.
            let file = world.manifest(&Pod::new("p", "Never").app("a", &once("0", 0)));
            let program = std::env::var("MINIPOD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_minipod").to_owned());
            let line = format!("awk '$3 == \"cgroup2\" {{ print $2 }}' /proc/mounts | xargs -n 1 umount -l; exec {program} run {file}");
            let done = world.tool("unshare", &["--mount", "sh", "-c", &line]);
            refused(world, &done, &["no cgroup2 file system is mounted", "mount -t cgroup2"]);
        },
    },
    case("BAD-08", |world| {
        // A full disk: a root of a few pages. Whatever step meets it, the message names the errno.
        let small = world.path("small");
        std::fs::create_dir(&small).expect("our own directory");
        let at = small.display().to_string();
        world.tool("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs", &at]).ok();
        world.tool("mkdir", &["-p", &format!("{at}/lib/images")]).ok();
        world.tool("mount", &["--bind", &crate::needs::images().display().to_string(), &format!("{at}/lib/images")]).ok();
        world.tool("sh", &["-c", &format!("cat /dev/zero >{at}/fill")]);
        let file = world.manifest(&Pod::new("p", "Never").app("a", &once("0", 0)));
        let done = world.minipod(&["--root", &at, "run", &file]);
        done.fails_with(&["ENOSPC"]);
        world.tool("umount", &[&format!("{at}/lib/images")]).ok();
        world.tool("umount", &[&at]).ok();
        world.assert_silent("a");
        world.assert_nothing_left();
    }),
    case("BAD-09", |world| {
        // In the background, too, a start that fails is told by the pod's status, with the path.
        world.apply(&Pod::new("p", "Never").app("a", "").with("a", "command", json!(["/no/such/program"])));
        let pod = world.wait_phase("p", "Failed");
        let ended = &container(&pod, "a")["state"]["terminated"];
        assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("StartError"), &json!(128)));
        assert!(ended["message"].as_str().is_some_and(|m| m.contains("/no/such/program")), "{ended}");
        assert_eq!(world.row("p").status, "StartError");
    }),
    case("BAD-10", |world| {
        world.minipod(&["get", "pods", "nobody"]).fails_with(&["nobody", "not found"]);
        world.minipod(&["delete", "pod", "nobody"]).fails_with(&["nobody", "not found"]);
        world.minipod(&["exec", "nobody", "--", "true"]).fails_with(&["nobody", "not found"]);
        world.minipod(&["describe", "pod", "nobody"]).fails_with(&["nobody", "not found"]);
        world.minipod(&["no-such-verb"]).fails_with(&["no-such-verb"]);
    }),
    case("BAD-15", |world| {
        // Three times deeper than a path can say, ten times than the supervisor may have descriptors.
        let nest = "mkdir -p a/$way b/$way c/$way && mv a b/$way && mv b c/$way";
        let app = format!("way=$(yes d | head -1000 | tr '\\n' /); cd /v && {nest} && cd /root && {nest} && {}", once("0", 0));
        let file = world.manifest(&Pod::new("p", "Never").app("a", &app).volume("v", json!({ "emptyDir": {} }), &[("a", "/v")]));
        let program = program();
        world.tool("sh", &["-c", "ulimit -n 256; exec \"$@\"", "sh", program.to_str().expect("a path of ours"), "run", &file]).ok();
        world.assert_nothing_left();
    }),
    case("BAD-12", |world| {
        // A log disk that fills up and is freed: what was written before stays, what could not be is told, and the container goes on.
        let logs = world.root().join("log");
        std::fs::create_dir_all(&logs).expect("our own directory");
        world.tool("mount", &["-t", "tmpfs", "-o", "size=128k", "tmpfs", &logs.display().to_string()]).ok();
        let app = format!(
            "echo before; {}; for n in 1 2 3; do echo lost $n; done; say Wrote; {}; echo after; say Done; {}",
            await_file("full"),
            await_file("freed"),
            serve("0", 0)
        );
        world.apply(&Pod::new("p", "Never").app("a", &app).app("b", &serve("0", 0)));
        world.wait_logs(&["p", "-c", "a"], "before\n");
        world.tool("sh", &["-c", &format!("cat /dev/zero >{}/fill", logs.display())]);
        // What is left of the page that the log has begun takes a few lines more.
        let page = "head -c 8192 /dev/zero | tr '\\0' x";
        world.exec("p", "a", &["sh", "-c", &format!("{page} >/proc/1/fd/1")]).ok();
        world.touch("full");
        world.wait_story("a Wrote");
        let told = poll(seconds(20), || world.minipod(&["get", "events"]).out.contains("ENOSPC").then_some(()));
        assert!(told.is_some(), "nothing tells that lines are lost: {}", world.minipod(&["get", "events"]).out);
        world.wait_ready("p");
        world.tool("rm", &[&logs.join("fill").display().to_string()]).ok();
        world.touch("freed");
        world.wait_story("a Done");
        let logged = poll(seconds(20), || Some(world.minipod(&["logs", "p", "-c", "a"]).out).filter(|text| text.ends_with("after\n")));
        let logged = logged.expect("what is written once there is room is in the log");
        assert!(logged.starts_with("before\n"), "{logged}");
        world.delete("p");
        world.tool("umount", &[&logs.display().to_string()]).ok();
        world.assert_nothing_left();
    }),
    Case {
        id: "BAD-13",
        needs: &[OWN_MACHINE],
        run: |world| {
            // A clock that is set back by an hour: whatever waits goes on as before, and nothing is said twice or not at all.
            let probe = json!({ "exec": { "command": ["test", "-e", "/story/alive"] }, "periodSeconds": 1, "failureThreshold": 1 });
            let pod = Pod::new("p", "Always").app("a", "echo up; exit 1").app("b", &serve("0", 0)).with("b", "livenessProbe", probe);
            world.touch("alive");
            world.apply_with(&pod, &["--max-backoff", "1s"]);
            world.wait("p", "a first restart", |pod| restarts(pod, "a") >= 1);
            world.tool("date", &["-s", "-1 hour"]).ok();
            let before = restarts(&world.get("p"), "a");
            world.wait("p", "more restarts", |pod| restarts(pod, "a") >= before + 2);
            std::fs::remove_file(world.path("story/alive")).expect("made above");
            world.wait("p", "a restart by its probe", |pod| restarts(pod, "b") >= 1);
            world.touch("alive");
            assert_eq!(world.minipod(&["logs", "p", "-c", "a", "--tail", "1"]).ok(), "up\n");
            let table = world.minipod(&["get", "pods"]).ok();
            assert!(table.contains("<invalid>") || table.lines().last().is_some_and(|line| line.ends_with('s')), "{table}");
            world.minipod(&["describe", "pod", "p"]).ok();
            world.delete("p");
        },
    },
];
