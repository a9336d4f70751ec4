//! The rules in the kernel that decide whom clients reach: one nftables table of our own.
//!
//! The rules are replaced in one transaction, and stay when the gateway ends: at no time do packets pass that no rule
//! allows. What they allow, they allow as long as a gateway renews them and some time more, since addresses of pods become
//! those of others. Without the table nothing else of the gateway starts.

mod batch;
mod expression;
mod kept;
mod rules;
mod socket;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use batch::Batch;
use expression::Family;
pub use kept::KeptTable;
use netlink_bindings::traits::NetlinkChained as _;
use rules::{ALIVE, Key, PAIRS, REMOTE, RESOLVERS, Set, octets};

/// How long packets pass without a gateway: it may take so long to start another one. An address that a pod gives back
/// is seldom another's so soon.
const LIFETIME: Duration = Duration::from_secs(30);

/// A client's address and that of a pod it may reach.
pub type Pair = (IpAddr, IpAddr);

/// Who may reach whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Clients and the pods of their deployments.
    pub pairs: BTreeSet<Pair>,
    /// Pods that resolve names for all clients.
    pub resolvers: BTreeSet<IpAddr>,
    /// Those of the pods above that are on other nodes.
    pub remote: BTreeSet<IpAddr>,
}

/// The rules could not be changed; those before are still in force.
#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel's packet filter rules cannot be {what} ({part}): {reason}; the gateway needs NET_ADMIN and a kernel with nftables"
)]
pub struct RulesError {
    what: &'static str,
    /// The kind of request that the kernel refused.
    part: &'static str,
    reason: io::Error,
}

/// The table in the network namespace of the calling thread. Its calls block for some milliseconds.
#[derive(Debug, Clone)]
pub struct Table {
    interface: String,
    networks: Vec<IpNet>,
    tunnels: Option<u16>,
    lifetime: Duration,
}

impl Table {
    /// The table for clients behind `interface`, with addresses from `networks`.
    #[must_use]
    pub fn new(interface: &str, networks: &[IpNet]) -> Self {
        let networks = networks.iter().map(IpNet::trunc).collect();
        Self { interface: interface.into(), networks, tunnels: None, lifetime: LIFETIME }
    }

    /// The same for a gateway whose tunnels the kernel ends at this UDP port: nor do they answer longer than packets pass.
    #[must_use]
    pub fn with_tunnels(self, port: u16) -> Self {
        Self { tunnels: Some(port), ..self }
    }

    /// The same with another time that packets pass for after the rules were changed or renewed.
    #[must_use]
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime, ..self }
    }

    /// Whether the table is in force, of this gateway or of one before it.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn exists(&self) -> Result<bool, RulesError> {
        let question = batch::table_question();
        socket::exists(&question).map_err(|reason| RulesError { what: "read", part: "table", reason })
    }

    /// Puts the rules in force with this access, in place of all that were in the table.
    ///
    /// # Errors
    /// If the kernel refuses; the old rules stay.
    pub fn replace(&self, access: &Access) -> Result<(), RulesError> {
        let mut batch = Batch::new();
        batch.add_table();
        self.fill(&mut batch, access);
        commit(batch, "replaced").or_else(|error| {
            // What is there may be of other kinds, of another version or not ours.
            tracing::debug!(%error, "the table is made anew");
            let mut batch = Batch::new();
            batch.add_table();
            batch.delete_table();
            batch.add_table();
            self.fill(&mut batch, access);
            commit(batch, "replaced")
        })
    }

    /// Chains that are there stay, with other rules. A packet on its way might see the old chain without its rules already
    /// and a new one without them still, since each chain looks by itself which rules are in force.
    fn fill(&self, batch: &mut Batch, access: &Access) {
        for set in PAIRS.into_iter().chain(RESOLVERS).chain(REMOTE) {
            batch.add_set(set);
            batch.flush_set(set);
            batch.add_elements(set, &keys(set, access));
        }
        batch.add_set(ALIVE);
        self.prolong(batch);
        let chains = rules::chains(&self.interface, &self.networks, self.tunnels);
        for chain in &chains {
            batch.add_chain(chain);
            batch.flush_chain(chain);
        }
        for chain in &chains {
            for rule in &chain.rules {
                batch.add_rule(chain, rule);
            }
        }
    }

    /// Changes the access from `old`, which is in force, to `new`.
    ///
    /// # Errors
    /// If the kernel refuses, as when somebody else has changed the table; the old access stays.
    pub fn update(&self, old: &Access, new: &Access) -> Result<(), RulesError> {
        let mut batch = Batch::new();
        for set in PAIRS.into_iter().chain(RESOLVERS).chain(REMOTE) {
            let (before, after) = (keys(set, old), keys(set, new));
            batch.delete_elements(set, &missing(&before, &after));
            batch.add_elements(set, &missing(&after, &before));
        }
        self.prolong(&mut batch);
        commit(batch, "changed")
    }

    /// Lets packets pass from now on for another lifetime.
    ///
    /// # Errors
    /// If the kernel refuses, as when the table is not there.
    pub fn renew(&self) -> Result<(), RulesError> {
        let mut batch = Batch::new();
        self.prolong(&mut batch);
        commit(batch, "renewed")
    }

    /// Elements are replaced, since older kernels leave those that are there as they are.
    fn prolong(&self, batch: &mut Batch) {
        batch.flush_set(ALIVE);
        batch.add_families(ALIVE, self.lifetime);
    }

    /// Removes the table: nothing is refused any more.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn remove(&self) -> Result<(), RulesError> {
        let mut batch = Batch::new();
        batch.add_table();
        batch.delete_table();
        commit(batch, "removed")
    }
}

fn commit(batch: Batch, what: &'static str) -> Result<(), RulesError> {
    let batch = batch.finish();
    socket::commit(batch.payload(), batch::confirmed(&batch)).map_err(|failure| {
        let part = failure.message.map_or("batch", |number| batch::part(&batch, number));
        RulesError { what, part, reason: failure.reason }
    })
}

/// What of `of` is not in `other`; both are sorted.
fn missing(of: &[Vec<u8>], other: &[Vec<u8>]) -> Vec<Vec<u8>> {
    of.iter().filter(|key| other.binary_search(key).is_err()).cloned().collect()
}

/// The elements of a set, sorted.
fn keys(set: Set, access: &Access) -> Vec<Vec<u8>> {
    let is_of = |family: Family, address: &IpAddr| address.is_ipv4() == (family == Family::V4);
    let mut keys: Vec<Vec<u8>> = match set.key {
        Key::Pair(family) => {
            let pairs = access.pairs.iter().filter(|(client, pod)| is_of(family, client) && is_of(family, pod));
            pairs.map(|(client, pod)| [octets(*client), octets(*pod)].concat()).collect()
        }
        Key::Address(family) => {
            let addresses = if RESOLVERS.contains(&set) { &access.resolvers } else { &access.remote };
            addresses.iter().filter(|address| is_of(family, address)).map(|address| octets(*address)).collect()
        }
        Key::Family => Vec::new(),
    };
    keys.sort_unstable();
    keys
}
