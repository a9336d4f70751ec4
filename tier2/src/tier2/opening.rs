//! Taking what a tier2 needs for itself: its state directory and its ports.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use sinfonia_server::{ServeError, Server, ServerOptions};
use sinfonia_tunnel::{Binding, Device, DeviceError, PrivateKey};

use super::StartError;
use crate::config::Config;

/// How long to wait at the start for what is taken.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tries again for a moment what is taken: a tier2 that was just killed holds its lock and ports until the kernel is
/// done with it.
pub(super) async fn patiently<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    taken: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(error) if taken(&error) && Instant::now() < deadline => tokio::time::sleep(PATIENCE / 50).await,
            result => return result,
        }
    }
}

/// The port of the HTTP API.
pub(super) fn bind(config: &Config) -> Result<Server, ServeError> {
    Server::bind(ServerOptions {
        host: Some(config.host),
        certificate: config.tls.open()?,
        ..ServerOptions::new("sinfonia-tier2", config.port)
    })
}

/// The UDP port of the tunnels, on all addresses, IPv4 only where there is no IPv6.
pub(super) fn open_device(key: PrivateKey, port: u16) -> Result<Device, StartError> {
    let open = |host: IpAddr| Device::start(key.clone(), Binding::Server((host, port).into()));
    match open(Ipv6Addr::UNSPECIFIED.into()) {
        Err(DeviceError::Socket { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {
            Err(StartError::TunnelPort(port))
        }
        Err(DeviceError::Socket { .. }) => Ok(open(Ipv4Addr::UNSPECIFIED.into())?),
        result => Ok(result?),
    }
}
