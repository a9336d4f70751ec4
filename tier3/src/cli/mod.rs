//! The command line program: deploys, waits for the tunnel, runs the application, leaves nothing behind.

pub(crate) mod args;
mod export;
mod progress;
pub(crate) mod signals;
pub(crate) mod status;
mod supervise;
mod terminal;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use sinfonia_tier3::nearby::{self, BROWSE_LIMIT};
use sinfonia_tier3::{Config, Deployments, Error, Exit, Tier3, Tunnel};
use tracing::Instrument as _;
use url::Url;

use args::{Invocation, Task};
use progress::Progress;
use signals::{Arrived, Signals};
use status::Ending;
use supervise::supervise;
use terminal::Terminal;

const NET_ADMIN: &str = "Start it with `--cap-add NET_ADMIN --device /dev/net/tun`.";

/// Why the program ends before the application did.
enum Early {
    Failed(Error),
    Interrupted(Arrived),
    /// Said already.
    Status(u8),
}

impl From<Error> for Early {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Does what the command line asks.
pub(crate) async fn run(invocation: Invocation) -> anyhow::Result<Ending> {
    if let Some(path) = &invocation.token_file {
        sinfonia_credentials::warn_if_exposed(path);
    }
    let mut signals = Signals::catch().context("cannot take charge of signals")?;
    let result = match &invocation.task {
        Task::Run(words) => application(&invocation, words, &mut signals).await,
        Task::Keep => keep(&invocation, &mut signals).await,
        Task::ConfigDebug => {
            export(&invocation, &mut signals, |config| {
                export::write_files(Path::new("."), config).map_err(|error| error.to_string())
            })
            .await
        }
        Task::Qr(style, packages) => {
            export(&invocation, &mut signals, |config| {
                let picture = export::qr_code(config, packages, *style)?;
                writeln!(io::stdout(), "{}", *picture).map_err(|error| error.to_string())
            })
            .await
        }
    };
    Ok(match result {
        Ok(ending) => ending,
        Err(Early::Status(status)) => Ending::Status(status),
        Err(Early::Interrupted(Arrived { number, from_terminal: true })) => Ending::Key(number),
        Err(Early::Interrupted(signal)) => Ending::Status(status::of_signal(signal.number)),
        Err(Early::Failed(error)) => {
            report(&error.to_string(), error.advice());
            Ending::Status(status::of_error(&error))
        }
    })
}

async fn application(invocation: &Invocation, words: &[OsString], signals: &mut Signals) -> Result<Ending, Early> {
    let begun = Instant::now();
    let client = client(invocation, signals).await?;
    let tunnel = connect(&client, invocation, signals, begun).await?;
    let mut terminal = Terminal::in_foreground();
    let result = supervise(&tunnel, words, signals, terminal.as_mut()).instrument(tracing::info_span!("run")).await;
    if let Some(terminal) = &terminal {
        terminal.reclaim();
    }
    let lent = terminal.filter(Terminal::is_lent);
    let key = match result {
        Ok(Exit::Signal(number)) if signals::is_key(number) => Some(number),
        _ => None,
    };
    let late = key.filter(|number| lent.is_none() && !signals.had_key(*number));
    close(tunnel, signals, late).await;
    let exit = result?;
    if exit == Exit::HelperLost {
        report("the application's namespace ended under it", Some("Was its helper process killed?"));
    }
    Ok(match (key, lent) {
        (Some(number), Some(terminal)) => {
            terminal.pass_on_key(number);
            Ending::Key(number)
        }
        (Some(number), None) if signals.had_key(number) => Ending::Key(number),
        _ => Ending::Status(status::of_exit(exit)),
    })
}

/// Ends the tunnel. Whoever waits for the release can be told not to, but not by the key that ended the application and
/// arrives here `late`.
async fn close(tunnel: Tunnel, signals: &mut Signals, mut late: Option<i32>) {
    let closing = tunnel.close();
    tokio::pin!(closing);
    loop {
        tokio::select! {
            () = &mut closing => return,
            signal = signals.ending() => if !signal.from_terminal || late.take() != Some(signal.number) {
                return;
            },
        }
    }
}

/// Holds the tunnel for whoever is in this network namespace, until told to stop.
async fn keep(invocation: &Invocation, signals: &mut Signals) -> Result<Ending, Early> {
    let begun = Instant::now();
    let client = client(invocation, signals).await?;
    if !client.is_present() {
        report("this container may not make network interfaces", Some(NET_ADMIN));
        return Err(Early::Status(status::NAMESPACE));
    }
    let tunnel = connect(&client, invocation, signals, begun).await?;
    let name = tunnel.deployment().deployment_name.as_ref().map(|name| format!(" to {name}"));
    eprintln!(
        "sinfonia-tier3: keeping the tunnel{} up, also for containers started with `--network container:` and this one's \
         name, until told to stop",
        name.unwrap_or_default()
    );
    sinfonia_tunnel::release_code();
    // Nothing runs in it whose end would be news: only the loss of its helper is.
    let status = tokio::select! {
        _ = tunnel.namespace().exited() => {
            report("the tunnel's helper process ended unexpectedly", None);
            status::TUNNEL
        }
        _ = signals.ending() => 0,
    };
    close(tunnel, signals, None).await;
    Ok(Ending::Status(status))
}

async fn connect(
    client: &Tier3,
    invocation: &Invocation,
    signals: &mut Signals,
    begun: Instant,
) -> Result<Tunnel, Early> {
    let mut present = None;
    if client.is_present() {
        // First, since it mends what one that was killed left: its resolver would be asked for the server.
        present = Some(interruptible(client.namespace(), signals).await?);
    }
    let deploying = client.deploy();
    let lease = deploying.lease();
    let progress = Progress::start(format!("deploying {}", invocation.name));
    let connecting = async {
        let namespace = match present {
            Some(namespace) => namespace,
            None => client.namespace().await?,
        };
        let deployments = deploying.await?;
        progress.now("waiting for the tunnel".into());
        deployments.connect_in(namespace).await
    };
    let connected = interruptible(connecting, signals).await;
    // A cloudlet that nobody reached needs no farewell, and those that were tried have had theirs.
    if let Err(Early::Interrupted(_) | Early::Failed(Error::Namespace(_))) = &connected {
        tokio::select! {
            () = lease.end_if_wanted() => {}
            _ = signals.ending() => {}
        }
    }
    let tunnel = connected?;
    let name = tunnel.deployment().deployment_name.as_ref().map(|name| format!(" to {name}"));
    progress.finish(&format!("tunnel{} up in {} ms", name.unwrap_or_default(), begun.elapsed().as_millis()));
    Ok(tunnel)
}

/// Deploys, and does something with the tunnel's description instead of using it.
async fn export(
    invocation: &Invocation,
    signals: &mut Signals,
    write: impl FnOnce(&Config) -> Result<(), String>,
) -> Result<Ending, Early> {
    let client = client(invocation, signals).await?;
    let deploying = client.deploy();
    let progress = Progress::start(format!("deploying {}", invocation.name));
    let deployments: Deployments = interruptible(deploying, signals).await?;
    drop(progress);
    let config = deployments.config()?;
    match write(&config) {
        Ok(()) => Ok(Ending::Status(0)),
        Err(reason) => {
            report(&format!("cannot write {reason}"), Some("Go to a folder that you may write to, with space left."));
            Err(Early::Status(status::CANNOT_WRITE))
        }
    }
}

async fn client(invocation: &Invocation, signals: &mut Signals) -> Result<Tier3, Early> {
    let url = server(invocation, signals).await?;
    // Anybody on the network may announce a cloudlet.
    let token = invocation.token.clone().filter(|_| invocation.url.as_ref() == Some(&url));
    Ok(Tier3::builder(url, invocation.application)
        .location(invocation.location)
        .token(token)
        .results(invocation.results)
        .release(invocation.release)
        .present(invocation.sidecar && sinfonia_tunnel::may_make_interfaces())
        .tls_ca(invocation.tls_ca.clone())
        .handshake_limit(invocation.handshake_limit)
        .build()?)
}

/// Whom to ask: with zeroconf a tier2 nearby, else what the command line says.
async fn server(invocation: &Invocation, signals: &mut Signals) -> Result<Url, Early> {
    let mut reason = "none announced itself on the local network".to_owned();
    if invocation.zeroconf {
        let _progress = Progress::start("looking for a cloudlet nearby".into());
        let found = interruptible(async { Ok(nearby::find_cloudlet(BROWSE_LIMIT).await) }, signals).await?;
        match found {
            Ok(Some(url)) => return Ok(url),
            Ok(None) => {}
            Err(error) => reason = error.to_string(),
        }
    }
    invocation.url.clone().ok_or_else(|| {
        let advice = "Start a tier2 with --zeroconf on this network, or give the URL of a tier1.";
        report(&format!("found no cloudlet: {reason}"), Some(advice));
        Early::Status(status::NO_CLOUDLET)
    })
}

/// The result of some work, unless a signal comes first.
async fn interruptible<T>(work: impl Future<Output = Result<T, Error>>, signals: &mut Signals) -> Result<T, Early> {
    tokio::select! {
        result = work => Ok(result?),
        signal = signals.ending() => Err(Early::Interrupted(signal)),
    }
}

/// One sentence about what failed, one about what to do.
fn report(failure: &str, advice: Option<&str>) {
    let end = if failure.ends_with('.') { "" } else { "." };
    eprintln!("sinfonia-tier3: {failure}{end}");
    if let Some(advice) = advice {
        eprintln!("{advice}");
    }
}
