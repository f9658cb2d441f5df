//! Ports of containers.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort};

use super::containers::word;
use super::names;
use crate::manifest::fault::Findings;
use crate::manifest::path::At;

const RANGE: &str = "must be between 1 and 65535, inclusive";

fn ports(container: &Container) -> &[ContainerPort] {
    container.ports.as_deref().unwrap_or_default()
}

pub fn of(container: &Container, host_network: bool, at: &At, findings: &mut Findings) {
    let all = at.field("ports");
    let mut names = HashSet::new();
    for (index, port) in ports(container).iter().enumerate() {
        let at = all.index(index);
        if let Some(name) = port.name.as_ref().filter(|name| !name.is_empty()) {
            let wrong = names::port(name);
            if wrong.is_empty() && !names.insert(name) {
                findings.duplicate(&at.field("name"), name);
            }
            wrong.into_iter().for_each(|said| findings.invalid(&at.field("name"), name, said));
        }
        match port.container_port {
            0 => findings.required(&at.field("containerPort"), ""),
            1..=65535 => {}
            number => findings.invalid(&at.field("containerPort"), number, RANGE),
        }
        let host = port.host_port.unwrap_or_default();
        if !(0..=65535).contains(&host) {
            findings.invalid(&at.field("hostPort"), host, RANGE);
        }
        if host_network && host != port.container_port {
            findings.invalid(&at.field("hostPort"), host, "must match `containerPort` when `hostNetwork` is true");
        }
        word(port.protocol.as_deref(), &["SCTP", "TCP", "UDP"], &at.field("protocol"), findings);
    }
}

/// No two containers may take the same port of the host.
pub fn conflicts<'a>(containers: impl Iterator<Item = &'a Container>, at: &At, findings: &mut Findings) {
    let mut taken = HashSet::new();
    for (index, container) in containers.enumerate() {
        taken_by(container, &mut taken, &at.index(index), findings);
    }
}

pub fn conflicts_of(container: &Container, at: &At, findings: &mut Findings) {
    taken_by(container, &mut HashSet::new(), at, findings);
}

fn taken_by(container: &Container, taken: &mut HashSet<String>, at: &At, findings: &mut Findings) {
    let all = at.field("ports");
    for (index, port) in ports(container).iter().enumerate() {
        let Some(host) = port.host_port.filter(|host| *host != 0) else { continue };
        let key = format!("{}/{}/{host}", port.protocol.as_deref().unwrap_or("TCP"), port.host_ip.as_deref().unwrap_or_default());
        if taken.contains(&key) {
            findings.duplicate(&all.index(index).field("hostPort"), &key);
        }
        taken.insert(key);
    }
}
