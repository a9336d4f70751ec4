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
    let peer = request.peer_addr().map_or(Ipv4Addr::LOCALHOST.into(), |peer| peer.ip());
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let values = |name| request.headers().get_all(name).filter_map(|value| value.to_str().ok());
    if let Some(address) = values(header::X_CLIENT_IP).find_map(parse_address) {
        return address;
    }
    let hops: Vec<&str> = values("X-Forwarded-For").flat_map(|value| value.split(',')).collect();
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
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    address
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use sinfonia_wire::Network;

    use super::client_address;

    fn seen(peer: &str, headers: &[(&'static str, &'static str)]) -> String {
        let trusted: Vec<Network> = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).into();
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for header in headers {
            request = request.append_header(*header);
        }
        client_address(&request.to_http_request(), &trusted).to_string()
    }

    #[test]
    fn headers_count_only_from_trusted_peers() {
        let headers = [("X-ClientIP", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.2")];
        assert_eq!(seen("198.51.100.7:1", &headers), "198.51.100.7");
        assert_eq!(seen("[2001:db8::7]:1", &headers), "2001:db8::7");
        assert_eq!(seen("127.0.0.1:1", &headers), "192.0.2.1");
        assert_eq!(seen("[fd00::1]:1", &headers), "192.0.2.1");
        assert_eq!(seen("[::ffff:10.0.0.1]:1", &headers), "192.0.2.1", "a mapped peer is IPv4");
        assert_eq!(seen("[::ffff:198.51.100.7]:1", &headers), "198.51.100.7");
        assert_eq!(seen("127.0.0.1:1", &[]), "127.0.0.1");
    }

    #[test]
    fn forwarded_addresses_are_read_from_the_right() {
        for (value, client) in [
            ("192.0.2.9", "192.0.2.9"),
            ("1.1.1.1, 192.0.2.9, 10.1.2.3", "192.0.2.9"),
            ("1.1.1.1,192.0.2.9:4711 , [fd00::2]:80", "192.0.2.9"),
            ("[2001:db8::9]", "2001:db8::9"),
            ("::ffff:192.0.2.9", "192.0.2.9"),
            ("10.9.9.9, 10.1.2.3", "10.9.9.9"),
            ("192.0.2.9, unknown, 10.1.2.3", "10.1.2.3"),
            ("unknown", "127.0.0.1"),
        ] {
            assert_eq!(seen("127.0.0.1:1", &[("X-Forwarded-For", value)]), client, "{value}");
        }
        let two = [("X-Forwarded-For", "192.0.2.8"), ("X-Forwarded-For", "192.0.2.9")];
        assert_eq!(seen("127.0.0.1:1", &two), "192.0.2.9");
    }

    #[test]
    fn an_invalid_client_address_is_as_good_as_none() {
        assert_eq!(seen("127.0.0.1:1", &[("X-ClientIP", "me")]), "127.0.0.1");
        let both = [("X-ClientIP", "me"), ("X-Forwarded-For", "192.0.2.9")];
        assert_eq!(seen("127.0.0.1:1", &both), "192.0.2.9");
    }
}
