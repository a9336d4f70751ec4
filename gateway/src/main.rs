//! The `sinfonia-gateway` command.

use std::process::ExitCode;

use clap::Parser as _;
use sinfonia_gateway::{Command, Options, remove, run};
use sinfonia_telemetry::Verbosity;

fn main() -> ExitCode {
    match start(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sinfonia-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: Options) -> anyhow::Result<()> {
    let _telemetry = sinfonia_telemetry::init("sinfonia-gateway", Verbosity::Normal);
    // It fails only if there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let system = actix_rt::System::new();
    match options.command {
        None => system.block_on(run(options.into_config()))?,
        Some(Command::Remove { last }) => system.block_on(remove(options.into_config(), last))?,
    }
    Ok(())
}
