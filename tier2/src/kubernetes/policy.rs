//! The NetworkPolicy of a deployment's namespace.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use sinfonia_wire::cluster;

use super::{
    networks::{NOT_PUBLIC_V4, Networks, PUBLIC_V6},
    options::Egress,
};

/// The value of label [`cluster::LABEL`] on tier2's own pods.
const OWN_PODS: &str = "tier2";

/// Its spec, for a client with these addresses. In: from the namespace itself, the client, the gateway, and whoever tries
/// the services. Out: to the namespace itself, the resolver and, if that is allowed, to public addresses; the cluster, its
/// nodes and what is link-local or private stay out of reach.
pub(super) fn spec(client: &[IpAddr], egress: Egress, networks: &Networks) -> Value {
    let itself = json!({ "podSelector": {} });
    let blocks = client.iter().copied().map(IpNet::from).chain(networks.sources.iter().copied());
    let mut sources = vec![itself.clone()];
    sources.extend(blocks.map(|block| json!({ "ipBlock": { "cidr": block } })));
    sources.extend(networks.trying.iter().map(|namespace| pods(namespace, cluster::LABEL, OWN_PODS)));

    let dns = json!([{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }]);
    let resolver = pods("kube-system", "k8s-app", "kube-dns");
    let mut out = vec![json!({ "to": [itself] }), json!({ "to": [resolver], "ports": dns })];
    if egress == Egress::Internet {
        out.push(json!({ "to": internet(&networks.cluster) }));
    }
    json!({
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{ "from": sources }],
        "egress": out,
    })
}

/// All public addresses but those of the cluster.
fn internet(cluster: &[IpNet]) -> Value {
    let (own_v4, own_v6): (Vec<IpNet>, Vec<IpNet>) = cluster.iter().partition(|network| network.addr().is_ipv4());
    let not_v4: Vec<IpNet> = NOT_PUBLIC_V4.into_iter().map(IpNet::from).chain(own_v4).collect();
    json!([
        { "ipBlock": { "cidr": "0.0.0.0/0", "except": not_v4 } },
        { "ipBlock": { "cidr": PUBLIC_V6, "except": own_v6 } },
    ])
}

/// The pods of a namespace with this label.
fn pods(namespace: &str, label: &str, value: &str) -> Value {
    json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
        "podSelector": { "matchLabels": { label: value } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks() -> Networks {
        Networks {
            sources: vec!["192.168.7.1/32".parse().unwrap()],
            trying: None,
            cluster: vec!["198.51.100.0/24".parse().unwrap(), "2001:db8::/56".parse().unwrap()],
        }
    }

    fn spec_of(egress: Egress, networks: &Networks) -> Value {
        spec(&[[10, 5, 0, 2].into()], egress, networks)
    }

    #[test]
    fn the_clusters_own_networks_are_not_the_internet() {
        let spec = spec_of(Egress::Internet, &networks());
        let internet = &spec["egress"][2]["to"];
        let v4 = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];
        let v4 = [&v4[..], &["198.51.100.0/24"]].concat();
        assert_eq!(internet[0], json!({ "ipBlock": { "cidr": "0.0.0.0/0", "except": v4 } }));
        assert_eq!(internet[1], json!({ "ipBlock": { "cidr": "2000::/3", "except": ["2001:db8::/56"] } }));
        assert_eq!(spec_of(Egress::None, &networks())["egress"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn tier2_comes_in_only_where_it_tries_the_services() {
        let from = |networks: &Networks| spec_of(Egress::None, networks)["ingress"][0]["from"].clone();
        let mut expected = json!([
            { "podSelector": {} },
            { "ipBlock": { "cidr": "10.5.0.2/32" } },
            { "ipBlock": { "cidr": "192.168.7.1/32" } },
        ]);
        assert_eq!(from(&networks()), expected);
        expected.as_array_mut().unwrap().push(json!({
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "sinfonia" } },
            "podSelector": { "matchLabels": { "findcloudlet.org": "tier2" } },
        }));
        assert_eq!(from(&Networks { trying: Some("sinfonia".to_owned()), ..networks() }), expected);
    }
}
