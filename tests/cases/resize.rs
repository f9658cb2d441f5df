//! Other cpu and memory for containers that run (§23), in whichever cgroup version has the controllers.

use serde_json::{Value, json};

use crate::Case;
use crate::limits::values;
use crate::pod::{Pod, await_file, serve};
use crate::process::{poll, seconds};
use crate::world::{World, condition, container, restarts};

const NEEDS: &[&str] = &["cgroup.memory", "cgroup.cpu"];

fn resources(requests: (&str, &str), limits: (&str, &str)) -> Value {
    json!({ "requests": { "cpu": requests.0, "memory": requests.1 }, "limits": { "cpu": limits.0, "memory": limits.1 } })
}

/// All memory limits in force, in bytes, with the pod's own first; none is left out.
fn memory_limits(world: &World) -> Vec<u64> {
    let told = [values(world, "memory.max"), values(world, "memory.limit_in_bytes")].concat();
    // v1 says "no limit" by a number that no machine has.
    let mut limits: Vec<u64> = told.iter().filter_map(|text| text.parse().ok()).filter(|limit| *limit < 1 << 60).collect();
    limits.dedup();
    limits
}

fn quotas(world: &World) -> Vec<String> {
    let told = [values(world, "cpu.max"), values(world, "cpu.cfs_quota_us")].concat();
    told.iter().filter_map(|text| text.split(' ').next()).filter(|quota| *quota != "max" && *quota != "-1").map(str::to_owned).collect()
}

fn wait_resized(world: &World) -> Value {
    world.wait("p", "the end of the resize", |pod| condition(pod, "PodResizeInProgress").is_null() && pod["status"]["observedGeneration"] == 2)
}

pub const CASES: &[Case] = &[
    Case {
        id: "RSZ-01",
        needs: NEEDS,
        run: |world| {
            // Up and down again, of a container that goes on; the pod's own cgroup follows.
            world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)).with("a", "resources", resources(("100m", "32Mi"), ("200m", "64Mi"))));
            world.wait_ready("p");
            assert_eq!(world.minipod(&["resize", "p", "--limits", "cpu=500m,memory=128Mi", "--requests", "cpu=250m"]).ok(), "pod/p resized\n");
            let pod = wait_resized(world);
            assert_eq!((restarts(&pod, "a"), world.moments("a Started").len()), (0, 1));
            let should = resources(("250m", "32Mi"), ("500m", "128Mi"));
            assert_eq!((&container(&pod, "a")["resources"], &pod["spec"]["containers"][0]["resources"]), (&should, &should));
            assert_eq!(container(&pod, "a")["allocatedResources"], should["requests"]);
            assert_eq!((memory_limits(world), quotas(world)), (vec![128 << 20], vec!["50000".to_owned(); 2]));
            let weight = [values(world, "cpu.weight"), values(world, "cpu.shares")].concat();
            assert!(weight.iter().any(|v| v == "35" || v == "256"), "{weight:?}");
            world.minipod(&["resize", "pod/p", "-c", "a", "--limits", "memory=48Mi,cpu=300m"]).ok();
            world.wait("p", "the second resize", |pod| container(pod, "a")["resources"]["limits"]["memory"] == "48Mi");
            assert_eq!((memory_limits(world), quotas(world)), (vec![48 << 20], vec!["30000".to_owned(); 2]));
            let events = world.minipod(&["get", "events"]).ok();
            assert!(events.contains("ResizeStarted") && events.contains("ResizeCompleted"), "{events}");
        },
    },
    Case {
        id: "RSZ-02",
        needs: NEEDS,
        run: |world| {
            // RestartContainer: at once, without a back-off, as a restart; a neighbour goes on. A later start has the same limits.
            let policy = json!([{ "resourceName": "memory", "restartPolicy": "RestartContainer" }]);
            let pod = Pod::new("p", "Always").app("a", &serve("0", 0)).app("b", &serve("0", 0));
            let pod = pod.with("a", "resources", resources(("100m", "32Mi"), ("200m", "64Mi"))).with("a", "resizePolicy", policy);
            world.apply(&pod);
            world.wait_ready("p");
            world.minipod(&["resize", "p", "-c", "a", "--limits", "cpu=300m"]).ok();
            assert_eq!(restarts(&wait_resized(world), "a"), 0, "only memory needs a restart");
            world.minipod(&["resize", "p", "-c", "a", "--limits", "memory=96Mi"]).ok();
            let pod = world.wait("p", "the restart", |pod| restarts(pod, "a") == 1 && container(pod, "a")["ready"] == true);
            assert_eq!(restarts(&pod, "b"), 0);
            assert_eq!(container(&pod, "a")["resources"]["limits"]["memory"], "96Mi");
            assert_eq!(memory_limits(world), [96 << 20]);
            world.wait("p", "the end of the resize", |pod| condition(pod, "PodResizeInProgress").is_null());
            assert!(world.minipod(&["get", "events"]).ok().contains("Container a resize requires restart"));
            world.exec("p", "a", &["kill", "-TERM", "1"]).ok();
            world.wait("p", "a restart of its own", |pod| restarts(pod, "a") == 2 && container(pod, "a")["ready"] == true);
            assert_eq!(memory_limits(world), [96 << 20]);
        },
    },
    Case {
        id: "RSZ-03",
        needs: NEEDS,
        run: |world| {
            // What may not be is refused whole, in the API server's words.
            world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)).with("a", "resources", resources(("100m", "32Mi"), ("200m", "64Mi"))));
            world.wait_ready("p");
            let at = "The Pod \"p\" is invalid: spec.containers[0].resources";
            for (words, why) in [
                (["--limits", "cpu=200m,memory=32Mi", "--requests", "cpu=200m"], "Pod QOS Class may not change as a result of resizing"),
                (
                    ["--limits", "cpu=50m", "--requests", "memory=16Mi"],
                    &*format!("{at}.requests: Invalid value: \"100m\": must be less than or equal to cpu limit of 50m"),
                ),
                (["--limits", "memory=0", "--requests", "cpu=100m"], &*format!("{at}.limits: Forbidden: resource limits cannot be removed")),
                (["--limits", "memory=1Gb", "--requests", "cpu=100m"], &*format!("{at}.limits[memory]: Invalid value: \"1Gb\": quantities must match")),
                (["--limits", "pids=5", "--requests", "cpu=100m"], &*format!("{at}.limits[pids]: Forbidden: only cpu and memory resources are mutable")),
                (["--limits", "cpu=9000", "--requests", "cpu=9000"], "Infeasible: Node didn't have enough capacity: cpu, requested: 9000000, capacity: "),
            ] {
                let done = world.minipod(&[&["resize", "p"], &words[..]].concat());
                assert!(done.code == 1 && done.err.contains(why), "{words:?}: {}", done.err);
            }
            let done = world.minipod(&["resize", "p", "-c", "none", "--limits", "cpu=1"]);
            assert!(done.err.contains("container \"none\" is not one of the pod's"), "{}", done.err);
            let pod = world.get("p");
            assert_eq!((&pod["metadata"]["generation"], &pod["spec"]["containers"][0]["resources"]["limits"]["cpu"]), (&json!(1), &json!("200m")));
        },
    },
    Case {
        id: "RSZ-04",
        needs: NEEDS,
        run: |world| {
            // Less than it uses is not set before it uses less: nothing is killed.
            let greedy = format!("x=$(head -c 40000000 /dev/zero | tr '\\0' x); say Full; {}; unset x; say Empty; exec sleep 100000", await_file("go"));
            world.apply(&Pod::new("p", "Always").app("a", &greedy).with("a", "resources", resources(("100m", "32Mi"), ("200m", "256Mi"))));
            world.wait_story("a Full");
            world.minipod(&["resize", "p", "--limits", "memory=34Mi"]).ok();
            let failing = |pod: &Value| condition(pod, "PodResizeInProgress")["reason"] == "Error";
            let pod = world.wait("p", "the condition", failing);
            let message = condition(&pod, "PodResizeInProgress")["message"].as_str().unwrap_or_default().to_owned();
            assert!(message.starts_with("attempting to set container \"a\" memory limit (35651584) below current usage ("), "{message}");
            assert_eq!(container(&pod, "a")["resources"]["limits"]["memory"], "256Mi");
            assert_eq!(memory_limits(world), [256 << 20]);
            world.touch("go");
            let pod = wait_resized(world);
            assert_eq!((restarts(&pod, "a"), &container(&pod, "a")["resources"]["limits"]["memory"]), (0, &json!("34Mi")));
            assert!(poll(seconds(5), || (memory_limits(world) == [34 << 20]).then_some(())).is_some());
        },
    },
    Case {
        id: "RSZ-05",
        needs: NEEDS,
        run: |world| {
            // The pod as a whole: its cgroup, and those of containers that have no limit of their own.
            let whole = json!({ "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "cpu": "500m", "memory": "128Mi" } });
            let pod = Pod::new("p", "Always").app("a", &serve("0", 0)).app("b", &serve("0", 0)).spec("resources", whole.clone());
            world.apply(&pod.with("b", "resources", resources(("10m", "16Mi"), ("100m", "32Mi"))));
            let pod = world.wait_ready("p");
            assert_eq!((&pod["status"]["resources"], &pod["status"]["allocatedResources"]), (&whole, &whole["requests"]));
            world.minipod(&["resize", "p", "--pod", "--limits", "cpu=800m,memory=256Mi"]).ok();
            let pod = wait_resized(world);
            let should = json!({ "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "cpu": "800m", "memory": "256Mi" } });
            assert_eq!((&pod["status"]["resources"], &pod["spec"]["resources"]), (&should, &should));
            assert_eq!((restarts(&pod, "a"), restarts(&pod, "b")), (0, 0));
            let count =
                |bytes: u64| [values(world, "memory.max"), values(world, "memory.limit_in_bytes")].concat().iter().filter(|v| **v == bytes.to_string()).count();
            assert_eq!((count(256 << 20), count(128 << 20), count(32 << 20)), (2, 0, 1));
            assert_eq!(quotas(world).iter().filter(|quota| *quota == "80000").count(), 2, "{:?}", quotas(world));
            world
                .minipod(&["resize", "p", "--pod", "--requests", "memory=8Mi"])
                .fails_with(&["must be greater than or equal to aggregate container requests of 16Mi"]);
        },
    },
];
