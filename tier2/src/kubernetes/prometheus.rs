//! Asks Prometheus: which one, and instant queries.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::{sync::Mutex, time::Instant};
use url::{Url, form_urlencoded};

use super::{
    fetch::{FetchError, Server, TIME_LIMIT, reason},
    view::cluster_ip,
};

/// Where kube-prometheus-stack puts it.
const NAMESPACE: &str = "monitoring";
const SERVICE: &str = "kube-prometheus-stack-prometheus";
const PORT: u16 = 9090;

/// How often a Prometheus that was not named is looked for.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(60);

/// The Prometheus of this cloudlet, if there is one. Clones share what they found.
#[derive(Clone)]
pub struct Prometheus(Arc<Source>);

enum Source {
    Given(Url),
    Discovered { client: Client, found: Mutex<Option<(Instant, Option<Url>)>> },
}

/// Why there is no answer of use.
#[derive(Debug, Error)]
pub(crate) enum PrometheusError {
    /// The service that it is found by cannot be read.
    #[error("service {SERVICE} in namespace {NAMESPACE} cannot be read: {0}")]
    Discovery(String),
    /// Too slow.
    #[error("the API server did not answer within {} s", TIME_LIMIT.as_secs())]
    DiscoveryTime,
    /// It cannot be asked.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Not an answer of Prometheus.
    #[error("{server} answers what is no result of a query: {reason}")]
    Nonsense {
        /// Who.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// One element of a result.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    /// Its labels.
    pub(crate) labels: HashMap<String, String>,
    /// The value, which may be no number.
    pub(crate) value: f64,
}

impl Prometheus {
    /// The one at `given`, else the one of kube-prometheus-stack, if it is installed.
    #[must_use]
    pub fn new(client: Client, given: Option<Url>) -> Self {
        Self(Arc::new(match given {
            Some(url) => Source::Given(url),
            None => Source::Discovered { client, found: Mutex::default() },
        }))
    }

    /// Whether its URL was given, so that it is meant to be used before all else.
    pub(crate) fn is_given(&self) -> bool {
        matches!(*self.0, Source::Given(_))
    }

    /// The server to ask; none if none was given and none is found.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub(crate) async fn server(&self) -> Result<Option<Server>, PrometheusError> {
        let url = match &*self.0 {
            Source::Given(url) => Some(url.clone()),
            Source::Discovered { client, found } => discovered(client, found).await?,
        };
        Ok(url.map(|url| Server::at(&url, "Prometheus")).transpose()?)
    }
}

async fn discovered(
    client: &Client,
    found: &Mutex<Option<(Instant, Option<Url>)>>,
) -> Result<Option<Url>, PrometheusError> {
    let mut found = found.lock().await;
    if let Some((at, url)) = &*found
        && at.elapsed() < DISCOVERY_INTERVAL
    {
        return Ok(url.clone());
    }
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let asked = tokio::time::timeout(TIME_LIMIT, services.get_opt(SERVICE)).await;
    let service = asked
        .map_err(|_| PrometheusError::DiscoveryTime)?
        .map_err(|error| PrometheusError::Discovery(reason(&error)))?;
    let address = service.as_ref().and_then(cluster_ip);
    let url = address.and_then(|address| format!("http://{}/", std::net::SocketAddr::new(address, PORT)).parse().ok());
    *found = Some((Instant::now(), url.clone()));
    Ok(url)
}

/// The result of an instant query.
///
/// # Errors
/// When the server cannot be asked, or what it says is no vector.
pub(crate) async fn query(server: &Server, query: &str) -> Result<Vec<Series>, PrometheusError> {
    let parameters = form_urlencoded::Serializer::new(String::new())
        .append_pair("query", query)
        .append_pair("timeout", &format!("{}s", TIME_LIMIT.as_secs()))
        .finish();
    let answer = server.get(&format!("/api/v1/query?{parameters}")).await?;
    parse(&answer).map_err(|reason| PrometheusError::Nonsense { server: server.name().to_owned(), reason })
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Element {
    metric: HashMap<String, String>,
    /// Time of the evaluation, Unix seconds, and value.
    value: (f64, String),
}

fn parse(answer: &[u8]) -> Result<Vec<Series>, String> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    if answer.status != "success" {
        let reason: String = answer.error.unwrap_or(answer.status).chars().take(200).collect();
        return Err(reason);
    }
    let Some(Data { result, .. }) = answer.data.filter(|data| data.result_type == "vector") else {
        return Err("it is no vector".to_owned());
    };
    let elements: Vec<Element> = serde_json::from_value(result).map_err(|error| error.to_string())?;
    elements
        .into_iter()
        .map(|Element { metric, value: (_, value) }| match value.parse() {
            Ok(value) => Ok(Series { labels: metric, value }),
            Err(_) => Err("a value is no number".to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `max by (public_key) (timestamp(wireguard_received_bytes_total))`, as Prometheus 2.42 answers.
    const RECORDED: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"public_key":"2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg/8YHRlHBcwV4="},"value":[1795550834.630,"1795550831.092"]},{"metric":{"public_key":"Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE="},"value":[1795550834.630,"1795550831.092"]}]}}"#;

    #[test]
    fn a_recorded_answer_is_read() {
        let series = parse(RECORDED.as_bytes()).unwrap();
        assert_eq!(series.len(), 2);
        assert_eq!(series[1].labels["public_key"], "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=");
        assert_eq!(series[1].value, 1_795_550_831.092);
    }

    #[test]
    fn vectors_are_read() {
        let answer = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"public_key":"A="},"value":[1764012345.678,"1.764012e+09"]},
            {"metric":{},"value":[1764012345.678,"NaN"]},
            {"metric":{},"value":[1764012345,"+Inf"]}]},"warnings":["w"]}"#;
        let series = parse(answer).unwrap();
        assert_eq!((series[0].labels["public_key"].as_str(), series[0].value), ("A=", 1.764_012e9));
        assert!(series[1].value.is_nan() && series[2].value.is_infinite());
        assert_eq!(parse(br#"{"status":"success","data":{"resultType":"vector","result":[]}}"#), Ok(vec![]));
    }

    #[test]
    fn everything_else_is_nonsense() {
        for (answer, reason) in [
            (r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#, "parse error"),
            (r#"{"status":"success"}"#, "no vector"),
            (r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#, "no vector"),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}"#,
                "no number",
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1]}]}}"#,
                "invalid length",
            ),
            ("<html>", "expected value"),
            ("", "EOF"),
            ("[]", "expected"),
        ] {
            let error = parse(answer.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{answer}: {error}");
        }
    }
}
