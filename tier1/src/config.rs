//! Options, from the command line and the environment.

use crate::{domain::MatcherKind, outgoing::Limits, store::DatabaseConfig};
use clap::{Args, builder::FalseyValueParser};
use ipnet::IpNet;
use sinfonia_tls::{TlsFiles, TlsTrust};
use sinfonia_wire::Network;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PORT: u16 = 5000;
const RECIPES: &str = "RECIPES";
/// A household, or an office behind one address, stays below.
const RATE_LIMIT: u32 = 50;

/// How a tier1 runs.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on, `::` for all, also of IPv4; other than loopback only with tokens, or with --insecure-open
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

    /// Matcher to use; repeat for several, in this order [default: requirements, load, network, location, random]
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

    /// File of tokens, each with its hash and what it is for: `sinfonia-tier1 token create --tokens-file` makes entries.
    /// Changes count within seconds
    #[arg(long, env = "SINFONIA_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,

    /// File with the token that tier1 presents to cloudlets whose tier2 has it in --deploy-token-file; also as
    /// SINFONIA_CLOUDLET_TOKEN. It is sent by https, and by http within private networks
    #[arg(long, env = "SINFONIA_CLOUDLET_TOKEN_FILE", value_name = "FILE")]
    pub cloudlet_token_file: Option<PathBuf>,

    /// Let anybody without a token report cloudlets and deploy recipes that are not restricted. For trusted networks,
    /// and for clients that have no tokens
    #[arg(long, env = "SINFONIA_INSECURE_OPEN", value_parser = FalseyValueParser::new())]
    pub insecure_open: bool,

    /// Requests per second that one client may send, by its token or else its address (IPv6: its /64), after a burst of
    /// four seconds' worth; 0 for no limit. This host's own do not count
    #[arg(long, env = "SINFONIA_RATE_LIMIT", default_value_t = RATE_LIMIT, value_name = "REQUESTS")]
    pub rate_limit: u32,
    /// How long to go on listening, but not ready, when told to stop: as long as balancers need to notice, seconds
    #[arg(long, env = "SINFONIA_SHUTDOWN_DELAY", default_value_t = 0, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(..=3600))]
    pub shutdown_delay: u16,

    /// Whether to serve HTTPS.
    #[command(flatten, next_help_heading = "TLS")]
    pub tls: TlsFiles,

    /// Whose certificates cloudlets may have.
    #[command(flatten, next_help_heading = "TLS")]
    pub trust: TlsTrust,

    /// What remembers beyond this process.
    #[command(flatten, next_help_heading = "Database")]
    pub database: DatabaseConfig,

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
            tokens_file: None,
            cloudlet_token_file: None,
            insecure_open: false,
            rate_limit: RATE_LIMIT,
            shutdown_delay: 0,
            tls: TlsFiles::default(),
            trust: TlsTrust::default(),
            database: DatabaseConfig::default(),
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
    use MatcherKind::{Load, Location, Network, Random, Requirements};
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
        assert_eq!(config.matchers(), [Requirements, Load, Network, Location, Random]);
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
            (&["-m", "nearest"], "choose from requirements, load, network, location, random"),
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
