//! The cluster as the gateway sees it: foreign objects come in here and leave as what the rest needs.

mod client;
mod mirror;
mod node;
mod peer;
mod pod;
mod refusals;
mod secret;

pub use client::{ClusterError, connect, patiently, within};
pub use mirror::{Mirror, follow};
pub use node::{Announcement, Nodes, base_url, internal_address, is_endpoint, kilo_annotation, tunnel_endpoint};
pub use peer::ClusterPeer;
pub use pod::ClusterPod;
pub use refusals::Refusals;
pub use secret::private_key;
