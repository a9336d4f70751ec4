//! IP networks that say which clients are near, accepted or rejected.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::text::{quote, serde_as_text};

/// An IP network. Reads `address/length`, host bits allowed, or a bare address; writes the network's own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpNet);

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// What stands before the slash is no IP address.
    #[error("network {given} does not begin with an IP address; expected address/length, such as 192.0.2.0/24")]
    Address {
        /// The refused text, quoted.
        given: String,
    },
    /// What stands after the slash is no prefix length.
    #[error("network {given}: the length after the slash must be 0..{max}")]
    Length {
        /// The refused text, quoted.
        given: String,
        /// Longest prefix of this address family.
        max: u8,
    },
}

impl Network {
    /// Whether the address is in the network. An IPv4-mapped IPv6 address counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The network without host bits.
    #[must_use]
    pub const fn net(&self) -> IpNet {
        self.0
    }
}

impl From<IpNet> for Network {
    fn from(net: IpNet) -> Self {
        Self(unmapped(net).trunc())
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        IpNet::from(address).into()
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        parse_net(text).map(Self::from)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_as_text!(Network);

/// Reads `address/length` or a bare address, keeping host bits.
pub(crate) fn parse_net(text: &str) -> Result<IpNet, NetworkError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NetworkError::Address { given: quote(text) })?;
    let host = IpNet::from(address);
    let Some(length) = length else {
        return Ok(host);
    };
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    length
        .parse()
        .ok()
        .filter(|_| digits)
        .and_then(|length| IpNet::new(address, length).ok())
        .ok_or_else(|| NetworkError::Length { given: quote(text), max: host.max_prefix_len() })
}

/// Clients are compared by their IPv4 address, so a network of IPv4-mapped addresses has to be an IPv4 one.
fn unmapped(net: IpNet) -> IpNet {
    let (IpNet::V6(v6), Some(length)) = (net, net.prefix_len().checked_sub(96)) else {
        return net;
    };
    v6.addr().to_ipv4_mapped().and_then(|v4| Ipv4Net::new(v4, length).ok()).map_or(net, IpNet::V4)
}
