//! `sinfonia-tier1`: finds cloudlets for clients.

use anyhow::Context as _;
use clap::Parser;
use sinfonia_telemetry::Verbosity;
use sinfonia_tier1::{Config, domain::MatcherKind};
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Knows cloudlets, finds those that suit a client, and passes deploy requests on to them
#[derive(Debug, Parser)]
#[command(name = "sinfonia-tier1", version)]
struct Command {
    /// List the matchers and end
    #[arg(long)]
    list_matchers: bool,

    #[command(flatten)]
    config: Config,
}

#[actix_web::main]
async fn main() -> ExitCode {
    match run(Command::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sinfonia-tier1: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    if command.list_matchers {
        return list_matchers().context("the matchers cannot be listed");
    }
    let _telemetry = sinfonia_telemetry::init("sinfonia-tier1", Verbosity::Normal);
    Ok(sinfonia_tier1::run(command.config).await?)
}

fn list_matchers() -> io::Result<()> {
    let mut out = io::stdout().lock();
    MatcherKind::ALL.iter().try_for_each(|kind| writeln!(out, "{:<10}{}", kind.name(), kind.description()))
}
