//! Limits, in whichever cgroup version has the controller.

use std::fs;

use serde_json::json;

use crate::Case;
use crate::inits::exit;
use crate::left;
use crate::pod::{Pod, once, serve};
use crate::world::World;

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
];
