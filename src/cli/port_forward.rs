//! `minipod port-forward`: a port of this machine leads to a port on localhost inside a pod.
//!
//! ```text
//! client ──▶ 127.0.0.1:8080 ─┐                  ┌── namespace of the pod ──┐
//!                            ├─ this command ───┼──▶ 127.0.0.1:80, [::1]:80 │
//! client ──▶     [::1]:8080 ─┘   (relay)        └───────────────────────────┘
//! ```
//!
//! One thread, one loop. A socket belongs to the network namespace that it was made in: each connection's far end is made with a visit to
//! the pod's, whose pause the supervisor lends as a pidfd. That the pause ends is how we learn that the pod does.

mod relay;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Result;
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::Signal;

use self::relay::{Relay, Side};
use super::get::Refusal;
use super::{need_root, pods};
use crate::error::Error;
use crate::pod::control::{self, Reply, Request};
use crate::pod::dir::PodDir;
use crate::pod::places::Places;
use crate::pod::{all_containers, pod_spec};
use crate::sys::net;
use crate::sys::poll::{Poll, Signals};

/// Reach ports inside a pod from this machine, also those of servers on 127.0.0.1
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod port-forward web 8080:80       127.0.0.1:8080 and [::1]:8080 lead to port 80 in the pod
  minipod port-forward web 5000 6000     the same numbers on both sides
  minipod port-forward web :80           any free port; the first line says which
  minipod port-forward web 8080:http     a port by its name in the manifest
  minipod port-forward --address 0.0.0.0 web 8080:80     reachable from other machines

It goes on until ctrl-c, or until the pod ends. A pod's own address (`minipod get pods -o wide`)
needs no forwarding, but there only servers answer that listen on it.")]
pub struct PortForwardArgs {
    /// The pod, as NAME or pod/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// [LOCAL:]REMOTE; a LOCAL of 0, or nothing before the colon, is any free port
    #[arg(value_name = "[LOCAL:]REMOTE", required = true)]
    ports: Vec<String>,
    /// Where to listen: addresses of this machine, or localhost; commas between
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
    /// The namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
}

/// A port here and the one that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    local: u16,
    remote: u16,
}

impl Ports {
    fn parse(word: &str, pod: &Pod) -> Result<Ports, Refusal> {
        let (local, remote) = match word.split(':').collect::<Vec<_>>()[..] {
            [port] => (port, port),
            ["", remote] => ("0", remote),
            [local, remote] => (local, remote),
            _ => return Err(Refusal::client(format!("invalid port format '{word}'"))),
        };
        let number = |text: &str, side: &str| text.parse::<u16>().map_err(|error| Refusal::client(format!("error parsing {side} port '{text}': {error}")));
        let remote = match remote.parse::<u16>() {
            Ok(number) => number,
            Err(_) if remote.chars().any(|c| c.is_ascii_alphabetic()) => named(pod, remote)?,
            Err(_) => number(remote, "remote")?,
        };
        // `http` alone is its number on both sides.
        let local = if local.chars().any(|c| c.is_ascii_alphabetic()) { named(pod, local)? } else { number(local, "local")? };
        if remote == 0 { Err(Refusal::client("remote port must be > 0")) } else { Ok(Ports { local, remote }) }
    }
}

/// A container's port by its name.
fn named(pod: &Pod, name: &str) -> Result<u16, Refusal> {
    let ports = all_containers(pod_spec(pod)).flat_map(|container| container.ports.iter().flatten());
    let found = ports.filter(|port| port.name.as_deref() == Some(name)).find_map(|port| u16::try_from(port.container_port).ok());
    found.ok_or_else(|| Refusal::client(format!("Pod '{}' does not have a named port '{name}'", pod.metadata.name.as_deref().unwrap_or_default())))
}

/// What listens here, and where it leads to.
struct Door {
    listener: TcpListener,
    ports: Ports,
}

pub fn port_forward(args: &PortForwardArgs, places: &Places) -> Result<u8> {
    need_root()?;
    let name = pods::name_of(&args.pod)?;
    let pod = pods::find(places, &args.namespace, name)?;
    let ports = args.ports.iter().map(|word| Ports::parse(word, &pod)).collect::<Result<Vec<_>, _>>()?;
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Unknown");
    if phase != "Running" {
        return Err(Refusal::client(format!("unable to forward port because pod is not running. Current status={phase}")).into());
    }
    let pause = match control::ask(&PodDir::new(places, &args.namespace, name), &Request::Network {})? {
        Some((Reply::Network {}, descriptors, _)) => descriptors.into_iter().next(),
        Some((Reply::Refused { why }, ..)) => return Err(Refusal::client(why).into()),
        _ => None,
    };
    let pause = pause.ok_or_else(|| Refusal::client("lost connection to pod"))?;
    let doors = open(&args.address, &ports)?;
    let uid = pod.metadata.uid.unwrap_or_default();
    Forwarding { pod: format!("{name}, uid {uid}"), pause, doors, poll: Poll::new()?, relays: Vec::new() }.run()
}

/// Opens a door for each port on each address. For localhost one of IPv4 and IPv6 is enough, as a machine may lack one.
fn open(addresses: &[String], ports: &[Ports]) -> Result<Vec<Door>> {
    let mut doors = Vec::new();
    for ports in ports {
        let mut ports = *ports;
        for address in addresses {
            let ips = match address.as_str() {
                "localhost" => vec![IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()],
                other => vec![other.parse().map_err(|_| Refusal::client(format!("{other} is not a valid IP")))?],
            };
            let (mut opened, mut errors) = (false, Vec::new());
            for ip in ips {
                let at = SocketAddr::new(ip, ports.local);
                match TcpListener::bind(at).and_then(|listener| Ok((listener.local_addr()?, listener))) {
                    Ok((bound, listener)) => {
                        // A port that the kernel chose is the same for what comes after.
                        ports.local = bound.port();
                        say(&format!("Forwarding from {bound} -> {}", ports.remote));
                        doors.push(Door { listener, ports });
                        opened = true;
                    }
                    Err(error) => errors.push(format!("listen {at}: {}", Error::io("bind", "", &error))),
                }
            }
            if !opened {
                eprintln!("Unable to listen on port {}: Listeners failed to create with the following errors: [{}]", ports.local, errors.join(" "));
            }
        }
    }
    if doors.is_empty() {
        let wanted = ports.iter().map(|ports| format!("{{{} {}}}", ports.local, ports.remote)).collect::<Vec<_>>().join(" ");
        return Err(Refusal::client(format!("unable to listen on any of the requested ports: [{wanted}]")).into());
    }
    Ok(doors)
}

/// That nobody reads it any more does not end the forwarding.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

const SIGNALS: u64 = 0;
const PAUSE: u64 = 1;
const DOORS: u64 = 2;
/// Relays' tokens: this, twice their number, and which side.
const RELAYS: u64 = 1 << 32;
/// More connections at once wait to be accepted: each takes two descriptors, of 1024 that are usual.
const MOST: usize = 400;

struct Forwarding {
    /// For messages.
    pod: String,
    /// A pidfd.
    pause: OwnedFd,
    doors: Vec<Door>,
    poll: Poll,
    relays: Vec<Option<Relay>>,
}

impl Forwarding {
    fn run(mut self) -> Result<u8> {
        let signals = Signals::take(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
        self.poll.add(&signals, SIGNALS)?;
        self.poll.add(&self.pause, PAUSE)?;
        for door in &self.doors {
            door.listener.set_nonblocking(true)?;
        }
        loop {
            self.watch_doors()?;
            for token in self.poll.wait(None)? {
                match token {
                    SIGNALS => return Ok(0),
                    PAUSE => return Err(Refusal::client("lost connection to pod").into()),
                    door if door < RELAYS => self.accept((door - DOORS) as usize)?,
                    relay => self.carry(((relay - RELAYS) / 2) as usize)?,
                }
            }
        }
    }

    fn watch_doors(&self) -> Result<(), Error> {
        let room = self.relays.iter().flatten().count() < MOST;
        (DOORS..).zip(&self.doors).try_for_each(|(token, door)| self.poll.want(&door.listener, token, room, false))
    }

    fn accept(&mut self, number: usize) -> Result<(), Error> {
        let ports = self.doors[number].ports;
        let near = match self.doors[number].listener.accept() {
            Ok((near, _)) => near,
            // It has gone again, or there is no descriptor for it now.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ECONNABORTED) => return Ok(()),
            Err(error) => return Err(Error::io("accept", "", &error)),
        };
        say(&format!("Handling connection for {}", ports.local));
        near.set_nonblocking(true).map_err(|error| Error::io("fcntl", "", &error))?;
        let free = self.relays.iter().position(Option::is_none).unwrap_or(self.relays.len());
        if free == self.relays.len() {
            self.relays.push(None);
        }
        let relay = Relay::new(near, ports.local, ports.remote);
        self.relays[free] = self.dial(relay, None);
        self.carry(free)
    }

    /// Makes the relay's far end, inside the pod: on IPv4 first, on IPv6 if that is refused.
    fn dial(&self, mut relay: Relay, mut refused: Option<Error>) -> Option<Relay> {
        let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, relay.remote)), SocketAddr::from((Ipv6Addr::LOCALHOST, relay.remote))];
        for address in &addresses[usize::from(refused.is_some())..] {
            match net::inside(self.pause.as_fd(), || net::tcp_to(*address)) {
                Ok(far) => {
                    relay.connecting(far, refused);
                    return Some(relay);
                }
                Err(error) => refused = Some(refused.map_or(error.clone(), |first| Error::said(format!("IPv4: {first}, IPv6: {error}")))),
            }
        }
        self.complain(&relay, &refused.map(|error| error.to_string()).unwrap_or_default());
        None
    }

    /// Lets a relay do what it can, and watches for what it waits for.
    fn carry(&mut self, number: usize) -> Result<(), Error> {
        let Some(mut relay) = self.relays[number].take() else { return Ok(()) };
        match relay.go_on() {
            relay::State::Done => return Ok(()),
            relay::State::Broken(error) => {
                self.complain(&relay, &error.to_string());
                return Ok(());
            }
            relay::State::Refused(error, None) => match self.dial(relay, Some(error)) {
                Some(next) => relay = next,
                None => return Ok(()),
            },
            relay::State::Refused(error, Some(first)) => {
                self.complain(&relay, &format!("IPv4: {first}, IPv6: {error}"));
                return Ok(());
            }
            relay::State::Going => {}
        }
        for (at, side) in [Side::Near, Side::Far].into_iter().enumerate() {
            let (socket, read, write): (&TcpStream, bool, bool) = relay.wants(side);
            self.poll.want(socket, RELAYS + 2 * number as u64 + at as u64, read, write)?;
        }
        self.relays[number] = Some(relay);
        Ok(())
    }

    fn complain(&self, relay: &Relay, why: &str) {
        eprintln!(
            "an error occurred forwarding {} -> {}: error forwarding port {} to pod {}: failed to connect to localhost:{} inside the pod, {why}",
            relay.local, relay.remote, relay.remote, self.pod, relay.remote
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        let pod = serde_json::json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
            "spec": { "containers": [{ "name": "c", "ports": [{ "name": "http", "containerPort": 8000 }] }] } });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn ports_are_read_as_kubectl_reads_them() {
        for (word, local, remote) in [("80", 80, 80), ("8080:80", 8080, 80), (":80", 0, 80), ("0:80", 0, 80), ("http", 8000, 8000), ("1:http", 1, 8000)] {
            assert_eq!(Ports::parse(word, &pod()).unwrap(), Ports { local, remote }, "{word}");
        }
        for (word, words) in [
            ("1:2:3", "invalid port format"),
            ("", "error parsing remote port"),
            ("80:", "error parsing remote port"),
            ("70000", "error parsing remote port"),
            ("-1:80", "error parsing local port"),
            ("8080:0", "remote port must be > 0"),
            ("8080:https", "does not have a named port 'https'"),
        ] {
            let refused = Ports::parse(word, &pod()).unwrap_err().to_string();
            assert!(refused.contains(words), "{word}: {refused}");
        }
    }
}
