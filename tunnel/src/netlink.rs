//! Carries out the network steps of a plan in the present network namespace (rtnetlink(7)).

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::plan::Step;
use crate::tun::INTERFACE;

const LOOPBACK: &str = "lo";

/// A connection to the kernel, and the tunnel interface it works on.
pub(crate) struct Network {
    handle: Handle,
    tunnel: u32,
}

impl Network {
    /// Connects, inside a tokio runtime with I/O.
    pub(crate) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle, tunnel: nix::net::if_::if_nametoindex(INTERFACE)? })
    }

    pub(crate) async fn apply(&self, step: &Step) -> io::Result<()> {
        let result = match step {
            Step::LoopbackUp => {
                let loopback = nix::net::if_::if_nametoindex(LOOPBACK)?;
                self.handle.link().set(LinkUnspec::new_with_index(loopback).up().build()).execute().await
            }
            Step::Mtu(mtu) => {
                let change = LinkUnspec::new_with_index(self.tunnel).mtu(*mtu).build();
                self.handle.link().set(change).execute().await
            }
            Step::Address(network) => {
                let mut request = self.handle.address().add(self.tunnel, network.addr(), network.prefix_len());
                // Nobody else is on this link: without duplicate detection an IPv6 address works at once.
                request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
                request.execute().await
            }
            Step::LinkUp => {
                self.handle.link().set(LinkUnspec::new_with_index(self.tunnel).up().build()).execute().await
            }
            Step::Route(network) => self.route(*network).await,
            Step::ResolvConf(_) => return Err(io::Error::other("not a network step")),
        };
        result.map_err(os_error)
    }

    async fn route(&self, network: IpNet) -> Result<(), rtnetlink::Error> {
        let message = match network.network() {
            IpAddr::V4(address) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(address, network.prefix_len())
                .output_interface(self.tunnel)
                .build(),
            IpAddr::V6(address) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(address, network.prefix_len())
                .output_interface(self.tunnel)
                .build(),
        };
        self.handle.route().add(message).execute().await
    }
}

/// The kernel's own error number where there is one.
pub(crate) fn os_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
