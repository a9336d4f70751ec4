//! Client addresses: which one a new deployment gets, decided from those that are taken.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

/// The networks clients get their addresses from: one IPv4 network and perhaps an IPv6 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    v4: Ipv4Net,
    v6: Option<Ipv6Net>,
}

/// Why a set of client networks cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PoolError {
    /// Two networks of one family.
    #[error("--client-network {0} and {1}: at most one IPv4 and one IPv6 network can be given")]
    Twice(IpNet, IpNet),
    /// No address is left in it for clients.
    #[error("--client-network {0} is too small: give at least a /30 (IPv4) or /126 (IPv6)")]
    TooSmall(IpNet),
    /// It holds addresses that backends use.
    #[error(
        "--client-network {0} overlaps {1}, which holds the resolver and service addresses: choose another network"
    )]
    Overlaps(IpNet, IpNet),
}

/// Every client address is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no client address is left in {0}: wait for a deployment to end or give a larger --client-network")]
pub struct Exhausted(pub IpNet);

impl AddressPool {
    /// The network used when none is given.
    pub const DEFAULT_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 5, 0, 0), 16);

    /// A pool of `networks`, with [`Self::DEFAULT_V4`] if no IPv4 network is among them. `reserved` are the networks
    /// that backends use.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn new(networks: &[IpNet], reserved: &[IpNet]) -> Result<Self, PoolError> {
        let (mut v4, mut v6) = (None, None);
        for network in networks {
            match network.trunc() {
                IpNet::V4(net) => set_once(&mut v4, net)?,
                IpNet::V6(net) => set_once(&mut v6, net)?,
            }
        }
        let pool = Self { v4: v4.unwrap_or(Self::DEFAULT_V4), v6 };
        for network in pool.networks() {
            if network.max_prefix_len() - network.prefix_len() < 2 {
                return Err(PoolError::TooSmall(network));
            }
            let overlaps = |other: &&IpNet| other.contains(&network) || network.contains(*other);
            if let Some(other) = reserved.iter().find(overlaps) {
                return Err(PoolError::Overlaps(network, *other));
            }
        }
        Ok(pool)
    }

    /// The networks, IPv4 first.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        [Some(IpNet::V4(self.v4)), self.v6.map(IpNet::V6)].into_iter().flatten()
    }

    /// Free addresses, one of each network. The same seed gets the same addresses as long as they are free, so that
    /// a client that returns finds its old one and a released one is not handed to the next client at once.
    ///
    /// # Errors
    /// [`Exhausted`] names the network without a free address.
    pub fn allocate(&self, taken: &BTreeSet<IpAddr>, seed: u64) -> Result<Vec<IpAddr>, Exhausted> {
        self.networks().map(|network| free_address(network, taken, seed).ok_or(Exhausted(network))).collect()
    }

    /// Whether these are addresses the pool could have given.
    #[must_use]
    pub fn could_give(&self, addresses: &[IpAddr]) -> bool {
        let networks: Vec<IpNet> = self.networks().collect();
        networks.len() == addresses.len() && networks.iter().zip(addresses).all(|(net, address)| net.contains(address))
    }
}

fn set_once<N: Copy + Into<IpNet>>(slot: &mut Option<N>, network: N) -> Result<(), PoolError> {
    match slot.replace(network) {
        Some(earlier) => Err(PoolError::Twice(earlier.into(), network.into())),
        None => Ok(()),
    }
}

/// The first free address at or after the one the seed points to, around the end of the network. The network address,
/// the first (by custom the gateway's) and, for IPv4, the broadcast address are never given.
fn free_address(network: IpNet, taken: &BTreeSet<IpAddr>, seed: u64) -> Option<IpAddr> {
    let (base, broadcast) = match network {
        IpNet::V4(net) => (u128::from(u32::from(net.network())), 1),
        IpNet::V6(net) => (u128::from(net.network()), 0),
    };
    let host_bits = u32::from(network.max_prefix_len() - network.prefix_len());
    let usable = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX) - 2 - broadcast;
    let start = u128::from(seed) % usable;
    let attempts = usable.min(taken.len() as u128 + 1);
    (0..attempts)
        .map(|step| base + 2 + (start + step) % usable)
        .map(|number| address(network, number))
        .find(|address| !taken.contains(address))
}

#[expect(clippy::cast_possible_truncation, reason = "an IPv4 network's addresses have 32 bits")]
fn address(network: IpNet, number: u128) -> IpAddr {
    match network {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn pool(texts: &[&str]) -> AddressPool {
        AddressPool::new(&nets(texts), &nets(&["10.96.0.0/16"])).unwrap()
    }

    #[test]
    fn without_networks_it_is_the_reference_network() {
        assert_eq!(pool(&[]).networks().collect::<Vec<_>>(), nets(&["10.5.0.0/16"]));
    }

    #[test]
    fn an_ipv6_network_gives_clients_both_families() {
        let addresses = pool(&["fd05::/64"]).allocate(&BTreeSet::new(), 0).unwrap();
        assert_eq!(addresses, ["10.5.0.2".parse::<IpAddr>().unwrap(), "fd05::2".parse().unwrap()]);
    }

    #[test]
    fn host_bits_are_cut_off() {
        assert_eq!(pool(&["10.7.1.9/24"]).networks().collect::<Vec<_>>(), nets(&["10.7.1.0/24"]));
    }

    #[test]
    fn bad_networks_are_told_apart() {
        let error = |texts: &[&str]| AddressPool::new(&nets(texts), &nets(&["10.96.0.0/16"])).unwrap_err();
        assert!(matches!(error(&["10.1.0.0/16", "10.2.0.0/16"]), PoolError::Twice(..)));
        assert!(matches!(error(&["fd00::/64", "fd01::/64"]), PoolError::Twice(..)));
        assert!(matches!(error(&["10.1.0.0/31"]), PoolError::TooSmall(_)));
        assert!(matches!(error(&["fd00::/127"]), PoolError::TooSmall(_)));
        assert!(matches!(error(&["10.0.0.0/8"]), PoolError::Overlaps(..)));
        assert!(matches!(error(&["10.96.4.0/24"]), PoolError::Overlaps(..)));
    }

    #[test]
    fn a_small_network_is_used_up_exactly() {
        let pool = pool(&["10.7.0.0/29"]);
        let mut taken = BTreeSet::new();
        for _ in 0..5 {
            assert!(taken.insert(pool.allocate(&taken, 3).unwrap()[0]));
        }
        assert_eq!(taken.first().unwrap().to_string(), "10.7.0.2");
        assert_eq!(taken.last().unwrap().to_string(), "10.7.0.6");
        assert_eq!(pool.allocate(&taken, 3), Err(Exhausted(nets(&["10.7.0.0/29"])[0])));
    }

    proptest! {
        #[test]
        fn what_is_given_is_free_inside_and_the_same_every_time(
            seed: u64,
            taken in proptest::collection::btree_set((0u32..64).prop_map(|n| IpAddr::V4((0x0a07_0000 + n).into())), 0..50),
        ) {
            let pool = pool(&["10.7.0.0/26", "fd05::/64"]);
            let given = pool.allocate(&taken, seed).unwrap();
            prop_assert!(pool.could_give(&given));
            prop_assert!(given.iter().all(|address| !taken.contains(address)));
            let reserved: [IpAddr; 3] = ["10.7.0.0", "10.7.0.1", "10.7.0.63"].map(|a| a.parse().unwrap());
            prop_assert!(!reserved.contains(&given[0]));
            prop_assert_eq!(pool.allocate(&taken, seed).unwrap(), given);
        }

        #[test]
        fn any_network_can_be_used(v6: u128, length in 0u8..=126, seed: u64) {
            let network = IpNet::V6(Ipv6Net::new(v6.into(), length).unwrap());
            if let Ok(pool) = AddressPool::new(&[network], &[]) {
                prop_assert!(pool.could_give(&pool.allocate(&BTreeSet::new(), seed).unwrap()));
            }
        }
    }
}
