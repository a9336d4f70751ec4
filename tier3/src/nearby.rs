//! Cloudlets that announce themselves on the local network (DNS-SD over multicast DNS, RFC 6763).

use std::net::IpAddr;
use std::time::Duration;

use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent};
use url::{Host, Url};

/// What a tier2 announces.
pub const SERVICE_TYPE: &str = "_sinfonia._tcp.local.";

/// How long to listen by default.
pub const BROWSE_LIMIT: Duration = Duration::from_secs(3);

/// The local network could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot look for cloudlets on the local network: {0}")]
pub struct NearbyError(#[from] mdns_sd::Error);

/// The URL of the first tier2 that answers within `limit`; none if none does.
///
/// # Errors
/// When multicast DNS cannot be used here.
pub async fn find_cloudlet(limit: Duration) -> Result<Option<Url>, NearbyError> {
    let daemon = ServiceDaemon::new()?;
    let events = daemon.browse(SERVICE_TYPE)?;
    let first = async {
        while let Ok(event) = events.recv_async().await {
            if let ServiceEvent::ServiceResolved(service) = event
                && let Some(url) = service_url(&service)
            {
                tracing::debug!(name = service.fullname, %url, "found a cloudlet");
                return Some(url);
            }
        }
        None
    };
    let found = tokio::time::timeout(limit, first).await.unwrap_or(None);
    if let Err(error) = daemon.shutdown() {
        tracing::debug!(%error, "multicast DNS did not stop");
    }
    Ok(found)
}

fn service_url(service: &ResolvedService) -> Option<Url> {
    let path = service.get_property_val_str("path").unwrap_or("/");
    let addresses = service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr);
    url(addresses, service.port, path)
}

/// IPv4 before IPv6: a link-local address of either would need an interface, which a URL cannot name.
fn url(addresses: impl Iterator<Item = IpAddr>, port: u16, path: &str) -> Option<Url> {
    let mut usable: Vec<IpAddr> = addresses.filter(|address| !is_link_local(address)).collect();
    usable.sort_by_key(|address| (address.is_loopback(), address.is_ipv6(), *address));
    let host = match *usable.first()? {
        IpAddr::V4(address) => Host::<&str>::Ipv4(address),
        IpAddr::V6(address) => Host::Ipv6(address),
    };
    let mut url: Url = format!("http://{host}:{port}/").parse().ok()?;
    url.set_path(path);
    Some(url)
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(addresses: &[&str], path: &str) -> Option<String> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        url(addresses, 5000, path).map(|url| url.to_string())
    }

    #[test]
    fn the_announced_address_and_path_make_the_url() {
        assert_eq!(of(&["192.0.2.7"], "/").unwrap(), "http://192.0.2.7:5000/");
        assert_eq!(of(&["192.0.2.7"], "/edge").unwrap(), "http://192.0.2.7:5000/edge");
        assert_eq!(of(&["192.0.2.7"], "edge?x#y").unwrap(), "http://192.0.2.7:5000/edge%3Fx%23y");
    }

    #[test]
    fn addresses_that_work_everywhere_come_first() {
        assert_eq!(of(&["2001:db8::1", "fe80::1", "192.0.2.7", "127.0.0.1"], "/").unwrap(), "http://192.0.2.7:5000/");
        assert_eq!(of(&["fe80::1", "2001:db8::1"], "/").unwrap(), "http://[2001:db8::1]:5000/");
        assert_eq!(of(&["fe80::1", "169.254.1.1"], "/"), None);
    }
}
