//! From a pod's resources to numbers: limits, class and out-of-memory score. Pure.
//!
//! The rules are the kubelet's: `pkg/apis/core/v1/helper/qos`, `pkg/kubelet/qos/policy.go`, `pkg/kubelet/cm/helpers_linux.go` and
//! `component-helpers/resource` (effective requests), as of 1.36.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource;

use crate::manifest::huge_pages;
use crate::manifest::quantity::Quantity;

/// What one cgroup may use. `None` is no limit.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    /// Thousandths of a CPU, as in `500m`.
    pub cpu_quota_milli: Option<u64>,
    /// The cpu request as v1 shares, 2 to 262144. `None`: nothing was asked for, the least share will do.
    pub cpu_shares: Option<u64>,
    /// No field of a pod sets it (before 1.37); the kubelet has it as podPidsLimit.
    pub pids: Option<u64>,
    /// Bytes of huge pages by the size of a page, of each size that the pod asks for anywhere: a container that does not has 0 of it. Empty:
    /// the pod asks for none.
    pub huge_pages: BTreeMap<u64, u64>,
}

/// The pod's quality of service class, `status.qosClass`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl std::fmt::Display for Qos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// oom_score_adj of the pause, which must outlive its containers: the kubelet's `PodInfraOOMAdj`.
pub const PAUSE_OOM_SCORE_ADJ: i32 = -998;
const GUARANTEED_OOM_SCORE_ADJ: i32 = -997;
const BEST_EFFORT_OOM_SCORE_ADJ: i32 = 1000;

/// A resource that a cgroup of ours divides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resource<'a> {
    /// In thousandths.
    Cpu,
    /// In bytes.
    Memory,
    /// By its name, in bytes.
    HugePages(&'a str),
}

impl<'a> Resource<'a> {
    /// The amount in a list. What is no quantity, or below zero, was refused when the manifest was read.
    fn of(self, list: &Option<BTreeMap<String, resource::Quantity>>) -> Option<u64> {
        let (key, number): (_, fn(Quantity) -> i64) = match self {
            Resource::Cpu => ("cpu", Quantity::milli_cpus),
            Resource::Memory => ("memory", Quantity::bytes),
            Resource::HugePages(name) => (name, Quantity::bytes),
        };
        let amount = Quantity::parse(&list.as_ref()?.get(key)?.0).ok()?;
        u64::try_from(number(amount)).ok()
    }

    /// The request; one that is not written is the limit (SetDefaults_Pod).
    fn request(self, resources: &Option<ResourceRequirements>) -> Option<u64> {
        let resources = resources.as_ref()?;
        self.of(&resources.requests).or_else(|| self.of(&resources.limits))
    }

    /// The limit; zero is none.
    fn limit(self, resources: &Option<ResourceRequirements>) -> Option<u64> {
        self.of(&resources.as_ref()?.limits).filter(|limit| *limit > 0)
    }
}

/// Whether an init container stays for the life of the pod.
fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn inits(pod: &PodSpec) -> &[Container] {
    pod.init_containers.as_deref().unwrap_or_default()
}

fn all(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.containers.iter().chain(inits(pod))
}

/// The limits of one container of the pod. Where it has none, those of the pod as a whole hold for it too.
pub fn of_container(pod: &PodSpec, container: &Container) -> Limits {
    let limit = |resource: Resource<'_>| resource.limit(&container.resources).or_else(|| resource.limit(&pod.resources));
    Limits {
        memory_bytes: limit(Resource::Memory),
        cpu_quota_milli: limit(Resource::Cpu),
        cpu_shares: Resource::Cpu.request(&container.resources).map(shares),
        pids: None,
        huge_pages: huge_pages(pod, |name| limit(Resource::HugePages(name)).unwrap_or(0)),
    }
}

/// The sum over the resources that count pages of one size.
fn huge_pages(pod: &PodSpec, of: impl Fn(&str) -> u64) -> BTreeMap<u64, u64> {
    let mut all = BTreeMap::new();
    for (size, name) in huge_pages::resources(pod).into_iter().filter_map(|name| Some((huge_pages::page_size(name)?, name))) {
        let sum: &mut u64 = all.entry(size).or_default();
        *sum = sum.saturating_add(of(name));
    }
    all
}

/// The limits of the pod's own cgroup: a resource is limited only when the pod as a whole, or each of its containers, limits it.
pub fn of_pod(pod: &PodSpec) -> Limits {
    let with_overhead = |resource: Resource, amount: u64| amount.saturating_add(resource.of(&pod.overhead).unwrap_or(0));
    let limit = |resource: Resource| {
        let declared = || all(pod).all(|container| resource.limit(&container.resources).is_some());
        let amount = resource.limit(&pod.resources).or_else(|| declared().then(|| at_once(pod, resource, Resource::limit)));
        amount.map(|amount| with_overhead(resource, amount))
    };
    let cpu = Resource::Cpu;
    let asked = cpu.request(&pod.resources).is_some() || all(pod).any(|container| cpu.request(&container.resources).is_some());
    let request = || with_overhead(cpu, cpu.request(&pod.resources).unwrap_or_else(|| at_once(pod, cpu, Resource::request)));
    Limits {
        memory_bytes: limit(Resource::Memory),
        cpu_quota_milli: limit(cpu),
        cpu_shares: asked.then(|| shares(request())),
        pids: None,
        huge_pages: huge_pages(pod, |name| huge_pages::total(pod, name)),
    }
}

/// The most that runs at once: all apps and sidecars, or one init with the sidecars before it.
fn at_once<'a>(pod: &PodSpec, resource: Resource<'a>, part: fn(Resource<'a>, &Option<ResourceRequirements>) -> Option<u64>) -> u64 {
    let of = |container: &Container| part(resource, &container.resources).unwrap_or(0);
    let (mut sidecars, mut starting) = (0u64, 0u64);
    for init in inits(pod) {
        let together = sidecars.saturating_add(of(init));
        starting = starting.max(together);
        if is_sidecar(init) {
            sidecars = together;
        }
    }
    pod.containers.iter().fold(sidecars, |sum, container| sum.saturating_add(of(container))).max(starting)
}

/// Thousandths of a CPU to v1 shares: 1024 a CPU, within the kernel's bounds.
fn shares(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// The pod's class. Ephemeral containers do not count; resources of the pod as a whole decide alone.
pub fn qos_class(pod: &PodSpec) -> Qos {
    let whole = [&pod.resources];
    let each: Vec<_> = all(pod).map(|container| &container.resources).collect();
    let divided = |list: &Option<BTreeMap<String, resource::Quantity>>| list.iter().flatten().any(|(name, _)| matches!(name.as_str(), "cpu" | "memory"));
    let decides = pod.resources.as_ref().is_some_and(|resources| divided(&resources.requests) || divided(&resources.limits));
    let judged = if decides { &whole[..] } else { &each[..] };
    let of = |resources: &Option<ResourceRequirements>| {
        [Resource::Cpu, Resource::Memory].map(|resource| (resource.request(resources).filter(|request| *request > 0), resource.limit(resources)))
    };
    if judged.iter().all(|resources| of(resources) == [(None, None); 2]) {
        Qos::BestEffort
    } else if judged.iter().all(|resources| of(resources).iter().all(|(request, limit)| limit.is_some() && request == limit)) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// How willingly the kernel kills the container when memory runs out (proc_pid_oom_score_adj(5)); `node_memory` in bytes.
pub fn oom_score_adj(pod: &PodSpec, container: &Container, node_memory: u64) -> i32 {
    if pod.priority_class_name.as_deref() == Some("system-node-critical") {
        return GUARANTEED_OOM_SCORE_ADJ;
    }
    match qos_class(pod) {
        Qos::Guaranteed => return GUARANTEED_OOM_SCORE_ADJ,
        Qos::BestEffort => return BEST_EFFORT_OOM_SCORE_ADJ,
        Qos::Burstable => {}
    }
    let request = |container: &Container| Resource::Memory.request(&container.resources).unwrap_or(0);
    let stays = || pod.containers.iter().chain(inits(pod).iter().filter(|init| is_sidecar(init)));
    let rest = Resource::Memory
        .request(&pod.resources)
        .map_or(0, |whole| whole.saturating_sub(stays().map(request).fold(0, u64::saturating_add)) / stays().count().max(1) as u64);
    let score = |request: u64| 1000 - i128::from(request.saturating_add(rest)) * 1000 / i128::from(node_memory.max(1));
    let mut adj = score(request(container));
    // A sidecar is not killed before the least of the apps that it serves.
    if inits(pod).iter().any(|init| init.name == container.name && is_sidecar(init)) {
        adj = adj.min(score(pod.containers.iter().map(request).min().unwrap_or(0)));
    }
    // Between the other two classes: 3 is just above a guaranteed container that uses all the memory there is.
    adj.clamp(i128::from(1000 + GUARANTEED_OOM_SCORE_ADJ), i128::from(BEST_EFFORT_OOM_SCORE_ADJ - 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> PodSpec {
        serde_json::from_value(spec).unwrap()
    }

    fn container(name: &str, requests: &str, limits: &str) -> serde_json::Value {
        let list = |text: &str| -> serde_json::Map<String, serde_json::Value> {
            text.split_whitespace().map(|pair| pair.split_once('=').unwrap()).map(|(key, value)| (key.into(), value.into())).collect()
        };
        serde_json::json!({"name": name, "resources": {"requests": list(requests), "limits": list(limits)}})
    }

    fn apps(resources: &[(&str, &str)]) -> PodSpec {
        let containers: Vec<_> = resources.iter().enumerate().map(|(n, (requests, limits))| container(&format!("c{n}"), requests, limits)).collect();
        pod(serde_json::json!({"containers": containers}))
    }

    fn sidecar(name: &str, requests: &str, limits: &str) -> serde_json::Value {
        let mut value = container(name, requests, limits);
        value["restartPolicy"] = "Always".into();
        value
    }

    #[test]
    fn the_class_follows_requests_and_limits() {
        let table: &[(&[(&str, &str)], Qos)] = &[
            (&[("", "")], Qos::BestEffort),
            (&[("cpu=0", "memory=0")], Qos::BestEffort),
            (&[("", "ephemeral-storage=1Gi")], Qos::BestEffort),
            (&[("", "cpu=1 memory=1Gi")], Qos::Guaranteed),
            (&[("cpu=1000m memory=1024Mi", "cpu=1 memory=1Gi")], Qos::Guaranteed),
            (&[("cpu=1 memory=1Gi", "cpu=1 memory=1Gi"), ("", "")], Qos::Burstable),
            (&[("cpu=1 memory=1Gi", "cpu=1 memory=1Gi"), ("", "cpu=1 memory=1Gi")], Qos::Guaranteed),
            (&[("cpu=1", "cpu=1")], Qos::Burstable),
            (&[("memory=1Gi", "")], Qos::Burstable),
            (&[("cpu=500m memory=1Gi", "cpu=1 memory=1Gi")], Qos::Burstable),
            (&[("cpu=500m memory=1Gi", "")], Qos::Burstable),
        ];
        for (resources, class) in table {
            assert_eq!(qos_class(&apps(resources)), *class, "{resources:?}");
        }
        let with_init =
            |limits| pod(serde_json::json!({"initContainers": [container("i", "", limits)], "containers": [container("c", "", "cpu=1 memory=1Gi")]}));
        assert_eq!((qos_class(&with_init("")), qos_class(&with_init("cpu=2 memory=2Gi"))), (Qos::Burstable, Qos::Guaranteed));
        let mut whole = apps(&[("cpu=1", "")]);
        whole.resources = serde_json::from_value(serde_json::json!({"limits": {"cpu": "2", "memory": "1Gi"}})).unwrap();
        assert_eq!(qos_class(&whole), Qos::Guaranteed, "resources of the pod decide alone");
        whole.resources = Some(ResourceRequirements::default());
        assert_eq!(qos_class(&whole), Qos::Burstable, "unless there are none");
    }

    #[test]
    fn a_container_gets_its_own_limits_and_shares() {
        let of = |requests, limits| {
            let pod = apps(&[(requests, limits)]);
            of_container(&pod, &pod.containers[0])
        };
        assert_eq!(
            of("cpu=250m", "cpu=500m memory=64Mi"),
            Limits { memory_bytes: Some(64 << 20), cpu_quota_milli: Some(500), cpu_shares: Some(256), pids: None, huge_pages: BTreeMap::new() }
        );
        assert_eq!(of("", "cpu=2").cpu_shares, Some(2048), "no request: from the limit");
        assert_eq!(of("cpu=0", "").cpu_shares, Some(2));
        assert_eq!(of("cpu=1000", "").cpu_shares, Some(262_144));
        assert_eq!(of("memory=1Gi", ""), Limits::default());
    }

    #[test]
    fn a_container_without_a_limit_has_the_pods() {
        let mut pod = apps(&[("", ""), ("", "memory=1Mi")]);
        pod.resources = serde_json::from_value(serde_json::json!({"limits": {"memory": "8Mi"}})).unwrap();
        let of = |n: usize| of_container(&pod, &pod.containers[n]).memory_bytes;
        assert_eq!((of(0), of(1), of_pod(&pod).memory_bytes), (Some(8 << 20), Some(1 << 20), Some(8 << 20)));
    }

    #[test]
    fn the_pod_is_limited_only_when_each_container_is() {
        assert_eq!(of_pod(&apps(&[("", "memory=1Mi"), ("", "memory=2Mi")])).memory_bytes, Some(3 << 20));
        assert_eq!(of_pod(&apps(&[("", "memory=1Mi"), ("", "")])).memory_bytes, None);
        assert_eq!(of_pod(&apps(&[("cpu=250m", ""), ("cpu=250m", "")])).cpu_shares, Some(512));
        assert_eq!(of_pod(&apps(&[("", "")])), Limits::default());
    }

    #[test]
    fn inits_and_sidecars_count_as_they_run() {
        // i1 alone 5; s1 1 + i2 3 = 4; apps 2 + sidecars 1 + 1 = 4.
        let pod = pod(serde_json::json!({
            "initContainers": [
                container("i1", "", "cpu=5"), sidecar("s1", "", "cpu=1"), container("i2", "", "cpu=3"), sidecar("s2", "", "cpu=1")],
            "containers": [container("a", "", "cpu=2")],
            "overhead": {"cpu": "100m"},
        }));
        let limits = of_pod(&pod);
        assert_eq!((limits.cpu_quota_milli, limits.cpu_shares), (Some(5100), Some(5222)));
    }

    #[test]
    fn the_score_follows_class_and_request() {
        let node = 8 << 30;
        let score = |pod: &PodSpec, n: usize| oom_score_adj(pod, &pod.containers[n], node);
        assert_eq!(score(&apps(&[("", "cpu=1 memory=1Gi")]), 0), -997);
        assert_eq!(score(&apps(&[("", "")]), 0), 1000);
        assert_eq!(score(&apps(&[("memory=2Gi", "")]), 0), 750);
        assert_eq!(score(&apps(&[("memory=8Gi", "")]), 0), 3);
        assert_eq!(score(&apps(&[("cpu=1", "")]), 0), 999);
        let mut critical = apps(&[("", "")]);
        critical.priority_class_name = Some("system-node-critical".into());
        assert_eq!(score(&critical, 0), -997);
        let mut whole = apps(&[("memory=1Gi", ""), ("", "")]);
        whole.resources = serde_json::from_value(serde_json::json!({"requests": {"memory": "3Gi"}})).unwrap();
        assert_eq!((score(&whole, 0), score(&whole, 1)), (750, 875), "the unassigned 2Gi are spread evenly");
    }

    #[test]
    fn a_sidecar_is_not_killed_before_its_apps() {
        let pod = pod(serde_json::json!({
            "initContainers": [sidecar("s", "memory=1Gi", ""), container("i", "memory=1Gi", "")],
            "containers": [container("a", "memory=4Gi", ""), container("b", "memory=2Gi", "")],
        }));
        let score = |container: &Container| oom_score_adj(&pod, container, 8 << 30);
        let inits = pod.init_containers.as_ref().unwrap();
        assert_eq!((score(&inits[0]), score(&inits[1])), (750, 875));
    }
}
