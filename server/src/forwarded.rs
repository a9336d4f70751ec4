//! Whose request it is, by what proxies add to it. Nothing here knows of HTTP servers.

use std::net::{IpAddr, SocketAddr};

use sinfonia_wire::Network;

/// What a request says about where it comes from.
pub(crate) struct Origin<'a, C, F> {
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// Values of `X-ClientIP`.
    pub(crate) client: C,
    /// Values of `X-Forwarded-For`, each a list.
    pub(crate) forwarded: F,
    /// Whose headers are believed.
    pub(crate) trusted: &'a [Network],
}

impl<'a, C, F> Origin<'_, C, F>
where
    C: Iterator<Item = &'a str>,
    F: Iterator<Item = &'a str>,
{
    /// The address of the client; IPv4 addresses mapped into IPv6 are given as IPv4.
    pub(crate) fn address(mut self) -> IpAddr {
        let peer = self.peer.to_canonical();
        if !self.is_trusted(peer) {
            return peer;
        }
        if let Some(address) = self.client.find_map(parse_address) {
            return address;
        }
        let hops: Vec<&str> = self.forwarded.by_ref().flat_map(|value| value.split(',')).collect();
        let mut client = peer;
        for hop in hops.into_iter().rev() {
            // What stands left of an unreadable hop was not written by a proxy we trust.
            let Some(address) = parse_address(hop) else {
                break;
            };
            client = address;
            if !self.is_trusted(address) {
                break;
            }
        }
        client
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

/// Reads an address, with or without brackets and a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    address
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}
