//! Limits, in whichever cgroup version has the controller.

use std::fs;

use serde_json::json;

use crate::Case;
use crate::inits::exit;
use crate::left;
use crate::pod::{Pod, once, serve};
use crate::world::World;

/// All values of a cgroup file beneath the world's cgroup.
fn values(world: &World, file: &str) -> Vec<String> {
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
