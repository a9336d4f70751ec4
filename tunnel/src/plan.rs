//! What is done to a network namespace, as data: decided here, carried out by `netlink` and `namespace::resolver`.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Steps in the order in which they are carried out. The first that fails ends it, and the namespace with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One change of a network namespace whose only interface besides `lo` is the tunnel's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Brings `lo` up.
    LoopbackUp,
    /// Sets the tunnel interface's MTU, bytes.
    Mtu(u32),
    /// Gives the tunnel interface an address.
    Address(IpNet),
    /// Brings the tunnel interface up.
    LinkUp,
    /// Routes a network through the tunnel.
    Route(IpNet),
    /// Shows this text as /etc/resolv.conf, and hides the sockets of resolvers that would be asked instead.
    ResolvConf(String),
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LoopbackUp => write!(formatter, "bring lo up"),
            Self::Mtu(mtu) => write!(formatter, "set MTU {mtu}"),
            Self::Address(address) => write!(formatter, "add address {address}"),
            Self::LinkUp => write!(formatter, "bring the tunnel interface up"),
            Self::Route(network) => write!(formatter, "route {network} through the tunnel"),
            Self::ResolvConf(_) => write!(formatter, "replace /etc/resolv.conf"),
        }
    }
}
