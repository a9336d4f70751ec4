//! What the tests run the program against: a stub of tier1, and a cloudlet made of the tunnel crate alone.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sinfonia_tunnel::{
    Binding, DEFAULT_MTU, Device, LinkId, Namespace, NamespaceOptions, NetworkPlan, Peer, PrivateKey, SocketKind, Step,
};
use sinfonia_wire::PublicKey;
use tokio::process::Command;
use tokio::sync::watch;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_sinfonia-tier3");
pub(crate) const HELLOWORLD: &str = "00000000-0000-0000-0000-000000000000";

/// What stands in the cloudlet's one page.
pub(crate) const PAGE: &str = "hello from the cloudlet";

/// The cloudlet's address in every tunnel.
pub(crate) const BACKEND: &str = "10.5.0.1";

/// The program, with a cache folder of its own and no settings of the person who runs the tests.
pub(crate) fn tier3(home: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SINFONIA_") || name.to_string_lossy().starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command.env_remove("XDG_CACHE_HOME").env("HOME", home).current_dir(home).kill_on_drop(true);
    command
}

/// What a stub answers.
pub(crate) enum Answer {
    /// Status, type and body.
    Http(u16, &'static str, String),
    /// Bytes that are no HTTP.
    Raw(&'static str),
    /// The connection stays open.
    Silence,
}

impl Answer {
    pub(crate) fn json(body: &Value) -> Self {
        Self::Http(200, "application/json", body.to_string())
    }

    pub(crate) fn problem(status: u16, body: &Value) -> Self {
        Self::Http(status, "application/problem+json", body.to_string())
    }
}

/// An HTTP server that answers each request by a function of its head.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    requests: Arc<watch::Sender<Vec<String>>>,
}

impl Stub {
    pub(crate) fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(watch::Sender::new(Vec::new()));
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &seen, &*answer));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.borrow().clone()
    }

    /// Waits until there were this many.
    pub(crate) async fn requested(&self, count: usize) {
        let mut requests = self.requests.subscribe();
        let enough = requests.wait_for(|requests| requests.len() >= count);
        let came = tokio::time::timeout(LIMIT, enough).await.is_ok();
        assert!(came, "waited in vain for request {count}: {:?}", self.lines());
    }

    /// The request lines of all requests so far, without the protocol.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |head: &String| head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        self.requests().iter().map(line).collect()
    }
}

fn serve(mut stream: TcpStream, seen: &watch::Sender<Vec<String>>, answer: &dyn Fn(&str) -> Answer) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    seen.send_modify(|seen| seen.push(head.clone()));
    let text = match answer(&head) {
        Answer::Http(status, kind, body) => format!(
            "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
        Answer::Raw(text) => text.to_owned(),
        Answer::Silence => {
            // Until the client hangs up.
            let _ = stream.read(&mut byte);
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes());
}

/// The client's key in a deploy request.
pub(crate) fn key_of(head: &str) -> PublicKey {
    let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap();
    path.rsplit('/').next().unwrap().parse().unwrap()
}

/// A deployment as a cloudlet answers it.
pub(crate) fn deployment(client: PublicKey, cloudlet: PublicKey, endpoint: &str) -> Value {
    json!({
        "UUID": HELLOWORLD,
        "ApplicationKey": client,
        "Status": "Deployed",
        "DeploymentName": "vertical-module",
        "TunnelConfig": {
            "publicKey": cloudlet,
            "allowedIPs": ["0.0.0.0/0"],
            "endpoint": endpoint,
            "address": ["10.5.0.2"],
            "dns": [BACKEND, "vertical-module.svc.cluster.local", "svc.cluster.local", "cluster.local"],
        },
    })
}

/// The far end of a tunnel, with one page behind it.
pub(crate) struct Cloudlet {
    pub(crate) public_key: PublicKey,
    device: Device,
    link: LinkId,
    _namespace: Namespace,
}

impl Cloudlet {
    pub(crate) async fn start() -> Self {
        let options = NamespaceOptions { helper: Some(PROGRAM.into()), unprivileged_ports: true, ..Default::default() };
        let namespace = Namespace::create(options).await.unwrap();
        let steps = vec![
            Step::LoopbackUp,
            Step::Mtu(DEFAULT_MTU),
            Step::Address(format!("{BACKEND}/16").parse().unwrap()),
            Step::LinkUp,
        ];
        namespace.configure(&NetworkPlan { steps }).await.unwrap();
        let key = PrivateKey::generate();
        let public_key = key.public_key();
        let device = Device::start(key, Binding::Server("127.0.0.1:0".parse().unwrap())).unwrap();
        let link = device.add_link(namespace.take_tun().unwrap(), DEFAULT_MTU).unwrap();
        let socket: socket2::Socket = namespace.socket(SocketKind::TcpV4).await.unwrap().into();
        socket.bind(&format!("{BACKEND}:80").parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(16).unwrap();
        socket.set_nonblocking(false).unwrap();
        std::thread::spawn(move || {
            for stream in TcpListener::from(socket).incoming() {
                let _ = stream.unwrap().write_all(format!("{PAGE}\n").as_bytes());
            }
        });
        Self { public_key, device, link, _namespace: namespace }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.device.local_port())
    }

    /// Lets a client in, as a deployment would; what to answer it.
    pub(crate) fn deploy(&self, client: PublicKey) -> Value {
        self.device.add_peer(Peer {
            public_key: client,
            link: self.link,
            allowed_ips: vec!["10.5.0.2/32".parse().unwrap()],
            endpoint: None,
            keepalive: None,
        });
        deployment(client, self.public_key, &self.endpoint())
    }
}

/// A tier1 whose only cloudlet always succeeds.
pub(crate) async fn tier1() -> Stub {
    let cloudlet = Cloudlet::start().await;
    Stub::start(move |head| match head.split(' ').next() {
        Some("DELETE") => Answer::Http(204, "text/plain", String::new()),
        _ => Answer::json(&json!([cloudlet.deploy(key_of(head))])),
    })
}

/// Longest time that anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
