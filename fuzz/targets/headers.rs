//! Headers of requests, a line each: the peer's address, X-Location, X-ClientIP, and X-Forwarded-For from there on.
#![no_main]

#[path = "../../server/src/forwarded.rs"]
mod forwarded;

use forwarded::Origin;
use libfuzzer_sys::fuzz_target;
use sinfonia_wire::{Location, Network, Results};
use std::net::{IpAddr, Ipv4Addr};

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let peer = lines.next().and_then(|line| line.parse().ok()).unwrap_or(IpAddr::from(Ipv4Addr::LOCALHOST));
    let location = lines.next().unwrap_or_default();
    if let Ok(place) = location.parse::<Location>() {
        assert!(place.lat().abs() <= 90.0 && place.lon().abs() <= 180.0);
        assert_eq!(place.to_string().parse(), Ok(place));
    }
    if let Ok(network) = location.parse::<Network>() {
        assert_eq!(network.to_string().parse(), Ok(network));
    }
    let _ = location.parse::<Results>();
    let client = lines.next().filter(|line| !line.is_empty());
    let hops: Vec<&str> = lines.collect();

    let trusted: Vec<Network> = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).into();
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    let address = |peer, client: Option<&str>, before: Option<&'static str>| {
        let forwarded = before.into_iter().chain(hops.iter().copied()).map(str::as_bytes);
        Origin { peer, client: client.into_iter().map(str::as_bytes), forwarded, trusted: &trusted }.address()
    };
    let seen = address(peer, client, None);
    assert_eq!(seen, seen.to_canonical());
    if !is_trusted(peer.to_canonical()) {
        assert_eq!(seen, peer.to_canonical(), "a stranger's headers count");
    }
    let sender = address(peer, None, None);
    if !is_trusted(sender) {
        assert_eq!(seen, sender, "what a client says of itself counts");
        assert_eq!(address(peer, client, Some("192.0.2.77, 10.1.2.3")), seen, "what a client writes itself counts");
    }
});
