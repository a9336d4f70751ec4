//! The `sinfonia-tier2` command.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Parser as _;
use kube::CustomResourceExt as _;
use sinfonia_recipes::Repository;
use sinfonia_telemetry::Verbosity;
use sinfonia_tier2::{
    Command, DriverConfig, Options,
    kubernetes::{self, check::Verdict, crd::CloudletDeployment},
    start,
};

fn main() -> ExitCode {
    // Before any thread: this executable is also the helper that makes network namespaces, and the guard of Helm.
    sinfonia_tunnel::helper::run_if_invoked();
    sinfonia_tier2::kubernetes::helm::guard::run_if_invoked();
    match run(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sinfonia-tier2: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked for; false when the answer is no.
fn run(mut options: Options) -> anyhow::Result<bool> {
    match options.command.take() {
        Some(Command::Check { image }) => examine(options, image),
        Some(Command::RemoveDeployments) => remove_deployments(options).map(|()| true),
        Some(Command::Probe(probe)) => Ok(actix_web::rt::System::new().block_on(probe.run())?),
        Some(Command::Crd) => print_crd().map(|()| true),
        None => serve(options).map(|()| true),
    }
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn examine(options: Options, image: Option<String>) -> anyhow::Result<bool> {
    let config = options.into_config()?;
    let DriverConfig::Kubernetes(kubernetes) = config.driver.clone() else {
        bail!("check is for --driver kubernetes: the local driver says at start what it lacks");
    };
    let _telemetry = sinfonia_telemetry::init("sinfonia-tier2", Verbosity::Normal);
    let findings = actix_web::rt::System::new().block_on(async {
        let recipes = Arc::new(Repository::open(&config.recipes)?);
        anyhow::Ok(kubernetes::examine(config, *kubernetes, recipes, image).await?)
    })?;
    for finding in &findings {
        println!("{finding}");
    }
    Ok(findings.iter().all(|finding| finding.verdict != Verdict::Problem))
}

fn remove_deployments(options: Options) -> anyhow::Result<()> {
    let DriverConfig::Kubernetes(kubernetes) = options.into_config()?.driver else {
        bail!("remove-deployments is for --driver kubernetes: what the local driver makes goes when it ends");
    };
    let _telemetry = sinfonia_telemetry::init("sinfonia-tier2", Verbosity::Normal);
    let removed = actix_web::rt::System::new().block_on(kubernetes::remove_deployments(&kubernetes))?;
    tracing::info!(removed, "the cluster deletes all deployments, with these many namespaces and peers");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn print_crd() -> anyhow::Result<()> {
    let yaml = serde_saphyr::to_string(&CloudletDeployment::crd()).context("the definition cannot be written")?;
    println!("{}", yaml.trim_end());
    Ok(())
}

fn serve(options: Options) -> anyhow::Result<()> {
    let _telemetry = sinfonia_telemetry::init("sinfonia-tier2", Verbosity::Normal);
    let config = options.into_config()?;
    actix_web::rt::System::new().block_on(async {
        let tier2 = start(config).await?;
        tier2.run().await.context("the server broke down")
    })
}
