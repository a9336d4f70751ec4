//! Whatever a type can hold is read back the same from its text and its JSON.

use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sinfonia_wire::{
    ApplicationId, ChartReference, ChartVersion, CloudletId, DeployEndpoint, DeploymentName, Dns, DomainName, Host,
    Location, Network, PublicKey, Resources, Results, ServiceName, TunnelConfig, TunnelEndpoint, timestamp,
};

const LABEL: &str = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?";
const DOMAIN: &str = "([a-zA-Z0-9_]{1,20}\\.){0,3}[a-z][a-z0-9-]{0,20}[a-z0-9]";

proptest! {
    #[test]
    fn keys_in_every_accepted_form(bytes: [u8; 32]) {
        let key = PublicKey::from(bytes);
        prop_assert_eq!(key.as_bytes(), &bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let forms = [
            STANDARD.encode(bytes),
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
            hex.to_uppercase(),
            hex,
        ];
        for form in forms {
            prop_assert_eq!(form.parse::<PublicKey>(), Ok(key));
        }
        prop_assert_eq!(key.to_string(), STANDARD.encode(bytes));
        prop_assert_eq!(key.url_safe(), URL_SAFE_NO_PAD.encode(bytes));
        same_as_text(&key)?;
    }

    #[test]
    fn other_lengths_are_no_keys(bytes in vec(any::<u8>(), 0..80)) {
        prop_assume!(bytes.len() != 32);
        for text in [STANDARD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            prop_assert!(text.parse::<PublicKey>().is_err(), "{}", text);
        }
    }

    #[test]
    fn ids(number: u128) {
        let uuid = uuid::Uuid::from_u128(number);
        same_as_text(&ApplicationId::from(uuid))?;
        same_as_text(&CloudletId::from(uuid))?;
        prop_assert_eq!(ApplicationId::resolve(&uuid.to_string()), Ok(ApplicationId::from(uuid)));
    }

    #[test]
    fn networks(net in any_net(), client in any_address()) {
        let network = Network::from(net);
        same_as_text(&network)?;
        prop_assert_eq!(net.to_string().parse(), Ok(network), "host bits are dropped");
        prop_assert_eq!(network.net().trunc(), network.net());
        prop_assert!(network.contains(net.addr()));
        let mapped = match client {
            IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
            v6 => v6,
        };
        prop_assert_eq!(network.contains(mapped), network.contains(client));
        prop_assert_eq!(network.contains(client), network.net().contains(&client.to_canonical()));
    }

    #[test]
    fn mapped_networks_are_those_of_ipv4(address: u32, length in 0..=32u8, client: u32) {
        let address = Ipv4Addr::from(address);
        let v4: Network = format!("{address}/{length}").parse().unwrap();
        let mapped: Network = format!("::ffff:{address}/{}", length + 96).parse().unwrap();
        prop_assert_eq!(mapped, v4);
        let client = Ipv4Addr::from(client);
        prop_assert_eq!(mapped.contains(client.into()), v4.net().contains(&IpAddr::V4(client)));
    }

    #[test]
    fn locations(lat in -90.0..=90.0, lon in -180.0..=180.0) {
        let location = Location::new(lat, lon).unwrap();
        prop_assert_eq!(location.to_string().parse(), Ok(location));
        let read: Location = serde_json::from_str(&serde_json::to_string(&location).unwrap()).unwrap();
        prop_assert!((read.lat() - lat).abs() < 1e-12 && (read.lon() - lon).abs() < 1e-12);
    }

    #[test]
    fn locations_are_in_range(lat: f64, lon: f64) {
        let in_range = lat.abs() <= 90.0 && lon.abs() <= 180.0;
        prop_assert_eq!(Location::new(lat, lon).is_ok(), in_range);
        prop_assert_eq!(format!("{lat},{lon}").parse::<Location>().is_ok(), in_range);
    }

    #[test]
    fn tunnel_endpoints(endpoint in any_endpoint()) {
        same_as_text(&endpoint)?;
        match endpoint.socket_addr() {
            Some(address) => {
                prop_assert_eq!(address.to_string(), endpoint.to_string());
                prop_assert_eq!(TunnelEndpoint::try_from(address), Ok(endpoint));
            }
            None => prop_assert!(matches!(endpoint.host(), Host::Name(_))),
        }
    }

    #[test]
    fn tunnel_configs(config in any_config()) {
        let json = serde_json::to_string(&config).unwrap();
        prop_assert_eq!(serde_json::from_str::<TunnelConfig>(&json).unwrap(), config);
    }

    #[test]
    fn deploy_endpoints(host in DOMAIN, port in 1..=u16::MAX, base in "(/[a-z0-9]{1,8}){0,2}", version in 1..9, slash in "/?") {
        let text = format!("http://{host}:{port}{base}/api/v{version}/deploy{slash}");
        let endpoint: DeployEndpoint = text.parse().unwrap();
        same_as_text(&endpoint)?;
        prop_assert_eq!(endpoint.host(), host.to_lowercase());
        prop_assert_eq!(endpoint.port(), port);
        prop_assert_eq!(endpoint.url().path(), format!("{base}/api/v1/deploy"));
        let tier = format!("http://{host}:{port}{base}{slash}").parse().unwrap();
        prop_assert_eq!(DeployEndpoint::of_tier(&tier), Ok(endpoint));
    }

    #[test]
    fn names(label in LABEL, domain in DOMAIN) {
        same_as_text(&label.parse::<DeploymentName>().unwrap())?;
        same_as_text(&label.parse::<ServiceName>().unwrap())?;
        same_as_text(&domain.parse::<DomainName>().unwrap())?;
        prop_assert_eq!(format!("{domain}.").parse::<DomainName>(), domain.parse());
        for search in label.parse::<DeploymentName>().unwrap().search_domains() {
            same_as_text(&search)?;
        }
    }

    #[test]
    fn charts(chart in "((https|oci)://[a-z]{1,9}(\\.[a-z]{2,5}){0,2}/)?[a-z0-9]{1,9}(/[a-z0-9-]{1,9}){0,2}", version in "[0-9]\\.[0-9]{1,3}(-[a-z0-9]{1,5})?") {
        let reference: ChartReference = chart.parse().unwrap();
        prop_assert_eq!(reference.to_string(), chart);
        same_as_text(&reference)?;
        same_as_text(&version.parse::<ChartVersion>().unwrap())?;
    }

    #[test]
    fn resources(values in proptest::collection::btree_map("[a-z_]{1,12}", -1000..1000i32, 0..8)) {
        let mut resources = Resources::new();
        for (name, value) in &values {
            resources.insert(name, f64::from(*value)).unwrap();
        }
        let json = serde_json::to_string(&resources).unwrap();
        prop_assert_eq!(serde_json::from_str::<Resources>(&json).unwrap(), resources);
    }

    #[test]
    fn timestamps(seconds in -62_135_596_800..253_402_300_799_i64, micros in 0..1_000_000_u32, offset in -23..=23i8) {
        let utc = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap() + time::Duration::microseconds(micros.into());
        let text = timestamp::format(utc).unwrap();
        prop_assert!(text.ends_with("+00:00") && &text[10..11] == "T", "{}", text);
        prop_assert_eq!(timestamp::parse(&text), Ok(utc));
        if let Some(local) = utc.checked_to_offset(time::UtcOffset::from_hms(offset, 0, 0).unwrap()) {
            prop_assert_eq!(timestamp::format(local), Ok(text));
        }
    }

    #[test]
    fn results(number: i64) {
        let expected = usize::try_from(number).ok().filter(|number| *number > 0).map(|number| number.min(3));
        let from_text = number.to_string().parse::<Results>().ok();
        let from_json = serde_json::from_str::<Results>(&number.to_string()).ok();
        prop_assert_eq!(from_text, from_json);
        prop_assert_eq!(from_text.map(|results| results.get()), expected);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = text.parse::<PublicKey>();
        let _ = text.parse::<Location>();
        let _ = text.parse::<Network>();
        let _ = text.parse::<TunnelEndpoint>();
        let _ = text.parse::<DeployEndpoint>();
        let _ = text.parse::<DomainName>();
        let _ = text.parse::<Results>();
        let _ = sinfonia_wire::Problem::from_answer(500, text.as_bytes()).to_string();
        if let Ok(chart) = text.parse::<ChartReference>() {
            prop_assert!(!chart.to_string().contains(".."));
        }
    }
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()),
    ]
}

fn any_net() -> impl Strategy<Value = IpNet> {
    (any_address(), 0..=128u8).prop_map(|(address, length)| {
        let host = IpNet::from(address);
        IpNet::new(address, length.min(host.max_prefix_len())).unwrap_or(host)
    })
}

fn any_domain() -> impl Strategy<Value = DomainName> {
    DOMAIN.prop_filter_map("a domain name", |text| text.parse().ok())
}

fn any_endpoint() -> impl Strategy<Value = TunnelEndpoint> {
    let host = prop_oneof![any_address().prop_map(Host::from), any_domain().prop_map(Host::from)];
    (host, 1..=u16::MAX).prop_filter_map("an endpoint", |(host, port)| TunnelEndpoint::new(host, port).ok())
}

fn any_config() -> impl Strategy<Value = TunnelConfig> {
    let dns = (vec(any_address(), 0..3), vec(any_domain(), 0..3));
    (any::<[u8; 32]>(), vec(any_net(), 0..3), any_endpoint(), vec(any_net(), 0..3), dns).prop_map(
        |(key, allowed_ips, endpoint, address, (servers, search))| TunnelConfig {
            public_key: key.into(),
            allowed_ips,
            endpoint,
            address,
            dns: Dns { servers, search },
        },
    )
}

fn same_as_text<T>(value: &T) -> Result<(), TestCaseError>
where
    T: Display + FromStr<Err: Debug + PartialEq> + Serialize + DeserializeOwned + PartialEq + Debug + Clone,
{
    let text = value.to_string();
    prop_assert_eq!(text.parse::<T>(), Ok(value.clone()));
    let json = serde_json::to_value(value).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&json, &serde_json::Value::String(text));
    let read: T = serde_json::from_value(json).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&read, value);
    Ok(())
}
