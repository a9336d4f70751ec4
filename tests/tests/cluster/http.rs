//! HTTP of the tests' own: requests with their whole answers, and a server that answers as a test says.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// How long a request may take; it only ends a test that fails.
const PATIENCE: Duration = Duration::from_secs(300);

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By names in lower case.
    pub(crate) headers: HashMap<String, String>,
    /// Null if it is not JSON.
    pub(crate) body: Value,
}

impl Answer {
    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The name and the state of the deployment in a good answer.
    pub(crate) fn deployment(&self) -> (String, String) {
        let text =
            |name: &str| self.body[0][name].as_str().unwrap_or_else(|| panic!("no {name} in {self:?}")).to_owned();
        (text("DeploymentName"), text("Status"))
    }
}

/// Asks a server.
pub(crate) fn send(method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
    let mut answer = agent.run(request.body(()).unwrap()).unwrap();
    let text = |value: &ureq::http::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let body = answer.body_mut().read_to_string().unwrap();
    Answer { status: answer.status().as_u16(), headers, body: serde_json::from_str(&body).unwrap_or_default() }
}

/// What a [`Stub`] was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Null if it is not JSON.
    pub(crate) body: Value,
}

/// What a [`Stub`] answers.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Status, content type and body.
    Says(u16, &'static str, String),
    /// 308 to another path.
    Redirect(String),
    /// Nothing, on a connection that stays open.
    Silence,
}

/// A server on loopback that can be away.
pub(crate) struct Stub {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    reply: Box<dyn Fn(&Asked) -> Reply + Send + Sync>,
    asked: Mutex<Vec<Asked>>,
    kept_waiting: Mutex<Vec<TcpStream>>,
    closing: AtomicBool,
}

impl Stub {
    /// A server on a free port.
    pub(crate) fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let shared = Shared {
            reply: Box::new(reply),
            asked: Mutex::default(),
            kept_waiting: Mutex::default(),
            closing: AtomicBool::default(),
        };
        let mut stub = Self { address: listener.local_addr().unwrap(), shared: Arc::new(shared), acceptor: None };
        stub.serve(listener);
        stub
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything it was asked so far.
    pub(crate) fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.shared.asked.lock().unwrap()
    }

    /// Goes away: connections are refused.
    pub(crate) fn close(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.closing.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        acceptor.join().unwrap();
        self.shared.closing.store(false, Ordering::SeqCst);
        self.shared.kept_waiting.lock().unwrap().clear();
    }

    /// Comes back.
    pub(crate) fn open(&mut self) {
        self.serve(TcpListener::bind(self.address).unwrap());
    }

    fn serve(&mut self, listener: TcpListener) {
        let shared = self.shared.clone();
        self.acceptor = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.closing.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                // Who asks may go away in the middle.
                std::thread::spawn(move || stream.ok().and_then(|stream| answer(stream, &shared)));
            }
        }));
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.close();
    }
}

fn answer(stream: TcpStream, shared: &Shared) -> Option<()> {
    let asked = read(&stream)?;
    let reply = (shared.reply)(&asked);
    shared.asked.lock().unwrap().push(asked);
    let (status, kind, body, more) = match reply {
        Reply::Says(status, kind, body) => (status, kind, body, String::new()),
        Reply::Redirect(path) => (308, "text/html", String::new(), format!("Location: {path}\r\n")),
        Reply::Silence => {
            shared.kept_waiting.lock().unwrap().push(stream);
            return Some(());
        }
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}");
    (&stream).write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).ok()
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut lines = vec![];
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first()?.split(' ').map(ToOwned::to_owned);
    let length = lines.iter().filter_map(|line| line.split_once(": "));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map(|(_, value)| value.parse().unwrap()).next().unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method: first.next()?, path: first.next()?, body: serde_json::from_slice(&body).unwrap_or_default() })
}
