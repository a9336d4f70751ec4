//! A UDP relay between clients and a cloudlet: the outer traffic, recorded, and dropped when a test says so.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the relay's threads wait before they look whether they should end.
const TURN: Duration = Duration::from_millis(20);

/// Passes datagrams on and remembers them.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<u8>>,
    dropping: AtomicBool,
    ended: AtomicBool,
}

impl Relay {
    /// A relay on loopback to a port that may be opened later.
    pub fn to(target: SocketAddr) -> Self {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        front.set_read_timeout(Some(TURN)).unwrap();
        let address = front.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = shared.clone();
            std::thread::spawn(move || forward(&front, target, &shared))
        };
        Self { address, shared, threads: vec![thread] }
    }

    /// Where clients send.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing gets through, or everything again.
    pub fn drop_all(&self, dropping: bool) {
        self.shared.dropping.store(dropping, Ordering::SeqCst);
    }

    /// All bytes that passed so far, in both directions.
    pub fn capture(&self) -> Vec<u8> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn forward(front: &UdpSocket, target: SocketAddr, shared: &Arc<Shared>) {
    let mut clients: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut threads = Vec::new();
    let mut buffer = [0; 65536];
    while !shared.ended.load(Ordering::SeqCst) {
        let Some((length, from)) = receive(front, &mut buffer) else { continue };
        let back = clients.entry(from).or_insert_with(|| {
            let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            back.set_read_timeout(Some(TURN)).unwrap();
            let (reader, front, shared) = (back.try_clone().unwrap(), front.try_clone().unwrap(), shared.clone());
            threads.push(std::thread::spawn(move || answer(&reader, &front, from, &shared)));
            back
        });
        pass(shared, &buffer[..length], back, target);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn answer(back: &UdpSocket, front: &UdpSocket, client: SocketAddr, shared: &Shared) {
    let mut buffer = [0; 65536];
    while !shared.ended.load(Ordering::SeqCst) {
        if let Some((length, _)) = receive(back, &mut buffer) {
            pass(shared, &buffer[..length], front, client);
        }
    }
}

fn pass(shared: &Shared, datagram: &[u8], socket: &UdpSocket, to: SocketAddr) {
    if !shared.dropping.load(Ordering::SeqCst) {
        shared.seen.lock().unwrap().extend_from_slice(datagram);
        let _ = socket.send_to(datagram, to);
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    match socket.recv_from(buffer) {
        Ok(received) => Some(received),
        // Nothing yet, or the other side's port is closed for the moment.
        Err(error) => {
            let expected = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::ConnectionRefused];
            assert!(expected.contains(&error.kind()), "relay: {error}");
            None
        }
    }
}
