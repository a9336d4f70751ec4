//! wireguard-go, as an end of a tunnel.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sinfonia_tests::eventually;
use sinfonia_tunnel::PrivateKey;
use sinfonia_wire::PublicKey;

use super::lab::{End, Kept, Wire};
use super::{MTU, Side, Tunnel};

const LIMIT: Duration = Duration::from_secs(5);

/// The other end of a tunnel.
pub(crate) struct Peer<'a> {
    pub(crate) key: PublicKey,
    /// Where it is; unknown if it calls first.
    pub(crate) endpoint: Option<SocketAddr>,
    /// Its address in the tunnel.
    pub(crate) inner: &'a str,
}

impl<'a> From<&'a Side> for Peer<'a> {
    fn from(side: &'a Side) -> Self {
        let endpoint = format!("{}:{}", side.outer, side.port).parse().unwrap();
        Self { key: side.key.public_key(), endpoint: Some(endpoint), inner: side.inner }
    }
}

/// Brings a tunnel up, from one end of the wire to the other.
pub(super) fn start(wire: &Wire) -> Tunnel {
    let key = PrivateKey::generate;
    let client = Side { key: key(), outer: Wire::CLIENT, port: 51821, inner: "198.51.100.1" };
    let server = Side { key: key(), outer: Wire::SERVER, port: 51821, inner: "198.51.100.2" };
    let address = server.inner;
    let end = |namespace: &End, own: &Side, other: &Side, interface| {
        end(namespace, interface, (&own.key, own.port), own.inner, &other.into())
    };
    Tunnel {
        client: end(&wire.client, &client, &server, "go-client"),
        server: end(&wire.server, &server, &client, "go-server"),
        address,
        name: "wireguard-go",
    }
}

/// Starts it in a namespace, with a key, a port, and an address in the tunnel's network of 256 addresses.
pub(crate) fn end(namespace: &End, interface: &str, own: (&PrivateKey, u16), inner: &str, peer: &Peer<'_>) -> End {
    let program = program();
    let mut command = namespace.command(program.to_str().unwrap());
    command.args(["--foreground", interface]).stdout(Stdio::null());
    let socket = Path::new("/run/wireguard").join(format!("{interface}.sock"));
    // One that was killed left it.
    let _ = std::fs::remove_file(&socket);
    let process = Kept(command.spawn().unwrap());
    eventually("wireguard-go can be configured", || UnixStream::connect(&socket).is_ok());
    configure(&socket, own, peer);
    let mut end = namespace.again();
    end.keep.push(process);
    end.ip(&format!("address add {inner}/24 dev {interface}"));
    end.ip(&format!("link set {interface} mtu {MTU} up"));
    end
}

/// Sets keys and peer by WireGuard's cross-platform userspace protocol.
fn configure(socket: &Path, (key, port): (&PrivateKey, u16), peer: &Peer<'_>) {
    let private = STANDARD.decode(key.to_base64().as_bytes()).unwrap();
    let endpoint = peer.endpoint.map(|endpoint| format!("endpoint={endpoint}\n")).unwrap_or_default();
    let text = format!(
        "set=1\nprivate_key={}\nlisten_port={port}\npublic_key={}\n{endpoint}allowed_ip={}/32\n\n",
        hex(&private),
        hex(peer.key.as_bytes()),
        peer.inner,
    );
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"errno=0\n\n");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where `SINFONIA_WIREGUARD_GO` or scripts/setup.sh has it.
fn program() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let path = variable("SINFONIA_WIREGUARD_GO").unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache"))).unwrap_or_default();
        cache.join("sinfonia-dev/bin/wireguard-go")
    });
    assert!(path.exists(), "{} is missing: `make bench` builds it", path.display());
    path
}
