//! Ephemeral containers: they see what their target sees, count for nothing, run once, start whatever holds the others up, and end with
//! the pod.

use serde_json::{Value, json};

use crate::pod::{Pod, serve};
use crate::world::{World, container, restarts};
use crate::{Case, case};

/// The status of an ephemeral container.
fn debugger<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let list = pod["status"]["ephemeralContainerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().find(|status| status["name"] == name).unwrap_or(&Value::Null)
}

/// `minipod debug p --image … WORDS -- sh -c SCRIPT`
fn words<'a>(flags: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["debug", "p", "--image", "busybox:1.36"], flags, &["--", "sh", "-c", script]].concat()
}

fn await_end(world: &World, name: &str) -> Value {
    let pod = world.wait("p", "the end of the debugger", |pod| debugger(pod, name)["state"]["terminated"].is_object());
    debugger(&pod, name).clone()
}

/// What a user sees who debugs on a terminal and types `keys` (for printf) when the program has said `go`.
fn on_terminal(world: &World, name: &str, script: &str, keys: &str) -> String {
    let program = std::env::var("MINIPOD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_minipod").to_owned());
    let over = world.path(&format!("over-{name}")).display().to_string();
    let command = world.file(&format!("stty rows 33 cols 77\n{program} debug p -it --image busybox:1.36 -c {name} -- sh -c '{script}'\ntouch {over}\n"));
    let type_keys =
        format!("until {program} logs p -c {name} 2>/dev/null | grep -q go; do sleep 0.05; done; printf '{keys}'; until [ -e {over} ]; do sleep 0.05; done");
    world.tool("sh", &["-c", &format!("{{ {type_keys}; }} | script -qec 'sh {command}' /dev/null")]).ok()
}

pub const CASES: &[Case] = &[
    case("EPH-01", |world| {
        let script = "mkdir /www; echo answer >/www/index.html; httpd -p 127.0.0.1:8080 -h /www; sleep 54321 & ";
        world.apply(&Pod::new("p", "Always").app("app", &format!("{script}{}", serve("0", 0))));
        world.wait_ready("p");
        let look = "ps; cat /proc/1/root/www/index.html; until wget -qO- http://localhost:8080/; do sleep 0.02; done; echo known >&2; exit 3";
        let done = world.minipod(&words(&["-c", "dbg", "--target", "app", "--attach"], look));
        assert_eq!((done.code, &*done.err), (0, "known\n"), "{}", done.out);
        assert!(done.out.contains("sleep 54321") && done.out.ends_with("answer\nanswer\n"), "{}", done.out);
        // Without a target it sees itself alone.
        let alone = world.minipod(&words(&["-c", "alone", "--attach"], "ps")).ok();
        assert!(!alone.contains("54321") && alone.contains("ps"), "{alone}");
        assert_eq!(await_end(world, "dbg")["state"]["terminated"]["exitCode"], 3);
        let pod = world.wait_ready("p");
        assert_eq!((pod["status"]["phase"].as_str(), restarts(&pod, "app")), (Some("Running"), 0));
        assert_eq!(pod["spec"]["ephemeralContainers"][0]["targetContainerName"], "app");
        world.wait_row("p", "1/1", "Running");
        let told = world.minipod(&["describe", "pod", "p"]).ok();
        let section = told.split("\nEphemeral Containers:\n").nth(1).and_then(|rest| rest.split("\nConditions:").next()).expect("the section");
        assert!(section.contains("  dbg:\n") && section.contains("  alone:\n") && section.contains("Exit Code:    3"), "{section}");
        assert!(told.contains("spec.ephemeralContainers{dbg}: Container started"), "{told}");
        let logs = world.minipod(&["logs", "p", "-c", "dbg"]).ok();
        assert!(logs.contains("sleep 54321") && logs.contains("known\n"), "{logs}");
        let noted = world.minipod(&["logs", "p"]);
        assert_eq!(noted.err, "Defaulted container \"app\" out of: app, dbg (ephem), alone (ephem)\n");
    }),
    case("EPH-02", |world| {
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)));
        world.wait_ready("p");
        let first = world.minipod(&words(&["-c", "d", "-i"], "cat; exit 5")).ok();
        assert_eq!(first, "");
        let ended = await_end(world, "d");
        world.minipod(&words(&["-c", "d"], "true")).fails_with(&["the pod has a container \"d\" already"]);
        world.minipod(&words(&["-c", "a"], "true")).fails_with(&["the pod has a container \"a\" already"]);
        // Long enough that a container which could come back had done so.
        world.minipod(&words(&["-c", "later", "--attach"], "sleep 1")).ok();
        let pod = world.get("p");
        assert_eq!((&ended["state"]["terminated"]["exitCode"], &ended["restartCount"], &ended["ready"]), (&json!(5), &json!(0), &json!(false)));
        assert_eq!(debugger(&pod, "d"), &ended);
        assert_eq!(pod["status"]["ephemeralContainerStatuses"].as_array().map(Vec::len), Some(2));
    }),
    case("EPH-03", |world| {
        world.apply(&Pod::new("p", "Always").init("i", "say Failing; exit 1").app("a", &serve("0", 0)));
        world.wait("p", "the init in its crash loop", |pod| container(pod, "i")["state"]["waiting"]["reason"] == "CrashLoopBackOff");
        let done = world.minipod_with(&words(&["-c", "d", "-i"], "cat; echo end"), b"typed\n");
        assert_eq!(done.ok(), "typed\nend\n");
        let pod = world.get("p");
        assert_eq!((pod["status"]["phase"].as_str(), &container(&pod, "a")["state"]["waiting"]["reason"]), (Some("Pending"), &json!("PodInitializing")));
        assert!(await_end(world, "d")["state"]["terminated"]["exitCode"] == 0);
        world.wait_row("p", "0/1", "Init:CrashLoopBackOff");
    }),
    case("EPH-04", |world| {
        let patient = "trap 'echo told; exit 0' TERM; echo up; sleep 100000 & wait";
        world.apply(&Pod::new("p", "Never").app("a", &crate::pod::until("go", 0)));
        world.wait_ready("p");
        let session = world.start(&words(&["-c", "d", "--attach"], patient));
        session.wait_for("up");
        assert_eq!(world.exec("p", "d", &["hostname"]).ok(), "p\n");
        // The work is done: the debugger does not hold the pod, and is told to end.
        world.touch("go");
        world.wait_phase("p", "Succeeded");
        assert_eq!(session.wait().ok(), "up\ntold\n");
        assert_eq!(debugger(&world.get("p"), "d")["state"]["terminated"]["exitCode"], 0);
        world.minipod(&words(&[], "true")).fails_with(&["nothing can be added to a completed pod; current phase is Succeeded"]);
        world.delete("p");
        // A deletion: nobody waits for the grace, as all have ended; and one that shares the processes of its target dies with it.
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)).spec("terminationGracePeriodSeconds", json!(60)));
        world.wait_ready("p");
        let session = world.start(&words(&["-c", "d", "--attach"], patient));
        session.wait_for("up");
        let sharer = world.start(&words(&["-c", "e", "--target", "a", "--attach"], "trap '' TERM; echo up; sleep 100000 & wait"));
        sharer.wait_for("up");
        world.delete("p");
        assert_eq!(session.wait().ok(), "up\ntold\n");
        sharer.wait().ok();
    }),
    case("EPH-05", |world| {
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)).app("never", "exit 0").spec("terminationGracePeriodSeconds", json!(1)));
        world.wait("p", "the one that ends in its crash loop", |pod| container(pod, "never")["state"]["waiting"]["reason"] == "CrashLoopBackOff");
        for (flags, text) in [
            (&["--target", "b"][..], "the target container \"b\" is not one of the pod's init or app containers"),
            (&["--target", "never"], "the target container \"never\" does not run now"),
            (&["--image-pull-policy", "Never", "--image", "busybox:no-such"], "busybox:no-such"),
            (&["--copy-to", "q"], "--copy-to: debugging a copy of the pod is not supported"),
            (&["-c", "No"], "name: "),
            (&["--env", "novalue"], "--env novalue: not NAME=VALUE"),
        ] {
            let mut all = vec!["debug", "p", "-q"];
            if !flags.contains(&"--image") {
                all.extend(["--image", "busybox:1.36"]);
            }
            all.extend(flags);
            world.minipod(&all).fails_with(&[text]);
        }
        world.minipod(&["debug", "node/x", "--image", "busybox:1.36"]).fails_with(&["debugging a node is not supported"]);
        // Nothing half-made is left of any of them.
        let pod = world.get("p");
        assert!(pod["spec"]["ephemeralContainers"].is_null() && pod["status"]["ephemeralContainerStatuses"].is_null(), "{pod}");
        // One that cannot be run has ended, and says why.
        let done = world.minipod(&["debug", "p", "-c", "d", "--image", "busybox:1.36", "--", "/no/such/program"]);
        done.fails_with(&["container d could not be started: RunContainerError", "/no/such/program"]);
        assert_eq!(await_end(world, "d")["state"]["terminated"]["reason"], "StartError");
        let rights = "grep -h CapEff /proc/self/status";
        let of = |profile: &str| {
            let name = format!("with-{profile}");
            let out = world.minipod(&words(&["-c", &name, "--attach", "--profile", profile], rights)).ok();
            u64::from_str_radix(out.split_whitespace().last().expect("a number"), 16).expect("hexadecimal")
        };
        const NET_ADMIN: u64 = 1 << 12;
        const SYS_PTRACE: u64 = 1 << 19;
        let baseline = of("baseline");
        assert_eq!(baseline & (NET_ADMIN | SYS_PTRACE), 0, "{baseline:x}");
        assert_eq!((of("general"), of("netadmin")), (baseline | SYS_PTRACE, baseline | NET_ADMIN));
    }),
    Case {
        id: "EPH-T1",
        needs: &["script"],
        run: |world| {
            world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)));
            world.wait_ready("p");
            // Of what is written before anybody can know that the program runs nothing is lost.
            let shown = on_terminal(world, "d", "echo first; tty; echo TERM is $TERM; echo go; read -r x; stty size; echo last $x", "typed\\n");
            for text in ["first", "/dev/pts/", "TERM is xterm", "33 77", "last typed"] {
                assert!(shown.contains(text), "no {text:?} in {shown:?}");
            }
            // Left, it goes on, and can be come back to.
            let shown = on_terminal(world, "e", "echo go; read -r x; echo got $x", "\\020\\021");
            assert!(shown.contains("go") && !shown.contains("got"), "{shown:?}");
            let back = world.minipod_with(&["attach", "p", "-c", "e", "-i", "-q"], b"again\n");
            assert!(back.out.contains("got again"), "{:?} {:?}", back.out, back.err);
        },
    },
];
