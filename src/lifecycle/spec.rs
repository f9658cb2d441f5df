//! What the manifest asks of the engine: the pod's containers in order, and of each only what decides its fate.

use std::fmt;

use k8s_openapi::api::core::v1 as core;

/// The number of a container: its index in [`Spec::containers`] and [`super::Facts::containers`]; behind them come the
/// ephemeral ones, in the order in which they were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct C(pub usize);

/// How a container takes part in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A regular init container: runs to its end, before everything after it.
    Init,
    /// A native sidecar: an init container with `restartPolicy: Always` (KEP 753).
    Sidecar,
    /// An entry of `spec.containers`; a classic sidecar is nothing else.
    App,
    /// Added to a pod that lives, to look into it: runs once, whatever the others do, and counts for nothing (KEP 277).
    Ephemeral,
}

/// `restartPolicy`, of a pod or of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    /// An unknown word is `Always`, the default; the manifest has been validated before.
    fn of(word: &str) -> Policy {
        match word {
            "OnFailure" => Policy::OnFailure,
            "Never" => Policy::Never,
            _ => Policy::Always,
        }
    }

    pub(super) fn restarts(self, failed: bool) -> bool {
        self == Policy::Always || self == Policy::OnFailure && failed
    }
}

/// One entry of `restartPolicyRules` (KEP 5307): what to do on these exit codes, or on all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub all_containers: bool,
    pub not_in: bool,
    pub codes: Vec<i32>,
}

impl Rule {
    fn of(rule: &core::ContainerRestartRule) -> Option<Rule> {
        let on = rule.exit_codes.as_ref()?;
        Some(Rule { all_containers: rule.action == "RestartAllContainers", not_in: on.operator == "NotIn", codes: on.values.clone().unwrap_or_default() })
    }

    pub(super) fn fits(&self, code: i32) -> bool {
        self.codes.contains(&code) != self.not_in
    }
}

/// A probe that exists, and when it is asked; how is the business of the pod's loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProbeSpec {
    /// Counted from the start of the instance, in milliseconds.
    pub initial_delay_ms: u64,
    /// From one attempt to the next, in milliseconds; not 0.
    pub period_ms: u64,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// As many successes in a row make a success.
    pub success_threshold: u32,
    /// As many failures in a row make a failure.
    pub failure_threshold: u32,
    /// The grace of a kill by this probe, in seconds; without it the pod's is used. It may be longer than the pod's.
    pub grace_seconds: Option<u64>,
}

impl Default for ProbeSpec {
    /// Kubernetes' defaults (`defaults.go`).
    fn default() -> ProbeSpec {
        ProbeSpec { initial_delay_ms: 0, period_ms: 10_000, timeout_ms: 1_000, success_threshold: 1, failure_threshold: 3, grace_seconds: None }
    }
}

impl ProbeSpec {
    /// What is missing or makes no sense gets the default: the manifest has been defaulted and validated before.
    fn of(probe: &core::Probe) -> ProbeSpec {
        let default = ProbeSpec::default();
        let ms = |seconds: Option<i32>, or: u64| seconds.filter(|s| *s > 0).map_or(or, |s| u64::from(s.unsigned_abs()) * 1000);
        let times = |times: Option<i32>, or: u32| times.filter(|n| *n > 0).map_or(or, i32::unsigned_abs);
        ProbeSpec {
            initial_delay_ms: ms(probe.initial_delay_seconds, default.initial_delay_ms),
            period_ms: ms(probe.period_seconds, default.period_ms),
            timeout_ms: ms(probe.timeout_seconds, default.timeout_ms),
            success_threshold: times(probe.success_threshold, default.success_threshold),
            failure_threshold: times(probe.failure_threshold, default.failure_threshold),
            grace_seconds: probe.termination_grace_period_seconds.map(|seconds| seconds.max(0) as u64),
        }
    }
}

/// Of one container, what decides its fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    pub name: String,
    pub role: Role,
    pub image: String,
    /// The container's own policy, which goes before the pod's. For a sidecar always `Always`.
    pub restart_policy: Option<Policy>,
    pub restart_rules: Vec<Rule>,
    pub startup: Option<ProbeSpec>,
    pub liveness: Option<ProbeSpec>,
    pub readiness: Option<ProbeSpec>,
    pub post_start: bool,
    pub pre_stop: bool,
}

impl ContainerSpec {
    fn of(container: &core::Container, init: bool) -> ContainerSpec {
        let policy = container.restart_policy.as_deref().map(Policy::of);
        let role = match (init, policy) {
            (false, _) => Role::App,
            (true, Some(Policy::Always)) => Role::Sidecar,
            (true, _) => Role::Init,
        };
        let hooks = container.lifecycle.as_ref();
        ContainerSpec {
            name: container.name.clone(),
            role,
            image: container.image.clone().unwrap_or_default(),
            restart_policy: policy,
            restart_rules: container.restart_policy_rules.iter().flatten().filter_map(Rule::of).collect(),
            startup: container.startup_probe.as_ref().map(ProbeSpec::of),
            liveness: container.liveness_probe.as_ref().map(ProbeSpec::of),
            readiness: container.readiness_probe.as_ref().map(ProbeSpec::of),
            post_start: hooks.is_some_and(|h| h.post_start.is_some()),
            pre_stop: hooks.is_some_and(|h| h.pre_stop.is_some()),
        }
    }

    /// One that asks for nothing: no probes, no hooks, the pod's policy.
    pub fn plain(name: &str, role: Role, image: &str) -> ContainerSpec {
        ContainerSpec {
            name: name.into(),
            role,
            image: image.into(),
            restart_policy: None,
            restart_rules: Vec::new(),
            startup: None,
            liveness: None,
            readiness: None,
            post_start: false,
            pre_stop: false,
        }
    }

    /// An ephemeral container has neither probes nor hooks, and one policy.
    pub fn ephemeral(name: &str, image: &str) -> ContainerSpec {
        ContainerSpec { restart_policy: Some(Policy::Never), ..ContainerSpec::plain(name, Role::Ephemeral, image) }
    }
}

/// What the pod's manifest asks of the engine. While the pod lives it changes in one way: an ephemeral container is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub generation: Option<i64>,
    pub restart_policy: Policy,
    /// `terminationGracePeriodSeconds`, 30 if not given.
    pub grace_seconds: u64,
    /// Counted from the pod's creation; inits and waiting included.
    pub active_deadline_seconds: Option<u64>,
    /// The longest wait between a container's end and its restart, in milliseconds; the kubelet's 300 s, or what KEP 5593 lets one set.
    pub max_backoff_ms: u64,
    /// Condition types that others set and that `Ready` waits for.
    pub readiness_gates: Vec<String>,
    /// Init containers in order, then app containers in order.
    pub containers: Vec<ContainerSpec>,
    /// Kept apart, as no order, gate, phase or condition knows of them.
    pub ephemerals: Vec<ContainerSpec>,
}

impl Spec {
    /// Reads a defaulted and validated pod. What is missing nevertheless gets Kubernetes' default.
    pub fn of(pod: &core::Pod) -> Spec {
        let empty = core::PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let inits = spec.init_containers.iter().flatten().map(|c| ContainerSpec::of(c, true));
        let apps = spec.containers.iter().map(|c| ContainerSpec::of(c, false));
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        Spec {
            name: word(&pod.metadata.name),
            namespace: pod.metadata.namespace.clone().unwrap_or_else(|| "default".into()),
            uid: word(&pod.metadata.uid),
            generation: pod.metadata.generation,
            restart_policy: spec.restart_policy.as_deref().map_or(Policy::Always, Policy::of),
            grace_seconds: spec.termination_grace_period_seconds.map_or(30, |seconds| seconds.max(0) as u64),
            active_deadline_seconds: spec.active_deadline_seconds.map(|seconds| seconds.max(0) as u64),
            max_backoff_ms: super::backoff::MAX_MS,
            readiness_gates: spec.readiness_gates.iter().flatten().map(|gate| gate.condition_type.clone()).collect(),
            containers: inits.chain(apps).collect(),
            ephemerals: Vec::new(),
        }
    }

    /// The container of this index. An index comes from this very spec, so it is always in range.
    pub fn container(&self, c: C) -> &ContainerSpec {
        self.containers.get(c.0).unwrap_or_else(|| &self.ephemerals[c.0 - self.containers.len()])
    }

    /// A container of any kind.
    pub fn find(&self, name: &str) -> Option<C> {
        self.containers.iter().chain(&self.ephemerals).position(|c| c.name == name).map(C)
    }

    /// Every container of the manifest, inits first, each in its order.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = C> + use<> {
        (0..self.containers.len()).map(C)
    }

    /// Regular inits and sidecars, in the manifest's order.
    pub fn inits(&self) -> impl DoubleEndedIterator<Item = C> + '_ {
        self.all().filter(|c| self.role(*c) != Role::App)
    }

    pub fn apps(&self) -> impl DoubleEndedIterator<Item = C> + '_ {
        self.all().filter(|c| self.role(*c) == Role::App)
    }

    pub fn role(&self, c: C) -> Role {
        self.container(c).role
    }

    pub(super) fn grace_ms(&self) -> u64 {
        self.grace_seconds.saturating_mul(1000)
    }
}

/// `NAME_NAMESPACE(UID)`, as the kubelet's messages name a pod (`pkg/kubelet/util/format`).
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}({})", self.name, self.namespace, self.uid)
    }
}
