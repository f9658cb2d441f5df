//! Pods with a user namespace of their own (`hostUsers: false`): root within, nobody without.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::Case;
use crate::pod::{Pod, once, serve};
use crate::process::{poll, seconds};
use crate::world::{World, container, restarts};

const fn mapped(id: &'static str, run: fn(&World)) -> Case {
    Case { id, needs: &["idmap"], run }
}

/// A pod with a user namespace, of one container that does `script` and then waits.
fn one(name: &str, script: &str) -> Pod {
    Pod::new(name, "Always").app("a", &format!("{script}; {}", serve("0", 0))).spec("hostUsers", json!(false))
}

/// The machine's number of the root of a pod's container; checks that the map is as long as it must be.
#[track_caller]
fn first(world: &World, pod: &str, container: &str) -> u64 {
    let firsts: Vec<u64> = ["uid_map", "gid_map"]
        .map(|map| {
            let text = world.exec(pod, container, &["cat", &format!("/proc/self/{map}")]).ok();
            let words: Vec<u64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
            assert_eq!((words.len(), words[0], words[2]), (3, 0, 65536), "{text}");
            words[1]
        })
        .into();
    assert_eq!(firsts[0], firsts[1]);
    firsts[0]
}

#[track_caller]
fn message(world: &World, reason: &str) -> String {
    let pod = world.wait("p", reason, |pod| container(pod, "a")["state"]["waiting"]["reason"] == reason);
    container(&pod, "a")["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned()
}

pub const CASES: &[Case] = &[
    mapped("SEC-07", |world| {
        let script =
            "touch /v/root /m/root /story/root /own; stat -c '%u:%g' /v/root /m/root /story/root /own /etc/hosts /v /m /dev/shm /config/key >/story/said";
        let pod = |name: &str| {
            one(name, script)
                .volume("v", json!({ "emptyDir": {} }), &[("a", "/v")])
                .volume("m", json!({ "emptyDir": { "medium": "Memory" } }), &[("a", "/m")])
                .volume("d", json!({ "downwardAPI": { "items": [{ "path": "key", "fieldRef": { "fieldPath": "metadata.name" } }] } }), &[("a", "/config")])
        };
        world.apply(&pod("p").app("b", &serve("0", 0)).with("b", "securityContext", json!({ "runAsUser": 1000, "runAsGroup": 2000 })));
        world.apply(&pod("q"));
        world.wait_ready("p");
        world.wait_ready("q");
        let (p, q) = (first(world, "p", "a"), first(world, "q", "a"));
        assert_eq!(first(world, "p", "b"), p, "the containers of a pod have the same");
        assert!(p.abs_diff(q) >= 65536 && p % 65536 == 0 && q % 65536 == 0 && p >= 65536, "{p} {q}");
        assert_eq!(world.written("said"), "0:0\n".repeat(9));
        let on_disk = fs::metadata(world.path("story").join("root")).expect("the container made it");
        assert_eq!((on_disk.uid(), on_disk.gid()), (0, 0), "the volume is shown with other ids, not given away");
        assert_eq!(world.exec("p", "b", &["id", "-u"]).ok(), "1000\n");
        // The machine's view: nobody of ours.
        let pod = world.get("p");
        let id = container(&pod, "b")["containerID"].as_str().expect("it runs").to_owned();
        assert!(id.starts_with("minipod://"));
        let outside = world.tool("ps", &["-eo", "uid,gid"]).ok();
        let wanted = [(p + 1000).to_string(), (p + 2000).to_string()];
        assert!(outside.lines().any(|line| line.split_whitespace().eq(wanted.iter().map(String::as_str))), "{outside}");
    }),
    mapped("USR-01", |world| {
        // Everything that enters a running container, and a restart.
        let probe = json!({ "exec": { "command": ["sh", "-c", "[ $(id -u) = 0 ] && touch /v/probed"] }, "periodSeconds": 1 });
        let hook = json!({ "postStart": { "exec": { "command": ["sh", "-c", "id -u >/v/hooked"] } } });
        let pod = one("p", "touch /v/run$(ls /v | grep -c run)")
            .with("a", "readinessProbe", probe)
            .with("a", "lifecycle", hook)
            .with("a", "stdin", json!(true))
            .volume("v", json!({ "emptyDir": {} }), &[("a", "/v")]);
        world.apply(&pod);
        world.wait_ready("p");
        let range = first(world, "p", "a");
        assert_eq!(world.exec("p", "a", &["stat", "-c", "%u", "/v/probed", "/v/hooked", "/proc/self/"]).ok(), "0\n0\n0\n");
        assert_eq!(world.exec("p", "a", &["cat", "/v/hooked"]).ok(), "0\n");
        let capabilities = world.exec("p", "a", &["grep", "Cap", "/proc/1/status"]).ok();
        assert_eq!(world.exec("p", "a", &["grep", "Cap", "/proc/self/status"]).ok(), capabilities);
        let file = world.file("copied");
        world.minipod(&["cp", &file, "p:/v/copied"]).ok();
        assert_eq!(world.exec("p", "a", &["stat", "-c", "%u:%g", "/v/copied"]).ok(), "0:0\n");
        let back = world.path("back").display().to_string();
        world.minipod(&["cp", "p:/v/copied", &back]).ok();
        assert_eq!(fs::read_to_string(&back).expect("copied back"), "copied");
        fs::remove_file(&back).expect("it was there");
        let look = "cat /proc/self/uid_map; ps | grep -c serve; ls /proc/1/root/v >/dev/null && echo root";
        let debug = world.minipod(&["debug", "p", "--image", "busybox:1.36", "-c", "d", "--target", "a", "--attach", "--", "sh", "-c", look]).ok();
        assert!(debug.contains(&range.to_string()), "{debug}");
        world.exec("p", "a", &["sh", "-c", "kill -TERM 1"]);
        world.wait("p", "a restart", |pod| restarts(pod, "a") == 1 && container(pod, "a")["ready"] == true);
        assert_eq!(first(world, "p", "a"), range, "a restart keeps the ids");
        assert_eq!(world.exec("p", "a", &["sh", "-c", "stat -c %u /v/run*"]).ok(), "0\n0\n");
    }),
    mapped("USR-02", |world| {
        // All capabilities, and still only within.
        let host = world.path("host");
        fs::create_dir_all(&host).expect("our own directory");
        let pod = one("p", "true").with("a", "image", json!("toolbox")).with("a", "securityContext", json!({ "capabilities": { "add": ["ALL"] } })).volume(
            "h",
            json!({ "hostPath": { "path": host.display().to_string() } }),
            &[],
        );
        let mut object: Value = serde_json::from_str(&pod.manifest(&world.path("story").display().to_string())).expect("made from JSON");
        let mounts = object["spec"]["containers"][0]["volumeMounts"].as_array_mut().expect("made as an array");
        mounts.push(json!({ "name": "h", "mountPath": "/h", "readOnly": true }));
        world.minipod(&["apply", "-f", &world.file(&object.to_string())]).ok();
        world.wait_ready("p");
        let fails = |script: &str| assert_ne!(world.exec("p", "a", &["sh", "-c", script]).code, 0, "{script}");
        world.exec("p", "a", &["sh", "-c", "mkdir /t && mount -t tmpfs t /t && umount /t && hostname other && ip link set lo mtu 1400"]).ok();
        for script in [
            "umount /proc/kcore || umount /proc/interrupts",
            "umount /proc/sys",
            "mount -o remount,bind,rw /proc/sys",
            "mount -o remount,bind,rw /sys",
            "mount -o remount,bind,rw /h",
            "touch /h/x",
            "mknod /disk b 8 0",
            ": >>/proc/sys/kernel/core_pattern",
            ": >>/proc/sysrq-trigger",
            "mount -t cgroup2 none /t && mkdir /t/x",
            "chown 70000 /t",
            "cat /proc/1/root/proc/kcore | head -c 1 | grep .",
            "dmesg",
        ] {
            fails(script);
        }
        let said = world.tool("hostname", &[]).ok();
        assert_ne!(said.trim(), "other");
    }),
    mapped("USR-03", |world| {
        // procMount Unmasked is what a container engine needs in a container.
        let open = json!({ "procMount": "Unmasked", "capabilities": { "add": ["SYS_ADMIN", "NET_ADMIN"] } });
        let pod = one("p", "true").app("b", &serve("0", 0)).with("a", "securityContext", open).with("a", "image", json!("toolbox"));
        world.apply(&pod);
        world.wait_ready("p");
        let below_proc = |name: &str| {
            let mounts = world.exec("p", name, &["cat", "/proc/self/mounts"]).ok();
            mounts.lines().filter(|line| line.split(' ').nth(1).is_some_and(|at| at.starts_with("/proc/"))).count()
        };
        assert_eq!(below_proc("a"), 0);
        assert_ne!(below_proc("b"), 0);
        world.exec("p", "a", &["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]).ok();
        assert_ne!(world.exec("p", "b", &["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]).code, 0);
        world.exec("p", "a", &["unshare", "--mount", "--pid", "--fork", "mount", "-t", "proc", "proc", "/proc"]).ok();
        world.exec("p", "a", &["sh", "-c", ": >>/proc/sys/kernel/core_pattern"]).fails_with(&["denied"]);
        world.delete("p");
        let refused = Pod::new("p", "Always").app("a", &once("0", 0)).with("a", "securityContext", json!({ "procMount": "Unmasked" }));
        world.minipod(&["apply", "-f", &world.manifest(&refused)]).fails_with(&["`hostUsers` must be false to use `Unmasked`"]);
    }),
    mapped("USR-04", |world| {
        // What cannot be is said.
        world.apply(&one("p", "true").volume("v", json!({ "hostPath": { "path": "/proc" } }), &[("a", "/v")]));
        let said = message(world, "RunContainerError");
        assert!(said.contains("needs id-mapped mounts, which the file system of /proc"), "{said}");
        world.delete("p");
        world.apply(&one("p", "true").with("a", "securityContext", json!({ "runAsUser": 65536 })));
        assert_eq!(message(world, "CreateContainerConfigError"), "with hostUsers false there are the user and group ids 0 to 65535; 65536 is not one");
        world.delete("p");
        let shared = json!([{ "name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional" }]);
        let pod = one("p", "true").with("a", "securityContext", json!({ "privileged": true })).with("a", "volumeMounts", shared);
        world.apply(&pod.volume("v", json!({ "emptyDir": {} }), &[]));
        assert_eq!(message(world, "CreateContainerError"), "mountPropagation Bidirectional does not work with hostUsers false");
        world.delete("p");
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            let refused = one("p", "true").spec(field, json!(true));
            world.minipod(&["apply", "-f", &world.manifest(&refused)]).fails_with(&[&format!("spec.{field}"), "when `hostUsers` is false"]);
        }
    }),
    mapped("USR-05", |world| {
        // One PID namespace for all, kernel settings, a terminal, groups of volumes, and a root that is read-only.
        let context = json!({ "fsGroup": 123, "sysctls": [{ "name": "net.ipv4.tcp_syncookies", "value": "0" }] });
        let script = "umask 0; touch /v/file; stat -c '%a %g' /v /v/file >/story/said; id -G >>/story/said; tty >>/story/said; stat -c '%u %g' $(tty) >>/story/said; \
                      touch /no 2>/dev/null || echo sealed >>/story/said";
        let pod = one("p", script)
            .app("b", &serve("0", 0))
            .with("a", "tty", json!(true))
            .with("a", "securityContext", json!({ "runAsUser": 1000, "runAsGroup": 1000, "readOnlyRootFilesystem": true }))
            .spec("shareProcessNamespace", json!(true))
            .spec("securityContext", context)
            .volume("v", json!({ "emptyDir": {} }), &[("a", "/v")]);
        world.apply(&pod);
        world.wait_ready("p");
        let said = poll(seconds(20), || Some(world.written("said")).filter(|said| said.ends_with("sealed\n"))).expect("the script ends");
        assert_eq!(said, "2777 123\n666 123\n1000 123\n/dev/pts/0\n1000 5\nsealed\n");
        assert_eq!(world.exec("p", "b", &["cat", "/proc/sys/net/ipv4/tcp_syncookies"]).ok(), "0\n");
        assert!(world.exec("p", "b", &["ps"]).ok().contains("pause"));
        world.kill_pauses();
        world.wait("p", "a new sandbox", |pod| restarts(pod, "b") >= 1 && container(pod, "b")["ready"] == true);
        first(world, "p", "b");
    }),
    Case {
        id: "USR-06",
        needs: &[],
        run: |world| {
            // Where the image store cannot be shown with other ids, the pod is refused, in words.
            if !crate::needs::met("idmap") {
                let done = world.minipod(&["run", "-d", &world.manifest(&one("p", "true"))]);
                done.fails_with(&["hostUsers: false needs id-mapped mounts, which the file system of "]);
            }
        },
    },
];
