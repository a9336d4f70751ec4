//! The command line; every option can also be given as `SINFONIA_<NAME>`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum, builder::FalseyValueParser};
use ipnet::IpNet;
use sinfonia_credentials::{SourceError, TokenSource};
use sinfonia_tls::{TlsFiles, TlsTrust};
use sinfonia_wire::Network;
use thiserror::Error;
use url::Url;

use crate::{
    config::{Config, DriverConfig, EndpointOption},
    kubernetes::{KubernetesOptions, probe::Probe},
    report_fields::ReportOptions,
};

/// One cloudlet of Sinfonia: deploys backends and ends their clients' tunnels.
#[derive(Debug, Parser)]
#[command(name = "sinfonia-tier2", version)]
pub struct Options {
    /// Something else than to serve.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// TCP port of the HTTP API.
    #[arg(long, env = "SINFONIA_PORT", default_value_t = 5000)]
    port: u16,

    /// Address of the HTTP API, `::` for all, also of IPv4. Without --deploy-token-file whoever reaches it may deploy.
    #[arg(long, env = "SINFONIA_HOST", default_value = "127.0.0.1")]
    host: IpAddr,

    /// Directory or http(s) URL of the recipes.
    #[arg(long, env = "SINFONIA_RECIPES", default_value = "RECIPES", value_name = "PATH|URL")]
    recipes: String,

    /// A tier1 to report to; repeat for more (SINFONIA_TIER1_URLS: a JSON list).
    #[arg(long = "tier1-url", env = "SINFONIA_TIER1_URL", value_name = "URL")]
    tier1_url: Vec<Url>,

    /// A JSON list of tier1 URLs.
    #[arg(long, env = "SINFONIA_TIER1_URLS", value_name = "JSON", hide = true, value_parser = url_list, default_value = "[]")]
    tier1_urls: UrlList,

    /// Where tier1 and clients reach this API.
    #[arg(long, env = "SINFONIA_TIER2_URL", value_name = "URL")]
    tier2_url: Option<Url>,

    /// Where backends run.
    #[arg(long, env = "SINFONIA_DRIVER", value_enum, default_value_t = DriverKind::Kubernetes)]
    driver: DriverKind,

    #[command(flatten, next_help_heading = "Options of the Kubernetes driver")]
    kubernetes: KubernetesOptions,

    /// UDP port of the tunnels.
    #[arg(long, env = "SINFONIA_TUNNEL_PORT", default_value_t = 51820)]
    tunnel_port: u16,

    /// Where clients reach the tunnels [default: the host of --tier2-url, else this machine's address; the port of
    /// --tunnel-port].
    #[arg(long, env = "SINFONIA_TUNNEL_ENDPOINT", value_name = "HOST[:PORT]")]
    tunnel_endpoint: Option<EndpointOption>,

    /// Network that clients get their addresses from, one for IPv4 and perhaps one for IPv6 [default: 10.5.0.0/16].
    #[arg(long, env = "SINFONIA_CLIENT_NETWORK", value_name = "NETWORK", value_delimiter = ',')]
    client_network: Vec<IpNet>,

    /// Where the cloudlet's uuid, key and deployments are kept [default: sinfonia-tier2 in $XDG_STATE_HOME or
    /// ~/.local/state].
    #[arg(long, env = "SINFONIA_STATE_DIRECTORY", value_name = "DIR")]
    state_directory: Option<PathBuf>,

    /// How long a deployment stays after its last request or use, in seconds.
    #[arg(long, env = "SINFONIA_LEASE", default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    lease: u64,

    /// How often idle deployments are looked for, in seconds.
    #[arg(long, env = "SINFONIA_EXPIRY_INTERVAL", default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    expiry_interval: u64,

    /// The most deployments at once.
    #[arg(long, env = "SINFONIA_MAX_DEPLOYMENTS", default_value_t = 100, value_name = "N")]
    max_deployments: usize,

    /// The most deployments of one client's address [default: no limit].
    #[arg(long, env = "SINFONIA_MAX_DEPLOYMENTS_PER_CLIENT", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_deployments_per_client: Option<u32>,

    /// Networks of tier1s and reverse proxies, whose X-ClientIP and X-Forwarded-For are believed.
    #[arg(
        long,
        env = "SINFONIA_TRUSTED_PROXIES",
        value_name = "NETWORK",
        value_delimiter = ',',
        default_value = "127.0.0.0/8,::1/128"
    )]
    trusted_proxies: Vec<Network>,

    /// File with the administrators' token, for the list of deployments and for draining; without it only requests
    /// from this machine may do that.
    #[arg(long, env = "SINFONIA_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,

    /// File with the token of tier1, which deployment requests then have to present; several, one a line, are all
    /// accepted. Also as SINFONIA_DEPLOY_TOKEN.
    #[arg(long, env = "SINFONIA_DEPLOY_TOKEN_FILE", value_name = "FILE")]
    deploy_token_file: Option<PathBuf>,

    /// File with the token that reports to tier1 present. Also as SINFONIA_TIER1_TOKEN.
    #[arg(long, env = "SINFONIA_TIER1_TOKEN_FILE", value_name = "FILE")]
    tier1_token_file: Option<PathBuf>,

    #[command(flatten, next_help_heading = "TLS")]
    tls: TlsFiles,

    #[command(flatten, next_help_heading = "TLS")]
    trust: TlsTrust,

    #[command(flatten, next_help_heading = "What tier1 is told")]
    report: ReportOptions,

    /// Announces the cloudlet in the local network by mDNS (_sinfonia._tcp.local.), for clients that come by plain HTTP.
    #[arg(long, env = "SINFONIA_ZEROCONF", value_parser = FalseyValueParser::new())]
    zeroconf: bool,
}

/// What tier2 can do beside serving.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Says of configuration, recipes, charts, permissions and network what is well and what is not; changes nothing
    /// that stays. The exit status is 1 if there is a problem. The options of serving come before it.
    Check {
        /// tier2's own image, for pods that try whether the network enforces NetworkPolicy; without it that is not
        /// tried.
        #[arg(long, env = "SINFONIA_IMAGE", value_name = "IMAGE")]
        image: Option<String>,
    },
    /// Deletes all deployments from the cluster, for when no tier2 will serve there any more; stop it before.
    RemoveDeployments,
    /// A part of what `check` tries in the cluster.
    #[command(hide = true, subcommand)]
    Probe(Probe),
    /// Prints the CustomResourceDefinition of CloudletDeployment.
    #[command(hide = true)]
    Crd,
}

/// Where backends run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DriverKind {
    /// On a Kubernetes cluster, installed by Helm.
    Kubernetes,
    /// As child processes of tier2, each boxed in a network namespace.
    Local,
}

type UrlList = std::sync::Arc<[Url]>;

/// Why options cannot be used.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// A token cannot be had.
    #[error(transparent)]
    Token(#[from] SourceError),
    /// There is no home to keep state in.
    #[error("neither XDG_STATE_HOME nor HOME is set: give --state-directory")]
    NoStateDirectory,
    /// Who finds a cloudlet by mDNS asks it by plain HTTP.
    #[error("--zeroconf announces plain HTTP, which is not served with --tls-cert: give one of the two")]
    AnnouncedTls,
    /// Zero deployments.
    #[error("--max-deployments must be at least 1")]
    NoDeployments,
}

impl Options {
    /// The configuration they mean.
    ///
    /// # Errors
    /// See [`OptionsError`].
    pub fn into_config(self) -> Result<Config, OptionsError> {
        let driver = match self.driver {
            DriverKind::Kubernetes => DriverConfig::Kubernetes(Box::new(self.kubernetes)),
            DriverKind::Local => DriverConfig::Local,
        };
        if self.max_deployments == 0 {
            return Err(OptionsError::NoDeployments);
        }
        if self.zeroconf && self.tls.tls_cert.is_some() {
            return Err(OptionsError::AnnouncedTls);
        }
        let state_directory = self
            .state_directory
            .or_else(|| default_state_directory(|name| std::env::var_os(name).map(PathBuf::from)))
            .ok_or(OptionsError::NoStateDirectory)?;
        let mut tier1_urls = self.tier1_url;
        tier1_urls.extend(self.tier1_urls.iter().cloned());
        let mut seen = std::collections::BTreeSet::new();
        tier1_urls.retain(|url| seen.insert(url.clone()));
        Ok(Config {
            driver,
            max_per_client: self.max_deployments_per_client.and_then(|most| most.try_into().ok()),
            trusted_proxies: self.trusted_proxies,
            admin_token: tokens("--admin-token-file", self.admin_token_file, "SINFONIA_ADMIN_TOKEN")?,
            deploy_token: tokens("--deploy-token-file", self.deploy_token_file, "SINFONIA_DEPLOY_TOKEN")?,
            tier1_token: tokens("--tier1-token-file", self.tier1_token_file, "SINFONIA_TIER1_TOKEN")?,
            host: self.host,
            port: self.port,
            recipes: self.recipes,
            tier1_urls,
            tier2_url: self.tier2_url,
            tunnel_port: self.tunnel_port,
            tunnel_endpoint: self.tunnel_endpoint,
            client_networks: self.client_network,
            lease: Duration::from_secs(self.lease),
            expiry_interval: Duration::from_secs(self.expiry_interval),
            max_deployments: self.max_deployments,
            tls: self.tls,
            trust: self.trust,
            report: self.report.into(),
            zeroconf: self.zeroconf,
            ..Config::new(state_directory)
        })
    }
}

fn tokens(
    option: &'static str,
    file: Option<PathBuf>,
    variable: &'static str,
) -> Result<Option<TokenSource>, SourceError> {
    TokenSource::find(option, file.as_deref(), variable)
}

fn url_list(text: &str) -> Result<UrlList, String> {
    serde_json::from_str::<Vec<Url>>(text)
        .map(Into::into)
        .map_err(|error| format!("expected a JSON list of URLs, as [\"http://tier1:5000\"]: {error}"))
}

/// `sinfonia-tier2` in the directory for state of the XDG base directories; relative paths in it do not count.
fn default_state_directory(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path: &PathBuf| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("sinfonia-tier2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let program = ["sinfonia-tier2", "--state-directory", "/s"];
        Options::try_parse_from(program.iter().chain(arguments))
            .map_err(|error| error.to_string())
            .and_then(|options| options.into_config().map_err(|error| error.to_string()))
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let config = parse(&["--driver", "local"]).unwrap();
        assert_eq!((config.port, config.tunnel_port), (5000, 51820));
        assert_eq!(config.recipes, "RECIPES");
        assert!(config.host.is_loopback());
        assert_eq!((config.lease.as_secs(), config.expiry_interval.as_secs()), (300, 60));
    }

    #[test]
    fn the_driver_is_kubernetes_unless_told_otherwise() {
        assert!(matches!(parse(&[]).unwrap().driver, DriverConfig::Kubernetes(_)));
        assert!(matches!(parse(&["--driver", "local"]).unwrap().driver, DriverConfig::Local));
        assert!(parse(&["--driver", "docker"]).unwrap_err().contains("kubernetes"));
    }

    #[test]
    fn tokens_come_from_files_and_are_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let options = ["--admin-token-file", "--deploy-token-file", "--tier1-token-file"];
        for option in options {
            let error = parse(&[option, path]).unwrap_err();
            assert!(error.contains("empty") && error.contains(option), "{error}");
        }
        std::fs::write(path, "hush\n").unwrap();
        let config = parse(&options.map(|option| [option, path]).concat()).unwrap();
        for source in [&config.admin_token, &config.deploy_token, &config.tier1_token] {
            assert!(source.as_ref().unwrap().accepts("hush"));
        }
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn tier1_urls_add_up() {
        let one = ["--driver", "local", "--tier1-url", "http://a:1", "--tier1-url", "http://b:1"];
        let list = ["--tier1-urls", r#"["http://b:1","http://c:1"]"#];
        let urls = parse(&[&one[..], &list].concat()).unwrap().tier1_urls;
        assert_eq!(urls.iter().map(|url| url.host_str().unwrap()).collect::<String>(), "abc");
        assert!(parse(&["--tier1-urls", "http://a"]).unwrap_err().contains("JSON list"));
    }

    #[test]
    fn bad_values_are_refused_with_the_option_named() {
        for arguments in [
            ["--lease", "0"],
            ["--client-network", "10.5.0.0/33"],
            ["--tunnel-endpoint", "a b"],
            ["--tier2-url", "nowhere"],
            ["--max-deployments", "0"],
            ["--tls-cert", "without its key"],
        ] {
            let error = parse(&[&["--driver", "local"][..], &arguments].concat()).unwrap_err();
            assert!(error.contains(arguments[0]), "{error}");
        }
    }

    #[test]
    fn the_state_directory_follows_xdg() {
        let with = |state: Option<&str>, home: Option<&str>| {
            default_state_directory(|name| match name {
                "XDG_STATE_HOME" => state.map(PathBuf::from),
                _ => home.map(PathBuf::from),
            })
        };
        assert_eq!(with(Some("/s"), Some("/h")), Some("/s/sinfonia-tier2".into()));
        assert_eq!(with(Some("s"), Some("/h")), Some("/h/.local/state/sinfonia-tier2".into()));
        assert_eq!(with(None, None), None);
    }
}
