//! Cloudlets that report over kept connections, with as little work of their own as possible.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::interval_at;
use uuid::Uuid;

const ROUND: Duration = Duration::from_secs(4);
/// Reports on their way at once.
const CONNECTIONS: usize = 256;

/// The body of an answer, if it is 200.
pub(super) fn get(url: &str) -> Option<String> {
    ureq::get(url).call().ok()?.body_mut().read_to_string().ok()
}

/// Each reports once.
pub(super) fn report(address: SocketAddr, cloudlets: &[Uuid]) {
    runtime().block_on(async {
        let shares = cloudlets.chunks(cloudlets.len().div_ceil(CONNECTIONS)).map(|share| async move {
            let mut connection = Connection::open(address).await;
            for cloudlet in share {
                connection.report(&request(*cloudlet)).await;
            }
        });
        join_all(shares).await;
    });
}

/// Acknowledged reports per second, of all of them in turn.
pub(super) fn reports_per_second(addresses: &[SocketAddr], cloudlets: &[Uuid]) -> f64 {
    let count = Rc::new(Cell::new(0_u32));
    let elapsed = runtime().block_on(async {
        let share = cloudlets.len().div_ceil(CONNECTIONS);
        let mut work = Vec::new();
        for (share, address) in cloudlets.chunks(share).zip(addresses.iter().cycle()) {
            let requests: Vec<String> = share.iter().map(|cloudlet| request(*cloudlet)).collect();
            work.push((Connection::open(*address).await, requests));
        }
        let start = Instant::now();
        let reporting = work.into_iter().map(|(mut connection, requests)| {
            let count = count.clone();
            async move {
                for request in requests.iter().cycle() {
                    if start.elapsed() > ROUND {
                        return;
                    }
                    connection.report(request).await;
                    count.set(count.get() + 1);
                }
            }
        });
        join_all(reporting).await;
        start.elapsed()
    });
    f64::from(count.get()) / elapsed.as_secs_f64()
}

/// Each reports once in a period, evenly, as often as there are periods. Returns how many reports were acknowledged per
/// second.
pub(super) fn report_steadily(address: SocketAddr, cloudlets: &[Uuid], period: Duration, periods: u32) -> f64 {
    let share = cloudlets.len().div_ceil(CONNECTIONS);
    let elapsed = runtime().block_on(async {
        let mut work = Vec::new();
        for share in cloudlets.chunks(share) {
            let requests: Vec<String> = share.iter().map(|cloudlet| request(*cloudlet)).collect();
            work.push((Connection::open(address).await, requests));
        }
        let start = Instant::now();
        let reporting = work.into_iter().enumerate().map(|(index, (mut connection, requests))| async move {
            let pause = period / u32::try_from(requests.len()).unwrap();
            // Not all at the same instant.
            let first = start + pause * u32::try_from(index).unwrap() / u32::try_from(CONNECTIONS).unwrap();
            let mut turns = interval_at(first.into(), pause);
            for _ in 0..periods {
                for request in &requests {
                    turns.tick().await;
                    connection.report(request).await;
                }
            }
        });
        join_all(reporting).await;
        start.elapsed()
    });
    cloudlets.len() as f64 * f64::from(periods) / elapsed.as_secs_f64()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn request(cloudlet: Uuid) -> String {
    let body = format!(
        r#"{{"uuid":"{cloudlet}","endpoint":"http://127.0.0.1:9/api/v1/deploy","resources":{{"cpu_ratio":0.25,"mem_ratio":0.5}}}}"#
    );
    format!(
        "POST /api/v1/cloudlets/ HTTP/1.1\r\nHost: tier1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n\
         {body}",
        body.len()
    )
}

struct Connection(TcpStream);

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Sends a report and waits for 204, which has no body.
    async fn report(&mut self, request: &str) {
        self.0.write_all(request.as_bytes()).await.unwrap();
        let (mut answer, mut length) = ([0; 1024], 0);
        while !answer[..length].ends_with(b"\r\n\r\n") {
            let read = self.0.read(&mut answer[length..]).await.unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer[..length]));
            length += read;
        }
        let answer = &answer[..length];
        assert!(answer.starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(answer));
    }
}
