//! Other resources for a container that runs (KEP-1287), or for the pod as a whole (KEP-5419), as the resize subresource and the kubelet do it.
//!
//! ```text
//! resize ──▶ judged: the API server's rules, this machine ──▶ into the Pod object ──▶ carried out, container by container
//!               └─▶ refused: nothing has changed              PodResizeInProgress      ├─ NotRequired: files of its cgroup
//!                                                                                      ├─ RestartContainer: the engine restarts it
//!                                                                                      └─ less memory than it uses: again later
//! ```
//!
//! What a container should have is in the Pod object, what it has is with its instance; for the pod as a whole, `whole`. While they differ the pod is being resized; nothing
//! else is remembered, so a container that restarts meanwhile just starts with what it should have.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::{Supervisor, container_of, now, whole_seconds};
use crate::cgroup::{self, Controller, Limits};
use crate::error::{Error, Result};
use crate::lifecycle::{C, Event, State, drain};
use crate::manifest::{self, Kind as Fault, Object, Quantity};
use crate::pod::ground::pod_spec;
use crate::pod::instance::Instance;
use crate::pod::journal::Kind;

/// How long it takes until what did not work is tried again, in milliseconds.
const RETRY_MS: u64 = 10_000;
const IN_PROGRESS: &str = "PodResizeInProgress";

type List = BTreeMap<String, Text>;

/// A change of resources under way.
pub(super) struct Resizing {
    since: Timestamp,
    /// What did not work at the last try.
    error: Option<String>,
    /// When it is tried again (monotonic milliseconds).
    pub retry: Option<u64>,
    /// What the pod as a whole had before.
    before: Limits,
    whole: Option<ResourceRequirements>,
}

impl Supervisor {
    /// Accepts other resources for a container, or for the pod as a whole; or refuses them and leaves all as it was.
    pub(super) fn resize(&mut self, name: Option<&str>, limits: BTreeMap<String, String>, requests: BTreeMap<String, String>) -> Result<()> {
        if self.facts.finished.is_some() || drain(&self.spec, &self.facts, now().mono).is_some_and(|drain| drain.ends) {
            return Err(Error::said("the pod is ending, nothing of it is resized any more"));
        }
        let asked = judge(&self.pod, name, limits, requests)?;
        let spec = pod_spec(&asked);
        let container = name.and_then(|name| find(spec, name));
        let resources = container.map_or(spec.resources.as_ref(), |container| container.resources.as_ref());
        fits_machine(resources, self.ground.machine.cpus * 1000, self.ground.machine.memory)?;
        let limits = container.map_or_else(|| cgroup::limits::of_pod(spec), |container| cgroup::limits::of_container(spec, container));
        for (controller, wanted) in
            [(Controller::Cpu, limits.cpu_quota_milli.is_some() || limits.cpu_shares.is_some()), (Controller::Memory, limits.memory_bytes.is_some())]
        {
            if wanted {
                self.ground.cgroup.enable(controller)?;
            }
        }
        let before = cgroup::limits::of_pod(pod_spec(&self.pod));
        let since = whole_seconds(Timestamp::now());
        // One that begins before the last is carried out goes on from where that had begun.
        let before = self.resizing.as_ref().map_or(before, |resizing| resizing.before.clone());
        let whole = self.resizing.take().map_or_else(|| pod_spec(&self.pod).resources.clone(), |resizing| resizing.whole);
        self.pod.spec = asked.spec;
        self.pod.metadata.generation = Some(self.pod.metadata.generation.unwrap_or(1) + 1);
        self.spec.generation = self.pod.metadata.generation;
        self.unwritten = true;
        self.resizing = Some(Resizing { since, error: None, retry: None, before, whole });
        self.tell_of_resize("ResizeStarted", "Pod resize started");
        Ok(())
    }

    /// Does what can be done now of a change under way.
    pub(super) fn go_on_resizing(&mut self) {
        let Some(resizing) = &self.resizing else { return };
        if resizing.retry.is_some_and(|retry| retry > now().mono) {
            return;
        }
        self.stale = true;
        let after = cgroup::limits::of_pod(pod_spec(&self.pod));
        let mut errors = Vec::new();
        // The pod grows first and shrinks last, so that its containers always fit into it.
        errors.extend(self.ground.cgroup.resize(&largest(&resizing.before, &after)));
        let mut differing = self.differing();
        // What shrinks makes room for what grows.
        differing.sort_by_key(|c| self.instances[c.0].as_ref().is_some_and(|instance| grows(&instance.limits, &self.limits_of(*c))));
        for c in differing {
            match self.must_restart(c) {
                true => self.observe(Event::Resized(c)),
                false => errors.extend(self.resize_in_place(c)),
            }
        }
        let is_done = errors.is_empty() && self.differing().is_empty();
        if is_done {
            let used = self.ground.cgroup.whole().usage().ok().and_then(|usage| usage.working_set_bytes).unwrap_or(0);
            match after.memory_bytes.filter(|limit| *limit < used) {
                Some(limit) => errors.push(Error::said(format!("attempting to set pod memory limit ({limit}) below current usage ({used})"))),
                None => errors.extend(self.ground.cgroup.resize(&after)),
            }
        }
        let error = errors.into_iter().next().map(|error| error.to_string());
        let Some(resizing) = &mut self.resizing else { return };
        if is_done && error.is_none() {
            self.resizing = None;
            self.tell_of_resize("ResizeCompleted", "Pod resize completed");
            return;
        }
        // A restart that is under way comes back here by itself.
        resizing.retry = error.as_ref().map(|_| now().mono + RETRY_MS);
        let is_news = error.is_some() && error != resizing.error;
        resizing.error = error.clone();
        if is_news {
            self.journal.tell(Kind::Warning, "ResizeError", None, &format!("Pod resize error: {}", error.unwrap_or_default()), Timestamp::now());
        }
    }

    /// The running containers that do not have yet what they should.
    fn differing(&self) -> Vec<C> {
        // One without a limit of its own has the pod's.
        let has = |instance: &Instance, c: C| instance.resources == container_of(&self.pod, c).resources && instance.limits == self.limits_of(c);
        let differs = |c: &C| self.instances[c.0].as_ref().is_some_and(|instance| !has(instance, *c));
        self.spec.all().filter(differs).collect()
    }

    fn limits_of(&self, c: C) -> Limits {
        cgroup::limits::of_container(pod_spec(&self.pod), &container_of(&self.pod, c))
    }

    /// Whether a resource has changed whose resizePolicy is RestartContainer. One that is on its way out needs no sentence.
    fn must_restart(&self, c: C) -> bool {
        let (container, instance) = (container_of(&self.pod, c), self.instances[c.0].as_ref());
        let had = instance.and_then(|instance| instance.resources.as_ref());
        let ending = matches!(&self.facts.container(c).state, State::Running(run) if run.doom.is_some());
        let restarts = |name: &str| {
            let policies = container.resize_policy.iter().flatten();
            policies.into_iter().any(|policy| policy.resource_name == name && policy.restart_policy == "RestartContainer")
        };
        ending || ["cpu", "memory"].into_iter().any(|name| restarts(name) && differs(had, container.resources.as_ref(), name))
    }

    fn resize_in_place(&mut self, c: C) -> Vec<Error> {
        let (limits, container) = (self.limits_of(c), container_of(&self.pod, c).into_owned());
        let Some(instance) = &mut self.instances[c.0] else { return Vec::new() };
        // The kernel would take the memory away, and kill for what it cannot get.
        let usage = instance.cgroup.usage().ok().and_then(|usage| usage.working_set_bytes).unwrap_or(0);
        if let Some(limit) = limits.memory_bytes.filter(|limit| *limit < usage) {
            let (name, limit) = (&container.name, limit);
            return vec![Error::said(format!("attempting to set container {name:?} memory limit ({limit}) below current usage ({usage})"))];
        }
        let errors = self.ground.cgroup.resize_container(&instance.cgroup, &limits);
        if errors.is_empty() {
            instance.limits = limits;
            instance.resources = container.resources;
        }
        errors
    }

    fn tell_of_resize(&mut self, reason: &str, what: &str) {
        let containers: Vec<_> = self.spec.all().map(|c| container_of(&self.pod, c)).map(|c| json!({ "name": c.name, "resources": c.resources })).collect();
        let whole = &pod_spec(&self.pod).resources;
        let told = json!({ "containers": containers, "resources": whole, "generation": self.pod.metadata.generation });
        self.journal.tell(Kind::Normal, reason, None, &format!("{what}: {told}"), Timestamp::now());
    }

    /// What each container has (`resources`) and may ask for (`allocatedResources`), and whether that is changing.
    pub(super) fn tell_resources(&self, status: &mut PodStatus) {
        let lists = [&mut status.init_container_statuses, &mut status.container_statuses];
        for told in lists.into_iter().flat_map(|list| list.iter_mut().flatten()) {
            let Some(c) = self.spec.find(&told.name) else { continue };
            let should = container_of(&self.pod, c).resources.clone().filter(|resources| *resources != ResourceRequirements::default());
            told.allocated_resources = should.as_ref().and_then(|resources| resources.requests.clone());
            told.resources = match &self.instances[c.0] {
                Some(instance) => instance.resources.clone().filter(|resources| *resources != ResourceRequirements::default()),
                None => should,
            };
        }
        let whole = pod_spec(&self.pod).resources.as_ref();
        status.allocated_resources = whole.and_then(|resources| resources.requests.clone());
        // What it has changes last.
        status.resources = self.resizing.as_ref().map_or(whole, |resizing| resizing.whole.as_ref()).cloned();
        let conditions = status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != IN_PROGRESS);
        if let Some(resizing) = &self.resizing {
            conditions.push(PodCondition {
                type_: IN_PROGRESS.into(),
                status: "True".into(),
                reason: resizing.error.as_ref().map(|_| "Error".into()),
                message: resizing.error.clone(),
                last_transition_time: Some(Time(resizing.since)),
                last_probe_time: None,
                observed_generation: self.spec.generation,
            });
        }
    }
}

/// The pod with other resources for a container or as a whole, if the API server would take it (`ValidatePodResize`).
fn judge(pod: &Pod, name: Option<&str>, limits: BTreeMap<String, String>, requests: BTreeMap<String, String>) -> Result<Pod> {
    let invalid = |what: String| Error::said(format!("The Pod {:?} is invalid: {what}", pod.metadata.name.as_deref().unwrap_or_default()));
    let mut asked = pod.clone();
    let spec = asked.spec.get_or_insert_default();
    let (path, resources) = match name {
        Some(name) => {
            let not_found = || Error::said(format!("container {name:?} is not one of the pod's init or app containers"));
            let (path, container) = find_mut(spec, name).ok_or_else(not_found)?;
            (path, &mut container.resources)
        }
        None => ("spec".to_owned(), &mut spec.resources),
    };
    let resources = resources.get_or_insert_default();
    for (list, path, changes) in
        [(&mut resources.limits, format!("{path}.resources.limits"), limits), (&mut resources.requests, format!("{path}.resources.requests"), requests)]
    {
        for (resource, amount) in changes {
            if !matches!(resource.as_str(), "cpu" | "memory") {
                return Err(invalid(format!("{path}[{resource}]: Forbidden: only cpu and memory resources are mutable")));
            }
            let list = list.get_or_insert_default();
            let is_zero = |amount: &str| Quantity::parse(amount).is_ok_and(|amount| amount == Quantity::ZERO);
            if list.get(&resource).is_some_and(|old| !is_zero(&old.0)) && is_zero(&amount) {
                let what = path.rsplit('.').next().unwrap_or_default();
                return Err(invalid(format!("{path}: Forbidden: resource {what} cannot be removed")));
            }
            list.insert(resource, Text(amount));
        }
    }
    let asked = validated(asked)?;
    let (before, after) = (cgroup::limits::qos_class(pod_spec(pod)), cgroup::limits::qos_class(pod_spec(&asked)));
    if before != after {
        let class = format!("{:?}", after.to_string());
        return Err(invalid(format!("spec: Invalid value: {class}: Pod QOS Class may not change as a result of resizing (it is {before})")));
    }
    Ok(asked)
}

/// The pod with its resources in canonical form, after all the rules of a manifest.
fn validated(mut asked: Pod) -> Result<Pod> {
    // None of these may stand in a manifest, and none of them changes.
    let manifest = Pod { status: None, spec: asked.spec.clone().map(|spec| PodSpec { node_name: None, ephemeral_containers: None, ..spec }), ..asked.clone() };
    let text = serde_json::to_string(&manifest).map_err(|e| Error::said(e.to_string()))?;
    let (loaded, mut faults) = manifest::examine(&text, "resize");
    // The pod was taken in once; what minipod does not do it did without then, too.
    faults.faults.retain(|fault| fault.kind != Fault::NotSupported);
    if !faults.faults.is_empty() {
        return Err(Error::said(faults.to_string()));
    }
    let Some(Object::Pod(judged)) = loaded.objects.into_iter().next() else { return Err(Error::said("the pod cannot be read back")) };
    let judged = judged.spec.unwrap_or_default();
    let spec = asked.spec.get_or_insert_default();
    spec.resources = judged.resources;
    let inits = spec.init_containers.iter_mut().flatten().zip(judged.init_containers.into_iter().flatten());
    inits.chain(spec.containers.iter_mut().zip(judged.containers)).for_each(|(container, judged)| container.resources = judged.resources);
    Ok(asked)
}

/// More than there is can never be given (upstream's `Infeasible`).
fn fits_machine(resources: Option<&ResourceRequirements>, milli_cpus: u64, memory: u64) -> Result<()> {
    let request = |name: &str| Quantity::parse(&resources?.requests.as_ref()?.get(name)?.0).ok();
    let cpu = request("cpu").map_or(0, |cpu| u64::try_from(cpu.milli_cpus()).unwrap_or(0));
    let bytes = request("memory").map_or(0, |memory| u64::try_from(memory.bytes()).unwrap_or(0));
    for (name, asked, capacity) in [("cpu", cpu, milli_cpus), ("memory", bytes, memory)] {
        // 0: it could not be told what the machine has.
        if capacity > 0 && asked > capacity {
            return Err(Error::said(format!("Infeasible: Node didn't have enough capacity: {name}, requested: {asked}, capacity: {capacity}")));
        }
    }
    Ok(())
}

fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Container> {
    crate::pod::ground::all_containers(spec).find(|container| container.name == name)
}

fn find_mut<'a>(spec: &'a mut PodSpec, name: &str) -> Option<(String, &'a mut Container)> {
    let inits = spec.init_containers.iter_mut().flatten().enumerate().map(|(n, c)| (format!("spec.initContainers[{n}]"), c));
    let apps = spec.containers.iter_mut().enumerate().map(|(n, c)| (format!("spec.containers[{n}]"), c));
    inits.chain(apps).find(|(_, container)| container.name == name)
}

fn differs(one: Option<&ResourceRequirements>, other: Option<&ResourceRequirements>, name: &str) -> bool {
    let of = |resources: Option<&ResourceRequirements>| {
        let get = |list: Option<&List>| list.and_then(|list| list.get(name)).cloned();
        resources.map_or((None, None), |resources| (get(resources.limits.as_ref()), get(resources.requests.as_ref())))
    };
    of(one) != of(other)
}

/// For each the higher of both; no limit is the highest.
fn largest(one: &Limits, other: &Limits) -> Limits {
    let limit = |one: Option<u64>, other: Option<u64>| one.zip(other).map(|(one, other)| one.max(other));
    Limits {
        memory_bytes: limit(one.memory_bytes, other.memory_bytes),
        cpu_quota_milli: limit(one.cpu_quota_milli, other.cpu_quota_milli),
        cpu_shares: one.cpu_shares.max(other.cpu_shares),
        pids: limit(one.pids, other.pids),
        // No change reaches them.
        huge_pages: other.huge_pages.clone(),
    }
}

fn grows(from: &Limits, to: &Limits) -> bool {
    to.memory_bytes > from.memory_bytes || to.cpu_quota_milli > from.cpu_quota_milli
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "default" },
            "spec": { "nodeName": "n", "containers": [
                { "name": "a", "image": "i", "resources": { "requests": { "cpu": "100m", "memory": "32Mi" }, "limits": { "memory": "64Mi" } } }, { "name": "b", "image": "i" }] },
            "status": { "phase": "Running" },
        }))
        .unwrap()
    }

    fn list(text: &str) -> BTreeMap<String, String> {
        text.split_whitespace().map(|pair| pair.split_once('=').unwrap()).map(|(name, amount)| (name.into(), amount.into())).collect()
    }

    fn judged(name: &str, limits: &str, requests: &str) -> std::result::Result<serde_json::Value, String> {
        let asked = judge(&pod(), Some(name), list(limits), list(requests)).map_err(|error| error.to_string())?;
        assert_eq!((&asked.status, &pod_spec(&asked).node_name), (&pod().status, &pod_spec(&pod()).node_name), "nothing else changes");
        Ok(serde_json::to_value(&find(pod_spec(&asked), name).unwrap().resources).unwrap())
    }

    #[test]
    fn what_is_named_changes_in_canonical_form_and_the_rest_stays() {
        let wanted = json!({ "requests": { "cpu": "500m", "memory": "32Mi" }, "limits": { "cpu": "1", "memory": "1Gi" } });
        assert_eq!(judged("a", "cpu=1000m memory=1024Mi", "cpu=0.5"), Ok(wanted));
        assert_eq!(judged("b", "memory=1Mi", ""), Ok(json!({ "requests": { "memory": "1Mi" }, "limits": { "memory": "1Mi" } })), "no request is the limit");
    }

    #[test]
    fn what_may_not_be_is_told_in_the_api_servers_words() {
        for (limits, requests, why) in [
            ("memory=0", "", "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"),
            ("", "cpu=0", "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"),
            ("pids=1", "", "spec.containers[0].resources.limits[pids]: Forbidden: only cpu and memory resources are mutable"),
            ("memory=16Mi", "", "spec.containers[0].resources.requests: Invalid value: \"32Mi\": must be less than or equal to memory limit of 16Mi"),
        ] {
            assert_eq!(judged("a", limits, requests), Err(format!("The Pod \"p\" is invalid: {why}")));
        }
        assert!(judged("none", "cpu=1", "").unwrap_err().starts_with("container \"none\" is not one of"));
    }

    #[test]
    fn the_pod_as_a_whole_changes_as_a_container_does_and_its_containers_must_fit() {
        let mut pod = pod();
        pod.spec.as_mut().unwrap().resources =
            serde_json::from_value(json!({ "requests": { "cpu": "200m", "memory": "64Mi" }, "limits": { "memory": "128Mi" } })).unwrap();
        let judged = |limits: &str, requests: &str| judge(&pod, None, list(limits), list(requests)).map_err(|error| error.to_string());
        let asked = judged("memory=256Mi cpu=1000m", "").unwrap();
        let wanted = json!({ "requests": { "cpu": "200m", "memory": "64Mi" }, "limits": { "cpu": "1", "memory": "256Mi" } });
        assert_eq!(serde_json::to_value(&pod_spec(&asked).resources).unwrap(), wanted);
        for (limits, requests, why) in [
            ("memory=0", "", "spec.resources.limits: Forbidden: resource limits cannot be removed"),
            ("pids=1", "", "spec.resources.limits[pids]: Forbidden: only cpu and memory resources are mutable"),
            ("", "cpu=50m", "spec.resources.requests[cpu]: Invalid value: \"50m\": must be greater than or equal to aggregate container requests of 100m"),
        ] {
            assert_eq!(judged(limits, requests).unwrap_err(), format!("The Pod \"p\" is invalid: {why}"));
        }
    }

    #[test]
    fn a_pod_under_way_has_room_for_both() {
        let (one, other) =
            (Limits { memory_bytes: Some(1), cpu_quota_milli: Some(5), ..Limits::default() }, Limits { memory_bytes: Some(2), ..Limits::default() });
        assert_eq!(largest(&one, &other), Limits { memory_bytes: Some(2), ..Limits::default() }, "no limit is the highest");
        assert!(grows(&one, &other) && !grows(&other, &Limits { memory_bytes: Some(1), ..other.clone() }));
    }
}
