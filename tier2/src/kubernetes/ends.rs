//! Where clients' tunnels end in this cluster, for answers and for the rules around a deployment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use sinfonia_wire::{PublicKey, TunnelEndpoint};
use url::Url;

use super::{
    failure::Failure,
    networks::Networks,
    tunnel::{TunnelEnd, tunnel_end},
    view::{ClusterView, ClusterWatch, ViewError},
};

/// The tunnels' end as it is now.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) public_key: PublicKey,
    pub(super) endpoint: TunnelEndpoint,
    pub(super) resolvers: Vec<IpAddr>,
    /// Base URL of our gateway's API, if it is ours.
    pub(super) gateway: Option<Url>,
    /// What the NetworkPolicies of deployments let in and keep off.
    pub(super) networks: Networks,
}

/// Looks for the tunnels' end.
#[derive(Clone)]
pub(super) struct Ends {
    watch: ClusterWatch,
    /// The namespace of the pod that this runs in; none outside of the cluster.
    pod_namespace: Option<String>,
}

impl Ends {
    pub(super) const fn new(watch: ClusterWatch, pod_namespace: Option<String>) -> Self {
        Self { watch, pod_namespace }
    }

    /// # Errors
    /// When the cluster cannot be asked or has no end for tunnels.
    pub(super) async fn current(&self) -> Result<End, Failure> {
        let view = self.watch.look_or_remember().await;
        let view = view.map_err(|error| {
            let is_forbidden = matches!(error, ViewError::Api { is_forbidden: true, .. });
            Failure::of_cluster(is_forbidden, error.to_string())
        })?;
        let end = tunnel_end(&view).map_err(|error| Failure::new("no-tunnel", error.to_string()))?;
        let resolver = view.resolver.ok_or_else(|| {
            Failure::new("no-tunnel", "the cluster has no service kube-dns in namespace kube-system for clients' names")
        })?;
        Ok(End {
            networks: self.networks(&view, &end, resolver),
            public_key: end.public_key,
            endpoint: end.endpoint,
            gateway: end.gateway,
            resolvers: vec![resolver],
        })
    }

    fn networks(&self, view: &ClusterView, end: &TunnelEnd, resolver: IpAddr) -> Networks {
        let mut networks = Networks::around(view, &end.node);
        // Our gateway tries the services itself; beside Kilo tier2 does.
        if end.gateway.is_none() {
            networks.trying.clone_from(&self.pod_namespace);
            if let (None, Some(host)) = (&self.pod_namespace, address_towards(resolver)) {
                networks.let_in(view, host);
            }
        }
        networks
    }
}

/// The address from which this host would connect to another; nothing is sent.
fn address_towards(other: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if other.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((other, DNS)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

const DNS: u16 = 53;

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::fetch::tests::{Behaviour, Fake};

    /// A cluster whose node has these annotations beside those of each tunnel's end. Its resolver is on this host.
    pub(crate) async fn cluster(annotations: impl Fn() -> Value + Send + Sync + 'static) -> Fake {
        Fake::start(move |path| {
            let mut all = json!({
                "kilo.squat.ai/key": "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=",
                "kilo.squat.ai/endpoint": "192.0.2.1:51820",
            });
            all.as_object_mut().unwrap().extend(annotations().as_object().unwrap().clone());
            let answer = match path.split('?').next().unwrap_or_default() {
                "/api/v1/nodes" => json!({"metadata": {}, "items": [{
                    "metadata": {"name": "edge", "annotations": all},
                    "status": {"addresses": [
                        {"type": "InternalIP", "address": "192.0.2.1"},
                        {"type": "InternalIP", "address": "2001:db8::1"},
                    ]},
                }]}),
                "/api/v1/namespaces/kube-system/services/kube-dns" => {
                    json!({"metadata": {"name": "kube-dns"}, "spec": {"clusterIP": "127.0.0.1"}})
                }
                path if path.ends_with("/endpointslices") => json!({"metadata": {}, "items": []}),
                _ => return Behaviour::Refuses(404),
            };
            Behaviour::Answers(answer.to_string())
        })
        .await
    }

    async fn networks(annotations: Value, pod_namespace: Option<&str>) -> Networks {
        let api = cluster(move || annotations.clone()).await;
        let ends = Ends::new(ClusterWatch::new(api.client()), pod_namespace.map(str::to_owned));
        ends.current().await.unwrap().networks
    }

    #[tokio::test]
    async fn missing_rights_are_no_outage() {
        for (status, code) in [(403, "cluster-refuses"), (503, "cluster-unreachable")] {
            let api = Fake::start(move |_| Behaviour::Refuses(status)).await;
            let failure = Ends::new(ClusterWatch::new(api.client()), None).current().await.unwrap_err();
            assert_eq!(failure.code, code, "{failure}");
        }
    }

    #[tokio::test]
    async fn who_tries_the_services_beside_kilo_is_let_in() {
        let ours = json!({"findcloudlet.org/gateway": "http://192.0.2.1:51821"});
        let shown = |networks: &Networks| {
            let sources: Vec<_> = networks.sources.iter().map(ToString::to_string).collect();
            (sources.join(" "), networks.trying.clone())
        };
        let of_gateway = "192.0.2.1/32 2001:db8::1/128".to_owned();
        let found = networks(ours.clone(), None).await;
        assert_eq!(shown(&found), (of_gateway.clone(), None), "our gateway tries them itself");
        assert_eq!(networks(ours, Some("sinfonia")).await, found);

        let in_pod = networks(json!({}), Some("sinfonia")).await;
        assert_eq!(shown(&in_pod), (of_gateway.clone(), Some("sinfonia".to_owned())));
        let on_host = networks(json!({}), None).await;
        assert_eq!(shown(&on_host), (format!("{of_gateway} 127.0.0.1/32"), None));
    }
}
