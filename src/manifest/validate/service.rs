//! Services (`ValidateService`), and what of them is otherwise here: there is no virtual IP, so nothing translates a port.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::containers::word;
use super::{metadata, names};
use crate::manifest::fault::Findings;
use crate::manifest::path::At;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

pub fn service(service: &Service, findings: &mut Findings) {
    let at = At::ROOT.field("metadata");
    metadata::object(&service.metadata, &at, findings);
    // ValidateServiceName is RFC 1035's: it is a label of DNS.
    if let Some(name) = service.metadata.name.as_deref().filter(|name| !name.is_empty() && names::subdomain(name).is_empty()) {
        names::check(name, names::label, &at.field("name"), findings);
        if name.starts_with(|first: char| first.is_ascii_digit()) {
            findings.invalid(&at.field("name"), name, "a DNS-1035 label must start with an alphabetic character");
        }
    }
    let Some(spec) = &service.spec else { return };
    let at = At::ROOT.field("spec");
    word(spec.type_.as_deref(), TYPES, &at.field("type"), findings);
    match spec.type_.as_deref() {
        Some("ExternalName") => return external(spec, &at, findings),
        Some(kind @ ("NodePort" | "LoadBalancer")) => findings.warn(
            &at.field("type"),
            format_args!("{kind} has no effect here: a Service is known to pods alone; reach one from outside with `minipod port-forward` or a hostPort"),
        ),
        _ => {}
    }
    headless(spec, &at, findings);
    if let Some(selector) = &spec.selector {
        metadata::labels(selector, &at.field("selector"), findings);
    }
    if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
        findings.warn(&at.field("selector"), "without it the name resolves to nothing: Endpoints are not kept here");
    }
    ports(spec.ports.as_deref().unwrap_or_default(), &at.field("ports"), findings);
}

/// One that stands for another name; it has no pods, so nothing else of it is looked at.
fn external(spec: &ServiceSpec, at: &At, findings: &mut Findings) {
    match spec.external_name.as_deref().unwrap_or_default() {
        "" => findings.required(&at.field("externalName"), ""),
        name => names::check(name, names::subdomain, &at.field("externalName"), findings),
    }
    let lists = [("clusterIPs", spec.cluster_ip.is_some() || spec.cluster_ips.is_some()), ("ipFamilies", spec.ip_families.is_some())];
    for (field, _) in lists.into_iter().chain([("ipFamilyPolicy", spec.ip_family_policy.is_some())]).filter(|(_, set)| *set) {
        findings.forbidden(&at.field(field), "may not be set for ExternalName services");
    }
    ports(spec.ports.as_deref().unwrap_or_default(), &at.field("ports"), findings);
}

/// What a Service with an address must have, and one without cannot.
fn headless(spec: &ServiceSpec, at: &At, findings: &mut Findings) {
    let (kind, is_headless) = (spec.type_.as_deref().unwrap_or_default(), spec.cluster_ip.as_deref() == Some("None"));
    if is_headless && matches!(kind, "NodePort" | "LoadBalancer") {
        findings.invalid(&at.field("clusterIPs").index(0), "None", format!("may not be set to 'None' for {kind} services"));
    }
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless {
        findings.required(&at.field("ports"), "");
    }
    for (index, _) in ports.iter().enumerate().filter(|(_, port)| kind == "ClusterIP" && port.node_port.unwrap_or(0) != 0) {
        findings.forbidden(&at.field("ports").index(index).field("nodePort"), "may not be used when `type` is 'ClusterIP'");
    }
}

fn ports(ports: &[ServicePort], at: &At, findings: &mut Findings) {
    let (mut named, mut numbered) = (HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        match port.name.as_deref().unwrap_or_default() {
            "" if ports.len() > 1 => findings.required(&at.field("name"), ""),
            "" => {}
            name => {
                names::check(name, names::label, &at.field("name"), findings);
                if !named.insert(name) {
                    findings.duplicate(&at.field("name"), name);
                }
            }
        }
        number(port.port, &at.field("port"), findings);
        word(port.protocol.as_deref(), PROTOCOLS, &at.field("protocol"), findings);
        if !numbered.insert((port.protocol.as_deref(), port.port)) {
            findings.duplicate(&at, format_args!("{}/{}", port.port, port.protocol.as_deref().unwrap_or("TCP")));
        }
        target(port, &at.field("targetPort"), findings);
    }
}

fn target(port: &ServicePort, at: &At, findings: &mut Findings) {
    let connect = |to: &str| format!("nothing translates port {}: connect to {to} itself", port.port);
    match &port.target_port {
        None => {}
        Some(IntOrString::Int(target)) => {
            number(*target, at, findings);
            if *target != port.port {
                findings.warn(at, connect(&format!("port {target}")));
            }
        }
        Some(IntOrString::String(name)) => {
            names::check(name, names::port, at, findings);
            findings.warn(at, connect(&format!("the port that the pods call {name:?}")));
        }
    }
}

fn number(port: i32, at: &At, findings: &mut Findings) {
    if !(1..=65535).contains(&port) {
        findings.invalid(at, port, "must be between 1 and 65535, inclusive");
    }
}
