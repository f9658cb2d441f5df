//! The range of addresses that pods get theirs from: an IPv4 network in CIDR notation.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An IPv4 network. The first address after the network's own is the gateway of every pod; the last one is kept free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range {
    network: Ipv4Addr,
    prefix: u8,
}

impl Range {
    /// 10.77.0.0/16: private (RFC 1918), and none of the networks that other container tools, clusters and virtual
    /// machine managers take by default.
    pub const DEFAULT: Range = Range { network: Ipv4Addr::new(10, 77, 0, 0), prefix: 16 };

    /// The address that every pod's host end has.
    pub fn gateway(&self) -> Ipv4Addr {
        self.nth(1)
    }

    /// How many pods fit: all but the network's address, the gateway and the last (broadcast) address.
    pub fn capacity(&self) -> u32 {
        self.size() - 3
    }

    /// The address of the pod with this number, counted from 0; wraps around at the capacity.
    pub fn pod(&self, number: u32) -> Ipv4Addr {
        self.nth(2 + number % self.capacity())
    }

    /// The number of a pod's address, if it is one of this range.
    pub fn number_of(&self, ip: Ipv4Addr) -> Option<u32> {
        let number = u32::from(ip).checked_sub(u32::from(self.network))?.checked_sub(2)?;
        (number < self.capacity()).then_some(number)
    }

    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        u32::from(ip) & mask(self.prefix) == u32::from(self.network)
    }

    /// Whether it shares an address with the network `ip/prefix`.
    pub fn overlaps(&self, ip: Ipv4Addr, prefix: u8) -> bool {
        let shared = mask(self.prefix.min(prefix));
        u32::from(ip) & shared == u32::from(self.network) & shared
    }

    /// The network's address and the length of its prefix.
    pub fn cidr(&self) -> (Ipv4Addr, u8) {
        (self.network, self.prefix)
    }

    fn size(&self) -> u32 {
        1 << (32 - u32::from(self.prefix))
    }

    fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + n)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl From<Range> for String {
    fn from(range: Range) -> String {
        range.to_string()
    }
}

impl TryFrom<String> for Range {
    type Error = Error;

    fn try_from(text: String) -> Result<Range> {
        text.parse()
    }
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Range> {
        let bad = |why: String| Err(Error::said(format!("the range of pod addresses {text:?} {why}")));
        let Some((ip, prefix)) = text.split_once('/').and_then(|(ip, prefix)| Some((ip.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?))) else {
            return bad("is not an IPv4 network like 10.77.0.0/16".into());
        };
        if !(8..=30).contains(&prefix) {
            return bad("must have a prefix from /8 to /30".into());
        }
        let network = Ipv4Addr::from(u32::from(ip) & mask(prefix));
        if network != ip {
            return bad(format!("has host bits set; did you mean {network}/{prefix}?"));
        }
        let range = Range { network, prefix };
        let reserved = [(0, 0), (127, 0), (224, 0)].map(|(a, b)| Ipv4Addr::new(a, b, 0, 0));
        if reserved.iter().any(|ip| range.overlaps(*ip, if ip.octets()[0] == 224 { 3 } else { 8 })) || range.overlaps(Ipv4Addr::new(169, 254, 0, 0), 16) {
            return bad("holds addresses that no pod can have (this network, loopback, link-local or multicast)".into());
        }
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_is_a_network_of_ordinary_addresses() {
        assert_eq!(range("10.77.0.0/16"), Range::DEFAULT);
        assert_eq!(range("192.168.7.0/24").to_string(), "192.168.7.0/24");
        for (text, why) in [
            ("10.77.0.0", "is not an IPv4 network"),
            ("fd00::/8", "is not an IPv4 network"),
            ("10.77.0.0/16/8", "is not an IPv4 network"),
            ("10.77.0.0/31", "from /8 to /30"),
            ("10.0.0.0/7", "from /8 to /30"),
            ("10.77.0.9/16", "did you mean 10.77.0.0/16?"),
            ("127.0.0.0/24", "loopback"),
            ("169.254.0.0/16", "link-local"),
            ("224.0.0.0/8", "multicast"),
            ("255.255.0.0/16", "multicast"),
            ("0.0.0.0/8", "this network"),
        ] {
            let error = text.parse::<Range>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_network_the_gateway_and_the_last_address_are_no_pod_s() {
        let small = range("10.9.8.0/29");
        assert_eq!((small.gateway(), small.capacity()), (Ipv4Addr::new(10, 9, 8, 1), 5));
        let pods: Vec<_> = (0..5).map(|n| small.pod(n).octets()[3]).collect();
        assert_eq!(pods, [2, 3, 4, 5, 6]);
        assert_eq!(small.pod(5), small.pod(0), "numbers wrap around");
        assert_eq!([1, 2, 6, 7].map(|n| small.number_of(Ipv4Addr::new(10, 9, 8, n))), [None, Some(0), Some(4), None]);
        assert_eq!(range("10.9.8.4/30").capacity(), 1);
    }

    #[test]
    fn overlap_is_seen_from_both_sides() {
        let range = Range::DEFAULT;
        for (ip, prefix, overlaps) in
            [([10, 77, 3, 0], 24, true), ([10, 0, 0, 0], 8, true), ([10, 78, 0, 0], 16, false), ([10, 77, 0, 1], 32, true), ([0, 0, 0, 0], 0, true)]
        {
            assert_eq!(range.overlaps(ip.into(), prefix), overlaps, "{ip:?}/{prefix}");
        }
    }
}
