//! What a client needs to bring its tunnel up.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::DomainName;
use crate::key::PublicKey;
use crate::label::DeploymentName;
use crate::network::parse_net;
use crate::tunnel_endpoint::TunnelEndpoint;

/// The client's side of a WireGuard tunnel, without its private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TunnelConfig {
    /// Public key of the gateway.
    #[serde(rename = "publicKey")]
    pub public_key: PublicKey,
    /// What the gateway may send and receive.
    #[serde(rename = "allowedIPs", with = "nets")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub allowed_ips: Vec<IpNet>,
    /// Where the gateway is.
    pub endpoint: TunnelEndpoint,
    /// Addresses of the client inside the tunnel. A bare address has full length, and is written bare.
    #[serde(with = "addresses")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub address: Vec<IpNet>,
    /// Name resolution inside the tunnel.
    pub dns: Dns,
}

/// Resolvers and search domains; one list on the wire, resolvers first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of resolvers.
    pub servers: Vec<IpAddr>,
    /// Domains in which a short name is looked up.
    pub search: Vec<DomainName>,
}

impl Dns {
    /// What a cluster offers to a deployment: its resolver and the usual search domains.
    #[must_use]
    pub fn in_cluster(resolver: IpAddr, deployment: &DeploymentName) -> Self {
        Self { servers: vec![resolver], search: deployment.search_domains() }
    }
}

impl Serialize for Dns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let servers = self.servers.iter().map(|server| server as &dyn fmt::Display);
        let search = self.search.iter().map(|domain| domain as &dyn fmt::Display);
        serializer.collect_seq(servers.chain(search).map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Dns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut dns = Self::default();
        for entry in Vec::<String>::deserialize(deserializer)? {
            match entry.parse() {
                Ok(server) => dns.servers.push(server),
                Err(_) => dns.search.push(entry.parse().map_err(D::Error::custom)?),
            }
        }
        Ok(dns)
    }
}

/// Networks, written with their length.
mod nets {
    use super::{Deserialize, Deserializer, IpNet, Serializer, parse_net};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(nets: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(nets)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
        Vec::<String>::deserialize(deserializer)?.iter().map(|text| parse_net(text).map_err(D::Error::custom)).collect()
    }
}

/// Addresses, written bare if they have full length, as existing cloudlets do.
mod addresses {
    use super::{IpNet, Serializer};

    pub(super) use super::nets::deserialize;

    pub(super) fn serialize<S: Serializer>(addresses: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            addresses.iter().map(|net| {
                if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
            }),
        )
    }
}
