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
    C: Iterator<Item = &'a [u8]>,
    F: Iterator<Item = &'a [u8]>,
{
    /// The address of the client; IPv4 addresses mapped into IPv6 are given as IPv4.
    pub(crate) fn address(mut self) -> IpAddr {
        let hops: Vec<&[u8]> = self.forwarded.by_ref().flat_map(|value| value.split(|byte| *byte == b',')).collect();
        let mut sender = self.peer.to_canonical();
        for hop in hops.into_iter().rev() {
            // What stands left of somebody else, or of an unreadable hop, was not written by a proxy we trust.
            let Some(before) = parse_address(hop).filter(|_| self.is_trusted(sender)) else {
                return sender;
            };
            sender = before;
        }
        // Proxies pass this header on as it came, so that it is the word of whoever sent the request first.
        let client = self.is_trusted(sender).then(|| self.client.find_map(parse_address)).flatten();
        client.unwrap_or(sender)
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

/// Reads an address, with or without brackets and a port.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    address
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}
