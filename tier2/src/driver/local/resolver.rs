//! The resolver of a namespace: served from outside, on sockets that live inside.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket},
    sync::Arc,
    time::Duration,
};

use sinfonia_tunnel::{Namespace, SocketKind};
use socket2::Socket;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
};

use super::instance::Instance;
use crate::{dns::Zone, driver::InstallError};

const PORT: u16 = 53;

/// The most TCP connections at once; a stub resolver needs one.
const CONNECTIONS: usize = 8;

/// How long a TCP connection may be silent.
const IDLE: Duration = Duration::from_secs(5);

/// Answers for the zone on each of the addresses, over UDP and TCP, as long as the instance lives.
pub(super) async fn start(instance: &Instance, zone: Zone, addresses: &[IpAddr]) -> Result<(), InstallError> {
    let zone = Arc::new(zone);
    for address in addresses {
        let address = SocketAddr::new(*address, PORT);
        let failed =
            |error: io::Error| InstallError::Platform(format!("cannot open the resolver on {address}: {error}"));
        let (udp, tcp) = bind(&instance.namespace, address).await?;
        let udp = udp_socket(udp, address).map_err(failed)?;
        let tcp = tcp_listener(tcp, address).map_err(failed)?;
        instance.spawn(serve_udp(udp, Arc::clone(&zone)));
        instance.spawn(serve_tcp(tcp, Arc::clone(&zone)));
    }
    Ok(())
}

async fn bind(namespace: &Namespace, address: SocketAddr) -> Result<(Socket, Socket), InstallError> {
    let (udp, tcp) =
        if address.is_ipv4() { (SocketKind::UdpV4, SocketKind::TcpV4) } else { (SocketKind::UdpV6, SocketKind::TcpV6) };
    let platform = |error: sinfonia_tunnel::NamespaceError| InstallError::Platform(error.to_string());
    let udp = namespace.socket(udp).await.map_err(platform)?;
    let tcp = namespace.socket(tcp).await.map_err(platform)?;
    Ok((udp.into(), tcp.into()))
}

fn udp_socket(socket: Socket, address: SocketAddr) -> io::Result<UdpSocket> {
    prepare(&socket, address)?;
    UdpSocket::from_std(StdUdpSocket::from(socket))
}

fn tcp_listener(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    prepare(&socket, address)?;
    socket.listen(16)?;
    TcpListener::from_std(StdTcpListener::from(socket))
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Zone>) {
    let mut buffer = [0; 1500];
    loop {
        // Errors are those of earlier answers that could not be delivered.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let answer = buffer.get(..length).and_then(|query| zone.answer(query));
        if let Some(answer) = answer {
            // A client that has gone asks again if it comes back.
            let _ = socket.send_to(&answer, client).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Zone>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let mut serving = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        while serving.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others need a moment to give some back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let zone = Arc::clone(&zone);
        serving.spawn(async move {
            // A broken connection is the client's affair.
            let _ = serve_connection(stream, &zone).await;
            drop(permit);
        });
    }
}

/// Messages with their length in front, until the client is silent or sends what deserves no answer.
async fn serve_connection(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    loop {
        let query = tokio::time::timeout(IDLE, async {
            let length = stream.read_u16().await?;
            let mut query = vec![0; length.into()];
            stream.read_exact(&mut query).await?;
            io::Result::Ok(query)
        })
        .await??;
        let Some(answer) = zone.answer(&query) else { return Ok(()) };
        let length = u16::try_from(answer.len()).unwrap_or(0);
        let message = [&length.to_be_bytes()[..], &answer].concat();
        tokio::time::timeout(IDLE, stream.write_all(&message)).await??;
    }
}
