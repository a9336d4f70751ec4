//! Our own tunnel: at each end a process with the UDP socket on the wire, and the interface in a namespace within.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sinfonia_tunnel::{Binding, Device, Namespace, NamespaceOptions, NetworkPlan, Peer, PrivateKey, Step};
use sinfonia_wire::PublicKey;

use super::lab::{End, Kept, Wire};
use super::{MTU, OURS, Side, Tunnel};

const LIMIT: Duration = Duration::from_secs(5);

/// What an end is told on its standard input.
#[derive(Serialize, Deserialize)]
struct Task {
    private_key: String,
    listen: SocketAddr,
    address: String,
    peer: PublicKey,
    peer_endpoint: SocketAddr,
    peer_address: String,
}

/// Brings the tunnel up.
pub(super) fn start(wire: &Wire) -> Tunnel {
    let key = PrivateKey::generate;
    let client = Side { key: key(), outer: Wire::CLIENT, port: 51820, inner: "10.5.0.1" };
    let server = Side { key: key(), outer: Wire::SERVER, port: 51820, inner: "10.5.0.2" };
    let address = server.inner;
    Tunnel {
        client: start_end(&wire.client, &client, &server),
        server: start_end(&wire.server, &server, &client),
        address,
        name: "our tunnel",
    }
}

fn start_end(namespace: &End, own: &Side, other: &Side) -> End {
    let socket = |side: &Side| format!("{}:{}", side.outer, side.port).parse().unwrap();
    let task = Task {
        private_key: own.key.to_base64().to_string(),
        listen: socket(own),
        address: own.inner.into(),
        peer: other.key.public_key(),
        peer_endpoint: socket(other),
        peer_address: other.inner.into(),
    };
    let program = std::env::current_exe().unwrap();
    let mut command = namespace.command(program.to_str().unwrap());
    let mut process = Kept(command.arg(OURS).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut input = process.0.stdin.take().unwrap();
    writeln!(input, "{}", serde_json::to_string(&task).unwrap()).unwrap();
    // It ends when its input does.
    process.0.stdin = Some(input);
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let helper = line.trim().parse().unwrap_or_else(|_| panic!("an end of the tunnel says {line:?}"));
    End::of(helper, vec![process])
}

/// One end: says which process holds the namespace with the interface, and goes on until its input ends.
pub(super) fn end() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let task: Task = serde_json::from_str(&line).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (namespace, _device) = runtime.block_on(bring_up(&task));
    let mut output = std::io::stdout();
    writeln!(output, "{}", namespace.helper_pid().unwrap()).unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    runtime.block_on(namespace.close());
}

async fn bring_up(task: &Task) -> (Namespace, Device) {
    let device = Device::start(task.private_key.parse().unwrap(), Binding::Server(task.listen)).unwrap();
    let namespace = tokio::time::timeout(LIMIT, Namespace::create(NamespaceOptions::default())).await.unwrap().unwrap();
    let steps = vec![
        Step::LoopbackUp,
        Step::Mtu(MTU),
        Step::Address(format!("{}/24", task.address).parse().unwrap()),
        Step::LinkUp,
    ];
    namespace.configure(&NetworkPlan { steps }).await.unwrap();
    let link = device.add_link(namespace.take_tun().unwrap(), MTU).unwrap();
    device.add_peer(Peer {
        public_key: task.peer,
        link,
        allowed_ips: vec![format!("{}/32", task.peer_address).parse().unwrap()],
        endpoint: Some(task.peer_endpoint),
        keepalive: None,
    });
    (namespace, device)
}
