//! The `sinfonia-tier2` command.

use anyhow::Context as _;
use clap::Parser as _;
use sinfonia_telemetry::Verbosity;
use sinfonia_tier2::{Options, start};

fn main() -> anyhow::Result<()> {
    // Before any thread: this executable is also the helper that makes network namespaces.
    sinfonia_tunnel::helper::run_if_invoked();
    let config = Options::parse().into_config()?;
    let _telemetry = sinfonia_telemetry::init("sinfonia-tier2", Verbosity::Normal);
    actix_web::rt::System::new().block_on(async {
        let tier2 = start(config).await.context("sinfonia-tier2 cannot start")?;
        tier2.run().await.context("sinfonia-tier2 ended")
    })
}
