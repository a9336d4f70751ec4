//! The command line; every option can also be given as `SINFONIA_<NAME>`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum, builder::FalseyValueParser};
use ipnet::IpNet;
use sinfonia_wire::Location;
use thiserror::Error;
use url::Url;

use crate::config::{Config, EndpointOption};

/// One cloudlet of Sinfonia: deploys backends and ends their clients' tunnels.
#[derive(Debug, Parser)]
#[command(name = "sinfonia-tier2", version)]
pub struct Options {
    /// TCP port of the HTTP API.
    #[arg(long, env = "SINFONIA_PORT", default_value_t = 5000)]
    port: u16,

    /// Address of the HTTP API. There is no authentication yet: whoever reaches it may deploy.
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
    #[arg(long, env = "SINFONIA_DRIVER", value_enum)]
    driver: Option<DriverKind>,

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

    /// Name of this cloudlet in reports.
    #[arg(long, env = "SINFONIA_NAME")]
    name: Option<String>,

    /// Where this cloudlet is, in degrees.
    #[arg(long, env = "SINFONIA_LOCATION", value_name = "LAT,LON", allow_hyphen_values = true)]
    location: Option<Location>,

    /// Announces the cloudlet in the local network by mDNS (_sinfonia._tcp.local.).
    #[arg(long, env = "SINFONIA_ZEROCONF", value_parser = FalseyValueParser::new())]
    zeroconf: bool,
}

/// Where backends run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DriverKind {
    /// As child processes of tier2, each boxed in a network namespace.
    Local,
}

type UrlList = std::sync::Arc<[Url]>;

/// Why options cannot be used.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// No driver was named.
    #[error(
        "--driver is missing: give --driver local; a driver for Kubernetes, which will be the default, does not exist yet"
    )]
    NoDriver,
    /// There is no home to keep state in.
    #[error("neither XDG_STATE_HOME nor HOME is set: give --state-directory")]
    NoStateDirectory,
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
        let Some(DriverKind::Local) = self.driver else {
            return Err(OptionsError::NoDriver);
        };
        if self.max_deployments == 0 {
            return Err(OptionsError::NoDeployments);
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
            name: self.name,
            location: self.location,
            zeroconf: self.zeroconf,
            ..Config::new(state_directory)
        })
    }
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
    fn a_missing_driver_says_what_to_give() {
        assert!(parse(&[]).unwrap_err().contains("--driver local"));
        assert!(parse(&["--driver", "docker"]).unwrap_err().contains("local"));
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
            ["--location", "91,0"],
            ["--lease", "0"],
            ["--client-network", "10.5.0.0/33"],
            ["--tunnel-endpoint", "a b"],
            ["--tier2-url", "nowhere"],
            ["--max-deployments", "0"],
        ] {
            let error = parse(&[&["--driver", "local"][..], &arguments].concat()).unwrap_err();
            assert!(error.contains(arguments[0]), "{error}");
        }
    }

    #[test]
    fn southern_and_western_locations_need_no_equals_sign() {
        assert!(parse(&["--driver", "local", "--location", "-33.9,-70.5"]).unwrap().location.is_some());
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
