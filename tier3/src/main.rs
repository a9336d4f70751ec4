//! `sinfonia-tier3`: runs an application beside its backend on a nearby cloudlet.

mod cli;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use sinfonia_telemetry::Verbosity;
use tracing::Instrument as _;

use cli::args::{Args, Invocation};
use cli::signals;
use cli::status::{self, Ending};

fn main() -> ExitCode {
    // This program is its own namespace helper.
    sinfonia_tunnel::helper::run_if_invoked();
    let invocation = Args::parse().into_invocation().unwrap_or_else(|error| error.exit());
    start(invocation).unwrap_or_else(|error| {
        eprintln!("sinfonia-tier3: {error:#}");
        ExitCode::from(status::OS)
    })
}

fn start(invocation: Invocation) -> anyhow::Result<ExitCode> {
    let verbosity = if invocation.debug { Verbosity::Debug } else { Verbosity::Quiet };
    let telemetry = sinfonia_telemetry::init("sinfonia-tier3", verbosity);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let span = tracing::info_span!("sinfonia-tier3", sinfonia.application = %invocation.application);
    let ending = runtime.block_on(cli::run(invocation).instrument(span));
    drop(telemetry);
    Ok(ExitCode::from(match ending? {
        Ending::Status(status) => status,
        Ending::Key(number) => {
            signals::die_of(number);
            status::of_signal(number)
        }
    }))
}
