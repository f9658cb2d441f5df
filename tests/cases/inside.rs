//! `exec`, and what a process finds inside a container.

use serde_json::json;

use crate::pod::{Pod, await_file, once, serve};
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("EXE-01", |world| {
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)).app("b", &serve("0", 0)));
        world.wait_ready("p");
        let done = world.exec("p", "b", &["sh", "-c", "exit 7"]);
        assert_eq!(done.code, 7);
        assert_eq!(done.err.trim_end(), "command terminated with exit code 7");
        let done = world.minipod(&["exec", "p", "--", "echo", "hello"]);
        assert_eq!(done.err.trim_end(), "Defaulted container \"a\" out of: a, b");
        assert_eq!(done.ok(), "hello\n");
        world.exec("p", "x", &["true"]).fails_with(&["container x is not valid for pod p out of: a, b"]);
        world.exec("p", "a", &["/no/such/program"]).fails_with(&["/no/such/program"]);
    }),
    case("EXE-02", |world| {
        let pod = Pod::new("p", "Always")
            .app("a", &format!("echo a >/mark; {}", serve("0", 0)))
            .app("b", &format!("echo b >/mark; say Marked; {}", serve("0", 0)))
            .with("b", "env", json!([{ "name": "WORD", "value": "of spec" }]))
            .with("b", "workingDir", json!("/tmp"))
            .with("b", "securityContext", json!({ "runAsUser": 0, "runAsGroup": 10 }));
        world.apply(&pod);
        world.wait_ready("p");
        world.wait_story("b Marked");
        let ask = |script: &str| world.exec("p", "b", &["sh", "-c", script]).ok();
        assert_eq!(ask("cat /mark; pwd; echo $WORD; echo $HOSTNAME; hostname; id -u; id -g"), "b\n/tmp\nof spec\np\np\n0\n10\n");
        for name in ["net", "ipc", "uts", "mnt", "pid", "cgroup"] {
            assert_eq!(ask(&format!("readlink /proc/1/ns/{name}")), ask(&format!("readlink /proc/self/ns/{name}")), "{name}");
        }
        assert_eq!(ask("tr '\\0' ' ' </proc/1/cmdline | cut -c 1-5"), "sh -c\n", "PID 1 is the container's main process");
        assert_eq!(ask("cat /proc/1/cgroup"), ask("cat /proc/self/cgroup"));
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let done = world.start_with(&["exec", "-i", "p", "-c", "b", "--", "cat"], Some(&bytes)).wait();
        assert!(done.raw == bytes, "stdin came back changed: {} of {} bytes; {}", done.raw.len(), bytes.len(), done.err);
    }),
    case("EXE-03", |world| {
        world.apply(&Pod::new("p", "Never").init("i", &await_file("go")).app("c", &once("0", 0)));
        world.wait_row("p", "0/1", "Init:0/1");
        world.exec("p", "c", &["true"]).fails_with(&["container not found (\"c\")"]);
        world.touch("go");
        world.wait_phase("p", "Succeeded");
        world.exec("p", "c", &["true"]).fails_with(&["cannot exec into a container in a completed pod; current phase is Succeeded"]);
    }),
    // A PID namespace ends when the last process in it is reaped: that must not be up to who reads exec's output.
    case("EXE-P1", |world| {
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)));
        world.wait_ready("p");
        let program = std::env::var("MINIPOD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_minipod").to_owned());
        let line = format!("{program} exec p -- yes | {{ read -r word; {program} delete pod p --now; }}");
        assert!(world.tool("sh", &["-c", &line]).ok().contains("deleted"));
    }),
    Case {
        id: "EXE-T1",
        needs: &["script"],
        run: |world| {
            // `script` gives the command a terminal, as a user's would be.
            world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)));
            world.wait_ready("p");
            let program = std::env::var("MINIPOD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_minipod").to_owned());
            let line = format!("stty rows 33 cols 77; {program} exec -it p -- sh -c 'tty; stty size; echo TERM is $TERM; exit 5'");
            let done = world.tool("script", &["-qec", &line, "/dev/null"]);
            assert_eq!(done.code, 5, "{}", done.out);
            for text in ["/dev/pts/", "33 77", "TERM is xterm"] {
                assert!(done.out.contains(text), "no {text:?} in {:?}", done.out);
            }
        },
    },
];
