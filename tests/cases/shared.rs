//! What the containers of a pod share (network, IPC, host name) and what they do not (mounts, processes, cgroups).

use std::fs;

use serde_json::json;

use crate::pod::{Pod, await_file, once, serve};
use crate::process::{poll, seconds};
use crate::world::{World, container, restarts};
use crate::{Case, case};

/// Writes `NAME INODE` of every namespace of this process into /story/FILE, at once.
fn namespaces(file: &str) -> String {
    format!("for n in net ipc uts mnt pid cgroup; do echo $n $(readlink /proc/self/ns/$n); done >/story/{file}.new; mv /story/{file}.new /story/{file}; ")
}

fn parse(text: &str) -> Vec<(String, String)> {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(name, id)| (name.to_owned(), id.to_owned())).collect()
}

/// Starts two pods, two containers and an init in the first, and gives the namespaces of each container.
fn look(world: &World) -> [Vec<(String, String)>; 4] {
    let pod =
        Pod::new("p", "Always").init("i", &namespaces("i")).app("c1", &(namespaces("c1") + &serve("0", 0))).app("c2", &(namespaces("c2") + &serve("0", 0)));
    world.apply(&pod);
    world.apply(&Pod::new("q", "Always").app("other", &(namespaces("other") + &serve("0", 0))));
    ["i", "c1", "c2", "other"].map(|name| parse(&world.written(name)))
}

pub const CASES: &[Case] = &[
    case("SHR-01", |world| {
        let serve = "mkdir /www; echo answer >/www/index.html; exec httpd -f -p 127.0.0.1:8080 -h /www";
        let ask = "until wget -q -O /story/got http://localhost:8080/ 2>/dev/null; do sleep 0.05; done; say Got";
        world.apply(&Pod::new("p", "OnFailure").app("c1", serve).app("c2", ask).spec("terminationGracePeriodSeconds", json!(1)));
        world.wait_story("c2 Got");
        assert_eq!(world.written("got"), "answer\n");
    }),
    case("SHR-02", |world| {
        let [_, c1, c2, other] = look(world);
        for (((name, one), (_, two)), (_, far)) in c1.iter().zip(&c2).zip(&other) {
            assert_ne!(one, far, "{name} is shared with another pod");
            match &**name {
                "net" | "ipc" | "uts" => assert_eq!(one, two, "{name} is not shared within the pod"),
                _ => assert_ne!(one, two, "{name} is shared within the pod"),
            }
        }
    }),
    case("NSP-01", |world| {
        let all = look(world);
        for (name, _) in &all[0] {
            let host = fs::read_link(format!("/proc/self/ns/{name}")).expect("our own").display().to_string();
            for container in &all {
                assert_eq!(container.len(), 6);
                let (_, id) = container.iter().find(|(n, _)| n == name).expect("all list the same names");
                assert!(id.starts_with(name.as_str()) && *id != host, "{name}: {id} is the host's");
                assert!(!id.contains(&world.network_namespace().to_string()), "{name}: the world's own");
            }
        }
        // An init container is of the same pod, too.
        for name in ["net", "ipc", "uts"] {
            let of = |at: usize| all[at].iter().find(|(n, _)| n == name).map(|(_, id)| id);
            assert_eq!(of(0), of(1), "{name}");
        }
    }),
    case("SHR-03", |world| {
        let second = "until nc 127.0.0.1 80 </dev/null; do sleep 0.05; done; exec httpd -f -p 80 -h /";
        let pod = Pod::new("p", "Always").app("c1", "exec httpd -f -p 80 -h /").app("c2", second).spec("terminationGracePeriodSeconds", json!(1));
        world.apply(&pod);
        world.wait("p", "c2 in its crash loop", |pod| container(pod, "c2")["state"]["waiting"]["reason"] == "CrashLoopBackOff");
        world.wait_row("p", "1/2", "CrashLoopBackOff");
        let logs = world.minipod(&["logs", "p", "-c", "c2"]).ok();
        assert!(logs.to_lowercase().contains("address already in use"), "{logs}");
        let told = world.minipod(&["describe", "pod", "p"]).ok();
        let code = container(&world.get("p"), "c2")["lastState"]["terminated"]["exitCode"].clone();
        assert_eq!(code, 1);
        assert!(told.lines().any(|l| l.trim().strip_prefix("Exit Code:").is_some_and(|v| v.trim() == "1")), "{told}");
    }),
    case("SHR-04", |world| {
        let make = format!("ipcmk -M 4321 >/dev/null && echo from-c1 >/dev/shm/one && say Made; {}", serve("0", 0));
        let look = format!(
            "until [ -e /dev/shm/one ]; do sleep 0.02; done; cat /dev/shm/one >/story/seen; ipcs -m >/story/segments; echo from-c2 >/dev/shm/two; \
             df -P -k /dev/shm | tail -n 1 >/story/size; say Looked; {}",
            serve("0", 0)
        );
        let pod = Pod::new("p", "Always").app("c1", &make).with("c1", "image", json!("toolbox")).app("c2", &look).with("c2", "image", json!("toolbox"));
        world.apply(&pod);
        world.wait_story("c2 Looked");
        assert_eq!(world.written("seen"), "from-c1\n");
        assert!(world.written("segments").split_whitespace().any(|word| word == "4321"), "{}", world.written("segments"));
        assert_eq!(world.written("size").split_whitespace().nth(1), Some("65536"));
        assert_eq!(world.exec("p", "c1", &["cat", "/dev/shm/two"]).ok(), "from-c2\n");
    }),
    case("SHR-05", |world| {
        let tell = |name: &str| format!("hostname >/story/{name}; {}", serve("0", 0));
        world.apply(&Pod::new("named-pod", "Always").init("i", "hostname >/story/i").app("c1", &tell("c1")).app("c2", &tell("c2")));
        for name in ["i", "c1", "c2"] {
            assert_eq!(world.written(name), "named-pod\n", "{name}");
        }
        assert_eq!(world.exec("named-pod", "c1", &["cat", "/etc/hostname"]).ok(), "named-pod\n");
    }),
    case("SHR-06", |world| {
        let orphan = format!("(sleep 0.3 & echo $! >/story/orphan); {}", serve("0", 0));
        let pod = Pod::new("p", "Always").spec("shareProcessNamespace", json!(true)).app("c1", &orphan).app("c2", &format!("say Ready; {}", serve("0", 0)));
        world.apply(&pod);
        world.wait_ready("p");
        world.wait_story("c2 Ready");
        let all = world.exec("p", "c1", &["sh", "-c", "for p in /proc/[0-9]*; do echo $p $(tr '\\0' ' ' <$p/cmdline); done"]).ok();
        let first = all.lines().find(|line| line.starts_with("/proc/1 ")).unwrap_or_default();
        assert!(!first.contains("/story/"), "PID 1 is a container's process: {first}");
        assert!(all.lines().any(|line| line.contains("c2 $*")), "c1 does not see c2's process: {all}");
        let orphan = world.written("orphan").trim().to_owned();
        // The shell is not its parent, so only PID 1 can reap it; a zombie would stay in /proc.
        let gone = format!("until [ ! -e /proc/{orphan} ]; do sleep 0.05; done");
        world.exec("p", "c1", &["timeout", "20", "sh", "-c", &gone]).ok();
        assert_eq!(restarts(&world.get("p"), "c1"), 0);

        world.apply(&Pod::new("q", "Always").app("d1", &format!("cat /proc/1/cmdline | tr '\\0' ' ' >/story/first; echo >>/story/first; {}", serve("0", 0))));
        assert!(world.written("first").starts_with("sh -c"), "{}", world.written("first"));
    }),
    case("SHR-12", |world| {
        // A listener that takes one connection and no second: what comes after the restart can only come by the one from before.
        // At the end of its own input a listener would end the connection.
        let heard = "mkfifo /silence; exec 3<>/silence; (until netstat -ltn | grep -q ':9000 '; do sleep 0.02; done; say Listening) & nc -l -p 9000 <&3 >/story/got; say Closed";
        world.apply(&Pod::new("far", "Never").app("f", &format!("{heard}; {}", serve("0", 0))));
        world.wait_story("f Listening");
        let words = format!("(echo before; {}; echo after; {}) | nc far 9000; say Done; {}", await_file("go"), await_file("end"), serve("0", 0));
        let crash = format!("say Starting; [ -e /story/crash ] || {{ {}; exit 1; }}; {}", await_file("crash"), serve("0", 0));
        world.apply(&Pod::new("p", "Always").app("c1", &words).app("c2", &crash));
        assert_eq!(world.written("got"), "before\n");
        world.wait_story("c2 Starting");
        world.touch("crash");
        let pod = world.wait("p", "c2 runs again", |pod| restarts(pod, "c2") == 1 && container(pod, "c2")["ready"] == true);
        assert_eq!(restarts(&pod, "c1"), 0);
        assert!(world.moments("f Closed").is_empty(), "the connection ended with c2");
        world.touch("go");
        let got = poll(seconds(20), || Some(world.written("got")).filter(|got| got == "before\nafter\n"));
        assert!(got.is_some(), "{:?}", world.written("got"));
        world.touch("end");
        world.wait_story("f Closed");
    }),
    case("NET-P1", |world| {
        // Two pods differ in their address, and each finds the other by its name.
        world.apply(&Pod::new("near", "Always").app("n", "mkdir /www; echo near >/www/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait"));
        let near = world.wait_ready("near");
        let ask = format!("until wget -q -O /story/got http://near/ 2>/dev/null; do sleep 0.05; done; {}; {}", await_file("go"), once("0", 0));
        world.apply(&Pod::new("far", "Never").app("f", &ask));
        let far = world.wait("far", "an address", |pod| pod["status"]["podIP"].is_string());
        assert_eq!(world.written("got"), "near\n");
        assert_ne!(near["status"]["podIP"], far["status"]["podIP"]);
        world.touch("go");
        world.wait_phase("far", "Succeeded");
        // The host, too, reaches the pod: from the world's own network namespace.
        let address = near["status"]["podIP"].as_str().expect("it answered").to_owned();
        let page = world.tool("busybox", &["wget", "-q", "-O", "-", &format!("http://{address}/")]).ok();
        assert_eq!(page, "near\n");
    }),
];
