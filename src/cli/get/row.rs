//! One pod as a line of `get pods`: `printPod` in `pkg/printers/internalversion/printers.go`.
//!
//! STATUS is no field of a Pod. It is found by a walk, and the first that has something to say wins:
//!
//! ```text
//! phase  <  status.reason  <  SchedulingGated
//!        <  the first init container that is not done   (Init:1/2, Init:Error, ...)
//!        <  the containers, last to first               (so the alphabetically first one is heard last, and wins)
//!        <  being deleted                               (Terminating, Unknown)
//! ```

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition};

use super::{Kind, Line, Listed};
use crate::cli::duration;

/// The cells of a pod; the last four are shown with `-o wide`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub namespace: String,
    pub name: String,
    pub ready: String,
    pub status: String,
    pub restarts: String,
    pub age: String,
    pub ip: String,
    pub node: String,
    pub nominated: String,
    pub gates: String,
}

impl Listed for Pod {
    type Row = Row;
    const OF: Kind = Kind::Pod;
    const HEADERS: &'static [&'static str] = &["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
    const WIDE_HEADERS: &'static [&'static str] = &["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"];

    fn row(&self, now: Timestamp) -> Row {
        row(self, now)
    }
}

impl Line for Row {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn cells(&self, wide: bool) -> Vec<&str> {
        let mut cells: Vec<&str> = vec![&self.name, &self.ready, &self.status, &self.restarts, &self.age];
        if wide {
            cells.extend([&self.ip, &self.node, &self.nominated, &self.gates].map(String::as_str));
        }
        cells
    }

    fn same_but_for_age(&self, other: &Row) -> bool {
        let timeless = |row: &Row| Row { age: String::new(), restarts: row.restarts.split(' ').next().unwrap_or_default().to_owned(), ..row.clone() };
        timeless(self) == timeless(other)
    }
}

/// Restarts, and when the latest of them was.
#[derive(Default, Clone, Copy)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &ContainerStatus) {
        self.count += i64::from(status.restart_count);
        let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()).and_then(|end| end.finished_at.as_ref());
        self.last = self.last.max(ended.map(|time| time.0));
    }

    fn show(self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.count != 0 => format!("{} ({} ago)", self.count, duration::since(Some(last), now)),
            _ => self.count.to_string(),
        }
    }
}

/// The line of a pod at `now`.
pub fn row(pod: &Pod, now: Timestamp) -> Row {
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let seen = look(pod);
    let or_none = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned().unwrap_or_else(|| "<none>".to_owned());
    let ip = status.and_then(|status| status.pod_ips.iter().flatten().map(|ip| &ip.ip).next().or(status.pod_ip.as_ref()));
    Row {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        ready: format!("{}/{}", seen.ready, spec.map_or(0, |spec| spec.containers.len()) + sidecars(pod).count()),
        status: seen.status,
        restarts: seen.restarts.show(now),
        age: duration::since(pod.metadata.creation_timestamp.as_ref().map(|time| time.0), now),
        ip: or_none(ip),
        node: or_none(spec.and_then(|spec| spec.node_name.as_ref())),
        nominated: or_none(status.and_then(|status| status.nominated_node_name.as_ref())),
        gates: gates(pod),
    }
}

/// What the walk over a pod's containers finds.
struct Seen {
    status: String,
    ready: usize,
    restarts: Restarts,
}

fn look(pod: &Pod) -> Seen {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let mut shown = status.reason.clone().filter(|reason| !reason.is_empty()).unwrap_or_else(|| status.phase.clone().unwrap_or_default());
    if conditions.iter().any(|condition| condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("SchedulingGated")) {
        shown = "SchedulingGated".to_owned();
    }
    let mut seen = Seen { status: shown, ready: 0, restarts: Restarts::default() };
    let mut of_sidecars = Restarts::default();
    let initializing = look_at_inits(pod, status.init_container_statuses.as_deref().unwrap_or_default(), &mut seen, &mut of_sidecars);
    if !initializing || is_true(conditions, "Initialized") {
        seen.restarts = of_sidecars;
        look_at_apps(status.container_statuses.as_deref().unwrap_or_default(), is_true(conditions, "Ready"), &mut seen);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason.as_deref() == Some("NodeLost") {
            seen.status = "Unknown".to_owned();
        } else if !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            seen.status = "Terminating".to_owned();
        }
    }
    seen
}

/// Walks the init containers up to the first that is not done; whether there is one.
fn look_at_inits(pod: &Pod, statuses: &[ContainerStatus], seen: &mut Seen, of_sidecars: &mut Restarts) -> bool {
    let all = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).count();
    for (index, container) in statuses.iter().enumerate() {
        let sidecar = sidecars(pod).any(|name| name == container.name);
        seen.restarts.add(container);
        if sidecar {
            of_sidecars.add(container);
        }
        let state = container.state.clone().unwrap_or_default();
        match state {
            ContainerState { terminated: Some(end), .. } if end.exit_code == 0 => continue,
            _ if sidecar && container.started == Some(true) => {
                seen.ready += usize::from(container.ready);
                continue;
            }
            ContainerState { terminated: Some(_), .. } => seen.status = format!("Init:{}", ended(&state).unwrap_or_default()),
            ContainerState { waiting: Some(waiting), .. }
                if waiting.reason.as_ref().is_some_and(|reason| !reason.is_empty() && reason != "PodInitializing") =>
            {
                seen.status = format!("Init:{}", waiting.reason.unwrap_or_default());
            }
            _ => seen.status = format!("Init:{index}/{all}"),
        }
        return true;
    }
    false
}

/// Walks the app containers from the last to the first.
fn look_at_apps(statuses: &[ContainerStatus], pod_ready: bool, seen: &mut Seen) {
    let (mut running, mut error) = (false, None);
    for container in statuses.iter().rev() {
        seen.restarts.add(container);
        let state = container.state.clone().unwrap_or_default();
        let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone()).filter(|reason| !reason.is_empty());
        if let Some(reason) = waiting {
            seen.status = reason;
        } else if let Some(reason) = ended(&state) {
            if state.terminated.as_ref().is_some_and(|end| end.exit_code != 0) {
                error = Some(reason.clone());
            }
            seen.status = reason;
        } else if container.ready && state.running.is_some() {
            running = true;
            seen.ready += 1;
        }
    }
    if seen.status == "Completed" {
        match error {
            _ if running && pod_ready => seen.status = "Running".to_owned(),
            Some(error) => seen.status = error,
            None if running => seen.status = "NotReady".to_owned(),
            None => {}
        }
    }
}

/// Why a container ended, if it did.
fn ended(state: &ContainerState) -> Option<String> {
    let end = state.terminated.as_ref()?;
    let reason = end.reason.clone().filter(|reason| !reason.is_empty());
    Some(reason.unwrap_or_else(|| match end.signal {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", end.exit_code),
    }))
}

/// The names of the init containers that run on beside the apps.
fn sidecars(pod: &Pod) -> impl Iterator<Item = &str> {
    let inits = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    inits.filter(|init| init.restart_policy.as_deref() == Some("Always")).map(|init| init.name.as_str())
}

fn is_true(conditions: &[PodCondition], name: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == name && condition.status == "True")
}

/// How many of the readiness gates are open.
fn gates(pod: &Pod) -> String {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    format!("{}/{}", gates.iter().filter(|gate| is_true(conditions, &gate.condition_type)).count(), gates.len())
}
