//! A TCP proxy that can be cut, go silent, and lead elsewhere.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long the proxy's threads wait before they look around.
const TURN: Duration = Duration::from_millis(10);

/// Passes on what it gets, for as long as it lives and may.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    open: AtomicBool,
    silent: AtomicBool,
    ended: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A proxy on loopback.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new((Ipv4Addr::LOCALHOST, port).into()),
            open: AtomicBool::new(true),
            silent: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || accepting.accept(&listener));
        Self { address, shared }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends all connections; new ones end at once.
    pub fn cut(&self) {
        self.shared.open.store(false, Ordering::SeqCst);
        self.shared.end_all();
    }

    /// Passes nothing on any more, without a word: connections stay.
    pub fn silence(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// Works again; what was silent ends.
    pub fn heal(&self) {
        if self.shared.silent.swap(false, Ordering::SeqCst) {
            self.shared.end_all();
        }
        self.shared.open.store(true, Ordering::SeqCst);
    }

    /// Leads to another port from now on. Connections to the one before end.
    pub fn lead_to(&self, port: u16) {
        *self.shared.target.lock().unwrap() = (Ipv4Addr::LOCALHOST, port).into();
        self.shared.end_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.end_all();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.ended.load(Ordering::SeqCst) {
            let Ok((front, _)) = listener.accept() else {
                std::thread::sleep(TURN);
                continue;
            };
            if !self.open.load(Ordering::SeqCst) {
                continue;
            }
            let target = *self.target.lock().unwrap();
            let Ok(back) = TcpStream::connect(target) else { continue };
            for stream in [&front, &back] {
                stream.set_nonblocking(false).unwrap();
                let _ = stream.set_nodelay(true);
                self.streams.lock().unwrap().push(stream.try_clone().unwrap());
            }
            let (there, other) = (self.clone(), (front.try_clone().unwrap(), back.try_clone().unwrap()));
            std::thread::spawn(move || there.pass(front, back));
            let there = self.clone();
            std::thread::spawn(move || there.pass(other.1, other.0));
        }
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            while self.silent.load(Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst) {
                std::thread::sleep(TURN);
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn end_all(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
