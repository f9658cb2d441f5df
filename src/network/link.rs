//! The pair of links between the host and one pod, and what the host needs around them.

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use super::range::Range;
use crate::error::{Error, Result};
use crate::sys::net;
use crate::sys::netlink::{Netlink, route};

/// The pod's end, as every container runtime calls it.
const POD_END: &str = "eth0";
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Makes the pair and sets both ends up; on failure no link is left.
pub fn connect(veth: &str, ip: Ipv4Addr, gateway: Ipv4Addr, netns: BorrowedFd<'_>) -> Result<()> {
    let mut host = Netlink::route()?;
    let mut pod = net::inside(netns, Netlink::route)?;
    // The pair comes first and alone: the kernel would go on after a refusal, with the index of a stranger's link.
    host.send(vec![route::new_veth(veth, POD_END, netns)])?;
    let set_up = || -> Result<()> {
        let near = host.link_index(veth)?;
        host.send(vec![route::add_address(near, gateway), route::add_host_route(near, ip)])?;
        let far = pod.link_index(POD_END)?;
        pod.send(vec![route::link_up("lo", 1), route::add_address(far, ip), route::link_up(POD_END, far), route::add_default_route(far, gateway)])
    };
    let set = { set_up }();
    if set.is_err() {
        let _ = delete(veth);
    }
    set
}

/// Takes address and route off the host's end, so that nothing of the pod is left that another could meet. The pair itself
/// goes with the pod's namespace: deleting it here would make the caller wait for 10 to 20 ms.
pub fn disconnect(veth: &str, ip: Ipv4Addr, gateway: Ipv4Addr) -> Result<()> {
    let mut host = Netlink::route()?;
    let near = match host.link_index(veth) {
        Err(error) if error.is(libc::ENODEV) => return Ok(()),
        index => index?,
    };
    let gone = |error: &Error| [libc::ENODEV, libc::ESRCH, libc::EADDRNOTAVAIL].iter().any(|errno| error.is(*errno));
    let route = host.send(vec![route::delete_host_route(near, ip)]);
    let address = host.send(vec![route::delete_address(near, gateway)]);
    [route, address].into_iter().find_map(|done| done.err().filter(|error| !gone(error))).map_or(Ok(()), Err)
}

/// Deletes the pair now; one that is not there is fine. Slow.
pub fn delete(veth: &str) -> Result<()> {
    match Netlink::route()?.send(vec![route::delete_link(veth)]) {
        Err(error) if !error.is(libc::ENODEV) => Err(error),
        _ => Ok(()),
    }
}

/// Lets the host pass packets on, between pods and to the outside. It is left on afterwards, as every container tool does:
/// nobody can know who else relies on it by then.
pub fn forward() -> Result<()> {
    let said = std::fs::read_to_string(FORWARDING).map_err(|e| Error::io("read", FORWARDING, &e))?;
    if said.trim() == "0" {
        std::fs::write(FORWARDING, "1").map_err(|e| Error::io("write", FORWARDING, &e))?;
    }
    Ok(())
}

/// Fails if the machine uses addresses of the range already, as its own or by a route. Prefixes shorter than /8 do not
/// count: a default route, or the halves of one that VPNs set, lead there only what nothing else is known for.
pub fn refuse_overlap(range: &Range) -> Result<()> {
    let mut host = Netlink::route()?;
    let Some(used) = host.used_networks()?.into_iter().find(|used| used.prefix >= 8 && range.overlaps(used.ip, used.prefix)) else {
        return Ok(());
    };
    let kind = if used.address { "address" } else { "route" };
    let link = host.link_name(used.link).unwrap_or_else(|| "no link".into());
    Err(Error::said(format!(
        "the range of pod addresses {range} overlaps the {kind} {}/{} on {link}; choose a range that this machine does not use",
        used.ip, used.prefix
    )))
}
