//! Host names to addresses, without the system's resolver library: a statically linked program cannot load it.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// How long a lookup may take.
pub(crate) const LOOKUP_LIMIT: Duration = Duration::from_secs(3);

/// A host name has no address, or nobody could be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("no name server answered about {host} within {} s", LOOKUP_LIMIT.as_secs())]
    Timeout { host: String },
    #[error("{host} cannot be resolved: {reason}")]
    Failed { host: String, reason: String },
}

/// The addresses of a host, those that this machine has a route to first. Reads /etc/hosts and /etc/resolv.conf.
pub(crate) async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let failed = |reason: String| LookupError::Failed { host: host.into(), reason };
    let resolver = resolver().map_err(|error| failed(error.to_string()))?;
    let found = tokio::time::timeout(LOOKUP_LIMIT, resolver.lookup_ip(host))
        .await
        .map_err(|_| LookupError::Timeout { host: host.into() })?
        .map_err(|error| match error.is_no_records_found() {
            true => failed("the name has no address".into()),
            false => failed(error.to_string()),
        })?;
    let (near, far): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.iter().map(|address| SocketAddr::new(address, port)).partition(has_route);
    Ok([near, far].concat())
}

fn resolver() -> io::Result<TokioResolver> {
    // Without name servers there is still /etc/hosts.
    let (config, mut options) = hickory_resolver::system_conf::read_system_conf()
        .unwrap_or_else(|_| (ResolverConfig::from_name_servers(Vec::new()), ResolverOpts::default()));
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(io::Error::other)
}

/// Connecting a UDP socket sends nothing; it fails when the kernel has no route.
fn has_route(address: &SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literals_need_no_resolver() {
        assert_eq!(lookup("192.0.2.7", 80).await, Ok(vec!["192.0.2.7:80".parse().unwrap()]));
        assert_eq!(lookup("2001:db8::1", 80).await, Ok(vec!["[2001:db8::1]:80".parse().unwrap()]));
    }

    #[tokio::test]
    async fn localhost_is_loopback() {
        let found = lookup("localhost", 5000).await.unwrap();
        assert!(!found.is_empty());
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 5000), "{found:?}");
    }

    #[tokio::test]
    async fn what_does_not_exist_is_named() {
        let error = lookup("no-such-host.invalid", 80).await.unwrap_err();
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    }
}
