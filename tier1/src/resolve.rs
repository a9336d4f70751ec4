//! Names to addresses, leaving out those that cloudlets may not be at.
//!
//! By hickory, because a statically linked C library would load the host's modules to resolve names.

use crate::domain::addresses;
use actix_tls::connect::Resolve;
use futures_util::future::LocalBoxFuture;
use hickory_resolver::{TokioResolver, config::ResolverConfig, net::runtime::TokioRuntimeProvider};
use sinfonia_wire::DeployEndpoint;
use std::{
    error::Error as StdError,
    net::{IpAddr, SocketAddr, UdpSocket},
    rc::Rc,
    time::Duration,
};
use thiserror::Error;
use tokio::time::timeout;
use tracing::warn;

/// Limit of one question to a name server, and of finding the addresses of a name.
const QUESTION: Duration = Duration::from_secs(1);
const TOTAL: Duration = Duration::from_secs(3);

/// Why nothing is connected to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum AddressError {
    /// The name means nothing, or nobody knows at the moment.
    #[error("host {host} cannot be resolved: {reason}")]
    Unresolved {
        /// The name.
        host: String,
        /// What went wrong.
        reason: String,
        /// Whether another attempt may succeed.
        transient: bool,
    },
    /// It leads to where only this host may connect.
    #[error(
        "host {host} is at {address}, a loopback, link-local or multicast address or one that belongs to no host; \
         cloudlets there are refused unless tier1 runs with --allow-local-endpoints"
    )]
    Local {
        /// Name or address.
        host: String,
        /// The refused address.
        address: IpAddr,
    },
    /// It leads back here.
    #[error("host {host} is at {address}, which is this tier1 itself; use the URL of the cloudlet's tier2")]
    Itself {
        /// Name or address.
        host: String,
        /// The refused address.
        address: SocketAddr,
    },
}

/// Which addresses may be connected to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Policy {
    /// Any: the operator says so.
    Any,
    /// None that is local to this host or its links, and not this server.
    NotLocal {
        /// Where this server listens.
        listening: SocketAddr,
    },
}

impl Policy {
    /// Whether one address is allowed.
    ///
    /// # Errors
    /// With the reason if it is not.
    pub(crate) fn check(self, host: &str, address: SocketAddr) -> Result<(), AddressError> {
        let Self::NotLocal { listening } = self else {
            return Ok(());
        };
        if address.port() == listening.port() && reaches(listening.ip(), address.ip()) {
            return Err(AddressError::Itself { host: host.to_owned(), address });
        }
        if addresses::is_local(address.ip()) {
            return Err(AddressError::Local { host: host.to_owned(), address: address.ip() });
        }
        Ok(())
    }
}

/// Whether a server that listens on one address answers on another.
fn reaches(listening: IpAddr, address: IpAddr) -> bool {
    // An address is this host's if a socket can have it.
    listening == address || listening.is_unspecified() && UdpSocket::bind((address, 0)).is_ok()
}

/// Finds addresses. Belongs to one thread.
#[derive(Clone, Debug)]
pub(crate) struct Resolver(Rc<TokioResolver>);

impl Resolver {
    /// With the host's configuration (`resolv.conf`, `hosts`).
    ///
    /// # Errors
    /// When not even a resolver without name servers can be made.
    pub(crate) fn new() -> Result<Self, hickory_resolver::net::NetError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            warn!(%error, "no name servers: only addresses and names in the hosts file can be used");
            TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
        });
        builder.options_mut().timeout = QUESTION;
        Ok(Self(Rc::new(builder.build()?)))
    }

    /// All addresses of an endpoint, each of which the policy has to allow.
    ///
    /// # Errors
    /// When there are none, or one that is not allowed.
    pub(crate) async fn endpoint(
        &self,
        endpoint: &DeployEndpoint,
        policy: Policy,
    ) -> Result<Vec<IpAddr>, AddressError> {
        let addresses = self.addresses(endpoint.host()).await?;
        for address in &addresses {
            policy.check(endpoint.host(), SocketAddr::new(*address, endpoint.port()))?;
        }
        Ok(addresses)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, AddressError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let unresolved =
            |reason: String, transient| AddressError::Unresolved { host: host.to_owned(), reason, transient };
        match timeout(TOTAL, self.0.lookup_ip(host)).await {
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(error)) => Err(unresolved(error.to_string(), !error.is_no_records_found())),
            Err(_) => Err(unresolved(format!("no answer within {} s", TOTAL.as_secs()), true)),
        }
    }
}

/// Resolves names as they are connected to, so that a name whose address has changed is caught as well.
pub(crate) struct Connecting {
    pub(crate) resolver: Resolver,
    pub(crate) policy: Policy,
}

impl Resolve for Connecting {
    fn lookup<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> LocalBoxFuture<'a, Result<Vec<SocketAddr>, Box<dyn StdError>>> {
        Box::pin(async move {
            let mut refused = None;
            let mut allowed = Vec::new();
            for address in self.resolver.addresses(host).await? {
                let address = SocketAddr::new(address, port);
                match self.policy.check(host, address) {
                    Ok(()) => allowed.push(address),
                    Err(error) => refused = Some(error),
                }
            }
            match refused {
                Some(error) if allowed.is_empty() => Err(error.into()),
                _ => Ok(allowed),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_local(listening: &str) -> Policy {
        Policy::NotLocal { listening: listening.parse().unwrap() }
    }

    fn check(policy: Policy, address: &str) -> Result<(), AddressError> {
        policy.check("cloudlet.example", address.parse().unwrap())
    }

    #[test]
    fn local_addresses_are_refused() {
        let policy = not_local("192.0.2.1:5000");
        for address in ["127.0.0.1:80", "[::1]:80", "169.254.169.254:80", "0.0.0.0:80", "[::ffff:127.0.0.1]:80"] {
            assert!(matches!(check(policy, address), Err(AddressError::Local { .. })), "{address}");
            assert_eq!(check(Policy::Any, address), Ok(()));
        }
        assert_eq!(check(policy, "10.0.0.1:80"), Ok(()));
    }

    #[test]
    fn this_server_is_refused() {
        let policy = not_local("192.0.2.1:5000");
        assert!(matches!(check(policy, "192.0.2.1:5000"), Err(AddressError::Itself { .. })));
        assert_eq!(check(policy, "192.0.2.1:5001"), Ok(()));
        assert_eq!(check(policy, "192.0.2.2:5000"), Ok(()));
        assert!(reaches("0.0.0.0".parse().unwrap(), "127.0.0.1".parse().unwrap()));
        assert!(!reaches("0.0.0.0".parse().unwrap(), "192.0.2.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn names_are_checked_when_connecting() {
        let connecting = |policy| Connecting { resolver: Resolver::new().unwrap(), policy };
        let found = connecting(Policy::Any).lookup("localhost", 7000).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7000) && !found.is_empty());
        for host in ["localhost", "[::1]"] {
            let refused = connecting(not_local("192.0.2.1:5000")).lookup(host, 7000).await.unwrap_err();
            assert!(refused.to_string().contains("--allow-local-endpoints"), "{refused}");
        }
    }
}
