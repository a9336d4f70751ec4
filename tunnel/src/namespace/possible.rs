//! A plan's steps as they work in the network at hand.

use std::fs;
use std::path::Path;

use ipnet::IpNet;

use super::message::{Failure, Stage};
use crate::plan::Step;
use crate::tun::INTERFACE;

/// What can be done of a plan, and what cannot.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Possible {
    pub(super) steps: Vec<Step>,
    /// The addresses and networks of IPv6, where that is switched off.
    pub(super) left_out: Vec<IpNet>,
}

/// The steps as they work here. `beside` a network that was there before, a default route comes in halves, which go before
/// the one that is there and stays, and name servers stay unless the tunnel has its own.
///
/// # Errors
/// When IPv6 is switched off and without it there is no way through the tunnel.
pub(super) fn here(steps: &[Step], beside: bool) -> Result<Possible, Failure> {
    // It has none of its own where the kernel has no IPv6 at all, or the interface's MTU is too small for it.
    let switch = format!("/proc/sys/net/ipv6/conf/{INTERFACE}/disable_ipv6");
    adapt(steps, !is_switched_off(Path::new(&switch)), beside)
}

fn adapt(steps: &[Step], has_ipv6: bool, beside: bool) -> Result<Possible, Failure> {
    let (mut possible, mut left_out) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Address(six @ IpNet::V6(_)) | Step::Route(six @ IpNet::V6(_)) if !has_ipv6 => left_out.push(*six),
            Step::Route(network) if beside && network.prefix_len() == 0 => possible.extend(halves(*network)),
            Step::ResolvConf(text) if beside && !names_server(text) => {}
            other => possible.push(other.clone()),
        }
    }
    if left_out.is_empty() || leads_somewhere(&possible) {
        Ok(Possible { steps: possible, left_out })
    } else {
        Err(Stage::Ipv6.failed(&std::io::Error::other("it is for IPv6 only, which is switched off here")))
    }
}

/// The two routes instead of a default route.
fn halves(network: IpNet) -> impl Iterator<Item = Step> {
    network.subnets(1).into_iter().flatten().map(Step::Route)
}

/// Whether there is an address to send from, and somewhere to send to, be it the address's own network.
fn leads_somewhere(steps: &[Step]) -> bool {
    let is_route = |step: &Step| match step {
        Step::Route(_) => true,
        Step::Address(address) => address.prefix_len() < address.max_prefix_len(),
        _ => false,
    };
    steps.iter().any(|step| matches!(step, Step::Address(_))) && steps.iter().any(is_route)
}

fn names_server(resolv_conf: &str) -> bool {
    resolv_conf.lines().any(|line| line.starts_with("nameserver"))
}

fn is_switched_off(file: &Path) -> bool {
    fs::read_to_string(file).map_or(true, |value| value.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(network: &str) -> Step {
        Step::Route(network.parse().unwrap())
    }

    fn address(network: &str) -> Step {
        Step::Address(network.parse().unwrap())
    }

    #[test]
    fn beside_another_network_a_default_route_comes_in_halves() {
        let steps = [Step::LinkUp, address("10.5.0.2/32"), route("0.0.0.0/0"), route("::/0"), route("10.0.0.0/8")];
        let expected = [
            Step::LinkUp,
            address("10.5.0.2/32"),
            route("0.0.0.0/1"),
            route("128.0.0.0/1"),
            route("::/1"),
            route("8000::/1"),
            route("10.0.0.0/8"),
        ];
        let whole = Possible { steps: steps.to_vec(), left_out: Vec::new() };
        assert_eq!(adapt(&steps, true, false).unwrap(), whole);
        assert_eq!(adapt(&steps, true, true).unwrap().steps, expected);
    }

    #[test]
    fn beside_another_network_its_name_servers_stay_where_the_tunnel_has_none() {
        let own = [Step::ResolvConf("nameserver 10.96.0.10\n".into())];
        let none = [Step::ResolvConf("# no nameserver\noptions ndots:5\n".into())];
        assert_eq!(adapt(&own, true, true).unwrap().steps, own);
        assert_eq!(adapt(&none, true, false).unwrap().steps, none);
        assert_eq!(adapt(&none, true, true).unwrap().steps, []);
    }

    #[test]
    fn without_ipv6_its_part_is_left_out() {
        let six = ["fd05::2/128", "::/0"].map(|network| network.parse().unwrap());
        let steps = [address("10.5.0.2/32"), Step::Address(six[0]), route("0.0.0.0/0"), Step::Route(six[1])];
        let possible = adapt(&steps, false, false).unwrap();
        assert_eq!(possible, Possible { steps: vec![steps[0].clone(), steps[2].clone()], left_out: six.to_vec() });
    }

    #[test]
    fn what_is_for_ipv6_only_needs_it() {
        let six = [address("fd05::2/128"), route("::/0")];
        assert!(adapt(&six, true, false).is_ok());
        assert_eq!(adapt(&six, false, false).unwrap_err().step, Stage::Ipv6);
        let nowhere = [address("10.5.0.2/32"), route("::/0")];
        assert!(adapt(&nowhere, false, false).is_err());
        let network = [address("10.5.0.2/16"), route("::/0")];
        assert!(adapt(&network, false, false).is_ok());
        assert!(adapt(&[Step::LoopbackUp], false, false).is_ok(), "nothing is asked for");
    }
}
