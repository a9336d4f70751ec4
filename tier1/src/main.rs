//! `sinfonia-tier1`: finds cloudlets for clients.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use sinfonia_telemetry::Verbosity;
use sinfonia_tier1::{
    Config, DatabaseConfig,
    domain::MatcherKind,
    token_command::{self, TokenCommand},
};
use std::io::{self, Write as _};
use std::path::PathBuf;
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

    #[command(subcommand)]
    action: Option<Action>,
}

/// What else there is to do than to serve.
#[derive(Debug, Subcommand)]
enum Action {
    /// Say everything that is wrong with the configuration, cloudlets and recipes
    Check {
        /// Lists of cloudlets, recipes (<uuid>.yaml), directories of recipes, GeoIP databases (.mmdb)
        files: Vec<PathBuf>,
    },
    /// Tokens, by which callers prove who they are
    #[command(subcommand)]
    Token(Box<TokenCommand>),
    /// Print the OpenAPI document
    #[command(hide = true)]
    Openapi,
}

#[actix_web::main]
async fn main() -> ExitCode {
    match run(Command::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sinfonia-tier1: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    if command.list_matchers {
        list_matchers().context("the matchers cannot be listed")?;
        return Ok(ExitCode::SUCCESS);
    }
    DatabaseConfig::check_arguments(std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()))?;
    match command.action {
        Some(Action::Check { files }) => return Ok(check(&command.config, &files).await?),
        Some(Action::Token(tokens)) => {
            token_command::run(*tokens, &command.config).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Action::Openapi) => {
            let document = sinfonia_tier1::openapi_document()?;
            io::stdout().write_all(document.as_bytes()).context("the document cannot be printed")?;
            return Ok(ExitCode::SUCCESS);
        }
        None => (),
    }
    let _telemetry = sinfonia_telemetry::init("sinfonia-tier1", Verbosity::Normal);
    sinfonia_tier1::run(command.config).await?;
    Ok(ExitCode::SUCCESS)
}

/// Findings go to standard error, so that the summary is all there is on standard output.
async fn check(config: &Config, files: &[PathBuf]) -> io::Result<ExitCode> {
    let report = sinfonia_tier1::check::check(config, files).await;
    report.findings.iter().for_each(|finding| eprintln!("{finding}"));
    let (cloudlets, recipes, errors) = (report.cloudlets, report.recipes, report.errors());
    writeln!(io::stdout(), "looked at {cloudlets} cloudlets and {recipes} recipes: {errors} errors")?;
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list_matchers() -> io::Result<()> {
    let mut out = io::stdout().lock();
    MatcherKind::ALL.iter().try_for_each(|kind| writeln!(out, "{:<14}{}", kind.name(), kind.description()))
}
