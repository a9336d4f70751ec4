//! JSON as it is on the wire, read and written, against exchanges recorded from the reference implementation.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinfonia_wire::{
    API_BASE, ApplicationId, CloudletDeployment, CloudletInfo, DeployEndpoint, Location, Network, Problem, PublicKey,
    PublicKeyError, Recipe, Resources, Results, header,
};

const KEY: &str = "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=";

#[test]
fn deployments_of_tier2_are_kept_to_the_letter() {
    for name in ["deploy", "deploy again"] {
        let body = tier2(name).response.body;
        let deployments: Vec<CloudletDeployment> = rewritten(&body, &body);
        let deployment = &deployments[0];
        assert_eq!(deployment.application_key.to_string(), KEY);
        assert_eq!(deployment.tunnel_config.dns.search, deployment.deployment_name.as_ref().unwrap().search_domains());
    }
}

#[test]
fn deployments_of_tier1_lose_only_a_host_length() {
    for name in ["deploy", "deploy, 2 results", "deploy, standard base64 key with slash", "deploy, rejected client"] {
        let body = tier1(name).response.body;
        let mut expected = body.clone();
        expected[0]["TunnelConfig"]["address"] = json!(["10.5.0.2"]);
        rewritten::<Vec<CloudletDeployment>>(&body, &expected);
    }
}

#[test]
fn listed_cloudlets_are_kept_except_percent() {
    let body = tier1("list").response.body;
    let mut expected = body.clone();
    expected[0]["resources"]["gpu_ratio"] = json!(0.37);
    rewritten::<Vec<CloudletInfo>>(&body, &expected);
}

#[test]
fn reports_are_normalised() {
    let body = tier1("report").request.body;
    let mut expected = body.clone();
    expected["resources"]["gpu_ratio"] = json!(0.37);
    let cloudlet: CloudletInfo = rewritten(&body, &expected);
    assert_eq!(cloudlet.resources.get(Resources::NET_TX_RATE), Some(11000.0));
    assert_eq!(cloudlet.name_or_host(), "127.0.0.1");

    let body = tier1("report with everything").request.body;
    let mut expected = body.clone();
    expected["endpoint"] = json!("http://127.0.0.1:7000/api/v1/deploy");
    expected["local_networks"] = json!(["198.51.100.0/24"]);
    expected["last_update"] = json!("2024-01-01T00:00:00+00:00");
    expected["resources"] = json!({});
    let cloudlet: CloudletInfo = rewritten(&body, &expected);
    assert_eq!(cloudlet.name_or_host(), "ignored");
    assert_eq!(cloudlet.locations.unwrap(), [Location::new(40.44, -79.94).unwrap()]);
}

#[test]
fn reports_the_reference_refuses_are_no_cloudlets_or_have_no_uuid() {
    let cloudlet: CloudletInfo = serde_json::from_value(tier1("report without uuid").request.body).unwrap();
    assert_eq!(cloudlet.uuid, None);
    let error = serde_json::from_value::<CloudletInfo>(tier1("report without endpoint").request.body).unwrap_err();
    assert_eq!(error.to_string(), "missing field `endpoint`");
}

#[test]
fn recipes_are_shown_as_the_reference_does() {
    for name in ["recipe", "recipe, restricted"] {
        let shown = tier1(name).response.body;
        let mut file = shown.clone();
        file["restricted"] = json!(false);
        file["local"] = json!({"command": ["nginx"], "port": 80, "service": "helloworld"});
        let recipe: Recipe = serde_json::from_value(file).unwrap();
        assert_eq!(serde_json::to_value(recipe.public()).unwrap(), shown);
        let again: Recipe = serde_json::from_value(shown).unwrap();
        assert!(again.restricted, "the default");
        assert_eq!(again.local, None);
    }
}

#[test]
fn problems_are_kept_to_the_letter() {
    let exchanges = [tier1_exchanges(), tier2_exchanges()].concat();
    let mut seen = 0;
    for Exchange { response, .. } in exchanges {
        if response.content_type == sinfonia_wire::PROBLEM_JSON {
            let problem: Problem = rewritten(&response.body, &response.body);
            assert_eq!(problem.status, response.status);
            let body = serde_json::to_vec(&response.body).unwrap();
            assert_eq!(Problem::from_answer(response.status, &body), problem);
            seen += 1;
        }
    }
    assert!(seen > 10);
}

#[test]
fn keys_in_recorded_paths_are_read() {
    let exchanges = [tier1_exchanges(), tier2_exchanges()].concat();
    let mut seen = 0;
    for Exchange { name, request, .. } in exchanges {
        let path = request.path.split('?').next().unwrap();
        let Some(rest) = path.strip_prefix(&format!("{API_BASE}/deploy/")) else { continue };
        let (application, sent) = rest.split_once('/').unwrap();
        let application: ApplicationId = application.parse().unwrap();
        match sent.parse::<PublicKey>() {
            Ok(key) => {
                let endpoint: DeployEndpoint = format!("http://cloudlet{API_BASE}/deploy").parse().unwrap();
                let url = endpoint.deployment_url(&application, &key);
                let url_safe = sent.trim_end_matches('=').replace('+', "-").replace('/', "_");
                assert_eq!(url.path(), format!("{API_BASE}/deploy/{application}/{url_safe}"));
            }
            Err(error) => {
                assert_eq!(name, "deploy, bad key");
                assert_eq!(error, PublicKeyError::Length { characters: 3 });
            }
        }
        seen += 1;
    }
    assert!(seen > 15);
}

#[test]
fn headers_and_queries_are_read() {
    let with_both = tier1("deploy, 2 results").request;
    assert_eq!(with_both.headers[header::X_LOCATION].parse(), Location::new(40.4, -79.9));
    let network: Network = with_both.headers[header::X_CLIENT_IP].parse().unwrap();
    assert_eq!(network.to_string(), "128.2.0.1/32");
    assert!(tier1("deploy, bad location").request.headers[header::X_LOCATION].parse::<Location>().is_err());
    for (name, expected) in
        [("deploy, 2 results", Some(2)), ("deploy, 9 results", Some(3)), ("deploy, 0 results", None)]
    {
        let path = tier1(name).request.path;
        let (_, results) = path.split_once("?results=").unwrap();
        assert_eq!(results.parse::<Results>().ok().map(|results| results.get()), expected);
    }
}

#[test]
fn kilo_peers_are_labelled_with_the_url_safe_key() {
    let peer = include_str!("golden/peer.yaml");
    let key: PublicKey = KEY.parse().unwrap();
    assert!(peer.contains(&format!("publicKey: {key}")));
    assert!(peer.contains(&format!("findcloudlet.org/key: wg-{}-pubkey", key.url_safe())));
}

#[test]
fn what_only_we_write_is_kept_to_the_letter() {
    let ours: Value = parsed(include_str!("golden/sinfonia.json"));
    each(&ours["cloudlet"], |body| drop(rewritten::<CloudletInfo>(body, body)));
    each(&ours["deployment"], |body| drop(rewritten::<CloudletDeployment>(body, body)));
    each(&ours["problem"], |body| drop(rewritten::<Problem>(body, body)));
    each(&ours["recipe"], |body| {
        let recipe: Recipe = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(serde_json::to_value(recipe.public()).unwrap(), *body);
    });
}

#[derive(Clone, Deserialize)]
struct Exchange {
    name: String,
    request: Request,
    response: Response,
}

#[derive(Clone, Deserialize)]
struct Request {
    path: String,
    #[serde(default)]
    headers: std::collections::HashMap<String, String>,
    #[serde(default)]
    body: Value,
}

#[derive(Clone, Deserialize)]
struct Response {
    status: u16,
    content_type: String,
    body: Value,
}

fn tier1_exchanges() -> Vec<Exchange> {
    parsed(include_str!("golden/tier1.json"))
}

fn tier2_exchanges() -> Vec<Exchange> {
    parsed(include_str!("golden/tier2.json"))
}

fn tier1(name: &str) -> Exchange {
    named(tier1_exchanges(), name)
}

fn tier2(name: &str) -> Exchange {
    named(tier2_exchanges(), name)
}

fn named(exchanges: Vec<Exchange>, name: &str) -> Exchange {
    let found = exchanges.into_iter().find(|exchange| exchange.name == name);
    found.unwrap_or_else(|| panic!("no exchange {name}"))
}

fn parsed<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

fn each(list: &Value, check: impl Fn(&Value)) {
    let items = list.as_array().filter(|items| !items.is_empty());
    items.unwrap_or_else(|| panic!("{list} is no list")).iter().for_each(check);
}

/// Reads `body`, asserts that it is written as `expected`, and that this is read as the same.
fn rewritten<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &Value, expected: &Value) -> T {
    let value: T = parsed(&body.to_string());
    let written = serde_json::to_value(&value).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(written, *expected);
    assert_eq!(parsed::<T>(&written.to_string()), value);
    value
}
