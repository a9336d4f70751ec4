//! What the pods of a trial do: listen, and try to connect. They run tier2's own image, so a cluster needs no other.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use clap::Subcommand;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

/// How long one connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// How often in a row a connection must fail before the way counts as closed: a lost packet closes none.
const FAILURES: u32 = 3;

/// One part of a trial of the network.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Probe {
    /// Accepts TCP connections, for ever.
    Listen {
        /// On which port.
        port: u16,
    },
    /// Succeeds once a TCP connection is accepted.
    Connect {
        /// Where to.
        to: SocketAddr,
        /// How long to try, in seconds.
        seconds: u64,
    },
    /// Succeeds once TCP connections are no longer accepted.
    Blocked {
        /// Where to.
        to: SocketAddr,
        /// How long to try, in seconds.
        seconds: u64,
    },
}

impl Probe {
    /// Does it, and tells whether it turned out as hoped.
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub async fn run(self) -> io::Result<bool> {
        match self {
            Self::Listen { port } => listen(port).await.map(|()| true),
            Self::Connect { to, seconds } => Ok(within(to, seconds, 1, true).await),
            Self::Blocked { to, seconds } => Ok(within(to, seconds, FAILURES, false).await),
        }
    }
}

async fn listen(port: u16) -> io::Result<()> {
    // On IPv4 too, as far as this machine has both.
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(16)?;
    let listener = TcpListener::from_std(socket.into())?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let _ = stream.shutdown().await;
    }
}

/// Whether, before the time is up, connections are accepted as often in a row as told, or not accepted.
async fn within(to: SocketAddr, seconds: u64, times: u32, accepted: bool) -> bool {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut hits = 0;
    while Instant::now() < end {
        let answered = matches!(timeout(CONNECT_LIMIT, TcpStream::connect(to)).await, Ok(Ok(_)));
        hits = if answered == accepted { hits + 1 } else { 0 };
        if hits >= times {
            return true;
        }
        sleep(PAUSE).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_way_is_told_from_a_closed_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        assert!(Probe::Connect { to, seconds: 5 }.run().await.unwrap());
        assert!(!Probe::Blocked { to, seconds: 1 }.run().await.unwrap());
        drop(listener);
        assert!(Probe::Blocked { to, seconds: 5 }.run().await.unwrap());
        assert!(!Probe::Connect { to, seconds: 1 }.run().await.unwrap());
    }
}
