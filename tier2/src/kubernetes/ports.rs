//! Whether the backend accepts connections where clients will make them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, api::ListParams};
use sinfonia_wire::DeploymentName;
use thiserror::Error;
use tokio::{net::TcpStream, time::Instant};

/// How long the API server may take to tell.
const LIST_LIMIT: Duration = Duration::from_secs(10);

/// How long one attempt to connect may take; inside a cluster an answer takes milliseconds.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Pauses between attempts grow from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// A TCP port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpService {
    /// The Service's name.
    pub name: String,
    /// Its address in the cluster, and the port.
    pub address: SocketAddr,
}

/// Why the ports are not known.
#[derive(Debug, Error)]
pub enum PortsError {
    /// The API server refuses or cannot be reached.
    #[error("the services of namespace {namespace} cannot be listed: {reason}")]
    List {
        /// Which.
        namespace: DeploymentName,
        /// What happened.
        reason: String,
    },
}

/// A port that did not accept in time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("service {name} does not accept connections at {address}: {reason}")]
pub struct Unanswered {
    /// The Service's name.
    pub name: String,
    /// Where it was tried.
    pub address: SocketAddr,
    /// The last attempt's end.
    pub reason: String,
}

/// The TCP ports of the namespace's Services that have an address and pods behind it.
///
/// # Errors
/// See [`PortsError`]; it may be repeated.
pub async fn tcp_services(client: &Client, namespace: &DeploymentName) -> Result<Vec<TcpService>, PortsError> {
    let failed = |reason: String| PortsError::List { namespace: namespace.clone(), reason };
    let services: Api<Service> = Api::namespaced(client.clone(), namespace.as_str());
    let parameters = ListParams::default();
    let listed = tokio::time::timeout(LIST_LIMIT, services.list(&parameters))
        .await
        .map_err(|_| failed(format!("no answer within {} s", LIST_LIMIT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    Ok(listed.items.iter().flat_map(tcp_ports).collect())
}

fn tcp_ports(service: &Service) -> Vec<TcpService> {
    let name = service.metadata.name.clone().unwrap_or_default();
    let Some(spec) = &service.spec else { return Vec::new() };
    let selects = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
    // A headless service has no address ("None") to be tried.
    let address = spec.cluster_ip.as_deref().and_then(|address| address.parse::<IpAddr>().ok());
    let (true, Some(address)) = (selects, address) else { return Vec::new() };
    let tcp = spec.ports.iter().flatten().filter(|port| port.protocol.as_deref().is_none_or(|name| name == "TCP"));
    let ports = tcp.filter_map(|port| u16::try_from(port.port).ok());
    ports.map(|port| TcpService { name: name.clone(), address: SocketAddr::new(address, port) }).collect()
}

/// Connects to each port until it accepts.
///
/// # Errors
/// One that did not accept until then.
pub async fn probe(services: &[TcpService], deadline: Instant) -> Result<(), Unanswered> {
    future::try_join_all(services.iter().map(|service| answers(service, deadline))).await.map(drop)
}

async fn answers(service: &TcpService, deadline: Instant) -> Result<(), Unanswered> {
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = tokio::time::timeout(ATTEMPT, TcpStream::connect(service.address)).await;
        let error = match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if Instant::now() + pause > deadline {
            let (name, address) = (service.name.clone(), service.address);
            return Err(Unanswered { name, address, reason: error.to_string() });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LAST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::net::TcpListener;

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({ "metadata": { "name": "web" }, "spec": spec })).unwrap()
    }

    #[test]
    fn only_tcp_ports_with_an_address_and_pods_are_tried() {
        let ports = json!([{ "port": 80, "protocol": "TCP" }, { "port": 53, "protocol": "UDP" }, { "port": 81 }]);
        let found = tcp_ports(&service(json!({ "clusterIP": "10.96.0.7", "selector": { "a": "b" }, "ports": ports })));
        let addresses: Vec<_> = found.iter().map(|service| service.address.to_string()).collect();
        assert_eq!(addresses, ["10.96.0.7:80", "10.96.0.7:81"]);
        for spec in [
            json!({ "clusterIP": "None", "selector": { "a": "b" }, "ports": ports }),
            json!({ "clusterIP": "10.96.0.7", "ports": ports }),
            json!({ "type": "ExternalName", "externalName": "example.com" }),
        ] {
            assert_eq!(tcp_ports(&service(spec)), []);
        }
    }

    #[tokio::test]
    async fn a_port_that_opens_late_is_found_and_one_that_stays_closed_is_named() {
        let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = reserved.local_addr().unwrap();
        drop(reserved);
        let services = [TcpService { name: "web".into(), address }];
        let error = probe(&services, Instant::now()).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("service web does not accept connections at {address}")));

        let probing = probe(&services, Instant::now() + Duration::from_secs(30));
        let opening = async { TcpListener::bind(address).await.unwrap() };
        let (answered, _listener) = tokio::join!(probing, opening);
        answered.unwrap();
    }
}
