//! A host of its own for a test: a thread in a fresh network namespace; and namespaces for its pods.
//! The machine's own network is never touched.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use minipod::network::{Network, PodName, Range};
use minipod::sys::netlink::{Netlink, route};
use minipod::sys::{file, net};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::OFlags;

/// The network namespace of the calling thread.
pub fn this_netns() -> OwnedFd {
    file::open("/proc/thread-self/ns/net", OFlags::RDONLY).unwrap()
}

/// A new network namespace, kept by its descriptor only.
pub fn netns() -> OwnedFd {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        this_netns()
    })
    .join()
    .unwrap()
}

/// Runs `test` on a host of its own, with an empty run directory.
pub fn on_a_host(test: impl FnOnce(Host) + Send + 'static) {
    let host = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        Netlink::route().unwrap().send(vec![route::link_up("lo", 1)]).unwrap();
        test(Host { netns: this_netns(), run: tempfile::tempdir().unwrap() })
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

pub struct Host {
    pub netns: OwnedFd,
    pub run: tempfile::TempDir,
}

impl Host {
    pub fn network(&self, range: &str) -> Network {
        Network::open(self.run.path(), range.parse::<Range>().unwrap()).unwrap()
    }

    /// Everything that a pod may leave on the host: links, addresses and routes, tables, leases.
    pub fn leftovers(&self, network: &Network) -> Vec<String> {
        let mut left: Vec<String> = links().into_iter().filter(|name| name != "lo").collect();
        left.extend(networks());
        left.extend(std::fs::read_dir(self.run.path().join("network/leases")).unwrap().map(|e| format!("{:?}", e.unwrap().file_name())));
        left.extend(has_table(network).then(|| "table".to_owned()));
        left
    }

    /// A namespace that is reached from the host only, as 192.0.2.2, and knows only the host, as 192.0.2.1.
    pub fn outside(&self) -> OwnedFd {
        let outside = netns();
        let (here, there) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let set = |netlink: &mut Netlink, name: &str, own: Ipv4Addr, peer: Ipv4Addr| {
            let index = netlink.link_index(name).unwrap();
            netlink.send(vec![route::link_up(name, index), route::add_address(index, own), route::add_host_route(index, peer)]).unwrap();
        };
        let mut host = Netlink::route().unwrap();
        host.send(vec![route::new_veth("out0", "in0", outside.as_fd())]).unwrap();
        set(&mut net::inside(outside.as_fd(), Netlink::route).unwrap(), "in0", there, here);
        set(&mut host, "out0", here, there);
        outside
    }
}

/// Whether the masquerading table of the network is there.
pub fn has_table(network: &Network) -> bool {
    let table = format!("minipod_{}", network.range().to_string().replace('/', "_"));
    Netlink::netfilter().unwrap().has_table(&table).unwrap()
}

/// The links of the calling thread's namespace.
pub fn links() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// The addresses and routes of the calling thread's namespace, but loopback's.
pub fn networks() -> Vec<String> {
    let used = Netlink::route().unwrap().used_networks().unwrap();
    used.into_iter().filter(|u| !u.ip.is_loopback()).map(|u| format!("{}/{}", u.ip, u.prefix)).collect()
}

pub fn pod(name: &str) -> PodName {
    PodName { namespace: "default".into(), name: name.into(), uid: format!("uid-of-{name}"), hostname: name.into(), subdomain: None }
}

/// Every pod is alive.
pub fn alive(_: &PodName) -> bool {
    true
}
