//! Limits, in whichever cgroup version has the controller.

use std::fs;

use serde_json::json;

use crate::inits::exit;
use crate::left;
use crate::pod::{Pod, once, serve};
use crate::world::{World, container};
use crate::{Case, case, needs};

/// All values of a cgroup file beneath the world's cgroup.
pub fn values(world: &World, file: &str) -> Vec<String> {
    left::cgroups(world.cgroup()).iter().filter_map(|dir| fs::read_to_string(dir.join(file)).ok()).map(|text| text.trim().to_owned()).collect()
}

pub const CASES: &[Case] = &[
    Case {
        id: "RES-01",
        needs: &["cgroup.memory", "cgroup.cpu"],
        run: |world| {
            let resources = json!({ "requests": { "cpu": "250m", "memory": "64Mi" }, "limits": { "cpu": "500m", "memory": "64Mi" } });
            world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)).with("a", "resources", resources));
            world.wait_ready("p");
            let memory = [values(world, "memory.max"), values(world, "memory.limit_in_bytes")].concat();
            assert!(memory.iter().any(|v| v == "67108864"), "{memory:?}");
            let cpu = [values(world, "cpu.max"), values(world, "cpu.cfs_quota_us")].concat();
            assert!(cpu.iter().any(|v| v == "50000 100000" || v == "50000"), "{cpu:?}");
            let weight = [values(world, "cpu.weight"), values(world, "cpu.shares")].concat();
            assert!(weight.iter().any(|v| v == "35" || v == "256"), "{weight:?}");
        },
    },
    Case {
        id: "RES-03",
        needs: &["cgroup.memory", "cgroup.cpu"],
        run: |world| {
            // The pod as a whole is limited; a container without a limit of its own has the pod's.
            let whole = json!({ "requests": { "memory": "96Mi" }, "limits": { "cpu": "500m", "memory": "128Mi" } });
            let pod = Pod::new("p", "Always").spec("resources", whole);
            let tell = "echo $LIMIT >/story/limit; cat /proc/self/oom_score_adj >/story/score; ";
            let limit = json!([{ "name": "LIMIT", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory", "divisor": "1Mi" } } }]);
            let pod = pod.app("a", &(tell.to_owned() + &serve("0", 0))).with("a", "env", limit).app("b", &serve("0", 0));
            world.apply(&pod.with("b", "resources", json!({ "limits": { "memory": "32Mi" } })));
            let pod = world.wait_ready("p");
            assert_eq!(pod["status"]["qosClass"], "Burstable");
            let asked = &pod["spec"]["resources"]["requests"];
            assert_eq!((&asked["memory"], &asked["cpu"]), (&json!("96Mi"), &json!("500m")), "the cpu limit is the request, too");
            let memory = [values(world, "memory.max"), values(world, "memory.limit_in_bytes")].concat();
            let count = |bytes: u64| memory.iter().filter(|v| **v == bytes.to_string()).count();
            assert_eq!((count(128 << 20), count(32 << 20)), (2, 1), "{memory:?}");
            assert_eq!(world.written("limit"), "128\n");
            // (96 - 32) Mi over two containers are 32 Mi each.
            let meminfo = fs::read_to_string("/proc/meminfo").expect("every Linux has it");
            let total: u64 = meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("MemTotal comes first");
            assert_eq!(world.written("score"), format!("{}\n", (1000 - (32 << 10) * 1000 / total).clamp(3, 999)));
        },
    },
    case("RES-02", |world| {
        // The class, and how willingly the kernel kills each container when memory runs out.
        let amounts = |text: &str| -> serde_json::Value {
            text.split_whitespace().map(|pair| pair.split_once('=').expect("NAME=AMOUNT")).map(|(name, amount)| (name.to_owned(), json!(amount))).collect()
        };
        let resources = |requests: &str, limits: &str| json!({ "requests": amounts(requests), "limits": amounts(limits) });
        let say = |name: &str| format!("cat /proc/self/oom_score_adj >/story/{name}; {}", serve("0", 0));
        let meminfo = fs::read_to_string("/proc/meminfo").expect("every Linux has it");
        let bytes = meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("MemTotal comes first") * 1024;
        let score = |mebibytes: u64| (1000 - (mebibytes << 20) * 1000 / bytes).clamp(3, 999).to_string();
        for (name, sidecar, app, class, scores) in [
            ("best", resources("", ""), resources("", ""), "BestEffort", ["1000".to_owned(), "1000".to_owned()]),
            ("part", resources("", "cpu=10m memory=32Mi"), resources("", "memory=32Mi"), "Burstable", [score(32), score(32)]),
            ("less", resources("memory=8Mi", ""), resources("memory=300Mi", ""), "Burstable", [score(300), score(300)]),
            ("cpu", resources("", ""), resources("cpu=10m", ""), "Burstable", ["999".to_owned(), "999".to_owned()]),
        ] {
            let pod = Pod::new(name, "Always").sidecar("s", &say(&format!("{name}.s"))).app("a", &say(&format!("{name}.a")));
            world.apply_with(&pod.with("s", "resources", sidecar).with("a", "resources", app), &["--allow-unenforced"]);
            let pod = world.wait_ready(name);
            assert_eq!(pod["status"]["qosClass"], class, "{name}");
            let found = ["s", "a"].map(|container| world.written(&format!("{name}.{container}")).trim().to_owned());
            assert_eq!(found, scores, "{name}");
            world.minipod(&["delete", "pod", name, "--now"]).ok();
        }
    }),
    Case {
        id: "RES-04",
        needs: &["cgroup.memory", "cgroup.cpu", "oom_score_adj"],
        run: |world| {
            let limits = json!({ "limits": { "cpu": "10m", "memory": "32Mi" } });
            let say = format!("cat /proc/self/oom_score_adj >/story/score; {}", serve("0", 0));
            world.apply(&Pod::new("p", "Always").sidecar("s", &serve("0", 0)).app("a", &say).with("s", "resources", limits.clone()).with(
                "a",
                "resources",
                limits,
            ));
            assert_eq!(world.wait_ready("p")["status"]["qosClass"], "Guaranteed");
            assert_eq!(world.written("score"), "-997\n");
        },
    },
    case("MSG-01", |world| {
        let ends = |name: &str, script: &str, changes: &[(&str, serde_json::Value)]| {
            let pod = changes.iter().fold(Pod::new(name, "Never").app("a", script), |pod, (field, value)| pod.with("a", field, value.clone()));
            world.apply(&pod);
            let pod = world.wait(name, "its end", |pod| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")));
            container(&pod, "a")["state"]["terminated"]["message"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(ends("file", "printf words >/dev/termination-log", &[]), "words");
        let path = [("terminationMessagePath", json!("/tmp/last")), ("securityContext", json!({ "runAsUser": 1000 }))];
        assert_eq!(ends("path", "printf mine >/tmp/last; exit 1", &path), "mine", "also without root");
        let long = "head -c 5000 /dev/zero | tr '\\0' x >/dev/termination-log; printf end >>/dev/termination-log";
        assert_eq!(ends("long", long, &[]), format!("{}end", "x".repeat(4093)), "the last 4096 bytes");
        let logs = [("terminationMessagePolicy", json!("FallbackToLogsOnError"))];
        let lines = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; exit 1";
        assert_eq!(ends("lines", lines, &logs), (20..100).map(|n| format!("line {n}\n")).collect::<String>(), "the last 80 lines");
        let wide = "head -c 3000 /dev/zero | tr '\\0' y; exit 1";
        assert_eq!(ends("wide", wide, &logs), "y".repeat(2048), "at most 2048 bytes of the log");
        assert_eq!(ends("good", "echo all is well", &logs), "", "not after success");
        assert_eq!(ends("both", "echo log; printf file >/dev/termination-log; exit 1", &logs), "file", "the file wins");
    }),
    Case {
        id: "INI-08",
        needs: &["cgroup.memory"],
        run: |world| {
            // The shell keeps what it reads: no child is the victim.
            let greedy = "say Starting; x=$(head -c 60000000 /dev/zero | tr '\\0' x); say Survived";
            let limits = json!({ "limits": { "memory": "20Mi" } });
            world.apply(&Pod::new("p", "Never").init("i", greedy).with("i", "resources", limits).app("a", &once("0", 0)));
            let pod = world.wait_phase("p", "Failed");
            assert_eq!(exit(&pod, "i"), (json!(137), json!("OOMKilled")));
            assert_eq!(world.row("p").status, "Init:OOMKilled");
            world.assert_silent("a");
            assert!(world.moments("i Survived").is_empty());
        },
    },
    Case {
        id: "RES-H1",
        needs: &["cgroup.hugetlb", "hugepages"],
        run: |world| {
            let _pages = needs::Reserved::pages(4).expect("they could be reserved before");
            let resources = |amount: &str| json!({ "limits": { "cpu": "1", "hugepages-2Mi": amount } });
            let limit = json!([{ "name": "LIMIT", "valueFrom": { "resourceFieldRef": { "resource": "limits.hugepages-2Mi", "divisor": "1Mi" } } }]);
            let stay = serve("0", 0);
            let pod = Pod::new("p", "Always").app("a", &format!("echo $LIMIT >/story/limit; {stay}")).app("b", &stay).app("none", &stay);
            let pod = pod.with("a", "resources", resources("2Mi")).with("a", "env", limit).with("b", "resources", resources("4Mi"));
            let pod = pod.with("b", "securityContext", json!({ "runAsUser": 1000 }));
            world.apply(&pod.volume("h", json!({ "emptyDir": { "medium": "HugePages" } }), &[("a", "/h"), ("b", "/h"), ("none", "/h")]));
            world.wait_ready("p");
            assert_eq!(world.written("limit"), "2\n");
            // fallocate(2) takes the pages at once, and writes none.
            let take = |container: &str, size: &str| world.exec("p", container, &["fallocate", "-l", size, &format!("/h/{container}")]).code;
            assert_ne!(take("none", "2M"), 0, "who asks for none gets none");
            assert_eq!(take("a", "2M"), 0);
            assert_ne!(take("a", "4M"), 0, "the limit of the container");
            assert_eq!(take("b", "4M"), 0, "all users may write, and each container has its own");
            assert_eq!(world.exec("p", "none", &["stat", "-c", "%s %b", "/h/b"]).ok(), "4194304 8192\n");
            let all = ["hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"].map(|file| values(world, file)).concat();
            assert!(["0", "2097152", "4194304", "6291456"].iter().all(|bytes| all.iter().any(|v| v == bytes)), "{all:?}");
            // A page that is promised is not promised again.
            let late = || Pod::new("late", "Never").app("a", &once("0", 0)).with("a", "resources", resources("4Mi"));
            world.apply(&late());
            let refused = world.wait_phase("late", "Failed");
            assert_eq!(refused["status"]["reason"], "OutOfhugepages-2Mi");
            world.delete("late");
            world.delete("p");
            world.apply(&late());
            world.wait_phase("late", "Succeeded");
            world.delete("late");
        },
    },
    case("RES-H2", |world| {
        // More than any machine has, and a size that none has.
        for (resource, amount, bytes) in [("hugepages-2Mi", "1Pi", 1u64 << 50), ("hugepages-6Mi", "6Mi", 6 << 20)] {
            let pod = Pod::new("p", "Always").app("a", &serve("0", 0)).volume("h", json!({ "emptyDir": { "medium": "HugePages" } }), &[("a", "/h")]);
            world.apply(&pod.with("a", "resources", json!({ "limits": { "memory": "16Mi", resource: amount } })));
            let pod = world.wait_phase("p", "Failed");
            assert_eq!(pod["status"]["reason"], format!("OutOf{resource}"));
            let message = pod["status"]["message"].as_str().unwrap_or_default();
            let words = format!("Pod was rejected: Node didn't have enough resource: {resource}, requested: {bytes}, used: ");
            assert!(message.starts_with(&words), "{message}");
            assert_eq!(world.row("p").status, format!("OutOf{resource}"));
            world.assert_silent("a");
            assert!(left::cgroups(world.cgroup()).is_empty(), "nothing of it was made");
            world.delete("p");
        }
    }),
];
