//! Kinds of IP addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether the address belongs to this host or link only, or to no single host at all: nothing a stranger may make
/// us connect to.
#[must_use]
pub fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0 || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            let embedded = embedded_v4(v6).is_some_and(|v4| is_local(v4.into()));
            v6.is_unspecified() || v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast() || embedded
        }
    }
}

/// Whether the address means the same host everywhere on the internet.
#[must_use]
pub fn is_global(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if is_local(address) {
        return false;
    }
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && b & 0xc0 == 64;
            let benchmark = a == 198 && b & 0xfe == 18;
            let protocols = (a, b, c) == (192, 0, 0);
            !(v4.is_private() || v4.is_documentation() || shared || benchmark || protocols || a >= 240)
        }
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            let documentation = (first, second) == (0x2001, 0x0db8) || first & 0xfff0 == 0x3ff0;
            // Only 2000::/3 is given out.
            first & 0xe000 == 0x2000 && !documentation
        }
    }
}

/// The IPv4 address that a translated (64:ff9b::/96), 6to4 or old-style compatible address leads to.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match (a, b, c, d, e, f) {
        (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        (0, 0, 0, 0, 0, 0) if (g, h) > (0, 1) => Some(v4(g, h)),
        (0x2002, high, low, ..) => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_addresses() {
        let cases = [
            ("127.0.0.1", true, false),
            ("127.9.9.9", true, false),
            ("0.0.0.0", true, false),
            ("0.1.2.3", true, false),
            ("169.254.169.254", true, false),
            ("224.0.0.1", true, false),
            ("255.255.255.255", true, false),
            ("::", true, false),
            ("::1", true, false),
            ("fe80::1", true, false),
            ("ff02::1", true, false),
            ("::ffff:127.0.0.1", true, false),
            ("::127.0.0.1", true, false),
            ("64:ff9b::7f00:1", true, false),
            ("2002:7f00:1::1", true, false),
            ("10.1.2.3", false, false),
            ("100.64.0.1", false, false),
            ("192.0.2.1", false, false),
            ("198.18.0.1", false, false),
            ("240.0.0.1", false, false),
            ("fd00::1", false, false),
            ("2001:db8::1", false, false),
            ("8.8.8.8", false, true),
            ("100.128.0.1", false, true),
            ("2606:4700::1111", false, true),
        ];
        for (text, local, global) in cases {
            let address = text.parse().unwrap();
            assert_eq!((is_local(address), is_global(address)), (local, global), "{text}");
        }
    }
}
