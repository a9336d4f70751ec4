//! A cloudlet on a Kubernetes cluster.
//!
//! `requests` is the HTTP face's side, in every replica: it writes what is wanted into `CloudletDeployment` objects and
//! waits for their status. `operator` is the leader's side: it brings the cluster to what the objects say. What it
//! decides ([`decide`]) and what it makes ([`objects`]) are plain functions.

mod account;
pub mod activity;
mod admission;
mod api;
pub mod check;
mod cloudlet;
pub mod crd;
mod decide;
mod drain;
mod ends;
mod enforcement;
mod exposition;
mod failure;
mod fetch;
pub mod helm;
mod leader;
mod networks;
mod objects;
mod operator;
mod options;
mod permissions;
mod policy;
pub mod ports;
pub mod probe;
pub mod prometheus;
mod quantity;
mod reach;
pub mod readiness;
mod removal;
mod requests;
pub mod resources;
mod said;
mod text;
mod trial;
pub mod tunnel;
pub mod view;
mod watched;
pub mod workloads;

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use api::ApiError;
pub use cloudlet::{StartError, examine, start};
pub use failure::Failure;
pub use options::{Egress, KubernetesOptions, PodSecurity};
pub use removal::remove_deployments;

/// What clients send through the tunnel: everything of the families they have an address of.
fn allowed_ips(addresses: &[IpAddr]) -> Vec<IpNet> {
    let v6 = addresses.iter().any(IpAddr::is_ipv6);
    std::iter::once(IpNet::V4(Ipv4Net::default())).chain(v6.then(|| IpNet::V6(Ipv6Net::default()))).collect()
}
