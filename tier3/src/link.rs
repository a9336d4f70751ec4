//! One complete tunnel to one deployment.

use std::net::SocketAddr;
use std::time::Duration;

use sinfonia_tunnel::{Binding, CLIENT_KEEPALIVE, Config, Device, Namespace, NamespaceError, Peer, mtu_towards};
use sinfonia_wire::CloudletDeployment;

use crate::error::TunnelError;
use crate::keys::ClaimedKey;
use crate::{Tier3, names};

/// A tunnel that works, and where it ends.
pub(crate) struct Link {
    pub(crate) namespace: Namespace,
    pub(crate) device: Device,
    pub(crate) endpoint: SocketAddr,
    pub(crate) handshake_time: Duration,
}

/// A complete tunnel to one deployment.
pub(crate) async fn attempt(
    client: &Tier3,
    key: &ClaimedKey,
    deployment: &CloudletDeployment,
    namespace: Option<Namespace>,
) -> Result<Link, TunnelError> {
    let config = config(deployment, key)?;
    let endpoint = resolve(&config).await?;
    let namespace = match namespace {
        Some(namespace) => namespace,
        None => client.make_namespace().await?,
    };
    let mtu = mtu_towards(endpoint);
    let device = Device::start(config.private_key().clone(), Binding::Client(endpoint))?;
    if client.present {
        device.stay_on_route(endpoint)?;
    }
    let tun = namespace.take_tun().ok_or(NamespaceError::HelperLost)?;
    let link = device.add_link(tun, mtu)?;
    device.add_peer(Peer {
        public_key: config.peer(),
        link,
        allowed_ips: config.allowed_ips().to_vec(),
        endpoint: Some(endpoint),
        keepalive: Some(CLIENT_KEEPALIVE),
    });
    let (peer, plan) = (config.peer(), config.plan(mtu));
    let configured = async { Ok::<(), TunnelError>(namespace.configure(&plan).await?) };
    let shaken = async { Ok(device.handshake(&peer, client.handshake_limit).await?) };
    let ((), handshake_time) = tokio::try_join!(configured, shaken)?;
    Ok(Link { handshake_time, namespace, device, endpoint })
}

/// The tunnel as the cloudlet described it.
pub(crate) fn config(deployment: &CloudletDeployment, key: &ClaimedKey) -> Result<Config, TunnelError> {
    if deployment.application_key != key.public_key() {
        tracing::debug!("the cloudlet answered for another client's key");
    }
    Ok(Config::new(deployment.tunnel_config.clone(), key.private_key().clone())?)
}

async fn resolve(config: &Config) -> Result<SocketAddr, TunnelError> {
    let endpoint = config.endpoint();
    if let Some(address) = endpoint.socket_addr() {
        return Ok(address);
    }
    let failed = |reason: String| TunnelError::Endpoint { endpoint: endpoint.to_string(), reason };
    let found = names::lookup(&endpoint.host().to_string(), endpoint.port()).await;
    let addresses = found.map_err(|error| failed(error.to_string()))?;
    addresses.first().copied().ok_or_else(|| failed("its name has no address".into()))
}
