//! Ports of this machine that lead to a pod: `hostPort`, with `hostIP` and `protocol`.
//!
//! ```text
//! hostPort 8080 ──▶ a socket that only holds the port         so that no other program, and no other pod, gets it meanwhile
//!               └─▶ nftables: what comes to 8080 goes to POD:80   from other machines, this one, and pods
//! ```
//!
//! The socket goes with the supervisor, the table stays if it was killed: whoever takes back the pod's lease removes it.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use k8s_openapi::api::core::v1::PodSpec;

use super::Attachment;
use crate::error::{Error, Result};
use crate::sys::net::{self, Protocol};
use crate::sys::netlink::Netlink;
use crate::sys::netlink::nft::Forward;

/// A port of this machine that a pod asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    pub protocol: Protocol,
    /// 0.0.0.0: every address of this machine.
    pub on: SocketAddrV4,
    pub container_port: u16,
}

/// Ports that lead to a pod now.
#[derive(Debug)]
pub struct Published {
    table: String,
    _held: Vec<OwnedFd>,
}

impl HostPort {
    /// Those of a pod, of apps and sidecars (upstream's `GetHostPorts`). An IPv6 hostIP is an error: pods have none.
    pub fn all_of(spec: &PodSpec) -> Result<Vec<HostPort>> {
        let sidecars = spec.init_containers.iter().flatten().filter(|init| init.restart_policy.as_deref() == Some("Always"));
        let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
        let mut all = Vec::new();
        for port in ports {
            let (Some(number @ 1..), Ok(container_port)) = (port.host_port.and_then(|port| u16::try_from(port).ok()), u16::try_from(port.container_port))
            else {
                continue;
            };
            let ip = match port.host_ip.as_deref().filter(|ip| !ip.is_empty()).map(str::parse) {
                None => Ipv4Addr::UNSPECIFIED,
                Some(Ok(IpAddr::V4(ip))) => ip,
                _ => {
                    let ip = port.host_ip.as_deref().unwrap_or_default();
                    return Err(Error::said(format!("hostIP {ip} of hostPort {number} is no IPv4 address, and pods have no others here")));
                }
            };
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            let asked = HostPort { protocol, on: SocketAddrV4::new(ip, number), container_port };
            if !all.contains(&asked) {
                all.push(asked);
            }
        }
        Ok(all)
    }

    /// Whether both cannot be had at once (the scheduler's `HostPortInfo.CheckConflict`).
    pub fn conflicts(&self, other: &HostPort) -> bool {
        let anywhere = self.on.ip().is_unspecified() || other.on.ip().is_unspecified();
        self.protocol == other.protocol && self.on.port() == other.on.port() && (anywhere || self.on.ip() == other.on.ip())
    }
}

impl std::fmt::Display for HostPort {
    /// As `kubectl describe` has it: `8080/TCP`, `127.0.0.1:8080/TCP`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.on.ip().is_unspecified() {
            write!(f, "{}:", self.on.ip())?;
        }
        write!(f, "{}/{}", self.on.port(), format!("{:?}", self.protocol).to_uppercase())
    }
}

/// Makes the ports lead to the pod. On failure none of them does.
pub fn publish(attachment: &Attachment, ports: &[HostPort]) -> Result<Published> {
    let mut held = Vec::new();
    for port in ports {
        let taken = net::reserve(port.protocol, port.on).map_err(|error| {
            let why = match (error.is(libc::EADDRINUSE), error.is(libc::EADDRNOTAVAIL)) {
                (true, _) => " (another program of this machine has it)",
                (_, true) => " (this machine has no such address)",
                _ => "",
            };
            error.doing(format!("taking hostPort {port}{why}"))
        })?;
        held.extend(taken);
    }
    let forward = |port: &HostPort| Forward { protocol: port.protocol, from: port.on, to: SocketAddrV4::new(attachment.ip, port.container_port) };
    let forwards: Vec<Forward> = ports.iter().map(forward).collect();
    let table = table(&attachment.veth);
    // Connections to 127.0.0.1 leave by the pod's link with that as their source until it is masqueraded. The table keeps the pod from
    // sending such packets itself, so it comes first.
    let published = Netlink::netfilter()?.new_forwards(&table, &attachment.veth, attachment.ip, &forwards);
    published.map_err(|e| e.doing("letting hostPorts lead to the pod"))?;
    let path = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", attachment.veth);
    if let Err(error) = std::fs::write(&path, "1") {
        let _ = close(&attachment.veth);
        return Err(Error::io("write", path, &error).doing("letting hostPorts lead from 127.0.0.1 to the pod"));
    }
    Ok(Published { table, _held: held })
}

impl Published {
    /// The ports lead nowhere any more, and are free.
    pub fn close(self) -> Result<()> {
        delete(&self.table)
    }
}

/// The same for a pod whose supervisor was killed. It may have had none.
pub fn close(veth: &str) -> Result<()> {
    delete(&table(veth))
}

fn delete(table: &str) -> Result<()> {
    let mut netfilter = Netlink::netfilter()?;
    match netfilter.has_table(table) {
        Ok(true) => netfilter.delete_table(table),
        Ok(false) => Ok(()),
        // A kernel without nftables never had one.
        Err(error) if super::lacks_nftables(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Named for the link, whose name is not given twice: a new pod with the same address has another.
fn table(veth: &str) -> String {
    format!("minipod_{veth}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(ports: serde_json::Value) -> Result<Vec<HostPort>> {
        HostPort::all_of(&serde_json::from_value(json!({"containers": [{"name": "c", "ports": ports}]})).unwrap())
    }

    #[test]
    fn ports_conflict_as_the_scheduler_says() {
        let ports = asked(json!([
            {"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 80, "protocol": "UDP"}, {"containerPort": 3},
            {"containerPort": 4, "hostPort": 80, "hostIP": "127.0.0.1"}, {"containerPort": 5, "hostPort": 80, "hostIP": "10.0.0.1"}]))
        .unwrap();
        assert_eq!(ports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["80/TCP", "80/UDP", "127.0.0.1:80/TCP", "10.0.0.1:80/TCP"]);
        let conflicts = |a: usize, b: usize| (ports[a].conflicts(&ports[b]), ports[b].conflicts(&ports[a]));
        assert_eq!((conflicts(0, 1), conflicts(0, 2), conflicts(2, 3)), ((false, false), (true, true), (false, false)));
    }

    #[test]
    fn an_address_that_no_pod_can_serve_is_told() {
        let error = asked(json!([{"containerPort": 1, "hostPort": 80, "hostIP": "::1"}])).unwrap_err().to_string();
        assert!(error.starts_with("hostIP ::1 of hostPort 80 is no IPv4 address"), "{error}");
    }
}
