//! Who sent a request.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::HttpRequest;
use actix_web::http::header::{HOST, HeaderName, HeaderValue};
use actix_web::http::uri::Authority;
use sinfonia_wire::{Network, header};

use crate::forwarded::Origin;

/// The address of the client that a request is made for.
///
/// It is the peer of the connection, unless that peer is in one of the `trusted` networks: then it is the rightmost
/// address in `X-Forwarded-For` that is not trusted itself. Only where all these are trusted, as is a tier1 behind
/// proxies, `X-ClientIP` counts. IPv4 addresses mapped into IPv6 are given as IPv4.
pub fn client_address(request: &HttpRequest, trusted: &[Network]) -> IpAddr {
    // Only connections without an address, such as those of unit tests, have no peer.
    let peer = request.peer_addr().map_or(Ipv4Addr::LOCALHOST.into(), |peer| peer.ip());
    // Bytes, since a client may have sent some that are no text before what proxies add.
    let values = |name| request.headers().get_all(name).map(HeaderValue::as_bytes);
    Origin { peer, client: values(header::X_CLIENT_IP), forwarded: values("X-Forwarded-For"), trusted }.address()
}

/// Headers by which proxies tell for whom they ask, beside those that begin with `X-Forwarded-`.
const FORWARDING: [&str; 6] = ["forwarded", "via", "x-clientip", "x-client-ip", "x-real-ip", "true-client-ip"];

/// Whether a request surely comes from this machine and on its behalf: over loopback, no header says that it was passed
/// on, and it was not made by a page of another site in a browser here, under whose name the site could have put this
/// machine's address.
pub fn is_local(request: &HttpRequest) -> bool {
    let is_forwarded = request.headers().keys().any(|name| {
        let name = name.as_str();
        name.starts_with("x-forwarded") || FORWARDING.contains(&name)
    });
    !is_forwarded
        && !is_foreign(request)
        && request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback())
}

/// Whether a page of another site may have made the request: browsers say so
/// (<https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header>), or name a host that is not this machine.
fn is_foreign(request: &HttpRequest) -> bool {
    let header = |name: HeaderName| request.headers().get(name).map(HeaderValue::as_bytes);
    let is_cross_site =
        header(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    let names_another = header(HOST).is_some_and(|host| {
        let host = std::str::from_utf8(host).ok().and_then(|host| host.parse::<Authority>().ok());
        !host.is_some_and(|authority| {
            let host = authority.host();
            host.eq_ignore_ascii_case("localhost") || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        })
    });
    is_cross_site || names_another
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use actix_web::test::TestRequest;
    use sinfonia_wire::Network;

    use super::{client_address, is_local};

    fn seen(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        seen_in_bytes(peer, &headers)
    }

    fn seen_in_bytes(peer: &str, headers: &[(&'static str, &[u8])]) -> String {
        let trusted: Vec<Network> = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).into();
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for (name, value) in headers {
            request = request.append_header((*name, HeaderValue::from_bytes(value).unwrap()));
        }
        client_address(&request.to_http_request(), &trusted).to_string()
    }

    #[test]
    fn headers_count_only_from_trusted_peers() {
        let headers = [("X-ClientIP", "192.0.2.1"), ("X-Forwarded-For", "10.7.7.7")];
        assert_eq!(seen("198.51.100.7:1", &headers), "198.51.100.7");
        assert_eq!(seen("[2001:db8::7]:1", &headers), "2001:db8::7");
        assert_eq!(seen("127.0.0.1:1", &headers), "192.0.2.1");
        assert_eq!(seen("[fd00::1]:1", &headers), "192.0.2.1");
        assert_eq!(seen("[::ffff:10.0.0.1]:1", &headers), "192.0.2.1", "a mapped peer is IPv4");
        assert_eq!(seen("[::ffff:198.51.100.7]:1", &headers), "198.51.100.7");
        assert_eq!(seen("127.0.0.1:1", &[]), "127.0.0.1");
    }

    #[test]
    fn what_proxies_pass_on_as_it_came_is_not_believed() {
        let forged = |forwarded: &[u8]| {
            seen_in_bytes("127.0.0.1:1", &[("X-ClientIP", b"10.1.1.1"), ("X-Forwarded-For", forwarded)])
        };
        assert_eq!(forged(b"192.0.2.9"), "192.0.2.9");
        assert_eq!(forged(b"10.1.1.1, 192.0.2.9, 10.1.2.3"), "192.0.2.9");
        assert_eq!(forged(b"unknown, 10.1.2.3"), "10.1.2.3", "nobody knows who sent it");
        assert_eq!(forged(b"\xe9, 192.0.2.9"), "192.0.2.9", "what the client sent is no text");
        // A tier1 behind proxies.
        assert_eq!(forged(b"10.1.2.3"), "10.1.1.1");
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
    fn what_was_passed_on_is_not_local() {
        let local = |peer: &str, header: Option<(&'static str, &'static str)>| {
            let request = TestRequest::default().peer_addr(peer.parse().unwrap());
            let request = header.into_iter().fold(request, |request, header| request.append_header(header));
            is_local(&request.to_http_request())
        };
        for peer in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(local(peer, None) && local(peer, Some(("X-Location", "1,2"))), "{peer}");
        }
        assert!(!local("192.0.2.1:1", None) && !local("[2001:db8::1]:1", None));
        for name in ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-ClientIP", "X-Real-IP", "Via"] {
            assert!(!local("127.0.0.1:1", Some((name, "127.0.0.1"))), "{name}");
        }
        assert!(!is_local(&TestRequest::default().to_http_request()), "nobody knows");
    }

    #[test]
    fn pages_of_other_sites_are_not_local() {
        let local = |name: &'static str, value: &'static str| {
            let request = TestRequest::default().peer_addr("127.0.0.1:1".parse().unwrap());
            is_local(&request.insert_header((name, value)).to_http_request())
        };
        for host in ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:80", "[::1]:8080", "192.0.2.1"] {
            assert!(local("Host", host), "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert!(!local("Host", host), "{host}");
        }
        assert!(local("Sec-Fetch-Site", "none") && local("Sec-Fetch-Site", "same-origin"));
        assert!(!local("Sec-Fetch-Site", "cross-site") && !local("Sec-Fetch-Site", "same-site"));
    }

    #[test]
    fn an_invalid_client_address_is_as_good_as_none() {
        assert_eq!(seen("127.0.0.1:1", &[("X-ClientIP", "me")]), "127.0.0.1");
        let both = [("X-ClientIP", "me"), ("X-Forwarded-For", "192.0.2.9")];
        assert_eq!(seen("127.0.0.1:1", &both), "192.0.2.9");
    }
}
