//! What a client can reach through its tunnel: its own backend. Whatever it must not reach is there and answers others.

use std::process::Command;

use serde_json::Value;
use sinfonia_tests::cluster::{Cluster, NAMESPACE, node_address, url};
use sinfonia_tests::{Running, eventually};

/// The client's own backend.
const OWN: &str = "helloworld:80";

/// Tries targets, its arguments, all at the same time, and says of each whether a connection was made.
const TRY: &str = r#"for target; do
    if busybox nc -w 3 "${target%:*}" "${target##*:}" -e true 2>/dev/null; then echo "reached $target"; else echo "lost $target"; fi &
done; wait; echo round"#;

/// A port that another client serves inside its own tunnel.
const CLIENTS_PORT: u16 = 9000;

#[test]
fn a_client_reaches_its_own_backend_and_nothing_else() {
    let cluster = Cluster::new();
    let tier2 = cluster.tier2(&[]);
    let neighbours = Neighbours::move_in(&cluster, &url(&tier2));

    let round = neighbours.client("anna", TRY).finish();
    assert_eq!(round.code(), 0, "{}\n{}", round.errors, tier2.log());
    for target in &neighbours.forbidden {
        assert!(round.output.contains(&format!("lost {target}\n")), "{target}: {}", round.output);
    }
    assert!(round.output.contains(&format!("reached {OWN}\n")), "the trial itself does not work: {}", round.output);
}

#[test]
fn nor_does_it_while_the_gateway_restarts() {
    let cluster = Cluster::new();
    let tier2 = cluster.tier2(&[]);
    let neighbours = Neighbours::move_in(&cluster, &url(&tier2));

    // One round follows the other, so that some of each target's tries are made while there is no gateway.
    let script = format!("until [ -e stop ]; do {TRY}; done");
    let client = neighbours.client("anna", &script);
    let rounds = |client: &Running| client.output().matches("round\n").count();
    eventually("it reaches its backend", || client.output().contains(&format!("reached {OWN}\n")));
    let pod = |cluster: &Cluster| {
        let pods = cluster.list("pods", &["-n", NAMESPACE, "-l", "app.kubernetes.io/name=sinfonia-gateway"]);
        pods.into_iter().next().filter(is_ready).map(|pod| text(&pod["metadata"]["uid"]))
    };
    let old = pod(&cluster).unwrap();
    cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", "-l", "app.kubernetes.io/name=sinfonia-gateway"]);
    eventually("another gateway is ready", || pod(&cluster).is_some_and(|uid| uid != old));
    let seen = client.output().len();
    eventually("it reaches its backend again", || client.output()[seen..].contains(&format!("reached {OWN}\n")));
    let after = rounds(&client);
    eventually("a last round", || rounds(&client) > after);
    std::fs::write(cluster.world.path("home-anna").join("stop"), "").unwrap();

    let output = client.finish().output;
    for target in &neighbours.forbidden {
        assert!(!output.contains(&format!("reached {target}\n")), "{target}: {output}");
        assert!(output.contains(&format!("lost {target}\n")), "{target}: {output}");
    }
}

/// Everything around one client.
struct Neighbours<'a> {
    cluster: &'a Cluster,
    url: String,
    application: String,
    /// Host and port of each that a client must not reach, all of which answer others.
    forbidden: Vec<String>,
    // They listen as long as they are here.
    _witness: Witness<'a>,
    _clients: Vec<Running>,
}

impl<'a> Neighbours<'a> {
    fn move_in(cluster: &'a Cluster, url: &str) -> Self {
        let nodes = cluster.list("nodes", &[]);
        let gateway =
            nodes.iter().find(|node| node["metadata"]["annotations"]["kilo.squat.ai/key"].is_string()).unwrap();
        let witness = Witness::on(cluster, &text(&gateway["metadata"]["name"]));
        let mut targets = vec![witness.service()];
        targets.extend(nodes.iter().flat_map(|node| node_ports(node, witness.node_port())));
        targets.extend(cluster_ports(cluster, gateway));

        let (mut clients, mut tunnels) = (vec![], vec![]);
        for node in &nodes {
            let name = text(&node["metadata"]["name"]);
            let values = format!("values: {{nodeSelector: {{kubernetes.io/hostname: {name}}}}}");
            let application = cluster.add_chart("helloworld", &values);
            let client = other_client(cluster, url, &name, &application);
            let namespace =
                cluster.list("namespaces", &["-l", &format!("findcloudlet.org/uuid={application}")]).remove(0);
            targets.extend(backend_ports(cluster, &text(&namespace["metadata"]["name"])));
            tunnels
                .push(format!("{}:{CLIENTS_PORT}", text(&namespace["metadata"]["labels"]["findcloudlet.org/client"])));
            clients.push(client);
        }
        for (client, tunnel) in clients.iter().zip(&tunnels) {
            eventually("the other client listens", || client.output().contains(&format!("reached {tunnel}\n")));
        }
        witness.reaches(&targets);
        targets.extend(tunnels);
        let application = cluster.add_chart("helloworld", "");
        let url = url.to_owned();
        Self { cluster, url, application, forbidden: targets, _witness: witness, _clients: clients }
    }

    /// A client that runs the script with its own backend and everything else as arguments.
    fn client(&self, who: &str, script: &str) -> Running {
        let mut arguments = vec![self.url.as_str(), &self.application, "sh", "-c", script, "sh", OWN];
        arguments.extend(self.forbidden.iter().map(String::as_str));
        self.cluster.tier3(who, &arguments)
    }
}

/// A client that serves something at its address in the tunnel, and has tried that this works.
fn other_client(cluster: &Cluster, url: &str, who: &str, application: &str) -> Running {
    let script = format!(
        "(busybox httpd -f -p {CLIENTS_PORT} &); set -- \"$(hostname -I | tr -d ' '):{CLIENTS_PORT}\"; {TRY}; exec busybox sleep 1000"
    );
    let client = cluster.tier3(who, &[url, application, "sh", "-c", &script]);
    eventually("another client's tunnel", || client.output().contains("round\n"));
    client
}

/// The kubelet, kube-proxy, a service's port, and the API server or the gateway where they are.
fn node_ports(node: &Value, node_port: u64) -> Vec<String> {
    let mut ports = vec![10250, 10256, node_port];
    if node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"].is_string() {
        ports.push(6443);
    }
    if node["metadata"]["annotations"]["findcloudlet.org/gateway"].is_string() {
        ports.push(51821);
    }
    ports.iter().map(|port| format!("{}:{port}", node_address(node))).collect()
}

/// What the cluster has for itself.
fn cluster_ports(cluster: &Cluster, gateway: &Value) -> Vec<String> {
    let service = |namespace, name| {
        let services = cluster.list("services", &["-n", namespace]);
        let service = services.iter().find(|service| service["metadata"]["name"] == name).unwrap();
        text(&service["spec"]["clusterIP"])
    };
    let resolvers = cluster.list("pods", &["-n", "kube-system", "-l", "k8s-app=kube-dns"]);
    let mut targets = vec![
        format!("{}:443", service("default", "kubernetes")),
        "kubernetes.default.svc.cluster.local:443".to_owned(),
        // The resolver may be asked for names, not for its figures.
        format!("{}:9153", service("kube-system", "kube-dns")),
        "169.254.169.254:80".to_owned(),
        // The gateway's node, as its pods see it.
        format!("{}:10250", text(&gateway["spec"]["podCIDR"]).replace(".0/24", ".1")),
    ];
    targets.extend(resolvers.iter().map(|pod| format!("{}:9153", text(&pod["status"]["podIP"]))));
    targets
}

/// Another client's backend: its pod, its service, and the service's name.
fn backend_ports(cluster: &Cluster, namespace: &str) -> Vec<String> {
    let pod = cluster.list("pods", &["-n", namespace]).remove(0);
    let service = cluster.list("services", &["-n", namespace]).remove(0);
    vec![
        format!("{}:8080", text(&pod["status"]["podIP"])),
        format!("{}:80", text(&service["spec"]["clusterIP"])),
        format!("helloworld.{namespace}.svc.cluster.local:80"),
    ]
}

/// A namespace that is nobody's deployment, with a pod that may reach everything, and the provider's metadata service
/// on the gateway's node.
struct Witness<'a>(&'a Cluster);

impl<'a> Witness<'a> {
    const NAMESPACE: &'static str = "sinfonia-witness";

    fn on(cluster: &'a Cluster, node: &str) -> Self {
        // An earlier test may have left it.
        cluster.kubectl(&["delete", "namespace", Self::NAMESPACE, "--ignore-not-found"]);
        cluster.apply(&include_str!("witness.yaml").replace("NODE", node));
        cluster.kubectl(&["-n", Self::NAMESPACE, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
        Self(cluster)
    }

    fn run(&self, script: &str, arguments: &[&str]) -> String {
        let command = ["-n", Self::NAMESPACE, "exec", "witness", "--", "sh", "-c", script, "sh"];
        self.0.kubectl(&[&command, arguments].concat())
    }

    fn service(&self) -> String {
        format!("witness.{}.svc.cluster.local:80", Self::NAMESPACE)
    }

    fn node_port(&self) -> u64 {
        self.0.list("services", &["-n", Self::NAMESPACE])[0]["spec"]["ports"][0]["nodePort"].as_u64().unwrap()
    }

    /// Waits until it reaches all of these.
    fn reaches(&self, targets: &[String]) {
        let arguments: Vec<&str> = targets.iter().map(String::as_str).collect();
        let mut lost = String::new();
        eventually("the witness reaches every target", || {
            lost = self.run(TRY, &arguments);
            !lost.contains("lost ")
        });
    }
}

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        let mut delete = Command::new("kubectl");
        let _ = delete.args(["delete", "namespace", Self::NAMESPACE, "--wait=false"]).output();
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
