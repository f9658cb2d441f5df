//! nftables (nft(8)): a table of address translation, made or removed whole, in one atomic batch.
//!
//! The expressions are what `nft --debug=netlink` prints for a rule: load a field into register 1, mask it, compare it.

mod forward;

use std::net::Ipv4Addr;

pub use forward::Forward;
use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook, InetHookNumber, ListAttribute,
    NfTablesMessage as Message, Operator, Payload, Register, RuleAttribute, RuleMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};

use super::{Netlink, Request};
use crate::error::Result;

/// NFNL_SUBSYS_NFTABLES, which opens and closes a batch (linux/netfilter/nfnetlink.h).
const SUBSYSTEM: u16 = 10;
/// NFT_PAYLOAD_NETWORK_HEADER (linux/netfilter/nf_tables.h).
const NETWORK_HEADER: u32 = 1;
/// Where an IPv4 header has its source and its destination (RFC 791).
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// NF_IP_PRI_NAT_SRC: where source addresses are translated ("priority srcnat").
const SRCNAT: u32 = 100;

type Expression = ListAttribute<ExpressionAttribute>;

impl Netlink {
    /// Whether the IPv4 table `name` is there.
    pub fn has_table(&mut self, name: &str) -> Result<bool> {
        let asked = request("NFT_MSG_GETTABLE", name, Message::GetTable(table(name)));
        match self.ask(asked) {
            Ok(_) => Ok(true),
            Err(error) if error.is(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the IPv4 table `name`, which must not be there (EEXIST): packets that leave the network `ip/prefix` for another
    /// get the address of the interface they go out by.
    ///
    /// ```text
    /// table ip NAME { chain postrouting { type nat hook postrouting priority srcnat;
    ///                 ip saddr IP/PREFIX ip daddr != IP/PREFIX masquerade } }
    /// ```
    pub fn new_masquerade(&mut self, name: &str, ip: Ipv4Addr, prefix: u8) -> Result<()> {
        let postrouting = "postrouting";
        let mut leaving = Vec::new();
        leaving.extend(address_in(SOURCE, ip, prefix, Operator::Equal));
        leaving.extend(address_in(DESTINATION, ip, prefix, Operator::NotEqual));
        leaving.push(masquerade());
        // Deleting the table first, as nft's "replace" does, would make closing the socket wait some 10 ms.
        self.transaction(vec![
            request("NFT_MSG_NEWTABLE", name, Message::NewTable(table(name))).create(),
            chain(name, postrouting, "nat", InetHookNumber::PostRouting, SRCNAT),
            rule(name, postrouting, leaving),
        ])
    }

    /// Removes the IPv4 table `name` with all it holds; ENOENT if it is not there. Closing a netfilter socket soon after
    /// waits some 10 ms for an RCU grace period (nft_rcv_nl_event).
    pub fn delete_table(&mut self, name: &str) -> Result<()> {
        self.transaction(vec![request("NFT_MSG_DELTABLE", name, Message::DeleteTable(table(name)))])
    }

    /// All of the requests or none.
    fn transaction(&mut self, mut requests: Vec<Request<NetfilterMessage>>) -> Result<()> {
        requests.insert(0, edge(ControlMessage::BatchBegin));
        requests.push(edge(ControlMessage::BatchEnd));
        self.send(requests)
    }
}

fn request(call: &'static str, table: &str, message: Message) -> Request<NetfilterMessage> {
    let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0);
    Request::new(call, format!("table ip {table}"), NetfilterMessage::new(header, message))
}

/// The begin or end of a batch, which is not acknowledged; but a kernel without nftables refuses the begin.
fn edge(message: ControlMessage) -> Request<NetfilterMessage> {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM);
    let mut request = Request::new("NFNL_MSG_BATCH_BEGIN", "nftables", NetfilterMessage::new(header, NetfilterMessageInner::None(message)));
    request.flags &= !NLM_F_ACK;
    request
}

fn table(name: &str) -> TableMessage {
    TableMessage { attributes: vec![TableAttribute::Name(name.into())] }
}

fn chain(table: &str, name: &str, kind: &str, hook: InetHookNumber, priority: u32) -> Request<NetfilterMessage> {
    let hook = vec![Hook::Number(hook.into()), Hook::Priority(priority)];
    let attributes =
        vec![ChainAttribute::Table(table.into()), ChainAttribute::Name(name.into()), ChainAttribute::Hook(hook), ChainAttribute::Type(kind.into())];
    request("NFT_MSG_NEWCHAIN", table, Message::NewChain(ChainMessage { attributes })).create()
}

fn rule(table: &str, chain: &str, expressions: Vec<Expression>) -> Request<NetfilterMessage> {
    let attributes = vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.into()), RuleAttribute::Expressions(expressions)];
    let mut request = request("NFT_MSG_NEWRULE", table, Message::NewRule(RuleMessage { attributes }));
    request.flags |= NLM_F_CREATE | NLM_F_APPEND;
    request
}

fn masquerade() -> Expression {
    Expressions::Other { expression_type: "masq".into(), attributes: vec![] }.into()
}

/// The address at `offset` of the IPv4 header, compared with a network.
fn address_in(offset: u32, ip: Ipv4Addr, prefix: u8, operator: Operator) -> [Expression; 3] {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    let bytes = |value: u32| DataAttribute::Value(value.to_be_bytes().to_vec());
    [
        Expressions::Payload(vec![Payload::DestinationRegister(Register::Reg1), Payload::Base(NETWORK_HEADER), Payload::Offset(offset), Payload::Len(4)])
            .into(),
        Expressions::Bitwise(vec![
            Bitwise::SourceRegister(Register::Reg1),
            Bitwise::DestinationRegister(Register::Reg1),
            Bitwise::Length(4),
            Bitwise::Mask(bytes(mask)),
            Bitwise::Xor(bytes(0)),
        ])
        .into(),
        Expressions::Cmp(vec![Cmp::SourceRegister(Register::Reg1), Cmp::Op(operator), Cmp::Data(bytes(u32::from(ip) & mask))]).into(),
    ]
}
