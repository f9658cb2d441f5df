//! Ports of this machine that lead to a pod, as a table of the pod's own.
//!
//! ```text
//! table ip NAME {
//!   chain raw         { type filter hook prerouting priority raw      no packet of the pod has a loopback address
//!                       iifname LINK ip saddr 127.0.0.0/8 drop;  iifname LINK ip daddr 127.0.0.0/8 drop }
//!   chain prerouting  { type nat hook prerouting priority dstnat      from other machines, and from pods
//!                       fib daddr type local tcp dport 8080 dnat to POD:80 }
//!   chain output      { type nat hook output priority dstnat          from this machine
//!                       fib daddr type local tcp dport 8080 dnat to POD:80 }
//!   chain postrouting { type nat hook postrouting priority srcnat     whom the pod could not answer otherwise: loopback, itself
//!                       oifname LINK ip saddr 127.0.0.0/8 masquerade;  oifname LINK ip saddr POD masquerade }
//! }
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Cmp, DataAttribute, Expressions, Immediate, InetHookNumber, Meta, MetaKey, NfTablesMessage as Message, Operator, Payload, Register, Verdict,
    VerdictAttribute,
};

use super::{DESTINATION, Expression, SOURCE, SRCNAT, address_in, chain, masquerade, request, rule, table};
use crate::error::Result;
use crate::sys::net::Protocol;
use crate::sys::netlink::Netlink;

/// NF_IP_PRI_RAW, before connections are tracked, and NF_IP_PRI_NAT_DST (linux/netfilter_ipv4.h).
const RAW: u32 = -300i32 as u32;
const DSTNAT: u32 = -100i32 as u32;
/// NFT_PAYLOAD_TRANSPORT_HEADER; TCP, UDP and SCTP have the destination's port at the same place.
const TRANSPORT_HEADER: u32 = 2;
const DESTINATION_PORT: u32 = 2;
/// NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR, and what it gives for an address of this machine (RTN_LOCAL).
const FIB_ADDRTYPE: u32 = 3;
const FIB_DADDR: u32 = 2;
const LOCAL: u32 = 2;
/// NFT_NAT_DNAT and NFPROTO_IPV4.
const DNAT: u32 = 1;
const IPV4: u32 = 2;
/// NF_DROP.
const DROP: u32 = 0;
const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

/// A port of this machine, and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    pub protocol: Protocol,
    /// 0.0.0.0: every address of this machine.
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
}

impl Netlink {
    /// Makes the IPv4 table `name`, which must not be there (EEXIST): the ports lead to the pod with address `pod` behind `link`.
    pub fn new_forwards(&mut self, name: &str, link: &str, pod: Ipv4Addr, forwards: &[Forward]) -> Result<()> {
        let mut requests = vec![
            request("NFT_MSG_NEWTABLE", name, Message::NewTable(table(name))).create(),
            chain(name, "raw", "filter", InetHookNumber::PreRouting, RAW),
            chain(name, "prerouting", "nat", InetHookNumber::PreRouting, DSTNAT),
            chain(name, "output", "nat", InetHookNumber::LocalOut, DSTNAT),
            chain(name, "postrouting", "nat", InetHookNumber::PostRouting, SRCNAT),
        ];
        for offset in [SOURCE, DESTINATION] {
            let drop = [named(MetaKey::Iifname, link), address_in(offset, LOOPBACK.0, LOOPBACK.1, Operator::Equal).to_vec(), vec![drop()]];
            requests.push(rule(name, "raw", drop.concat()));
        }
        for forward in forwards {
            // What comes from elsewhere to a loopback address was forged, and would be let in here before it is seen to be.
            if !forward.from.ip().is_loopback() {
                requests.push(rule(name, "prerouting", translate(forward)));
            }
            requests.push(rule(name, "output", translate(forward)));
        }
        for (ip, prefix) in [LOOPBACK, (pod, 32)] {
            let hide = [named(MetaKey::Oifname, link), address_in(SOURCE, ip, prefix, Operator::Equal).to_vec(), vec![masquerade()]];
            requests.push(rule(name, "postrouting", hide.concat()));
        }
        self.transaction(requests)
    }
}

fn translate(forward: &Forward) -> Vec<Expression> {
    let mut rule = match forward.from.ip().is_unspecified() {
        true => of_this_machine(),
        false => address_in(DESTINATION, *forward.from.ip(), 32, Operator::Equal).to_vec(),
    };
    rule.push(Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(MetaKey::L4Proto)]).into());
    rule.push(equals(vec![forward.protocol.number()]));
    rule.push(
        Expressions::Payload(vec![
            Payload::DestinationRegister(Register::Reg1),
            Payload::Base(TRANSPORT_HEADER),
            Payload::Offset(DESTINATION_PORT),
            Payload::Len(2),
        ])
        .into(),
    );
    rule.push(equals(forward.from.port().to_be_bytes().to_vec()));
    rule.push(load(Register::Reg1, forward.to.ip().octets().to_vec()));
    rule.push(load(Register::Reg2, forward.to.port().to_be_bytes().to_vec()));
    // NFTA_NAT_TYPE, _FAMILY, _REG_ADDR_MIN, _REG_PROTO_MIN.
    rule.push(other("nat", &[(1, DNAT), (2, IPV4), (3, Register::Reg1.into()), (5, Register::Reg2.into())]));
    rule
}

/// `fib daddr type local`. NFTA_FIB_DREG, _RESULT, _FLAGS; the answer is in the machine's own byte order.
fn of_this_machine() -> Vec<Expression> {
    vec![other("fib", &[(1, Register::Reg1.into()), (2, FIB_ADDRTYPE), (3, FIB_DADDR)]), equals(LOCAL.to_ne_bytes().to_vec())]
}

/// The interface by its name, padded as the kernel keeps it (IFNAMSIZ).
fn named(key: MetaKey, link: &str) -> Vec<Expression> {
    let mut name = link.as_bytes().to_vec();
    name.resize(16, 0);
    vec![Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(key)]).into(), equals(name)]
}

fn equals(value: Vec<u8>) -> Expression {
    Expressions::Cmp(vec![Cmp::SourceRegister(Register::Reg1), Cmp::Op(Operator::Equal), Cmp::Data(DataAttribute::Value(value))]).into()
}

fn load(register: Register, value: Vec<u8>) -> Expression {
    Expressions::Immediate(vec![Immediate::DestinationRegister(register), Immediate::Data(DataAttribute::Value(value))]).into()
}

fn drop() -> Expression {
    let verdict = DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(DROP))]);
    Expressions::Immediate(vec![Immediate::DestinationRegister(Register::Verdict), Immediate::Data(verdict)]).into()
}

/// An expression that the library has no words for: numbers by attribute, in network byte order.
fn other(name: &str, numbers: &[(u16, u32)]) -> Expression {
    let attributes = numbers.iter().map(|(kind, number)| DefaultNla::new(*kind, number.to_be_bytes().to_vec())).collect();
    Expressions::Other { expression_type: name.into(), attributes }.into()
}
