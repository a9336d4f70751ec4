//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, ValueEnum};
use sinfonia_credentials::{BearerToken, TokenSource};
use sinfonia_tier3::{HANDSHAKE_LIMIT, MAX_RESULTS};
use sinfonia_wire::{ApplicationId, Location};
use url::Url;

use super::status;

/// The longest time that is worth waiting for a handshake, seconds.
const LONGEST_WAIT: f64 = 600.0;

/// Runs an application beside its backend on a nearby cloudlet.
///
/// Asks tier1 for a deployment of the backend, makes a WireGuard tunnel to it, and runs the application in a network
/// namespace where everything goes through that tunnel. Needs no root.
#[derive(Debug, Parser)]
#[command(
    name = "sinfonia-tier3",
    version,
    override_usage = "sinfonia-tier3 [OPTIONS] <tier1-url> <uuid|alias> <application> [args]...\n       \
                      sinfonia-tier3 --sidecar [OPTIONS] <tier1-url> <uuid|alias> [application] [args]...\n       \
                      sinfonia-tier3 --zeroconf [OPTIONS] [tier1-url] <uuid|alias> <application> [args]...",
    after_help = status::HELP
)]
pub(crate) struct Args {
    /// Writes wg.conf and resolv.conf into the current directory and ends
    #[arg(long, env = "SINFONIA_CONFIG_DEBUG", value_parser = FalseyValueParser::new(), conflicts_with = "qrcode")]
    config_debug: bool,

    /// Says on standard error what it does
    #[arg(long, env = "SINFONIA_DEBUG", value_parser = FalseyValueParser::new())]
    debug: bool,

    /// Prints a QR code for WireGuard on Android, with <application> as package names, and ends
    #[arg(long, env = "SINFONIA_QRCODE", value_name = "STYLE")]
    qrcode: Option<QrStyle>,

    /// Looks for a tier2 on the local network; <tier1-url> is asked if there is none
    #[arg(long, env = "SINFONIA_ZEROCONF", value_parser = FalseyValueParser::new())]
    zeroconf: bool,

    /// How many deployments to ask for; the first that answers is used, the others are released
    #[arg(long, env = "SINFONIA_RESULTS", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_RESULTS)))]
    results: u8,

    /// Frees the cloudlet on leaving, instead of when the deployment's lease ends
    #[arg(long, env = "SINFONIA_RELEASE", value_parser = FalseyValueParser::new())]
    release: bool,

    /// In a container: makes the tunnel in its network namespace, where others that share it use it too; without an
    /// application keeps it up until told to stop. Needs NET_ADMIN
    #[arg(long, env = "SINFONIA_SIDECAR", value_parser = FalseyValueParser::new())]
    sidecar: bool,

    /// Certificates of further authorities (PEM) that an https server may be certified by, beside the public ones
    #[arg(long, env = "SINFONIA_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// How long to wait for the tunnel
    #[arg(long, env = "SINFONIA_HANDSHAKE_TIMEOUT", value_name = "SECONDS",
          default_value_t = HANDSHAKE_LIMIT.as_secs_f64())]
    handshake_timeout: f64,

    /// Where this client is, in degrees; by default tier1 guesses from its address
    #[arg(long, env = "SINFONIA_LOCATION", value_name = "LAT,LON", allow_hyphen_values = true)]
    location: Option<Location>,

    /// File with the token that the tier at <tier1-url> asks for; also as SINFONIA_TOKEN. It is not sent to a tier2 that
    /// --zeroconf finds
    #[arg(long, env = "SINFONIA_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// URL of a tier1, or of a tier2
    #[arg(value_name = "tier1-url", required = true)]
    first: String,

    /// The application's UUID or alias (helloworld), then the command to run with its arguments
    #[arg(value_name = "application", trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// How a QR code is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum QrStyle {
    /// Half-block characters, for a dark terminal
    Compact,
    /// Larger, in ASCII, for a light terminal
    Alt,
}

/// What to do with a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// Run this command, program first.
    Run(Vec<OsString>),
    /// Keep the tunnel up for others in the network namespace.
    Keep,
    ConfigDebug,
    /// Show the tunnel for these Android packages.
    Qr(QrStyle, Vec<String>),
}

/// A checked command line.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub(crate) url: Option<Url>,
    pub(crate) zeroconf: bool,
    pub(crate) application: ApplicationId,
    /// The application as the person called it.
    pub(crate) name: String,
    pub(crate) task: Task,
    pub(crate) debug: bool,
    pub(crate) results: u8,
    pub(crate) release: bool,
    pub(crate) sidecar: bool,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) handshake_limit: Duration,
    pub(crate) location: Option<Location>,
    pub(crate) token: Option<BearerToken>,
    pub(crate) token_file: Option<PathBuf>,
}

impl Args {
    /// Checks what clap cannot.
    pub(crate) fn into_invocation(self) -> Result<Invocation, clap::Error> {
        let wrong = |kind, text: String| Self::command().error(kind, text);
        let invalid = |text| wrong(ErrorKind::ValueValidation, text);
        let mut rest = self.rest.into_iter();
        // Without a URL the first word is the application's name.
        let (url, name) = match self.first.parse::<Url>() {
            Err(_) if self.zeroconf => (None, self.first),
            Err(error) => {
                let hint = "give one such as http://127.0.0.1:5000";
                return Err(invalid(format!("tier1-url `{}` is not a URL ({error}): {hint}", self.first)));
            }
            Ok(url) => {
                let missing = || "the application's UUID or alias is missing".to_owned();
                let name = rest.next().ok_or_else(|| wrong(ErrorKind::MissingRequiredArgument, missing()))?;
                (Some(url), name.to_string_lossy().into_owned())
            }
        };
        let application =
            ApplicationId::resolve(&name).map_err(|error| invalid(format!("`{name}` is no application: {error}")))?;
        let command: Vec<OsString> = rest.collect();
        let task = match (self.config_debug, self.qrcode) {
            (true, _) => Task::ConfigDebug,
            (false, Some(style)) => Task::Qr(style, packages(&command).map_err(invalid)?),
            (false, None) if command.is_empty() && self.sidecar => Task::Keep,
            (false, None) if command.is_empty() => {
                let text = "the application to run is missing, for example `bash`".to_owned();
                return Err(wrong(ErrorKind::MissingRequiredArgument, text));
            }
            (false, None) => Task::Run(command),
        };
        if !(self.handshake_timeout > 0.0 && self.handshake_timeout <= LONGEST_WAIT) {
            return Err(invalid(format!("--handshake-timeout must be above 0 and at most {LONGEST_WAIT} seconds")));
        }
        if self.sidecar && self.results > 1 {
            return Err(invalid("--results: there is room for one tunnel in a network namespace (--sidecar)".into()));
        }
        let token = TokenSource::find("--token-file", self.token_file.as_deref(), "SINFONIA_TOKEN")
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Invocation {
            url,
            zeroconf: self.zeroconf,
            application,
            name,
            task,
            debug: self.debug,
            results: self.results,
            release: self.release,
            sidecar: self.sidecar,
            tls_ca: self.tls_ca,
            handshake_limit: Duration::from_secs_f64(self.handshake_timeout),
            location: self.location,
            token: token.and_then(|token| token.token()),
            token_file: self.token_file,
        })
    }
}

/// Android package names; anything else could change the configuration they are written into.
fn packages(words: &[OsString]) -> Result<Vec<String>, String> {
    let is_package = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'))
    };
    let check = |word: &OsString| match word.to_str().filter(|word| is_package(word)) {
        Some(word) => Ok(word.to_owned()),
        None => Err(format!("`{}` is not the name of an Android package", word.to_string_lossy())),
    };
    words.iter().map(check).collect()
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
