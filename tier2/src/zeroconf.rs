//! Announces the cloudlet in the local network by mDNS.

use mdns_sd::{DaemonEvent, ServiceDaemon, ServiceInfo};
use sinfonia_wire::CloudletId;
use thiserror::Error;

const SERVICE: &str = "_sinfonia._tcp.local.";
const INSTANCE: &str = "cloudlet";

/// Announces until it is dropped.
pub(crate) struct Announcement(ServiceDaemon);

/// The cloudlet cannot be announced.
#[derive(Debug, Error)]
#[error("cannot announce the cloudlet by mDNS (--zeroconf): {0}")]
pub(crate) struct ZeroconfError(#[from] mdns_sd::Error);

impl Announcement {
    /// Announces the API on `port` of this machine. Another cloudlet of the same name leads to a new name.
    ///
    /// # Errors
    /// When the mDNS socket cannot be opened.
    pub(crate) fn begin(cloudlet: CloudletId, port: u16) -> Result<Self, ZeroconfError> {
        let daemon = ServiceDaemon::new()?;
        let events = daemon.monitor()?;
        let announcement = Self(daemon);
        tokio::spawn(async move {
            while let Ok(event) = events.recv_async().await {
                match event {
                    DaemonEvent::NameChange(change) => {
                        tracing::info!(from = change.original, to = change.new_name, "mDNS name was taken");
                    }
                    DaemonEvent::Error(error) => tracing::warn!(%error, "mDNS"),
                    _ => {}
                }
            }
        });
        announcement.0.register(service(cloudlet, port)?)?;
        tracing::info!(service = SERVICE, port, "announced by mDNS");
        Ok(announcement)
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Sends goodbyes from its own thread; the records run out anyway.
        let _ = self.0.shutdown();
    }
}

/// The host name is the cloudlet's own, so that it never conflicts with this machine's.
fn service(cloudlet: CloudletId, port: u16) -> Result<ServiceInfo, ZeroconfError> {
    let id = cloudlet.uuid().simple().to_string();
    let host = format!("sinfonia-{}.local.", &id[..12]);
    let service = ServiceInfo::new(SERVICE, INSTANCE, &host, "", port, &[("path", "/")][..])?;
    Ok(service.enable_addr_auto())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_what_clients_browse() {
        let service = service(CloudletId::random(), 5000).unwrap();
        assert_eq!(service.get_fullname(), "cloudlet._sinfonia._tcp.local.");
        assert_eq!(service.get_property_val_str("path"), Some("/"));
        assert_eq!(service.get_port(), 5000);
        assert!(service.is_addr_auto());
    }
}
