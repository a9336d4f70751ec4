//! Waits until a backend answers on its port.

use std::{io, net::SocketAddr, time::Duration};

use sinfonia_tunnel::{Namespace, SocketKind};
use tokio::{net::TcpSocket, time::Instant};

use crate::{deployment::Progress, driver::InstallError};

/// How long one attempt may take; inside one machine an answer takes microseconds.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Pauses between attempts grow from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// Connects to the backend, from inside its namespace and the way clients reach it, until it accepts.
pub(super) async fn answers(
    namespace: &Namespace,
    address: SocketAddr,
    progress: &Progress,
    limit: Duration,
) -> Result<(), InstallError> {
    progress.step(format!("waiting for the backend to listen on TCP {address} (or on all addresses)"));
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        let kind = if address.is_ipv4() { SocketKind::TcpV4 } else { SocketKind::TcpV6 };
        let socket = namespace.socket(kind).await.map_err(|error| InstallError::Platform(error.to_string()))?;
        let socket = TcpSocket::from_std_stream(socket.into());
        let accepted: io::Result<_> = tokio::time::timeout(ATTEMPT, socket.connect(address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if accepted.is_ok() {
            return Ok(());
        }
        if Instant::now() + pause > deadline {
            return Err(InstallError::NeverReady { seconds: limit.as_secs(), reason: progress.to_string() });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LAST_PAUSE);
    }
}
