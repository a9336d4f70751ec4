//! Makes and removes interfaces of the kind `wireguard`.

use std::io;
use std::time::Duration;

use rtnetlink::{Handle, LinkWireguard};

use crate::netlink::os_error;

/// Longest wait for the kernel: it may have to load a module.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn add(name: &str) -> io::Result<()> {
    within(async |handle| handle.link().add(LinkWireguard::new(name).build()).execute().await).await
}

pub(super) async fn remove(name: &str) -> io::Result<()> {
    let index = nix::net::if_::if_nametoindex(name)?;
    within(async |handle| handle.link().del(index).execute().await).await
}

/// Does something over a connection of its own.
async fn within(act: impl AsyncFnOnce(Handle) -> Result<(), rtnetlink::Error>) -> io::Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let task = tokio::spawn(connection);
    let result = tokio::time::timeout(LIMIT, act(handle)).await;
    task.abort();
    result.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(os_error)
}
