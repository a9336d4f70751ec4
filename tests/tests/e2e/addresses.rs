//! IPv4 and IPv6, inside the tunnel and outside, names, and clouds that are found without a URL.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;

use sinfonia_tests::{World, eventually, program};

use crate::setup::{FETCH, url};

const PAGE: &str = "<p>By any address</p>";

/// Says the backend's addresses, and fetches the page from each.
const FETCH_BY_BOTH: &str = "for family in 4 6; do
        address=$(getent ahostsv$family helloworld | sed -n '1s/ .*//p')
        [ $family = 6 ] && host=[$address] || host=$address
        echo $address
        timeout --foreground 10 busybox wget -q -O- http://$host/ || exit 1
        echo
    done";

/// The client's part of a test with one cloudlet, which it asks itself.
fn fetched(options: &[&str], command: &[&str]) -> String {
    let world = World::new();
    let application = world.add_page(PAGE).to_string();
    let tier2 = world.tier2("cloudlet", options);
    let url = url(&tier2);
    let client = world.tier3(&[&[url.as_str(), application.as_str()], command].concat()).finish();
    assert_eq!(client.code(), 0, "{options:?}: {}\n{}", client.errors, tier2.log());
    client.output
}

#[test]
fn the_tunnel_carries_ipv4_and_ipv6() {
    let networks =
        ["--tunnel-endpoint", "127.0.0.1", "--client-network", "10.7.0.0/16", "--client-network", "fd05::/64"];
    let output = fetched(&networks, &["sh", "-c", FETCH_BY_BOTH]);
    let lines: Vec<_> = output.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, ["10.96.0.80", PAGE, "fd96::80", PAGE]);
}

#[test]
fn the_tunnel_goes_over_ipv6_and_to_names() {
    if let Err(error) = UdpSocket::bind("[::1]:0") {
        panic!("this machine has IPv6 switched off ({error}): sysctl -w net.ipv6.conf.lo.disable_ipv6=0");
    }
    for endpoint in ["127.0.0.1", "[::1]", "::1", "localhost"] {
        assert_eq!(fetched(&["--tunnel-endpoint", endpoint], &FETCH).trim(), PAGE, "{endpoint}");
    }
}

/// A network of its own: two interfaces wired to each other, with addresses that are nobody's.
const NETWORK: &str = "set -e
    ip link set lo up
    ip link add east type veth peer name west
    ip address add 198.51.100.1/24 dev east
    ip address add 198.51.100.2/24 dev west
    ip link set east up
    ip link set west up
    ip route add 224.0.0.0/4 dev east
    exec setpriv --inh-caps=-all --ambient-caps=-all \"$@\"";

#[test]
fn a_cloudlet_nearby_is_found_without_a_url() {
    let world = World::new();
    let application = world.add_page(PAGE).to_string();
    let script = format!(
        "\"$0\" --driver local --host 0.0.0.0 --port 5000 --tunnel-port 0 --tunnel-endpoint 198.51.100.1 --zeroconf \\
             --recipes \"$2\" --state-directory \"$3\" &
         tier2=$!
         \"$1\" --zeroconf {application} {}
         code=$?
         kill $tier2
         wait $tier2
         exit $code",
        FETCH.join(" ")
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-current-user", "--keep-caps", "--net", "sh", "-c", NETWORK, "network"]);
    command.args(["sh", "-c", &script]);
    command.arg(program("sinfonia-tier2")).arg(program("sinfonia-tier3"));
    command.arg(world.path("recipes")).arg(world.path("cloudlet"));
    let running = world.start(command);
    let group = running.pid();
    let ended = running.finish();
    assert_eq!((ended.code(), ended.output.trim()), (0, PAGE), "{}", ended.errors);
    world.wait_until_gone("client and cloudlet", &[group]);
    assert!(fs::exists(world.path("cloudlet/cloudlet-uuid")).unwrap());
    eventually("the network ends", || world.processes().is_empty());
}
