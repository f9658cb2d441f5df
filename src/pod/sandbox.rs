//! The sandbox: the pause with the shared namespaces, and the network. Containers come and go in it.
//!
//! ```text
//! pause (net, ipc, uts [, pid]) ─▶ address, route, DNS ─▶ hosts, hostname, resolv.conf
//! ```
//!
//! Whatever fails, what was made before it is undone; the engine tries again later. Volumes are not its: they outlive it.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use rustix::fs::OFlags;

use super::ground::{CGROUP_PATIENCE, Ground, HOSTNAME, HOSTS, RESOLV_CONF, ROOT, pod_spec};
use super::journal::{Journal, Kind};
use super::propagation;
use super::users::Users;
use crate::cgroup::Cgroup;
use crate::container::launch::launch;
use crate::container::pause;
use crate::container::step::Hands;
use crate::error::{Error, Result};
use crate::network::files::{self, Resolver};
use crate::network::{Attachment, HostPort, Published, dns, host_resolv_conf};
use crate::sys::file;
use crate::sys::process::Child;
use crate::volume;

/// How long the kernel may take to end the processes of a shared PID namespace.
const PAUSE_PATIENCE: Duration = Duration::from_secs(2);

pub struct Sandbox {
    pub pause: Child,
    pub dns: Option<dns::Server>,
    attachment: Option<Attachment>,
    published: Option<Published>,
    cgroup: Cgroup,
}

/// Something that went wrong but does not keep the pod from running: an event's reason and message.
type Warning = (&'static str, String);

impl Sandbox {
    /// Makes the sandbox. The error's reason is the event's, FailedCreatePodSandBox.
    pub fn start(ground: &Ground, pod: &Pod, journal: &mut Journal, now: jiff::Timestamp) -> Result<Sandbox> {
        let source = |name: &str| volume::source_of(pod_spec(pod), &ground.volumes(), name);
        propagation::share(pod_spec(pod), &ground.scene(), &ground.host_mounts, &source).map_err(creating)?;
        let cgroup = ground.cgroup.pause().map_err(creating)?;
        let pause = match start_pause(ground, pod, &cgroup) {
            Ok(pause) => pause,
            Err(error) => {
                cgroup.remove(CGROUP_PATIENCE);
                return Err(creating(error));
            }
        };
        let mut sandbox = Sandbox { pause, dns: None, attachment: None, published: None, cgroup };
        match sandbox.connect(ground, pod) {
            Ok(warnings) => {
                warnings.into_iter().for_each(|(reason, message)| journal.tell(Kind::Warning, reason, None, &message, now));
                Ok(sandbox)
            }
            Err(error) => {
                sandbox.stop(ground);
                Err(creating(error))
            }
        }
    }

    /// The pod's addresses; the host's own for hostNetwork.
    pub fn ips(&self) -> Vec<String> {
        match &self.attachment {
            Some(attachment) => vec![attachment.ip.to_string()],
            None => vec![host_ip()],
        }
    }

    /// Address, name service, and the files that tell of them.
    fn connect(&mut self, ground: &Ground, pod: &Pod) -> Result<Vec<Warning>> {
        let spec = pod_spec(pod);
        let mut warnings = Vec::new();
        if spec.host_network != Some(true) {
            let namespace = file::open(format!("/proc/{}/ns/net", self.pause.pid), OFlags::RDONLY)?;
            // Only asked when all addresses are given: a lease whose pod nobody supervises is free.
            let alive = |name: &crate::network::PodName| super::dir::PodDir::new(&ground.places, &name.namespace, &name.name).is_supervised();
            let (attachment, troubles) = ground.network.attach(&ground.name, namespace.as_fd(), &alive)?;
            let ports = HostPort::all_of(spec)?;
            let attachment = self.attachment.insert(attachment);
            if !ports.is_empty() {
                self.published = Some(ground.network.publish(attachment, &ports, &alive)?);
            }
            warnings.extend(troubles.iter().map(|trouble| ("NetworkDegraded", trouble.to_string())));
            match dns::Server::bind(attachment, upstream()) {
                Ok(server) => self.dns = Some(server),
                // resolv.conf tells it as MissingClusterDNS, if the pod's policy wants a server at all.
                Err(error) => warnings.push(("NetworkDegraded", error.to_string())),
            }
        }
        warnings.extend(self.write_files(ground, pod)?);
        Ok(warnings)
    }

    /// §18: /etc/hosts, /etc/hostname and /etc/resolv.conf of the pod. Rewritten in place, as they are bind-mounted.
    fn write_files(&self, ground: &Ground, pod: &Pod) -> Result<Vec<Warning>> {
        let gateway = self.attachment.as_ref().filter(|_| self.dns.is_some()).map(|attachment| attachment.gateway);
        let ips: Vec<_> = self.attachment.iter().map(|attachment| std::net::IpAddr::V4(attachment.ip)).collect();
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let spec = pod_spec(pod);
        let host_network = spec.host_network == Some(true);
        let (resolv_conf, troubles) = files::resolv_conf(&Resolver {
            policy: spec.dns_policy.as_deref().unwrap_or("ClusterFirst"),
            config: spec.dns_config.as_ref(),
            host: &host_resolv_conf(),
            cluster: gateway.map(Into::into),
            namespace: &ground.name.namespace,
            host_network,
        });
        let aliases = spec.host_aliases.as_deref().unwrap_or_default();
        let hosts = match host_network {
            true => files::host_network_hosts_file(&hosts, aliases),
            false => files::hosts_file(&ips, &ground.hostname, aliases),
        };
        for (name, text) in [(HOSTS, hosts), (HOSTNAME, format!("{}\n", hostname(ground, pod))), (RESOLV_CONF, resolv_conf)] {
            let path = ground.scene().join(name);
            std::fs::write(&path, text).map_err(|e| Error::io("write", path.display(), &e))?;
            ground.give_to_pod(&path)?;
        }
        Ok(troubles.into_iter().map(|trouble| (trouble.reason, trouble.message)).collect())
    }

    /// Ends the pause, and the network with it. Collects errors and goes on.
    pub fn stop(self, ground: &Ground) -> Vec<Error> {
        let mut errors: Vec<Error> = self.pause.signal(libc::SIGKILL).err().into_iter().collect();
        match self.pause.wait_at_most(PAUSE_PATIENCE) {
            Ok(Some(_)) => {}
            Ok(None) => errors.push(Error::said("the pause was killed and has not ended: a process of the pod is not reaped by its parent")),
            Err(error) => errors.push(error),
        }
        errors.extend(self.published.and_then(|published| published.close().err()));
        errors.extend(self.attachment.iter().flat_map(|attachment| ground.network.detach(attachment)));
        errors.extend(self.cgroup.remove(CGROUP_PATIENCE));
        errors
    }
}

fn creating(error: Error) -> Error {
    error.reason("FailedCreatePodSandBox")
}

/// The name in the pod's UTS namespace: the node's under hostNetwork.
pub fn hostname(ground: &Ground, pod: &Pod) -> String {
    if pod_spec(pod).host_network == Some(true) { crate::sys::user::host_name() } else { ground.hostname.kernel.clone() }
}

fn start_pause(ground: &Ground, pod: &Pod, cgroup: &Cgroup) -> Result<Child> {
    let plan = pause::plan(pod_spec(pod), &ground.hostname.kernel, &ground.scene().join(ROOT));
    let program = pause::program()?;
    let hands = Hands { program: Some(program.as_fd()), users: ground.users.as_ref().map(Users::namespace), ..Default::default() };
    launch(&plan, &hands, Some(cgroup.dir())).map_err(|e| e.doing("starting the pause"))
}

/// The host's name servers, port 53.
fn upstream() -> Vec<SocketAddr> {
    files::nameservers(&host_resolv_conf()).into_iter().map(|ip| SocketAddr::new(ip, 53)).collect()
}

/// The address by which this machine reaches others; loopback if it reaches nobody. No packet is sent: connecting a UDP socket only
/// asks the routing table.
pub fn host_ip() -> String {
    let ask = || -> std::io::Result<std::net::IpAddr> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip())
    };
    ask().map_or_else(|_| "127.0.0.1".into(), |ip| ip.to_string())
}
