//! A balancer as tier1s should have one: it asks who is ready, and sends a request that got no answer to another.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sinfonia_tests::eventually;

/// How often it asks who is ready.
const LOOK: Duration = Duration::from_millis(100);
/// How long a server may take to take a connection, and to answer.
const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(60);

/// Takes one request on each connection, for as long as it lives.
pub(crate) struct Balancer {
    base: String,
    shared: Arc<Shared>,
}

struct Shared {
    servers: Vec<Server>,
    turn: AtomicUsize,
    repeated: AtomicUsize,
    ended: AtomicBool,
}

struct Server {
    address: SocketAddr,
    ready: AtomicBool,
}

impl Balancer {
    /// Before servers at these ports of loopback, all of which have to become ready.
    pub(crate) fn start(ports: &[u16]) -> Self {
        let server = |port: &u16| Server { address: (Ipv4Addr::LOCALHOST, *port).into(), ready: AtomicBool::default() };
        let shared = Arc::new(Shared {
            servers: ports.iter().map(server).collect(),
            turn: AtomicUsize::default(),
            repeated: AtomicUsize::default(),
            ended: AtomicBool::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (accepting, looking) = (shared.clone(), shared.clone());
        std::thread::spawn(move || accepting.accept(&listener));
        std::thread::spawn(move || looking.look());
        let balancer = Self { base, shared };
        balancer.wait_for_servers(ports.len());
        balancer
    }

    /// Where clients ask.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Waits until so many servers are ready, as it sees them.
    pub(crate) fn wait_for_servers(&self, count: usize) {
        eventually("the balancer sees the servers", || {
            self.shared.servers.iter().filter(|server| server.ready.load(Ordering::SeqCst)).count() == count
        });
    }

    /// How often a server was asked that did not answer, so that another one was.
    pub(crate) fn repeated(&self) -> usize {
        self.shared.repeated.load(Ordering::SeqCst)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // So that it notices.
        let _ = TcpStream::connect(self.base.trim_start_matches("http://"));
    }
}

impl Shared {
    fn look(&self) {
        while !self.ended.load(Ordering::SeqCst) {
            for server in &self.servers {
                let answer =
                    exchange(server.address, b"GET /readyz HTTP/1.1\r\nHost: tier1\r\nConnection: close\r\n\r\n");
                server.ready.store(answer.is_ok_and(|text| text.starts_with(b"HTTP/1.1 200")), Ordering::SeqCst);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let shared = self.clone();
            std::thread::spawn(move || shared.serve(client));
        }
    }

    /// A client that gets no answer sees the connection end.
    fn serve(&self, mut client: TcpStream) {
        client.set_read_timeout(Some(ANSWER)).unwrap();
        let Ok(request) = read_request(&mut client) else { return };
        let first = self.turn.fetch_add(1, Ordering::SeqCst);
        let turn: Vec<&Server> =
            self.servers.iter().cycle().skip(first % self.servers.len()).take(self.servers.len()).collect();
        let is_ready = |server: &&Server| server.ready.load(Ordering::SeqCst);
        let (ready, others): (Vec<&Server>, Vec<&Server>) = turn.into_iter().partition(is_ready);
        for server in ready.into_iter().chain(others) {
            if let Ok(answer) = exchange(server.address, &request) {
                let _ = client.write_all(&answer);
                return;
            }
            self.repeated.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A request, changed so that the connection to the server ends with its answer.
fn read_request(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let (mut text, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let length = client.read(&mut buffer)?;
        text.extend_from_slice(&buffer[..length]);
        if let Some((head, body)) = split(&text)
            && is_whole(&head, body)
        {
            let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
            let head: Vec<&str> = kept.collect();
            let mut request = format!("{}\r\nConnection: close\r\n\r\n", head.join("\r\n")).into_bytes();
            request.extend_from_slice(body);
            return Ok(request);
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The whole answer of a server.
fn exchange(server: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, CONNECT)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(request)?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let length = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..length]);
        if split(&answer).is_some_and(|(head, body)| is_whole(&head, body)) {
            return Ok(answer);
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn split(message: &[u8]) -> Option<(String, &[u8])> {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&message[..end]).into_owned(), &message[end + 4..]))
}

/// Whether all of a body is there. Without a length, and not in chunks, there is none: tier1 answers nothing else.
fn is_whole(head: &str, body: &[u8]) -> bool {
    match content_length(head) {
        Some(length) => body.len() == length,
        None if head.to_ascii_lowercase().contains("transfer-encoding: chunked") => body.ends_with(b"0\r\n\r\n"),
        None => true,
    }
}

fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    })
}
