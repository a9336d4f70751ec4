//! Which cloudlets a client is local to.

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;
use sinfonia_wire::Network;
use std::net::IpAddr;

/// Networks with what belongs to them.
#[derive(Debug, Default)]
pub struct Networks(JointPrefixMap<IpNet, Vec<u32>>);

impl Networks {
    /// Indexes members by network.
    #[must_use]
    pub fn build(members: impl IntoIterator<Item = (u32, Network)>) -> Self {
        let mut networks = JointPrefixMap::new();
        for (member, network) in members {
            networks.entry(network.net()).or_insert_with(Vec::new).push(member);
        }
        Self(networks)
    }

    /// The members of each network that holds the address, with its length, the smallest network first.
    #[must_use]
    pub fn holding(&self, address: IpAddr) -> Vec<(u8, &[u32])> {
        let host = IpNet::from(address.to_canonical());
        let mut found: Vec<_> =
            self.0.cover(&host).map(|(network, members)| (network.prefix_len(), members.as_slice())).collect();
        found.reverse();
        found
    }
}
