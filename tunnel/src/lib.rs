//! WireGuard tunnels and the network namespaces they end in.
//!
//! [`Config`] is a checked tunnel, [`Device`] moves its packets in userspace, [`Namespace`] is where its interface
//! lives and a command runs that sees nothing but the tunnel. This is the one crate with `unsafe` code.

mod config;
mod device;
mod engine;
mod host;
mod kernel;
mod key;
mod memory;
pub mod namespace;
mod netlink;
mod packet;
mod path_mtu;
pub mod plan;
mod tun;

pub use config::{CLIENT_KEEPALIVE, Config, ConfigError, DEFAULT_MTU};
pub use device::{Binding, Device, DeviceError};
pub use engine::{LinkId, Peer, PeerStats};
pub use host::{HostInterface, HostInterfaceError, may_make_interfaces};
pub use kernel::{KernelDevice, KernelError};
pub use key::{PrivateKey, PrivateKeyError};
pub use memory::release_code;
pub use namespace::{
    BoxOptions, Command, Exit, Namespace, NamespaceError, NamespaceOptions, SocketKind, Stdio, helper,
};
pub use path_mtu::mtu_towards;
pub use plan::{NetworkPlan, Step};
pub use tun::{INTERFACE, Tun};
