//! Options, from the command line and the environment.

use crate::{domain::MatcherKind, outgoing::Limits};
use clap::{Args, builder::FalseyValueParser};
use ipnet::IpNet;
use sinfonia_wire::Network;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PORT: u16 = 5000;
const RECIPES: &str = "RECIPES";

/// How a tier1 runs.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on. Nobody is asked who they are, so anything but this host's own is for trusted networks
    #[arg(long, env = "SINFONIA_HOST", default_value_t = HOST, value_name = "ADDRESS")]
    pub host: IpAddr,

    /// TCP port to listen on; 0 for a free one
    #[arg(long, env = "SINFONIA_PORT", default_value_t = PORT)]
    pub port: u16,

    /// YAML file with cloudlets that are known without reporting
    #[arg(short, long, env = "SINFONIA_CLOUDLETS", value_name = "FILE")]
    pub cloudlets: Option<PathBuf>,

    /// Directory or http(s) URL with `<uuid>.yaml` recipes
    #[arg(long, env = "SINFONIA_RECIPES", default_value = RECIPES, value_name = "PATH|URL")]
    pub recipes: String,

    /// Matcher to use; repeat for several, in this order [default: network, location, random]
    #[arg(short = 'm', long = "match", env = "SINFONIA_MATCH", value_name = "MATCHER", value_delimiter = ',')]
    pub matchers: Vec<MatcherKind>,

    /// The matchers as a JSON list, where `--match` is not given
    #[arg(long = "matchers", env = "SINFONIA_MATCHERS", value_name = "JSON", hide = true)]
    pub matchers_list: Option<MatcherList>,

    /// MaxMind city database (.mmdb) that knows where addresses are
    #[arg(long, env = "SINFONIA_GEOIP", value_name = "FILE")]
    pub geoip: Option<PathBuf>,

    /// Network whose X-ClientIP and X-Forwarded-For headers are believed; repeat for several
    #[arg(
        long = "trusted-proxy",
        env = "SINFONIA_TRUSTED_PROXY",
        default_values_t = loopback(),
        value_delimiter = ',',
        value_name = "NETWORK"
    )]
    pub trusted_proxies: Vec<Network>,

    /// Take reports of cloudlets at loopback and link-local addresses
    #[arg(long, env = "SINFONIA_ALLOW_LOCAL_ENDPOINTS", value_parser = FalseyValueParser::new())]
    pub allow_local_endpoints: bool,

    /// Threads that serve; one for each processor if not set.
    #[arg(skip)]
    pub workers: Option<usize>,

    /// How long cloudlets may take.
    #[arg(skip)]
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: HOST,
            port: PORT,
            cloudlets: None,
            recipes: RECIPES.to_owned(),
            matchers: Vec::new(),
            matchers_list: None,
            geoip: None,
            trusted_proxies: loopback(),
            allow_local_endpoints: false,
            workers: None,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// The matchers to use.
    #[must_use]
    pub fn matchers(&self) -> &[MatcherKind] {
        match (&self.matchers[..], &self.matchers_list) {
            ([], Some(list)) => &list.0,
            ([], None) => &MatcherKind::ALL,
            (chosen, _) => chosen,
        }
    }
}

fn loopback() -> Vec<Network> {
    let v4 = IpNet::new_assert(HOST, 8);
    vec![v4.into(), IpAddr::from(Ipv6Addr::LOCALHOST).into()]
}

/// Matchers as a JSON list, the form that existing installations set in the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatcherList(Vec<MatcherKind>);

impl FromStr for MatcherList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<String> = serde_json::from_str(text)
            .map_err(|error| format!("not a JSON list of names such as [\"network\", \"random\"]: {error}"))?;
        let kinds = names.iter().map(|name| name.parse().map_err(|error| format!("{error}")));
        kinds.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MatcherKind::{Location, Network, Random};
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        config: Config,
    }

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let line = std::iter::once("sinfonia-tier1").chain(arguments.iter().copied());
        Command::try_parse_from(line).map(|command| command.config).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = parse(&[]).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
        assert_eq!((config.port, config.recipes.as_str()), (5000, "RECIPES"));
        assert!(config.host.is_loopback() && !config.allow_local_endpoints);
        assert_eq!(config.matchers(), [Network, Location, Random]);
        let trusted: Vec<_> = config.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(trusted, ["127.0.0.0/8", "::1/128"]);
    }

    #[test]
    fn matchers_are_chosen_in_order() {
        assert_eq!(parse(&["-m", "random", "--match", "network"]).unwrap().matchers(), [Random, Network]);
        assert_eq!(parse(&["--matchers", r#"["location"]"#]).unwrap().matchers(), [Location]);
        let both = parse(&["--matchers", r#"["location"]"#, "-m", "random"]).unwrap();
        assert_eq!(both.matchers(), [Random]);
    }

    #[test]
    fn bad_options_are_explained() {
        let cases: [(&[&str], &str); 5] = [
            (&["-m", "nearest"], "choose from network, location, random"),
            (&["--matchers", "network"], "JSON list"),
            (&["--port", "99999"], "65535"),
            (&["--trusted-proxy", "10.0.0.0/99"], "0..32"),
            (&["--host", "example.org"], "--host"),
        ];
        for (arguments, reason) in cases {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(reason), "{arguments:?}: {error}");
        }
    }
}
