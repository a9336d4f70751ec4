//! Tunnels that end in the kernel's WireGuard. Needs root and a kernel that has it:
//! `SINFONIA_TEST_PACKAGE=sinfonia-gateway tests/lab/qemu-kernel.sh` runs this in a virtual machine.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sinfonia_gateway::WireGuard;
use sinfonia_gateway::backend::{Backend, BackendOptions, Endpoints, Peers, open};
use sinfonia_gateway::plan::TunnelPeer;
use sinfonia_tunnel::{Binding, Device, HostInterface, Peer, PrivateKey};

const PORT: u16 = 51820;
const LIMIT: Duration = Duration::from_secs(30);

fn interface(name: &str) -> HostInterface {
    HostInterface { name: name.into(), mtu: 1420, routes: vec!["10.5.0.0/16".parse().unwrap()] }
}

async fn gateway(key: &PrivateKey) -> Arc<dyn Backend> {
    let options = BackendOptions {
        wireguard: WireGuard::Auto,
        key: key.clone(),
        port: PORT,
        interface: interface("sinfonia"),
        endpoints: Endpoints::new(),
    };
    open(options).await.unwrap()
}

fn peer(name: &str, address: &str) -> TunnelPeer {
    let keepalive = Some(Duration::from_secs(10));
    TunnelPeer { name: name.into(), addresses: vec![address.parse().unwrap()], keepalive }
}

#[tokio::test]
#[ignore = "needs WireGuard in the kernel: tests/lab/qemu-kernel.sh has one"]
async fn sessions_outlive_the_gateway() {
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let (key, client_key) = (PrivateKey::generate(), PrivateKey::generate());
    let client = client_key.public_key();
    let other = PrivateKey::generate().public_key();
    let peers = Peers::from([(client, peer("a", "10.5.0.2/32")), (other, peer("b", "10.5.0.3/32"))]);
    let backend = gateway(&key).await;
    assert_eq!(backend.name(), "the kernel");
    backend.apply(&peers).unwrap();

    let device = Device::start(client_key, Binding::Server("127.0.0.1:0".parse().unwrap())).unwrap();
    let link = device.add_link(interface("client").open().await.unwrap(), 1420).unwrap();
    device.add_peer(Peer {
        public_key: key.public_key(),
        link,
        allowed_ips: Vec::new(),
        endpoint: Some(([127, 0, 0, 1], PORT).into()),
        keepalive: None,
    });
    device.handshake(&key.public_key(), LIMIT).await.unwrap();
    let before = backend.traffic().unwrap();
    assert_eq!(before.len(), 2);
    assert!(before[&client].last_handshake.is_some() && before[&client].received_bytes > 0);
    assert_eq!(before[&other].last_handshake, None);
    drop(backend);

    // A successor finds the session, and does away with a peer that has gone meanwhile.
    let backend = gateway(&key).await;
    let peers = Peers::from([(client, peer("a", "10.5.0.2/32"))]);
    backend.apply(&peers).unwrap();
    let after = backend.traffic().unwrap();
    assert_eq!(after.keys().collect::<Vec<_>>(), [&client]);
    assert_eq!(after[&client].endpoint, before[&client].endpoint);
    assert!(after[&client].last_handshake.is_some());
    backend.apply(&Peers::new()).unwrap();
    assert!(backend.traffic().unwrap().is_empty());
}
