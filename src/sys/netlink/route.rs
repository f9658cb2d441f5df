//! Links, addresses and routes (rtnetlink(7)): what a routed veth pair needs, and what tells whether a range is free.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::Parseable;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkHeader, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::{Netlink, Request};
use crate::error::{Error, Result};

/// A request to rtnetlink.
pub type RouteRequest = Request<Message>;

/// A new veth pair: `name` here, up; `peer` in the namespace `netns`, down, for the kernel refuses to bring it up while the
/// pair is made (ENOTCONN). Naming the namespace at once is what makes it cheap: moving a link later waits some 20 ms for an
/// RCU grace period. One queue each is what the driver ends up with anyway, but from one for each CPU, and to reduce them it
/// waits for a grace period too (netif_set_real_num_tx_queues).
pub fn new_veth(name: &str, peer: &str, netns: BorrowedFd<'_>) -> RouteRequest {
    let mut far = LinkMessage::default();
    far.attributes =
        vec![LinkAttribute::IfName(peer.into()), LinkAttribute::NetNsFd(netns.as_raw_fd()), LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];
    let mut near = LinkMessage::default();
    near.header = up(0);
    near.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far)))]),
    ];
    Request::new("RTM_NEWLINK", name, Message::NewLink(near)).create()
}

/// Brings a link up.
pub fn link_up(name: &str, index: u32) -> RouteRequest {
    let mut link = LinkMessage::default();
    link.header = up(index);
    Request::new("RTM_SETLINK", name, Message::SetLink(link))
}

/// Deletes a link, and with a veth its peer. Waits some 10 to 20 ms for an RCU grace period: not for a hot path.
pub fn delete_link(name: &str) -> RouteRequest {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.into())];
    Request::new("RTM_DELLINK", name, Message::DelLink(link))
}

/// Gives a link an address of its own, without a network around it (/32).
pub fn add_address(index: u32, ip: Ipv4Addr) -> RouteRequest {
    Request::new("RTM_NEWADDR", format!("{ip}/32"), Message::NewAddress(address(index, ip))).create()
}

/// Takes it away again, with the routes that name it as their source.
pub fn delete_address(index: u32, ip: Ipv4Addr) -> RouteRequest {
    Request::new("RTM_DELADDR", format!("{ip}/32"), Message::DelAddress(address(index, ip)))
}

/// A route to one address that is a neighbour on the link.
pub fn add_host_route(index: u32, ip: Ipv4Addr) -> RouteRequest {
    Request::new("RTM_NEWROUTE", format!("{ip}/32"), Message::NewRoute(host_route(index, ip))).create()
}

/// Takes it away again.
pub fn delete_host_route(index: u32, ip: Ipv4Addr) -> RouteRequest {
    Request::new("RTM_DELROUTE", format!("{ip}/32"), Message::DelRoute(host_route(index, ip)))
}

/// The default route, over a gateway that needs no route of its own ("onlink").
pub fn add_default_route(index: u32, gateway: Ipv4Addr) -> RouteRequest {
    let mut route = route(index, RouteScope::Universe, 0);
    route.header.flags = RouteFlags::Onlink;
    route.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    Request::new("RTM_NEWROUTE", format!("default via {gateway}"), Message::NewRoute(route)).create()
}

fn up(index: u32) -> LinkHeader {
    LinkHeader { index, flags: LinkFlags::Up, change_mask: LinkFlags::Up, ..Default::default() }
}

fn address(index: u32, ip: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(ip.into()), AddressAttribute::Address(ip.into())];
    message
}

fn host_route(index: u32, ip: Ipv4Addr) -> RouteMessage {
    let mut route = route(index, RouteScope::Link, 32);
    route.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(ip)));
    route
}

fn route(index: u32, scope: RouteScope, prefix: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: prefix,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope,
        kind: RouteType::Unicast,
        ..Default::default()
    };
    message.attributes = vec![RouteAttribute::Oif(index)];
    message
}

/// An IPv4 network that the machine uses already, and the link that it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    pub ip: Ipv4Addr,
    /// Length of the prefix, 0 to 32.
    pub prefix: u8,
    /// Whether it is an address of the machine's own; else a route.
    pub address: bool,
    /// Index of the link, 0 if it is on none.
    pub link: u32,
}

impl Netlink {
    /// The index of a link of this name; ENODEV if there is none.
    pub fn link_index(&mut self, name: &str) -> Result<u32> {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(name.into())];
        let answers = self.ask(Request::new("RTM_GETLINK", name, Message::GetLink(link)))?;
        // Only the header is read: a newer kernel's attributes cannot make it fail.
        let header = answers.first().and_then(|(_, bytes)| LinkHeader::parse(bytes).ok());
        header.map(|h| h.index).ok_or_else(|| Error::said(format!("RTM_GETLINK {name}: an answer that is no link")))
    }

    /// The name of the link with this index, if it is still there.
    pub fn link_name(&mut self, index: u32) -> Option<String> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let answers = self.ask(Request::new("RTM_GETLINK", index.to_string(), Message::GetLink(link))).ok()?;
        let link = LinkMessage::parse(&answers.first()?.1).ok()?;
        link.attributes.into_iter().find_map(|a| if let LinkAttribute::IfName(name) = a { Some(name) } else { None })
    }

    /// Every IPv4 address and unicast route of this network namespace.
    pub fn used_networks(&mut self) -> Result<Vec<Used>> {
        let mut addresses = AddressMessage::default();
        addresses.header.family = AddressFamily::Inet;
        let addresses = self.dump(Request::new("RTM_GETADDR", "", Message::GetAddress(addresses)))?;
        let mut routes = RouteMessage::default();
        routes.header.address_family = AddressFamily::Inet;
        let routes = self.dump(Request::new("RTM_GETROUTE", "", Message::GetRoute(routes)))?;
        // What the library cannot read, a kind newer than itself, is passed over: it is a check against mistakes.
        let addresses = addresses.iter().filter_map(|(_, bytes)| AddressMessage::parse(bytes).ok()).filter_map(used_address);
        let routes = routes.iter().filter_map(|(_, bytes)| RouteMessage::parse(bytes).ok()).filter_map(used_route);
        Ok(addresses.chain(routes).collect())
    }
}

fn used_address(message: AddressMessage) -> Option<Used> {
    let ip = message.attributes.iter().find_map(|a| if let AddressAttribute::Address(IpAddr::V4(ip)) = a { Some(*ip) } else { None })?;
    Some(Used { ip, prefix: message.header.prefix_len, address: true, link: message.header.index })
}

fn used_route(message: RouteMessage) -> Option<Used> {
    let mut used = Used { ip: Ipv4Addr::UNSPECIFIED, prefix: message.header.destination_prefix_length, address: false, link: 0 };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => used.ip = *ip,
            RouteAttribute::Oif(index) => used.link = *index,
            _ => {}
        }
    }
    (message.header.kind == RouteType::Unicast).then_some(used)
}
