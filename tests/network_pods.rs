//! Pods in a network of their own, on hosts of their own: who reaches whom, and what is left afterwards.

mod network_host;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use minipod::error::{Error, Result};
use minipod::network::{Attachment, HostPort, Network};
use minipod::sys::net;
use minipod::sys::netlink::{Netlink, route};
use network_host::*;

fn attach(network: &Network, name: &str) -> (OwnedFd, Attachment) {
    let netns = netns();
    let (attachment, warnings) = network.attach(&pod(name), netns.as_fd(), &alive).unwrap();
    assert_eq!(warnings, []);
    (netns, attachment)
}

fn udp(netns: &OwnedFd, ip: impl Into<IpAddr>) -> UdpSocket {
    let address = SocketAddr::new(ip.into(), 0);
    let socket = net::inside(netns.as_fd(), || UdpSocket::bind(address).map_err(|e| Error::io("bind", address, &e))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn udp_at(netns: &OwnedFd, port: u16) -> UdpSocket {
    let socket = net::inside(netns.as_fd(), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|e| Error::io("bind", port, &e))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// Sends to `to` and back; tells what `to` saw as the sender.
fn exchange(from: &UdpSocket, to: &UdpSocket, address: SocketAddr) -> IpAddr {
    let mut buffer = [0; 16];
    from.send_to(b"question", address).unwrap();
    let (length, seen) = to.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"question");
    to.send_to(b"answer", seen).unwrap();
    let (length, back) = from.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], back), (&b"answer"[..], address));
    seen.ip()
}

#[test]
fn host_and_pods_reach_one_another_under_their_own_addresses() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/16");
        let ((ns_a, a), (ns_b, b)) = (attach(&network, "a"), attach(&network, "b"));
        assert_eq!((a.ip, b.ip, a.gateway), (Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(10, 77, 0, 3), Ipv4Addr::new(10, 77, 0, 1)));
        let (in_a, in_b) = (udp(&ns_a, a.ip), udp(&ns_b, b.ip));
        let (on_host, any) = (udp(&host.netns, Ipv4Addr::UNSPECIFIED), udp(&host.netns, a.gateway));
        assert_eq!(exchange(&in_a, &in_b, in_b.local_addr().unwrap()), a.ip, "pod to pod, not masqueraded");
        assert_eq!(exchange(&on_host, &in_b, in_b.local_addr().unwrap()), b.gateway, "host to pod");
        assert_eq!(exchange(&in_a, &any, any.local_addr().unwrap()), a.ip, "pod to host");

        let listener = net::inside(ns_b.as_fd(), || TcpListener::bind((b.ip, 0)).map_err(|e| Error::io("bind", "", &e))).unwrap();
        let to = listener.local_addr().unwrap();
        let mut client = net::inside(ns_a.as_fd(), || TcpStream::connect(to).map_err(|e| Error::io("connect", to, &e))).unwrap();
        let (mut server, peer) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        drop(client);
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), peer.ip()), ("hello", IpAddr::V4(a.ip)));
    });
}

#[test]
fn a_pod_has_a_loopback_of_both_families() {
    on_a_host(|host| {
        let (netns, _) = attach(&host.network("10.77.0.0/16"), "a");
        for ip in [IpAddr::from([127, 0, 0, 1]), "::1".parse().unwrap()] {
            let (one, other) = (udp(&netns, ip), udp(&netns, ip));
            exchange(&one, &other, other.local_addr().unwrap());
        }
    });
}

#[test]
fn the_outside_sees_the_host_s_address_and_answers_come_back() {
    on_a_host(|host| {
        let outside = host.outside();
        let (netns, a) = attach(&host.network("10.77.0.0/16"), "a");
        let (in_pod, far) = (udp(&netns, a.ip), udp(&outside, Ipv4Addr::new(192, 0, 2, 2)));
        assert_eq!(exchange(&in_pod, &far, far.local_addr().unwrap()), IpAddr::from([192, 0, 2, 1]));
    });
}

fn host_ports(ports: serde_json::Value) -> Vec<HostPort> {
    HostPort::all_of(&serde_json::from_value(serde_json::json!({ "containers": [{ "name": "c", "ports": ports }] })).unwrap()).unwrap()
}

#[test]
fn a_host_port_leads_to_the_pod_from_outside_from_the_host_from_pods_and_from_itself() {
    on_a_host(|host| {
        let outside = host.outside();
        let network = host.network("10.77.0.0/16");
        let ((ns_a, a), (ns_b, b)) = (attach(&network, "a"), attach(&network, "b"));
        let server = udp_at(&ns_a, 53);
        let published = network
            .publish(
                &a,
                &host_ports(serde_json::json!([
                    { "containerPort": 53, "hostPort": 5300, "protocol": "UDP" },
                    { "containerPort": 53, "hostPort": 5301, "protocol": "UDP", "hostIP": "127.0.0.1" },
                ])),
                &alive,
            )
            .unwrap();
        let at = |ip: [u8; 4], port: u16| SocketAddr::from((ip, port));
        let seen = |netns: &OwnedFd, to: SocketAddr| exchange(&udp(netns, Ipv4Addr::UNSPECIFIED), &server, to);
        assert_eq!(seen(&outside, at([192, 0, 2, 1], 5300)), IpAddr::from([192, 0, 2, 2]), "the outside is seen as itself");
        assert_eq!(seen(&host.netns, at([192, 0, 2, 1], 5300)), IpAddr::from([192, 0, 2, 1]));
        assert_eq!(seen(&host.netns, at([127, 0, 0, 1], 5300)), a.gateway);
        assert_eq!(seen(&host.netns, at([127, 0, 0, 1], 5301)), a.gateway);
        assert_eq!(seen(&ns_b, at([192, 0, 2, 1], 5300)), b.ip);
        assert_eq!(seen(&ns_a, at([192, 0, 2, 1], 5300)), a.gateway, "itself, by the way of the host");

        let refused = |netns: &OwnedFd, to: SocketAddr| {
            let socket = udp(netns, Ipv4Addr::UNSPECIFIED);
            socket.connect(to).unwrap();
            socket.send(b"question").unwrap();
            socket.recv(&mut [0; 16]).unwrap_err().kind() == std::io::ErrorKind::ConnectionRefused
        };
        assert!(refused(&outside, at([192, 0, 2, 1], 5301)), "only on 127.0.0.1");
        assert!(refused(&ns_b, at([192, 0, 2, 1], 5301)), "only on 127.0.0.1");

        let error = network.publish(&b, &host_ports(serde_json::json!([{ "containerPort": 1, "hostPort": 5300, "protocol": "UDP" }])), &alive);
        assert!(error.unwrap_err().is(libc::EADDRINUSE));
        published.close().unwrap();
        assert!(refused(&outside, at([192, 0, 2, 1], 5300)), "closed");
        assert_eq!((network.detach(&a), network.detach(&b)), (vec![], vec![]));
    });
}

#[test]
fn host_ports_of_the_dead_are_taken_back_before_they_are_given_again() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/16");
        let ports = host_ports(serde_json::json!([{ "containerPort": 53, "hostPort": 5300, "protocol": "UDP" }]));
        let ((_ns_a, a), (ns_b, b)) = (attach(&network, "a"), attach(&network, "b"));
        // As the kernel does for a supervisor that is killed: the descriptors go, the table stays.
        drop(network.publish(&a, &ports, &alive).unwrap());
        let only_b = |name: &minipod::network::PodName| name.name == "b";
        let published = network.publish(&b, &ports, &only_b).unwrap();
        let server = udp_at(&ns_b, 53);
        exchange(&udp(&host.netns, Ipv4Addr::UNSPECIFIED), &server, SocketAddr::from(([127, 0, 0, 1], 5300)));
        assert!(!Netlink::netfilter().unwrap().has_table(&format!("minipod_{}", a.veth)).unwrap());
        published.close().unwrap();
        assert!(!Netlink::netfilter().unwrap().has_table(&format!("minipod_{}", b.veth)).unwrap());
    });
}

#[test]
fn the_table_lives_from_the_first_pod_to_the_last_and_ranges_do_not_share_it() {
    on_a_host(|host| {
        let (network, other) = (host.network("10.77.0.0/16"), host.network("10.78.0.0/16"));
        assert!(!has_table(&network));
        let (first, second, stranger) = (attach(&network, "a"), attach(&network, "b"), attach(&other, "c"));
        assert!(has_table(&network) && has_table(&other));
        assert_eq!(network.detach(&first.1), []);
        assert!(has_table(&network));
        assert_eq!(network.detach(&second.1), []);
        assert!(!has_table(&network) && has_table(&other));
        assert_eq!(other.detach(&stranger.1), []);
        assert!(!has_table(&other));
    });
}

#[test]
fn a_flushed_table_comes_back_with_the_next_pod() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/16");
        let _a = attach(&network, "a");
        Netlink::netfilter().unwrap().delete_table("minipod_10.77.0.0_16").unwrap();
        let _b = attach(&network, "b");
        assert!(has_table(&network));
    });
}

#[test]
fn detaching_leaves_no_address_no_route_no_rule_and_no_lease_and_the_link_dies_with_the_namespace() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/16");
        let (netns, a) = attach(&network, "a");
        assert_eq!(host.leftovers(&network).len(), 5, "a link, an address, a route, a table, a lease");
        assert_eq!(network.detach(&a), []);
        assert_eq!(host.leftovers(&network), std::slice::from_ref(&a.veth));
        drop(netns);
        wait_for(|| host.leftovers(&network).is_empty());
        assert_eq!(network.detach(&a), [], "twice is fine");
    });
}

/// The kernel takes namespaces apart in its own time and tells nobody.
fn wait_for(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "waited for 30 s");
        std::thread::yield_now();
    }
}

#[test]
fn a_failed_attachment_leaves_nothing() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/16");
        type Spoil = fn(&mut Netlink) -> Result<()>;
        let spoil: [(&str, Spoil); 2] = [
            ("RTM_NEWLINK", |pod| pod.send(vec![route::new_veth("eth0", "eth1", this_netns().as_fd())])),
            ("RTM_NEWROUTE", |pod| {
                pod.send(vec![route::link_up("lo", 1), route::new_veth("other0", "other1", this_netns().as_fd())])?;
                let index = pod.link_index("other0")?;
                pod.send(vec![route::add_default_route(index, Ipv4Addr::new(192, 0, 2, 1))])
            }),
        ];
        for (call, spoil) in spoil {
            let netns = netns();
            net::inside(netns.as_fd(), || spoil(&mut Netlink::route()?)).unwrap();
            let error = network.attach(&pod("a"), netns.as_fd(), &alive).unwrap_err();
            assert!(error.is(libc::EEXIST) && error.to_string().starts_with(&format!("giving pod default/a an address: {call}")), "{error}");
            assert_eq!(host.leftovers(&network), Vec::<String>::new());
        }
        let not_a_namespace = std::fs::File::open("/proc/self/cmdline").unwrap();
        assert!(network.attach(&pod("a"), not_a_namespace.as_fd(), &alive).unwrap_err().is(libc::EINVAL));
        assert_eq!(host.leftovers(&network), Vec::<String>::new());
    });
}

#[test]
fn what_a_killed_supervisor_left_is_taken_back_with_its_link() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/16");
        let (_dead_ns, dead) = attach(&network, "dead");
        let (_live_ns, live) = attach(&network, "live");
        assert_eq!(network.reclaim(&|pod| pod.name == "live").unwrap(), [pod("dead")]);
        assert!(!links().contains(&dead.veth) && links().contains(&live.veth));
        assert!(has_table(&network));
        let other = host.network("10.78.0.0/16");
        let _moved = attach(&other, "moved");
        assert_eq!(network.reclaim(&|_| false).unwrap(), [pod("live"), pod("moved")]);
        assert!(!has_table(&other), "of whatever range");
        assert_eq!(host.leftovers(&network), Vec::<String>::new());
        assert_eq!(network.detach(&dead), [], "a late detachment harms nobody");
    });
}

#[test]
fn a_range_that_is_used_up_says_so_unless_a_dead_pod_holds_an_address() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/30");
        let (_ns, _) = attach(&network, "only");
        let error = network.attach(&pod("more"), netns().as_fd(), &alive).unwrap_err();
        assert!(error.to_string().contains("all 1 addresses of the pod network 10.77.0.0/30 are given"), "{error}");
        let next = netns();
        let (attachment, _) = network.attach(&pod("more"), next.as_fd(), &|_| false).unwrap();
        assert_eq!(attachment.ip, Ipv4Addr::new(10, 77, 0, 2));
        assert_eq!(network.names().pods(), [(attachment.ip, pod("more"))]);
    });
}

#[test]
fn an_address_can_be_given_again_while_its_last_link_still_exists() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/30");
        let (old_ns, old) = attach(&network, "old");
        assert_eq!(network.detach(&old), []);
        let (ns, new) = attach(&network, "new");
        assert_eq!(old.ip, new.ip);
        let (here, there) = (udp(&host.netns, new.gateway), udp(&ns, new.ip));
        exchange(&here, &there, there.local_addr().unwrap());
        drop(old_ns);
    });
}

#[test]
fn a_range_that_the_host_uses_is_refused_with_the_place_named() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/16");
        let other = netns();
        let mut netlink = Netlink::route().unwrap();
        netlink.send(vec![route::new_veth("lan0", "peer", other.as_fd())]).unwrap();
        let lan = netlink.link_index("lan0").unwrap();
        let ip = Ipv4Addr::new(10, 77, 3, 4);
        let refused = |what: &str| {
            let error = network.attach(&pod("a"), netns().as_fd(), &alive).unwrap_err().to_string();
            assert!(error.contains(&format!("10.77.0.0/16 overlaps the {what} 10.77.3.4/32 on lan0")), "{error}");
        };
        netlink.send(vec![route::add_address(lan, ip)]).unwrap();
        refused("address");
        netlink.send(vec![route::delete_address(lan, ip), route::add_host_route(lan, ip)]).unwrap();
        refused("route");
        assert!(!has_table(&network));
        let (_ns, a) = attach(&host.network("10.78.0.0/16"), "a");
        assert_eq!(a.ip, Ipv4Addr::new(10, 78, 0, 2));
    });
}

#[test]
fn forwarding_is_switched_on_once_and_stays() {
    on_a_host(|host| {
        let forwarding = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let network = host.network("10.77.0.0/16");
        let (_ns, a) = attach(&network, "a");
        assert_eq!(forwarding().trim(), "1");
        network.detach(&a);
        assert_eq!(forwarding().trim(), "1");
    });
}

#[test]
fn many_minipods_at_once_do_not_meet() {
    on_a_host(|host| {
        let host = &host;
        std::thread::scope(|scope| {
            for worker in 0..4 {
                scope.spawn(move || {
                    nix::sched::setns(&host.netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                    let network = host.network("10.77.0.0/16");
                    for round in 0..8 {
                        let (netns, attachment) = attach(&network, &format!("{worker}-{round}"));
                        assert!(has_table(&network), "as long as there is a pod");
                        let (here, there) = (udp(&host.netns, attachment.gateway), udp(&netns, attachment.ip));
                        exchange(&here, &there, there.local_addr().unwrap());
                        assert_eq!(network.detach(&attachment), []);
                    }
                });
            }
        });
        let network = host.network("10.77.0.0/16");
        wait_for(|| host.leftovers(&network).is_empty());
    });
}
