//! One of the replicas leads: it alone makes and unmakes what deployments consist of.

use std::time::{Duration, Instant};

use kube::{Client, Config};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};

/// Name of the Lease in tier2's own namespace.
pub(super) const LEASE: &str = "sinfonia-tier2";

/// How long a leader that falls silent is waited for, in seconds.
const DURATION: u64 = 10;

/// How long before that the leader renews its lease, in seconds.
const GRACE: u64 = 4;

/// A leader that cannot renew for this long stops, before another one may begin.
const DOUBT: Duration = Duration::from_secs(GRACE);

/// Pause after a failed attempt.
const RETRY: Duration = Duration::from_millis(500);

/// Runs `work` whenever this replica leads, and drops it when it no longer does; for ever.
pub(super) async fn lead<W: Future<Output = ()>>(
    config: &Config,
    namespace: &str,
    identity: &str,
    work: impl Fn() -> W,
) {
    let mut warned = false;
    loop {
        let manager = match candidate(config, namespace, identity).await {
            Ok(manager) => manager,
            Err(error) => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(%error, lease = LEASE, namespace, "cannot stand for leader; trying on");
                }
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        warned = false;
        stand(&manager, &work).await;
    }
}

async fn candidate(
    config: &Config,
    namespace: &str,
    identity: &str,
) -> Result<LeaseManager, Box<dyn std::error::Error + Send + Sync>> {
    // A client of its own: an answer that takes longer than this comes too late.
    let mut config = config.clone();
    config.connect_timeout = Some(Duration::from_secs(GRACE / 2));
    config.read_timeout = Some(Duration::from_secs(GRACE / 2));
    config.write_timeout = Some(Duration::from_secs(GRACE / 2));
    let manager = LeaseManagerBuilder::new(Client::try_from(config)?, LEASE)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        .build();
    Ok(manager.await?)
}

/// Follows the lease until it is in doubt.
async fn stand<W: Future<Output = ()>>(manager: &LeaseManager, work: &impl Fn() -> W) {
    loop {
        match until_change(manager, std::future::pending()).await {
            Some(true) => {}
            Some(false) => continue,
            None => return,
        }
        tracing::info!("this replica leads now");
        let lost = until_change(manager, work()).await;
        tracing::info!("this replica no longer leads");
        if lost != Some(false) {
            return;
        }
    }
}

/// Waits for a change of leadership while it does `work`; none when the lease has been in doubt for too long.
async fn until_change(manager: &LeaseManager, work: impl Future<Output = ()>) -> Option<bool> {
    let following = async {
        let mut doubt: Option<Instant> = None;
        loop {
            match manager.changed().await {
                Ok(leads) => return Some(leads),
                Err(error) => {
                    tracing::debug!(%error, "the lease cannot be renewed");
                    let since = *doubt.get_or_insert_with(Instant::now);
                    if since.elapsed() >= DOUBT {
                        return None;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    };
    tokio::select! {
        change = following => change,
        () = work => None,
    }
}
