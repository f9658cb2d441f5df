//! Who a container is, and what it may do: users, groups, privileges, filters, kernel settings, the host's namespaces and mounts.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::pod::{Pod, once, serve};
use crate::process::{poll, seconds};
use crate::world::{World, container};
use crate::{Case, case};

/// A pod of one container that does `script` and then waits.
fn one(script: &str) -> Pod {
    Pod::new("p", "Always").app("a", &format!("{script}; {}", serve("0", 0)))
}

/// Waits until the container waits for this reason, and gives the message.
#[track_caller]
fn waiting(world: &World, reason: &str) -> String {
    let pod = world.wait("p", reason, |pod| container(pod, "a")["state"]["waiting"]["reason"] == reason);
    assert_eq!(pod["status"]["phase"], "Pending");
    container(&pod, "a")["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned()
}

/// What the namespace links of the pod's container and of ours are.
fn namespace(world: &World, name: &str) -> (String, String) {
    let ours = fs::read_link(format!("/proc/self/ns/{name}")).expect("our own").display().to_string();
    (world.exec("p", "a", &["readlink", &format!("/proc/self/ns/{name}")]).ok().trim().to_owned(), ours)
}

#[track_caller]
fn rejected(world: &World, reason: &str, message: &str) {
    let pod = world.wait_phase("p", "Failed");
    let status = &pod["status"];
    assert_eq!((&status["reason"], &status["message"]), (&json!(reason), &json!(format!("Pod was rejected: {message}"))));
    assert_eq!((&status["conditions"], &status["containerStatuses"], &status["podIP"]), (&Value::Null, &Value::Null, &Value::Null));
    let row = world.row("p");
    assert_eq!((row.ready.as_str(), row.status.as_str()), ("0/1", reason));
    let events = world.minipod(&["get", "events"]).ok();
    assert!(events.lines().any(|line| line.contains(reason) && line.contains(message)), "{events}");
}

pub const CASES: &[Case] = &[
    case("SEC-01", |world| {
        let pod = Pod::new("p", "Never")
            .spec("securityContext", json!({ "runAsUser": 1000, "runAsGroup": 2000, "supplementalGroups": [3000], "fsGroup": 4000 }))
            .app("a", "id >/story/a")
            .app("b", "id >/story/b")
            .with("b", "securityContext", json!({ "runAsUser": 1001, "runAsGroup": 2001 }))
            .app("c", "id >/story/c")
            .with("c", "securityContext", json!({ "runAsUser": 0 }));
        world.apply(&pod);
        world.wait_phase("p", "Succeeded");
        let id = |name: &str| world.written(name).split(['(', ')']).enumerate().filter(|(at, _)| at % 2 == 0).map(|(_, part)| part).collect::<String>();
        assert_eq!(id("a"), "uid=1000 gid=2000 groups=2000,3000,4000\n");
        assert_eq!(id("b"), "uid=1001 gid=2001 groups=2001,3000,4000\n");
        assert!(id("c").starts_with("uid=0 gid=2000 groups=2000,"), "{}", id("c"));
    }),
    case("SEC-02", |world| {
        world.apply(&one("true").spec("securityContext", json!({ "runAsNonRoot": true })));
        let message = waiting(world, "CreateContainerConfigError");
        assert!(message.starts_with("container has runAsNonRoot and image will run as root (pod: \"p_default("), "{message}");
        assert!(message.ends_with(", container: a)"), "{message}");
        world.delete("p");
        world.apply(&one("true").with("a", "securityContext", json!({ "runAsNonRoot": true, "runAsUser": 0 })));
        assert!(waiting(world, "CreateContainerConfigError").starts_with("container's runAsUser breaks non-root policy (pod: "));
        world.delete("p");
        world.apply(&one("true").with("a", "securityContext", json!({ "runAsNonRoot": true, "runAsUser": 1000 })));
        world.wait_ready("p");
        assert_eq!(world.exec("p", "a", &["id", "-u"]).ok(), "1000\n");
    }),
    case("SEC-03", |world| {
        world.apply(&one("true").with("a", "securityContext", json!({ "privileged": true, "seccompProfile": { "type": "RuntimeDefault" } })));
        world.wait_ready("p");
        let status = world.exec("p", "a", &["grep", "-E", "^(CapBnd|CapEff|Seccomp|NoNewPrivs):", "/proc/1/status"]).ok();
        let ours = fs::read_to_string("/proc/self/status").expect("our own");
        let full = ours.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("every kernel tells").trim();
        for line in [format!("CapBnd:\t{full}"), format!("CapEff:\t{full}"), "Seccomp:\t0".into(), "NoNewPrivs:\t0".into()] {
            assert!(status.lines().any(|found| found == line), "{line:?} not in {status}");
        }
        // The machine's devices are there and open; nothing of /proc is masked or read-only, /sys is writable.
        world.exec("p", "a", &["sh", "-c", "[ -c /dev/kmsg ] && head -c 1 </dev/kmsg >/dev/null"]).ok();
        let mounts = world.exec("p", "a", &["cat", "/proc/self/mounts"]).ok();
        let of = |at: &str| mounts.lines().filter(|line| line.split(' ').nth(1) == Some(at)).map(str::to_owned).collect::<Vec<_>>();
        assert!(of("/sys")[0].contains(" rw,") && of("/sys/fs/cgroup")[0].contains(" rw,"), "{mounts}");
        assert!(of("/proc/sys").is_empty() && of("/proc/kcore").is_empty(), "{mounts}");
        let (theirs, ours) = namespace(world, "cgroup");
        assert_eq!(theirs, ours, "a privileged container sees the host's cgroups");
        // An ordinary one has none of it.
        world.apply(&Pod::new("q", "Always").app("a", &serve("0", 0)));
        world.wait_ready("q");
        assert_ne!(world.exec("q", "a", &["sh", "-c", "mknod /tmp/kmsg c 1 11 && head -c 1 </tmp/kmsg"]).code, 0);
    }),
    case("SEC-04", |world| {
        let make = "cp $(command -v bash) /v/bash && chmod 4755 /v/bash";
        let look = |name: &str| format!("/v/bash -p -c 'echo $EUID' >/story/{name}; grep NoNewPrivs /proc/self/status >>/story/{name}");
        let pod = Pod::new("p", "Never")
            .init("i", make)
            .with("i", "image", json!("toolbox"))
            .app("kept", &look("kept"))
            .with("kept", "image", json!("toolbox"))
            .with("kept", "securityContext", json!({ "runAsUser": 1000, "allowPrivilegeEscalation": false }))
            .app("free", &look("free"))
            .with("free", "image", json!("toolbox"))
            .with("free", "securityContext", json!({ "runAsUser": 1000 }))
            .volume("v", json!({ "emptyDir": {} }), &[("i", "/v"), ("kept", "/v"), ("free", "/v")]);
        world.apply(&pod);
        world.wait_phase("p", "Succeeded");
        assert_eq!(world.written("kept"), "1000\nNoNewPrivs:\t1\n");
        assert_eq!(world.written("free"), "0\nNoNewPrivs:\t0\n");
    }),
    case("SEC-05", |world| {
        let script = "echo x >/no 2>/dev/null || echo root >>/story/said; echo x >/v/yes && echo x >/dev/shm/yes && echo volumes >>/story/said; \
                      [ -s /proc/kcore ] || echo kcore >>/story/said; echo x >/proc/sys/kernel/hostname 2>/dev/null || echo sys >>/story/said; \
                      echo end >>/story/said";
        let pod = one(script).with("a", "securityContext", json!({ "readOnlyRootFilesystem": true }));
        world.apply(&pod.volume("v", json!({ "emptyDir": {} }), &[("a", "/v")]));
        world.wait_ready("p");
        let said = poll(seconds(20), || Some(world.written("said")).filter(|said| said.ends_with("end\n"))).expect("the script ends");
        assert_eq!(said, "root\nvolumes\nkcore\nsys\nend\n");
    }),
    case("SEC-06", |world| {
        let profiles = world.root().join("lib/seccomp");
        fs::create_dir_all(&profiles).expect("our own directory");
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":122}]}"#;
        fs::write(profiles.join("no-mkdir.json"), profile).expect("our own directory");
        let pod = Pod::new("p", "Always")
            .spec("securityContext", json!({ "seccompProfile": { "type": "RuntimeDefault" } }))
            .app("a", &serve("0", 0))
            .app("kept", &serve("0", 0))
            .with("kept", "securityContext", json!({ "allowPrivilegeEscalation": false, "runAsUser": 1000 }))
            .app("local", &serve("0", 0))
            .with("local", "securityContext", json!({ "seccompProfile": { "type": "Localhost", "localhostProfile": "no-mkdir.json" } }))
            .app("free", &serve("0", 0))
            .with("free", "securityContext", json!({ "seccompProfile": { "type": "Unconfined" } }));
        world.apply(&pod);
        world.wait_ready("p");
        let modes = |name: &str| world.exec("p", name, &["sh", "-c", "cat /proc/1/status /proc/self/status | grep Seccomp: | cut -f 2 | tr -d '\\n'"]).ok();
        for (name, mode) in [("a", "22"), ("kept", "22"), ("local", "22"), ("free", "00")] {
            assert_eq!(modes(name), mode, "main process and exec of {name}");
        }
        world.exec("p", "a", &["unshare", "-U", "true"]).fails_with(&["Operation not permitted"]);
        world.exec("p", "free", &["unshare", "-U", "true"]).ok();
        world.exec("p", "local", &["mkdir", "/new"]).fails_with(&["Disk quota exceeded"]);
        let plan = world.minipod(&["explain", &world.manifest(&pod), "-c", "a"]).ok();
        assert!(plan.contains("filtering system calls (seccomp"), "{plan}");
        world.delete("p");
        let missing = json!({ "seccompProfile": { "type": "Localhost", "localhostProfile": "none.json" } });
        world.apply(&one("true").with("a", "securityContext", missing));
        let message = waiting(world, "CreateContainerError");
        let path = profiles.join("none.json").display().to_string();
        assert_eq!(message, format!("cannot load seccomp profile {path:?}: open {path}: no such file or directory"));
        fs::remove_dir_all(&profiles).expect("our own directory");
    }),
    case("SEC-08", |world| {
        let sysctls = json!([{ "name": "net/ipv4/tcp_syncookies", "value": "0" }, { "name": "net.ipv4.ip_local_port_range", "value": "2000 2100" },
            { "name": "kernel.shm_rmid_forced", "value": "1" }]);
        world.apply(&one("true").spec("securityContext", json!({ "sysctls": sysctls })));
        world.wait_ready("p");
        let read = ["cat", "/proc/sys/net/ipv4/tcp_syncookies", "/proc/sys/net/ipv4/ip_local_port_range", "/proc/sys/kernel/shm_rmid_forced"];
        assert_eq!(world.exec("p", "a", &read).ok(), "0\n2000\t2100\n1\n");
        assert_eq!(fs::read_to_string("/proc/sys/kernel/shm_rmid_forced").expect("every kernel has it"), "0\n", "the host's is another");
        world.delete("p");
        let forbidden =
            Pod::new("p", "Never").app("a", &once("0", 0)).spec("securityContext", json!({ "sysctls": [{ "name": "kernel.msgmax", "value": "1" }] }));
        world.apply(&forbidden);
        rejected(world, "SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted");
        world.assert_silent("never");
        world.delete("p");
        let done = world.minipod(&["run", &world.manifest(&forbidden)]);
        done.fails_with(&["forbidden sysctl: \"kernel.msgmax\" not allowlisted"]);
    }),
    case("SEC-09", |world| {
        if fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y')) {
            return;
        }
        world.apply(&Pod::new("p", "Never").app("a", &once("0", 0)).with("a", "securityContext", json!({ "appArmorProfile": { "type": "RuntimeDefault" } })));
        rejected(world, "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host");
    }),
    case("SHR-09", |world| {
        let pod = one("true").spec("hostPID", json!(true)).spec("hostIPC", json!(true));
        world.apply(&pod);
        world.wait_ready("p");
        for (name, shared) in [("pid", true), ("ipc", true), ("uts", false), ("net", false), ("mnt", false)] {
            let (theirs, ours) = namespace(world, name);
            assert_eq!(theirs == ours, shared, "{name}");
        }
        world.exec("p", "a", &["test", "-d", &format!("/proc/{}", std::process::id())]).ok();
        let name = format!("/dev/shm/minipod-case-{}", std::process::id());
        world.exec("p", "a", &["sh", "-c", &format!("echo here >{name}")]).ok();
        assert_eq!(fs::read_to_string(&name).expect("/dev/shm is the host's"), "here\n");
        fs::remove_file(&name).expect("it was there");
    }),
    case("VOL-F1", |world| {
        let script = "stat -c '%a %g' /v /m /m/new >/story/said; umask 0; touch /v/file; stat -c '%g' /v/file >>/story/said; id -G >>/story/said";
        let pod = Pod::new("p", "Never")
            .spec("securityContext", json!({ "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 123, "fsGroupChangePolicy": "OnRootMismatch" }))
            .app("a", script)
            .volume("v", json!({ "emptyDir": {} }), &[("a", "/v")])
            .volume("m", json!({ "emptyDir": { "medium": "Memory" } }), &[("a", "/m")]);
        let mut object: Value = serde_json::from_str(&pod.manifest(&world.path("story").display().to_string())).expect("made from JSON");
        let mounts = object["spec"]["containers"][0]["volumeMounts"].as_array_mut().expect("made as an array");
        mounts.push(json!({ "name": "m", "mountPath": "/m/new", "subPath": "new" }));
        let file = world.file(&object.to_string());
        world.minipod(&["apply", "-f", &file]).ok();
        world.wait_phase("p", "Succeeded");
        assert_eq!(world.written("said"), "2777 123\n3777 123\n3777 123\n123\n1000 123\n");
    }),
    case("VOL-12", |world| {
        let host = world.path("host");
        for name in ["to", "both", "none"] {
            fs::create_dir_all(host.join(name)).expect("our own directory");
        }
        let path = |name: &str| host.join(name).display().to_string();
        let volume = |name: &str| json!({ "hostPath": { "path": path(name), "type": "Directory" } });
        let mount = |name: &str, propagation: &str| json!({ "name": name, "mountPath": format!("/{name}"), "mountPropagation": propagation });
        let story = json!({ "name": "story", "mountPath": "/story" });
        let with =
            |name: &str, propagation: &str| one("true").volume(name, volume(name), &[]).with("a", "volumeMounts", json!([story, mount(name, propagation)]));
        // Nothing is shared on this host yet: it is said, and not passed over.
        world.apply(&with("to", "HostToContainer"));
        let message = waiting(world, "CreateContainerError");
        assert!(
            message.starts_with(&format!("path {:?} is mounted on ", path("to"))) && message.ends_with("but it is not a shared or slave mount"),
            "{message}"
        );
        world.delete("p");

        world.tool("mount", &["--bind", &host.display().to_string(), &host.display().to_string()]).ok();
        world.tool("mount", &["--make-rshared", &host.display().to_string()]).ok();
        let pod = Pod::new("p", "Always")
            .app("a", &serve("0", 0))
            .with("a", "securityContext", json!({ "privileged": true }))
            .with(
                "a",
                "volumeMounts",
                json!([story, mount("to", "HostToContainer"), mount("both", "Bidirectional"), mount("none", "None"), mount("v", "Bidirectional")]),
            )
            .app("b", &serve("0", 0))
            .with("b", "volumeMounts", json!([story, mount("v", "HostToContainer"), mount("both", "HostToContainer")]))
            .volume("v", json!({ "emptyDir": {} }), &[])
            .volume("to", volume("to"), &[])
            .volume("both", volume("both"), &[])
            .volume("none", volume("none"), &[]);
        world.apply(&pod);
        world.wait_ready("p");
        for name in ["to", "both", "none"] {
            fs::create_dir(host.join(name).join("late")).expect("our own directory");
            world.tool("mount", &["-t", "tmpfs", "late", &host.join(name).join("late").display().to_string()]).ok();
        }
        let sees = |container: &str, at: &str| world.exec("p", container, &["grep", "-q", &format!(" {at} "), "/proc/self/mounts"]).code == 0;
        assert!(sees("a", "/to/late") && sees("a", "/both/late") && sees("b", "/both/late"));
        assert!(!sees("a", "/none/late"), "None sees a later mount");
        // What the container mounts is seen by the host, and by the other container.
        world.exec("p", "a", &["sh", "-c", "mkdir /both/inner /v/inner && mount -t tmpfs inner /both/inner && mount -t tmpfs inner /v/inner"]).ok();
        let table = world.tool("cat", &["/proc/self/mountinfo"]).ok();
        assert!(table.contains(&format!("{} ", host.join("both/inner").display())), "{table}");
        assert!(sees("b", "/both/inner") && sees("b", "/v/inner"));
        // HostToContainer is one way.
        world.exec("p", "a", &["sh", "-c", "mkdir /to/inner && mount -t tmpfs inner /to/inner"]).ok();
        assert!(!world.tool("cat", &["/proc/self/mountinfo"]).ok().contains(&format!("{} ", host.join("to/inner").display())));
        world.delete("p");
        let table = world.tool("cat", &["/proc/self/mountinfo"]).ok();
        for name in ["to/late", "both/late", "none/late", "both/inner"] {
            assert!(table.contains(&format!("{} ", host.join(name).display())), "the host's {name} went with the pod:\n{table}");
        }
        world.tool("umount", &["-R", &host.display().to_string()]).ok();
    }),
    case("VOL-R1", |world| {
        let host = world.path("host");
        fs::create_dir_all(host.join("deep")).expect("our own directory");
        world.tool("mount", &["-t", "tmpfs", "deep", &host.join("deep").display().to_string()]).ok();
        let mount = |path: &str, recursive: &str| json!({ "name": "v", "mountPath": path, "readOnly": true, "recursiveReadOnly": recursive });
        let pod = one("true").volume("v", json!({ "hostPath": { "path": host.display().to_string() } }), &[]).with(
            "a",
            "volumeMounts",
            json!([{ "name": "story", "mountPath": "/story" }, mount("/top", "Disabled"), mount("/all", "Enabled")]),
        );
        world.apply(&pod);
        world.wait_ready("p");
        world.exec("p", "a", &["touch", "/top/x"]).fails_with(&["Read-only file system"]);
        world.exec("p", "a", &["touch", "/top/deep/x"]).ok();
        world.exec("p", "a", &["touch", "/all/deep/y"]).fails_with(&["Read-only file system"]);
        world.delete("p");
        assert!(!Path::new("/all").exists() && world.tool("umount", &[&host.join("deep").display().to_string()]).code == 0);
    }),
];
