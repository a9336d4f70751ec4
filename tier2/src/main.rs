//! The `sinfonia-tier2` command.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use sinfonia_telemetry::Verbosity;
use sinfonia_tier2::{Options, start};

fn main() -> ExitCode {
    // Before any thread: this executable is also the helper that makes network namespaces.
    sinfonia_tunnel::helper::run_if_invoked();
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sinfonia-tier2: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    let config = options.into_config()?;
    let _telemetry = sinfonia_telemetry::init("sinfonia-tier2", Verbosity::Normal);
    actix_web::rt::System::new().block_on(async {
        let tier2 = start(config).await?;
        tier2.run().await.context("the server broke down")
    })
}
