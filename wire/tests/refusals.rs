//! What is refused, and the words that tell a person why; and what must be taken although it looks odd.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sinfonia_wire::{
    ApplicationId, ChartReference, ChartVersion, CloudletDeployment, CloudletInfo, DeployEndpoint, DeploymentName,
    Location, Network, Problem, PublicKey, Recipe, Resources, Results, TunnelConfig, TunnelEndpoint,
};

const ENDPOINT: &str = "http://cloudlet:7000/api/v1/deploy";
const KEY: &str = "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=";

#[test]
fn texts() {
    refused::<ApplicationId>(&[("1234", r#""1234" is not a UUID such as"#), ("", r#""" is not a UUID"#)]);
    refused::<PublicKey>(&[
        ("abc", "43 or 44 characters of base64, or 64 hexadecimal digits; this has 3 characters"),
        ("", "this has 0 characters"),
        ("Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQ!=", "not valid base64 of 32 bytes"),
        ("Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQF=", "not valid base64"),
        ("Sx7g5QA5PN4T-CJJJZJqaZC1Cbs2IHFDhwm8OYtWn+E=", "not valid base64"),
        ("Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE ", "not valid base64"),
        (&"0g".repeat(32), "not valid hexadecimal"),
        (&"é".repeat(22), "not valid base64"),
    ]);
    refused_text::<Location>(&[
        ("here", r#"location "here" is not 'latitude,longitude' in degrees"#),
        ("91,0", "latitude 91 is outside -90..90"),
        ("0,-180.5", "longitude -180.5 is outside -180..180"),
        ("NaN,0", "latitude NaN is outside"),
        ("0,inf", "longitude inf is outside"),
        ("1,2,3", "is not 'latitude,longitude'"),
    ]);
    refused::<Network>(&[
        ("everyone", r#"network "everyone" does not begin with an IP address"#),
        ("10.0.0.0/33", "the length after the slash must be 0..32"),
        ("10.0.0.0/+8", "must be 0..32"),
        ("2001:db8::/129", "must be 0..128"),
        ("10.0.0.0/", "must be 0..32"),
    ]);
    refused::<Results>(&[
        ("0", "at least 1"),
        ("-0", "at least 1"),
        ("-5", "at least 1"),
        ("many", r#"results "many" is not a whole number"#),
        ("1.5", "not a whole number"),
        ("", "not a whole number"),
        ("-", "not a whole number"),
    ]);
    assert_eq!("99999999999999999999999".parse(), Ok(Results::MAX));
}

#[test]
fn names() {
    refused::<DeploymentName>(&[
        ("", "the name is empty"),
        ("Vertical", "contains 'V'"),
        ("a.b", "contains '.'"),
        ("-a", "must begin and end with a letter or digit"),
        ("a-", "must begin and end"),
        (&"a".repeat(64), "has 64 characters; a DNS label has at most 63"),
    ]);
    refused::<TunnelEndpoint>(&[
        ("gateway", "has no port; expected host:port"),
        ("[::1]", "has no port"),
        ("gateway:0", "the port must be 1..65535"),
        ("gateway:+1", "the port must be"),
        ("gateway:65536", "the port must be"),
        ("::1:51820", "an IPv6 address stands in brackets"),
        ("[10.0.0.1]:1", "an IPv6 address stands in brackets"),
        (":1", "is not a domain name"),
        ("10.0.0.256:1", "neither an IP address nor a domain name"),
        ("a b:1", "is not a domain name"),
    ]);
    assert!(ApplicationId::resolve("hello").unwrap_err().to_string().contains("nor a known alias (helloworld)"));
    assert_eq!(ApplicationId::resolve("helloworld"), Ok(ApplicationId::HELLOWORLD));
}

#[test]
fn urls() {
    refused::<DeployEndpoint>(&[
        ("cloudlet", r#"endpoint "cloudlet" is not a URL"#),
        ("http:///", "is not a URL"),
        ("ftp://cloudlet/api/v1/deploy", "must begin with http:// or https://"),
        ("http://cloudlet:0/api/v1/deploy", "the port must be 1..65535"),
        ("http://cloudlet:7000", "must end in /api/v1/deploy"),
        ("http://cloudlet/api/v0/deploy", "must end in /api/v1/deploy"),
        ("http://cloudlet/api/vx/deploy", "must end in /api/v1/deploy"),
        ("http://cloudlet/api/v1/deploy?a=b", "must not contain '?'"),
        ("http://me:secret@cloudlet/api/v1/deploy", r#"on host "cloudlet" must not contain a user name"#),
    ]);
    let endpoint: DeployEndpoint = "https://[2001:db8::1]/api/v2/deploy/".parse().unwrap();
    assert_eq!((endpoint.host(), endpoint.port()), ("2001:db8::1", 443));
}

#[test]
fn charts() {
    refused::<ChartReference>(&[
        ("", "the chart is empty"),
        ("../other", "would leave the recipe repository"),
        ("a/../../b", "would leave the recipe repository"),
        ("/etc/chart", "would leave the recipe repository"),
        ("a\\b", r"contains '\\'"),
        ("a\nb", r"contains '\n'"),
        ("%2e%2e/chart", "contains '%'"),
        ("file:///etc/chart", "only http, https and oci URLs"),
        ("FILE:chart", "only http, https and oci URLs"),
        ("https://", "is not a URL"),
        ("https://charts.example.org", "must have a host and a path"),
        ("oci:chart", "must have a host and a path"),
        ("https://me:secret@charts.example.org/chart", "no user name, password"),
        ("https://charts.example.org/chart?token=1", "no user name, password, '?'"),
    ]);
    refused::<ChartVersion>(&[
        ("", "the chart version is empty"),
        ("^1.0", r#"chart version "^1.0" is not an exact version"#),
        (">=1", "not an exact version"),
        ("1/../2", "not an exact version"),
        ("../1", "not an exact version"),
    ]);
}

#[test]
fn cloudlets() {
    let with = |name: &str, value: Value| changed(json!({"endpoint": ENDPOINT}), &[name], value);
    refused_json::<CloudletInfo>(&[
        (with("endpoint", json!(null)), "invalid type: null"),
        (with("endpoint", json!("cloudlet")), "is not a URL"),
        (with("uuid", json!("7")), "is not a UUID"),
        (with("locations", json!([[91, 0]])), "latitude 91 is outside -90..90"),
        (with("locations", json!([[1, 2, 3]])), "two numbers; this list has 3"),
        (with("locations", json!([["1", "2"]])), "expected f64"),
        (with("rejected_clients", json!(["10.0.0.0/8", "x"])), r#"network "x" does not begin"#),
        (with("accepted_clients", json!("10.0.0.0/8")), "expected a sequence"),
        (with("resources", json!({"cpu_ratio": "low"})), "expected f64"),
        (with("draining", json!("yes")), "expected a boolean"),
        (with("last_update", json!("yesterday")), r#"time "yesterday" is not RFC 3339"#),
        // What could not be told to others, in UTC.
        (with("last_update", json!("9999-12-31T23:59:59-00:01")), "year 9999 cannot be written"),
        (with("last_update", json!("0000-01-01T00:00:00+00:01")), "year -1 cannot be written"),
        (json!({}), "missing field `endpoint`"),
    ]);
    assert!(Resources::new().insert("cpu_ratio", f64::NAN).is_err());
}

#[test]
fn null_and_unknown_fields_are_as_absent() {
    let names = ["uuid", "name", "locations", "local_networks", "accepted_clients", "rejected_clients"];
    let others = ["resources", "labels", "draining", "last_update", "no such field"];
    let mut nulls = json!({"endpoint": ENDPOINT});
    for name in names.iter().chain(&others) {
        nulls[name] = json!(null);
    }
    let cloudlet: CloudletInfo = serde_json::from_value(nulls).unwrap();
    assert_eq!(cloudlet, CloudletInfo::new(ENDPOINT.parse().unwrap()));
    assert_eq!(serde_json::to_value(&cloudlet).unwrap(), json!({"endpoint": ENDPOINT, "resources": {}}));

    let resources: Resources = serde_json::from_value(json!({"cpu_ratio": null, "gpu_ratio": 1})).unwrap();
    assert_eq!(resources.iter().collect::<Vec<_>>(), [("gpu_ratio", 1.0)]);
    for percent in [80.0_f64, 100.0, 280.0] {
        let once: Resources = serde_json::from_value(json!({"gpu_ratio": percent})).unwrap();
        let twice: Resources = serde_json::from_value(serde_json::to_value(&once).unwrap()).unwrap();
        assert_eq!(once.get("gpu_ratio"), Some((percent / 100.0).min(1.0)));
        assert_eq!(once, twice, "the next reader takes the same");
    }

    let mut recipe = json!({"chart": "a", "version": "1"});
    for name in ["description", "values", "restricted", "requires", "prefer", "local", "more"] {
        recipe[name] = json!(null);
    }
    let recipe: Recipe = serde_json::from_value(recipe).unwrap();
    assert_eq!(recipe, serde_json::from_value(json!({"chart": "a", "version": "1"})).unwrap());
    assert!(recipe.restricted);
}

#[test]
fn deployments() {
    let valid = json!({
        "UUID": "00000000-0000-0000-0000-000000000000",
        "ApplicationKey": KEY,
        "Status": "Deployed",
        "TunnelConfig": {"publicKey": KEY, "allowedIPs": [], "endpoint": "a:1", "address": [], "dns": []},
        "Created": null,
        "DeploymentName": null,
        "Cloudlet": null,
        "Expires": "later",
    });
    serde_json::from_value::<CloudletDeployment>(valid.clone()).unwrap();
    for name in ["UUID", "ApplicationKey", "Status", "TunnelConfig"] {
        let expected = format!("missing field `{name}`");
        refused_json::<CloudletDeployment>(&[(without(valid.clone(), name), &expected)]);
    }
    for name in ["publicKey", "allowedIPs", "endpoint", "address", "dns"] {
        let expected = format!("missing field `{name}`");
        refused_json::<TunnelConfig>(&[(without(valid["TunnelConfig"].clone(), name), &expected)]);
    }
    let with = |path: &[&str], value| changed(valid.clone(), path, value);
    refused_json::<CloudletDeployment>(&[
        (with(&["Status"], json!("Ready")), "unknown variant `Ready`, expected one of `Initializing`"),
        (with(&["DeploymentName"], json!("../x")), "contains '.'"),
        (with(&["Created"], json!("2026-11-22 04:54")), "is not RFC 3339"),
        (with(&["Created"], json!("9999-12-31T23:59:59-23:59")), "year 9999 cannot be written"),
        (with(&["TunnelConfig", "address"], json!(["10.5.0.2/99"])), "must be 0..32"),
        (with(&["TunnelConfig", "dns"], json!(["a\nnameserver 192.0.2.1"])), "is not a domain name"),
    ]);
}

#[test]
fn local_recipes() {
    let local = json!({"command": ["nginx"], "environment": {"A": "b"}, "port": 80, "service": "helloworld"});
    let valid = json!({"chart": "a", "version": "1", "local": local});
    let recipe: Recipe = serde_json::from_value(valid.clone()).unwrap();
    let local = recipe.local.unwrap();
    assert_eq!((local.command(), local.port()), (&["nginx".to_owned()][..], 80));
    assert_eq!((local.environment()["A"].as_str(), local.service().as_str()), ("b", "helloworld"));

    let with = |name: &str, value| changed(valid.clone(), &["local", name], value);
    refused_json::<Recipe>(&[
        (with("command", json!([])), "local.command is empty"),
        (with("command", json!([""])), "local.command is empty"),
        (with("command", json!(["a", "b\0"])), "NUL"),
        (with("environment", json!({"A=B": "c"})), r#"local.environment: "A=B""#),
        (with("environment", json!({"": "c"})), r#"local.environment: """#),
        (with("port", json!(0)), "local.port is 0; expected the TCP port"),
        (with("port", json!(65536)), "expected u16"),
        (with("service", json!("Hello")), "contains 'H'"),
        (json!({"version": "1"}), "missing field `chart`"),
        (json!({"chart": "a"}), "missing field `version`"),
    ]);
}

#[test]
fn problems_of_any_server_are_read() {
    let about = |body: &[u8]| Problem::from_answer(502, body).to_string();
    assert_eq!(about(b""), "Bad Gateway");
    assert_eq!(about(b"<html>no</html>"), "Bad Gateway");
    assert_eq!(about(b" upstream\x1b[31m is away\n"), "Bad Gateway: upstream [31m is away");
    assert_eq!(about(br#""Bad Request, missing UUID""#), "Bad Gateway: Bad Request, missing UUID");
    assert_eq!(about(br#"{"title": 7, "detail": ["x"], "status": "x"}"#), "Bad Gateway");
    assert_eq!(Problem::from_answer(599, b"").to_string(), "HTTP status 599");

    let problem = Problem::new(404, "unknown-recipe", "no recipe 7").with("status", 1).with("uuid", "7");
    assert_eq!(
        serde_json::to_value(&problem).unwrap(),
        json!({
            "type": "about:blank", "title": "Not Found", "status": 404, "detail": "no recipe 7",
            "code": "unknown-recipe", "uuid": "7",
        })
    );
}

fn refused<T: FromStr<Err: Display> + DeserializeOwned>(cases: &[(&str, &str)]) {
    refused_text::<T>(cases);
    for (text, expected) in cases {
        refused_json::<T>(&[(json!(text), expected)]);
    }
}

fn refused_text<T: FromStr<Err: Display>>(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let Err(error) = text.parse::<T>() else { panic!("{text:?} was taken") };
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
    }
}

fn refused_json<T: DeserializeOwned>(cases: &[(Value, &str)]) {
    for (value, expected) in cases {
        let Err(error) = serde_json::from_str::<T>(&value.to_string()) else { panic!("{value} was taken") };
        assert!(error.to_string().contains(expected), "{value}: {error}");
    }
}

fn changed(mut object: Value, path: &[&str], value: Value) -> Value {
    let place = path.iter().fold(&mut object, |object, name| &mut object[name]);
    *place = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().map(|members| members.remove(name));
    object
}
