//! How pods end: signals, grace, what is left.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::pod::{Pod, serve};
use crate::process::{poll, seconds, slow};
use crate::world::container;
use crate::{Case, case};

/// A time of a status, in seconds.
pub fn second(time: &Value) -> i64 {
    let time = time.as_str().unwrap_or_else(|| panic!("{time} is no time"));
    time.parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{time}: {error}")).as_second()
}

/// Demands that something took at least `least`, and on a machine of full speed at most `most`.
#[track_caller]
fn took(time: Duration, least: f64, most: f64) {
    let time = time.as_secs_f64();
    assert!(time >= least && (slow() || time <= most), "took {time:.1} s, not {least} to {most}");
}

pub const CASES: &[Case] = &[
    case("TRM-01", |world| {
        let file = world.manifest(&Pod::new("p", "Never").app("a", &serve("1", 0)));
        let run = world.start(&["run", &file]);
        world.wait_story("a Started");
        let done = world.minipod(&["delete", "pod", "p"]);
        took(done.took, 1.0, 3.0);
        done.ok();
        world.assert_order(&["a Term", "a Exiting"]);
        assert_eq!(run.wait().code, 0, "the app's exit code");
    }),
    case("TRM-02", |world| {
        // PID 1 without a handler: the kernel throws SIGTERM away, so only SIGKILL at the end of the grace ends it.
        let pod = Pod::new("p", "Never").app("a", "").with("a", "command", json!(["sleep", "100000"])).spec("terminationGracePeriodSeconds", json!(5));
        let file = world.manifest(&pod);
        let run = world.start(&["run", &file]);
        world.wait_ready("p");
        let done = world.minipod(&["delete", "pod", "p"]);
        took(done.took, 5.0, 7.0);
        done.ok();
        assert_eq!(run.wait().code, 137);
    }),
    case("TRM-04", |world| {
        let pod = Pod::new("p", "Never").app("a", "").with("a", "command", json!(["sleep", "100000"])).spec("terminationGracePeriodSeconds", json!(60));
        world.apply(&pod);
        world.wait_ready("p");
        let done = world.minipod(&["delete", "pod", "p", "--grace-period=1"]);
        took(done.took, 1.9, 4.0);
        done.ok();
    }),
    case("TRM-06", |world| {
        // Grandchildren in sessions of their own that ignore every polite signal; the world's end demands that they are gone.
        let stubborn = "setsid sh -c \"trap '' TERM HUP INT; touch /story/up; while :; do sleep 1; done\" & ";
        world.apply(&Pod::new("p", "Always").app("a", &format!("{stubborn}{}", serve("0", 0))).sidecar("s", &format!("{stubborn}{}", serve("0", 0))));
        world.wait_ready("p");
        world.wait_story("a Started");
        world.delete("p");
        world.assert_nothing_left();
    }),
    case("TRM-07", |world| {
        let script = "trap 'say Quit; exit 0' QUIT; trap 'say Term; exit 1' TERM; say Started; sleep 100000 & wait";
        // The nginx image says STOPSIGNAL SIGQUIT.
        world.apply(&Pod::new("p", "Never").app("a", script).with("a", "image", json!("nginx")));
        world.wait_story("a Started");
        world.delete("p");
        world.assert_order(&["a Started", "a Quit"]);
        assert!(world.moments("a Term").is_empty());
    }),
    case("SIG-01", |world| {
        // The container's own signal goes before its image's STOPSIGNAL (nginx: SIGQUIT), and that before SIGTERM; the status tells which.
        let script = "trap 'say Usr1; exit 0' USR1; trap 'say Quit; exit 0' QUIT; trap 'say Term; exit 0' TERM; say Started; sleep 100000 & wait";
        let pod = Pod::new("p", "Never").spec("os", json!({ "name": "linux" })).app("own", script).app("image", script).app("plain", script);
        let pod = pod.with("own", "lifecycle", json!({ "stopSignal": "SIGUSR1" })).with("own", "image", json!("nginx")).with("image", "image", json!("nginx"));
        world.apply(&pod.sidecar("side", script).with("side", "lifecycle", json!({ "stopSignal": "SIGQUIT" })));
        let names = ["own", "image", "plain", "side"];
        names.iter().for_each(|name| world.wait_story(&format!("{name} Started")));
        let pod = world.wait_ready("p");
        for (name, signal) in names.into_iter().zip(["SIGUSR1", "SIGQUIT", "SIGTERM", "SIGQUIT"]) {
            assert_eq!(container(&pod, name)["stopSignal"], signal, "{name}");
        }
        assert_eq!(pod["spec"]["containers"][0]["lifecycle"]["stopSignal"], "SIGUSR1");
        world.delete("p");
        for (name, heard) in names.into_iter().zip(["Usr1", "Quit", "Term", "Quit"]) {
            let told: Vec<String> = world.story().into_iter().filter_map(|(_, line)| Some(line.strip_prefix(name)?.trim().to_owned())).collect();
            assert_eq!(told, ["Started", heard], "{name}");
        }
        let file = world.manifest(&Pod::new("q", "Never").app("a", "true").with("a", "lifecycle", json!({ "stopSignal": "SIGUSR1" })));
        world.minipod(&["apply", "-f", &file]).fails_with(&["spec.containers[0].lifecycle.stopSignal: Forbidden", "`spec.os.name`"]);
    }),
    case("TRM-09", |world| {
        let pod = Pod::new("p", "Always").app("a", &serve("0", 1)).app("b", &serve("0", 0)).spec("activeDeadlineSeconds", json!(4));
        world.apply(&pod);
        world.wait_story("a Started");
        let pod = world.wait_phase("p", "Failed");
        let message = "Pod was active on the node longer than the specified deadline";
        assert_eq!((&pod["status"]["reason"], &pod["status"]["message"]), (&json!("DeadlineExceeded"), &json!(message)));
        for name in ["a", "b"] {
            world.assert_order(&[&format!("{name} Started"), &format!("{name} Term"), &format!("{name} Exiting")]);
            assert_eq!(world.moments(&format!("{name} Started")).len(), 1, "{name} does not come back");
        }
        // From the pod's start, in whole seconds: its containers end a moment after the deadline, never before.
        let ran = second(&container(&pod, "a")["state"]["terminated"]["finishedAt"]) - second(&pod["status"]["startTime"]);
        assert!((4..=6).contains(&ran) || (slow() && ran > 6), "it was stopped after {ran} s");
        let row = world.row("p");
        assert_eq!((&*row.ready, &*row.status), ("0/2", "Error"), "what its container says, not the deadline");
        let told = world.minipod(&["describe", "pod", "p"]).ok();
        for (label, value) in [("Status", "Failed"), ("Reason", "DeadlineExceeded"), ("Message", message)] {
            assert!(told.lines().any(|line| line.strip_prefix(label).and_then(|rest| rest.strip_prefix(':')).map(str::trim) == Some(value)), "{label}: {told}");
        }
    }),
    case("SUP-01", |world| {
        // The supervisor is killed: `get` says so instead of repeating the last state for ever, and `delete` cleans up.
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)));
        world.wait_ready("p");
        kill_supervisor(world);
        let told = world.minipod(&["get", "pods", "p"]).ok();
        assert!(told.contains("\np "), "{told}");
        assert!(!told.contains("1/1"), "nobody looks after it: it must not be shown as ready\n{told}");
        world.delete("p");
        world.assert_nothing_left();
    }),
    case("ESC-01", |world| {
        // The runtime's own program cannot be overwritten by way of a process that has it as its exe (CVE-2019-5736): not even root can open
        // it for writing, and not because it is busy just now (ETXTBSY).
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)));
        world.wait_ready("p");
        let exe = format!("/proc/{}/exe", supervisor(world));
        // With truncation the mount is asked before the file, which is busy as long as it runs.
        let error = std::fs::OpenOptions::new().write(true).truncate(true).open(exe).expect_err("it must not be writable");
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    }),
    case("SUP-02", |world| {
        // … and so does the next run of the same pod.
        let pod = Pod::new("p", "Always").app("a", &serve("0", 0));
        world.apply(&pod);
        world.wait_story("a Started");
        kill_supervisor(world);
        world.apply(&pod);
        world.wait_ready("p");
        let twice = poll(seconds(20), || (world.moments("a Started").len() == 2).then_some(()));
        assert!(twice.is_some(), "{:?}", world.story());
        world.delete("p");
    }),
    case("SUP-03", |world| {
        // The power failed while the object was written: nothing is to be read, and all of it can be removed.
        for finish in ["delete", "run"] {
            world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)));
            world.wait_ready("p");
            kill_supervisor(world);
            std::fs::write(world.root().join("lib/pods/default/p/pod.json"), "").expect("the pod's directory is there");
            assert!(world.minipod(&["get", "pods"]).err.contains("pod.json is damaged"));
            if finish == "run" {
                world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)));
                world.wait_ready("p");
            }
            world.delete("p");
        }
    }),
];

/// The supervisor of pod `p`.
fn supervisor(world: &crate::world::World) -> nix::unistd::Pid {
    let lock = std::fs::read_to_string(world.root().join("lib/pods/default/p/lock")).expect("the lock of a running pod");
    nix::unistd::Pid::from_raw(lock.trim().parse().expect("the lock file has the supervisor's pid"))
}

/// Kills the supervisor of pod `p` outright, and waits until it is gone.
pub fn kill_supervisor(world: &crate::world::World) {
    let pid = supervisor(world);
    nix::sys::signal::kill(pid, Signal::SIGKILL).expect("it runs");
    let gone = crate::process::poll(crate::process::seconds(10), || {
        // A zombie whose parent has not reaped it yet is as dead.
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
    assert!(gone.is_some(), "the supervisor survived SIGKILL");
}
