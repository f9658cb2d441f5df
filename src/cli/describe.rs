//! `minipod describe`: all about one object, for reading (`describePod`, `describeJob` in `kubectl/pkg/describe/describe.go`).
//!
//! Sections, labels and blanks are upstream's, so that what people learned there, and what they search for, is true here.
//! Each part writes lines of `label:<tab>value`; in the end [`Columns`] turns the tabs into columns, block by block.

mod container;
mod job;
mod object;
mod volume;

use std::collections::BTreeMap;
use std::fmt;

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod, PodSpec, PodStatus, Secret, Service, Toleration, TopologySpreadConstraint};

use super::get::{Answer, Listed, Refusal, Selector, What, nothing_found};
use super::table::{Columns, harmless};
use super::why::{self, View};
use super::{duration, events};
use crate::network::dns::Endpoints;
use crate::pod::of_ephemeral;

/// Show all about pods, jobs, configmaps or secrets: containers, their states and probes, volumes, conditions, events.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  minipod describe pod web        why does it not start? look at State, Last State and the events below
  minipod describe pod/web -n shop
  minipod describe pods           all pods of the namespace
  minipod describe job pi         why does it not end? look at Pods Statuses and the events")]
pub struct DescribeArgs {
    /// `pod NAME...`, `pod/NAME...`, or `pods` for all; the same with `job`, `configmap` (cm) and `secret`
    #[arg(value_name = "KIND NAME", required = true)]
    pub what: Vec<String>,
    /// The namespace to look in
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Only those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
}

/// An annotation longer than this stands below its key, and is cut.
const LONGEST_ANNOTATION: usize = 140;
/// Annotations that only tools care for.
const HIDDEN_ANNOTATIONS: &[&str] = &["kubectl.kubernetes.io/last-applied-configuration"];

/// Text in the making: lines at levels of two blanks each, with tabs between columns.
#[derive(Default)]
struct Text {
    out: String,
    /// What is written is a pod template: upstream shifts its labels by two blanks, the names of its containers and volumes by one.
    template: bool,
}

impl Text {
    /// Writes at a level; what is written after a tab on the same line comes by [`Text::on`].
    fn at(&mut self, level: usize, text: fmt::Arguments<'_>) {
        let shift = match level {
            0 => "  ",
            1 => " ",
            _ => "",
        };
        self.out.push_str(if self.template { shift } else { "" });
        self.out.extend(std::iter::repeat_n("  ", level));
        self.on(text);
    }

    fn on(&mut self, text: fmt::Arguments<'_>) {
        self.out.push_str(&harmless(&text.to_string()));
    }

    /// `label:<tab>value`, if there is a value.
    fn field(&mut self, level: usize, label: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.at(level, format_args!("{label}:\t{value}\n"));
        }
    }

    /// A label and its lines, the first beside it, the others below the first.
    fn list(&mut self, label: &str, lines: impl Iterator<Item = String>) {
        self.at(0, format_args!("{label}:"));
        let mut none = true;
        for line in lines {
            self.on(format_args!("\t{line}\n"));
            none = false;
        }
        if none {
            self.on(format_args!("\t<none>\n"));
        }
    }
}

/// A text field that is set and not empty.
fn set(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// A text field as Go prints it: empty if unset.
fn plain(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// All about a pod and its events, as kubectl prints it.
pub fn describe(pod: &Pod, events: &[Event], now: Timestamp) -> String {
    let (spec, status) = (pod.spec.clone().unwrap_or_default(), pod.status.clone().unwrap_or_default());
    let mut text = Text::default();
    identity(&mut text, pod, &spec, &status);
    state(&mut text, pod, &spec, &status, now);
    containers(&mut text, pod, &spec, &status);
    conditions(&mut text, &spec, &status);
    volume::volumes(&mut text, spec.volumes.as_deref().unwrap_or_default());
    scheduling(&mut text, &spec, &status);
    happened(&mut text, events, now);
    Columns::of_describe().align(&text.out)
}

impl DescribeArgs {
    /// Describes those of these pods (with their events) that are meant: by name, or else by the beginning of a name. After kubectl's
    /// sections comes one of our own for each that is not well; `view` reads what it needs of the machine.
    pub fn pods(&self, pods: &[(Pod, Vec<Event>)], view: &dyn Fn(&Pod) -> View, now: Timestamp) -> Result<Answer, Refusal> {
        self.objects(pods, |pod, events| describe(pod, events, now) + &why::section(&why::reasons(pod, events, &view(pod), now)))
    }

    /// The same for jobs.
    pub fn jobs(&self, jobs: &[(Job, Vec<Event>)], now: Timestamp) -> Result<Answer, Refusal> {
        self.objects(jobs, |job, events| job::describe(job, events, now))
    }

    /// The same for objects that are only kept; nothing happens to those.
    pub fn config_maps(&self, maps: Vec<ConfigMap>) -> Result<Answer, Refusal> {
        self.objects(&maps.into_iter().map(|map| (map, Vec::new())).collect::<Vec<_>>(), |map, _| object::config_map(map))
    }

    pub fn secrets(&self, secrets: Vec<Secret>) -> Result<Answer, Refusal> {
        self.objects(&secrets.into_iter().map(|secret| (secret, Vec::new())).collect::<Vec<_>>(), |secret, _| object::secret(secret))
    }

    /// `users` says which pods use a claim.
    pub fn claims(&self, claims: Vec<PersistentVolumeClaim>, users: &dyn Fn(&PersistentVolumeClaim) -> Vec<String>) -> Result<Answer, Refusal> {
        self.objects(&claims.into_iter().map(|claim| (claim, Vec::new())).collect::<Vec<_>>(), |claim, _| object::claim(claim, &users(claim)))
    }

    /// `endpoints` says what a Service leads to.
    pub fn services(&self, services: Vec<Service>, endpoints: &dyn Fn(&Service) -> Endpoints) -> Result<Answer, Refusal> {
        let services: Vec<_> = services.into_iter().map(|service| (service, Vec::new())).collect();
        self.objects(&services, |service, _| object::service(service, &endpoints(service)))
    }

    fn objects<O: Listed>(&self, all: &[(O, Vec<Event>)], describe: impl Fn(&O, &[Event]) -> String) -> Result<Answer, Refusal> {
        let names = match What::read(&self.what)? {
            What::Objects(_, names) => names,
            What::Events => return Err(Refusal::client("events cannot be described; `get events -o yaml` shows all of them")),
        };
        if !names.is_empty() && self.selector.is_some() {
            return Err(Refusal::client("name cannot be provided when a selector is specified"));
        }
        let selector = Selector::parse(self.selector.as_deref().unwrap_or_default())?;
        let is_here = |object: &O| object.metadata().namespace.as_ref().is_none_or(|namespace| *namespace == self.namespace);
        let is_meant = |object: &O| is_here(object) && selector.matches(object.metadata().labels.as_ref());
        let mut here: Vec<&(O, Vec<Event>)> = all.iter().filter(|(object, _)| is_meant(object)).collect();
        here.sort_by_key(|(object, _)| object.metadata().name.as_ref());
        let mut answer = Answer::default();
        let mut meant = Vec::new();
        for name in &names {
            let exact = here.iter().filter(|(object, _)| object.metadata().name.as_ref() == Some(name));
            let begun = here.iter().filter(|(object, _)| plain(&object.metadata().name).starts_with(name.as_str()));
            let found: Vec<_> = if exact.clone().count() > 0 { exact.copied().collect() } else { begun.copied().collect() };
            if found.is_empty() {
                answer.code = 1;
                answer.stderr += &format!("{}\n", Refusal::not_found_of(O::OF, name));
            }
            meant.extend(found);
        }
        let meant = if names.is_empty() { here } else { meant };
        if names.is_empty() && meant.is_empty() {
            answer.stderr = nothing_found(Some(&self.namespace));
        }
        // As upstream: two empty lines between objects.
        answer.stdout = meant.iter().map(|(object, events)| describe(object, events)).collect::<Vec<_>>().join("\n\n");
        Ok(answer)
    }
}

fn identity(text: &mut Text, pod: &Pod, spec: &PodSpec, status: &PodStatus) {
    text.field(0, "Name", Some(plain(&pod.metadata.name)));
    text.field(0, "Namespace", Some(plain(&pod.metadata.namespace)));
    text.field(0, "Priority", spec.priority);
    text.field(0, "Priority Class Name", set(&spec.priority_class_name));
    text.field(0, "Runtime Class Name", set(&spec.runtime_class_name));
    text.field(0, "Service Account", set(&spec.service_account_name));
    match set(&spec.node_name) {
        Some(node) => text.field(0, "Node", Some(format_args!("{node}/{}", plain(&status.host_ip)))),
        None => text.field(0, "Node", Some("<none>")),
    }
    text.field(0, "Start Time", status.start_time.as_ref().map(|time| duration::rfc1123(Some(time.0))));
    text.list("Labels", pod.metadata.labels.iter().flatten().map(|(key, value)| format!("{key}={value}")));
    annotations(text, pod.metadata.annotations.as_ref());
}

fn annotations(text: &mut Text, annotations: Option<&BTreeMap<String, String>>) {
    let shown = annotations.into_iter().flatten().filter(|(key, _)| !HIDDEN_ANNOTATIONS.contains(&key.as_str()));
    text.list(
        "Annotations",
        shown.map(|(key, value)| {
            let value = value.strip_suffix('\n').unwrap_or(value);
            if key.len() + value.len() + 2 <= LONGEST_ANNOTATION && !value.contains('\n') {
                return format!("{key}: {value}");
            }
            let lines = value.split('\n').map(|line| format!("\n\t  {}", shorten(line, LONGEST_ANNOTATION - 2)));
            format!("{key}:{}", lines.collect::<String>())
        }),
    );
}

fn shorten(line: &str, longest: usize) -> String {
    match line.len() > longest {
        true => format!("{}...", &line[..line.floor_char_boundary(longest)]),
        false => line.to_owned(),
    }
}

fn state(text: &mut Text, pod: &Pod, spec: &PodSpec, status: &PodStatus, now: Timestamp) {
    let over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    match &pod.metadata.deletion_timestamp {
        Some(at) if !over => {
            text.field(0, "Status", Some(format_args!("Terminating (lasts {})", duration::since(Some(at.0), now))));
            text.field(0, "Termination Grace Period", Some(format_args!("{}s", pod.metadata.deletion_grace_period_seconds.unwrap_or_default())));
        }
        _ => text.field(0, "Status", Some(plain(&status.phase))),
    }
    text.field(0, "Reason", set(&status.reason));
    text.field(0, "Message", set(&status.message));
    if let Some(profile) = spec.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref()) {
        text.field(0, "SeccompProfile", Some(&profile.type_));
        text.field(0, "LocalhostProfile", (profile.type_ == "Localhost").then(|| plain(&profile.localhost_profile)));
    }
    text.field(0, "IP", Some(plain(&status.pod_ip)));
    match status.pod_ips.as_deref() {
        None | Some([]) => text.field(0, "IPs", Some("<none>")),
        Some(ips) => {
            text.at(0, format_args!("IPs:\n"));
            ips.iter().for_each(|ip| text.field(1, "IP", Some(&ip.ip)));
        }
    }
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    text.field(0, "Controlled By", owner.map(|owner| format!("{}/{}", owner.kind, owner.name)));
    text.field(0, "NominatedNodeName", set(&status.nominated_node_name));
}

fn containers(text: &mut Text, pod: &Pod, spec: &PodSpec, status: &PodStatus) {
    if let Some(resources) = &spec.resources {
        text.at(0, format_args!("Resources:\n"));
        container::resources(text, 1, resources);
    }
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    if !inits.is_empty() {
        container::containers(text, "Init Containers", inits, status.init_container_statuses.as_deref(), pod);
    }
    container::containers(text, "Containers", &spec.containers, status.container_statuses.as_deref(), pod);
    let ephemeral: Vec<_> = spec.ephemeral_containers.iter().flatten().map(of_ephemeral).collect();
    if !ephemeral.is_empty() {
        container::containers(text, "Ephemeral Containers", &ephemeral, status.ephemeral_container_statuses.as_deref(), pod);
    }
}

fn conditions(text: &mut Text, spec: &PodSpec, status: &PodStatus) {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    if !gates.is_empty() {
        text.at(0, format_args!("Readiness Gates:\n  Type\tStatus\n"));
        for gate in gates {
            let condition = conditions.iter().find(|condition| condition.type_ == gate.condition_type);
            text.at(1, format_args!("{} \t{} \n", gate.condition_type, condition.map_or("<none>", |condition| &condition.status)));
        }
    }
    if !conditions.is_empty() {
        text.at(0, format_args!("Conditions:\n  Type\tStatus\n"));
        conditions.iter().for_each(|condition| text.at(1, format_args!("{} \t{} \n", condition.type_, condition.status)));
    }
}

fn scheduling(text: &mut Text, spec: &PodSpec, status: &PodStatus) {
    text.field(0, "QoS Class", Some(plain(&status.qos_class)));
    nodes(text, spec);
    let mut spreads: Vec<&TopologySpreadConstraint> = spec.topology_spread_constraints.iter().flatten().collect();
    spreads.sort_by(|a, b| a.topology_key.cmp(&b.topology_key));
    if !spreads.is_empty() {
        text.list("Topology Spread Constraints", spreads.into_iter().map(spread));
    }
    if let Some(group) = &spec.scheduling_group {
        text.at(0, format_args!("SchedulingGroup:\n"));
        text.field(1, "PodGroupName", Some(plain(&group.pod_group_name)));
    }
}

/// Which nodes it may run on.
fn nodes(text: &mut Text, spec: &PodSpec) {
    text.list("Node-Selectors", spec.node_selector.iter().flatten().map(|(key, value)| format!("{key}={value}")));
    let mut tolerations: Vec<&Toleration> = spec.tolerations.iter().flatten().collect();
    tolerations.sort_by_key(|toleration| plain(&toleration.key));
    text.list("Tolerations", tolerations.into_iter().map(toleration));
}

fn toleration(toleration: &Toleration) -> String {
    let mut line = plain(&toleration.key).to_owned();
    if let Some(value) = set(&toleration.value) {
        line += &format!("={value}");
    }
    if let Some(effect) = set(&toleration.effect) {
        line += &format!(":{effect}");
    }
    if toleration.operator.as_deref() == Some("Exists") && set(&toleration.value).is_none() {
        line += if line.is_empty() { "op=Exists" } else { " op=Exists" };
    }
    if let Some(seconds) = toleration.toleration_seconds {
        line += &format!(" for {seconds}s");
    }
    line
}

fn spread(spread: &TopologySpreadConstraint) -> String {
    let mut line = format!("{}:{} when max skew {} is exceeded", spread.topology_key, spread.when_unsatisfiable, spread.max_skew);
    if let Some(selector) = &spread.label_selector {
        line += &format!(" for selector {}", Selector::from(selector));
    }
    line
}

fn happened(text: &mut Text, events: &[Event], now: Timestamp) {
    if events.is_empty() {
        return text.field(0, "Events", Some("<none>"));
    }
    text.at(0, format_args!("Events:\n  Type\tReason\tAge\tFrom\tMessage\n  ----\t------\t----\t----\t-------\n"));
    for event in events::sorted(events) {
        let from = event.source.as_ref().and_then(|source| set(&source.component)).or(set(&event.reporting_component)).unwrap_or_default();
        let (kind, reason, age) = (plain(&event.type_), plain(&event.reason), events::interval(event, now));
        text.at(1, format_args!("{kind}\t{reason}\t{age}\t{from}\t"));
        if let Some(path) = set(&event.involved_object.field_path) {
            text.on(format_args!("{path}: "));
        }
        text.on(format_args!("{}\n", plain(&event.message).trim()));
    }
}
