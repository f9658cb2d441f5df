//! A network namespace gets an address, a name and a way out; or a pod is in the host's.
//!
//! ```text
//!   host                                             pod (a network namespace)
//!   ┌──────────────────────────────────────────┐     ┌─────────────────────────────┐
//!   │ mp0a4d0005-91c2   10.77.0.1/32  ─────────┼─────┼─ eth0   10.77.0.5/32        │
//!   │   route 10.77.0.5/32                     │veth │  default via 10.77.0.1      │
//!   │   DNS 10.77.0.1:53 (this link only)      │     │  lo     127.0.0.1, ::1      │
//!   │ mp0a4d0006-0b7e   10.77.0.1/32  ─────────┼──   └─────────────────────────────┘
//!   │ eth0 ── masquerade what leaves the range │
//!   └──────────────────────────────────────────┘
//! ```
//!
//! - There is no bridge. Every host end has the same gateway address, and a route leads to the one pod behind it; pods reach
//!   one another by the host's forwarding. A bridge takes 1023 ports and grows slower with each of them.
//! - An address is a lease: a file, never given twice, taken back from the dead.
//! - [`masquerade`](crate::sys::netlink::nft): one nftables table for each range, made with its first pod and removed with
//!   its last.
//! - [`HostPort`]: a pod whose ports are ports of the machine has one table more, of its own.
//! - [`dns`] answers a pod's questions for other pods' names and passes on the rest. Each supervisor serves its own pod.
//! - [`files`] says what the pod's /etc/hosts, /etc/hostname and /etc/resolv.conf hold.
//!
//! A hostNetwork pod is never attached. It has no lease, so its name is unknown to DNS: it would be the machine's own
//! address, which for a pod is every address the machine has, and whose ports others may hold.
//!
//! Pods have no IPv6 address beyond ::1 and the link-local one of eth0.

pub mod dns;
pub mod files;
mod lease;
mod link;
mod ports;
mod range;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use lease::{Names, PodName};
pub use ports::{HostPort, Published};
pub use range::Range;

use crate::error::{Error, Result};
use crate::sys::netlink::Netlink;
use lease::{Lease, Leases, Locked};

/// The pods' network of one root.
#[derive(Debug, Clone)]
pub struct Network {
    leases: Leases,
    range: Range,
}

/// A pod's place in the network; kept with the pod's state, so that whoever finds the pod can detach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub pod: PodName,
    pub ip: Ipv4Addr,
    /// The range that the address is of.
    pub range: Range,
    /// The pod's default gateway, which is also its DNS server.
    pub gateway: Ipv4Addr,
    /// The host's end of the pair.
    pub veth: String,
}

impl Network {
    /// The network whose leases lie in `run_dir`/network, for pods with addresses of `range`.
    pub fn open(run_dir: &Path, range: Range) -> Result<Network> {
        Ok(Network { leases: Leases::open(&run_dir.join("network"))?, range })
    }

    /// Gives the network namespace an address, a link to the host and a default route, and sets `lo` up. On failure nothing is
    /// left on the host. What the pod can live without comes as warnings beside the attachment: no way out of the machine.
    ///
    /// `alive` says whether a pod still runs; it is only asked when the range is used up, to take leases back from the dead.
    pub fn attach(&self, pod: &PodName, netns: BorrowedFd<'_>, alive: &dyn Fn(&PodName) -> bool) -> Result<(Attachment, Vec<Error>)> {
        let doing = |e: Error| e.doing(format!("giving pod {}/{} an address", pod.namespace, pod.name));
        let (attachment, mut warnings) = self.lease(pod, alive).map_err(doing)?;
        let Attachment { ip, gateway, veth, .. } = &attachment;
        if let Err(error) = link::connect(veth, *ip, *gateway, netns) {
            let _ = self.give_back(*ip, self.range, veth);
            return Err(doing(error));
        }
        warnings.extend(link::forward().err().map(|e| e.doing("letting pods reach one another and the outside")));
        Ok((attachment, warnings))
    }

    /// Takes the pod out of the network: its address may be given to another afterwards. Tells all that failed, having gone
    /// on. The pair of links itself dies with the pod's namespace, so close that next; detaching twice is fine. It takes
    /// 0.3 ms, and for the last pod some 10 ms, with which the kernel takes the table apart.
    pub fn detach(&self, attachment: &Attachment) -> Vec<Error> {
        let link = link::disconnect(&attachment.veth, attachment.ip, attachment.gateway);
        let lease = self.give_back(attachment.ip, attachment.range, &attachment.veth);
        let doing = |e: Error| e.doing(format!("taking pod {}/{} out of the network", attachment.pod.namespace, attachment.pod.name));
        [link, lease].into_iter().filter_map(Result::err).map(doing).collect()
    }

    /// Lets ports of this machine lead to the pod until the answer is closed. What killed supervisors left is taken back first, as its
    /// rules would come before ours. `alive` as with [`Network::reclaim`].
    pub fn publish(&self, attachment: &Attachment, ports: &[HostPort], alive: &dyn Fn(&PodName) -> bool) -> Result<Published> {
        self.reclaim(alive)?;
        ports::publish(attachment, ports)
    }

    /// Takes back every lease whose pod is not alive, with its link, and tells whose they were. Slow where a link is left
    /// (20 ms each), and it asks for every pod: for clean-up, not for a start.
    pub fn reclaim(&self, alive: &dyn Fn(&PodName) -> bool) -> Result<Vec<PodName>> {
        let mut locked = self.leases.lock()?;
        let dead = self.reclaim_locked(&mut locked, alive)?;
        let ranges: HashSet<Range> = dead.iter().map(|lease| lease.range).chain([self.range]).collect();
        ranges.into_iter().try_for_each(|range| close_if_unused(range, &mut locked))?;
        Ok(dead.into_iter().map(|lease| lease.pod).collect())
    }

    /// Who has which address, for DNS. A pod whose supervisor was killed is still told until its lease is reclaimed.
    pub fn names(&self) -> Names {
        Names::new(self.leases.clone())
    }

    /// The range that pods get addresses of.
    pub fn range(&self) -> &Range {
        &self.range
    }

    fn lease(&self, pod: &PodName, alive: &dyn Fn(&PodName) -> bool) -> Result<(Attachment, Vec<Error>)> {
        let mut locked = self.leases.lock()?;
        if locked.count(&self.range)? == 0 {
            link::refuse_overlap(&self.range)?;
        }
        let taken = match locked.take(&self.range, pod)? {
            None => {
                self.reclaim_locked(&mut locked, alive)?;
                locked.take(&self.range, pod)?
            }
            taken => taken,
        };
        let Some((ip, Lease { pod, range, veth })) = taken else {
            return Err(Error::said(format!(
                "all {} addresses of the pod network {} are given; delete a pod, or use a larger range",
                self.range.capacity(),
                self.range
            )));
        };
        let warning = masquerade(range).err().map(|e| e.doing("pods cannot reach the outside of this machine: setting up masquerading"));
        Ok((Attachment { pod, ip, range, gateway: range.gateway(), veth }, warning.into_iter().collect()))
    }

    fn give_back(&self, ip: Ipv4Addr, range: Range, veth: &str) -> Result<()> {
        let mut locked = self.leases.lock()?;
        locked.give_back(ip, Some(veth))?;
        close_if_unused(range, &mut locked)
    }

    fn reclaim_locked(&self, locked: &mut Locked<'_>, alive: &dyn Fn(&PodName) -> bool) -> Result<Vec<Lease>> {
        let mut dead = Vec::new();
        for (ip, lease) in self.leases.all()? {
            if lease.as_ref().is_some_and(|lease| alive(&lease.pod)) {
                continue;
            }
            if let Some(lease) = &lease {
                ports::close(&lease.veth)?;
                link::delete(&lease.veth)?;
            }
            locked.give_back(ip, lease.as_ref().map(|lease| lease.veth.as_str()))?;
            dead.extend(lease);
        }
        Ok(dead)
    }
}

/// Makes the range's table if it is not there: with the first pod, or after somebody flushed the rules of the machine.
fn masquerade(range: Range) -> Result<()> {
    let (network, prefix) = range.cidr();
    let mut netfilter = Netlink::netfilter()?;
    match netfilter.has_table(&table(range))? {
        true => Ok(()),
        false => netfilter.new_masquerade(&table(range), network, prefix),
    }
}

/// Removes the range's table when no pod of it is left. The lock keeps a new first pod waiting meanwhile.
fn close_if_unused(range: Range, locked: &mut Locked<'_>) -> Result<()> {
    if locked.count(&range)? > 0 {
        return Ok(());
    }
    let table = table(range);
    let closed = Netlink::netfilter().and_then(|mut netfilter| if netfilter.has_table(&table)? { netfilter.delete_table(&table) } else { Ok(()) });
    match closed {
        // A kernel without nftables never had one.
        Err(error) if lacks_nftables(&error) => Ok(()),
        done => done,
    }
}

fn lacks_nftables(error: &Error) -> bool {
    [libc::EOPNOTSUPP, libc::EPROTONOSUPPORT, libc::EINVAL].iter().any(|errno| error.is(*errno))
}

/// The nftables table of a range. Each has its own, for several roots on one machine have ranges of their own.
fn table(range: Range) -> String {
    format!("minipod_{}", range.to_string().replace('/', "_"))
}

/// The host's resolv.conf, from which a pod's is made and whose nameservers its DNS server asks; empty if there is none. Where
/// systemd-resolved has put its loopback address there, which no pod reaches, the servers behind it are taken instead.
pub fn host_resolv_conf() -> String {
    reachable_resolv_conf(Path::new("/etc/resolv.conf"), Path::new("/run/systemd/resolve/resolv.conf"))
}

fn reachable_resolv_conf(own: &Path, behind: &Path) -> String {
    let text = std::fs::read_to_string(own).unwrap_or_default();
    let servers = files::nameservers(&text);
    if servers.is_empty() || !servers.iter().all(|ip| ip.is_loopback()) {
        return text;
    }
    std::fs::read_to_string(behind).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_resolver_on_the_loopback_gives_way_to_the_servers_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let (own, behind) = (dir.path().join("own"), dir.path().join("behind"));
        let read = || reachable_resolv_conf(&own, &behind);
        assert_eq!(read(), "");
        std::fs::write(&own, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(read(), "nameserver 127.0.0.53\n", "the only one there is");
        std::fs::write(&behind, "nameserver 192.0.2.53\n").unwrap();
        assert_eq!(read(), "nameserver 192.0.2.53\n");
        std::fs::write(&own, "nameserver 127.0.0.1\nnameserver 9.9.9.9\n").unwrap();
        assert!(read().ends_with("9.9.9.9\n"));
    }

    #[test]
    fn an_attachment_is_kept_and_found_again_as_text() {
        let pod = PodName { namespace: "a".into(), name: "b".into(), uid: "c".into(), hostname: "b".into(), subdomain: None };
        let range = Range::DEFAULT;
        let kept = Attachment { pod, ip: range.pod(0), range, gateway: range.gateway(), veth: "mp0a4d0002-0000".into() };
        assert_eq!(serde_json::from_str::<Attachment>(&serde_json::to_string(&kept).unwrap()).unwrap(), kept);
    }
}
