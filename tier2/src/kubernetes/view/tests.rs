use serde_json::json;

use super::*;
use crate::kubernetes::fetch::tests::{Behaviour, Fake};

/// A Ready node that ends no tunnels.
pub(crate) fn node(name: &str) -> NodeFacts {
    NodeFacts { name: name.to_owned(), ready: true, schedulable: true, ..NodeFacts::default() }
}

#[test]
fn a_node_is_read_as_kubernetes_and_kilo_write_it() {
    let object = json!({
        "metadata": {"name": "edge-1", "annotations": {
            "kilo.squat.ai/key": "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=",
            "kilo.squat.ai/endpoint": "edge.example.org:51820",
            "kilo.squat.ai/leader": "",
            "findcloudlet.org/gateway": "http://192.0.2.1:51821",
        }},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "2001:db8:1::/64"]},
        "status": {
            "addresses": [
                {"type": "Hostname", "address": "edge-1"},
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "ExternalIP", "address": "198.51.100.1"},
                {"type": "InternalIP", "address": "2001:db8::1"},
            ],
            "allocatable": {"cpu": "1500m", "memory": "24677512Ki", "pods": "110"},
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
        },
    });
    let facts = NodeFacts::from(serde_json::from_value::<Node>(object).unwrap());
    assert!(facts.ready && facts.schedulable && facts.kilo_leader);
    assert_eq!((facts.cpus, facts.memory), (Some(1.5), Some(24_677_512.0 * 1024.0)));
    assert_eq!(facts.addresses, ["192.0.2.1", "2001:db8::1"].map(|address| address.parse::<IpAddr>().unwrap()));
    assert_eq!(facts.external_addresses, [IpAddr::from([198, 51, 100, 1])]);
    assert_eq!(facts.pod_networks.len(), 2);
    assert!(facts.key.is_some());
    assert_eq!(facts.endpoint.unwrap().to_string(), "edge.example.org:51820");
    assert_eq!(facts.gateway.unwrap().as_str(), "http://192.0.2.1:51821/");
}

#[test]
fn annotations_that_cannot_be_read_do_not_count() {
    let object = json!({
        "metadata": {"name": "edge-1", "annotations": {
            "kilo.squat.ai/key": "none", "kilo.squat.ai/endpoint": ":0", "findcloudlet.org/gateway": "file:///etc",
        }},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}], "allocatable": {"cpu": "many"}},
    });
    let facts = NodeFacts::from(serde_json::from_value::<Node>(object).unwrap());
    assert_eq!(facts, NodeFacts { name: "edge-1".to_owned(), ..NodeFacts::default() });
    assert_eq!(NodeFacts::from(Node::default()), NodeFacts { schedulable: true, ..NodeFacts::default() });
}

#[test]
fn the_resolver_is_ready_with_one_pod() {
    let slice = |ready: &[Option<bool>]| -> EndpointSlice {
        let endpoints: Vec<_> =
            ready.iter().map(|ready| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}})).collect();
        serde_json::from_value(json!({"addressType": "IPv4", "endpoints": endpoints})).unwrap()
    };
    assert!(!has_ready(&[]) && !has_ready(&[slice(&[])]) && !has_ready(&[slice(&[Some(false)])]));
    assert!(has_ready(&[slice(&[]), slice(&[Some(false), Some(true)])]));
    assert!(has_ready(&[slice(&[None])]));
}

#[test]
fn a_headless_service_has_no_address() {
    let service = |ip: &str| -> Service { serde_json::from_value(json!({"spec": {"clusterIP": ip}})).unwrap() };
    assert_eq!(cluster_ip(&service("10.96.0.10")), Some([10, 96, 0, 10].into()));
    assert_eq!(cluster_ip(&service("None")), None);
    assert_eq!(cluster_ip(&Service::default()), None);
}

/// A cluster that refuses with this status to tell its ServiceCIDRs, if any.
async fn cluster(refuses: Option<u16>) -> Result<Arc<ClusterView>, ViewError> {
    let api = Fake::start(move |path| {
        let answer = match path.split('?').next().unwrap_or_default() {
            "/api/v1/nodes" | "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices" => {
                json!({"metadata": {}, "items": []})
            }
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes" => json!({
                "metadata": {"name": "kubernetes"}, "addressType": "IPv4",
                "endpoints": [{"addresses": ["198.51.100.1"]}, {"addresses": ["198.51.100.2"]}],
            }),
            "/apis/networking.k8s.io/v1/servicecidrs" => match refuses {
                Some(status) => return Behaviour::Refuses(status),
                None => json!({"metadata": {}, "items": [
                    {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "2001:db8:9::/112"]}},
                ]}),
            },
            _ => return Behaviour::Refuses(404),
        };
        Behaviour::Answers(answer.to_string())
    })
    .await;
    ClusterWatch::new(api.client()).look().await
}

#[tokio::test]
async fn api_servers_and_the_networks_of_services_are_known() {
    let view = cluster(None).await.unwrap();
    assert_eq!(view.api_servers, [[198, 51, 100, 1], [198, 51, 100, 2]].map(IpAddr::from));
    assert_eq!(view.service_networks, ["10.96.0.0/16", "2001:db8:9::/112"].map(|text| text.parse::<IpNet>().unwrap()));
    assert_eq!(cluster(Some(404)).await.unwrap().service_networks, [], "an older cluster");
    assert_eq!(cluster(Some(403)).await.unwrap().service_networks, [], "with the rights of an earlier release");
    let error = cluster(Some(503)).await.unwrap_err().to_string();
    assert!(error.starts_with("the cluster's ServiceCIDRs cannot be read"), "{error}");
}
