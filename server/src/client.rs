//! Who sent a request.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::HttpRequest;
use sinfonia_wire::{Network, header};

/// The address of the client that a request is made for.
///
/// It is the peer of the connection, unless that peer is in one of the `trusted` networks: then
/// `X-ClientIP` counts, or else the rightmost address in `X-Forwarded-For` that is not trusted itself.
/// IPv4 addresses mapped into IPv6 are given as IPv4.
pub fn client_address(request: &HttpRequest, trusted: &[Network]) -> IpAddr {
    // Only connections without an address, such as those of unit tests, have no peer.
    let peer = request
        .peer_addr()
        .map_or(Ipv4Addr::LOCALHOST.into(), |peer| peer.ip());
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let values = |name| {
        request
            .headers()
            .get_all(name)
            .filter_map(|value| value.to_str().ok())
    };
    if let Some(address) = values(header::X_CLIENT_IP).find_map(parse_address) {
        return address;
    }
    let hops: Vec<&str> = values("X-Forwarded-For")
        .flat_map(|value| value.split(','))
        .collect();
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        // What stands left of an unreadable hop was not written by a proxy we trust.
        let Some(address) = parse_address(hop) else {
            break;
        };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// Reads an address, with or without brackets and a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    address
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}
