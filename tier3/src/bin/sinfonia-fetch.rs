//! `sinfonia-fetch`: prints what is at a URL. The image of tier3 carries it, so that a tunnel can be tried where there is
//! no other program.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

/// For everything: an answer that takes longer is none for somebody who tries.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: fetch URL");
        return ExitCode::from(2);
    };
    match fetch(&url) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fetch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn fetch(url: &str) -> anyhow::Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(LIMIT)).build().into();
    let answer = agent.get(url).call().with_context(|| format!("cannot fetch {url}"))?;
    let mut output = io::stdout().lock();
    io::copy(&mut answer.into_body().into_reader(), &mut output)
        .with_context(|| format!("cannot fetch all of {url}"))?;
    output.flush().context("cannot write it")
}
