//! A tier1 and a cloudlet that reports to it, ready for clients.

use std::net::SocketAddr;

use sinfonia_tests::{Relay, Running, World, eventually, free_udp_port};

/// A world with everything that a client needs, and a relay on the way into the tunnel.
pub(crate) struct Setup {
    pub(crate) tier1: Running,
    pub(crate) tier2: Running,
    pub(crate) relay: Relay,
    /// Where tier2 really listens for tunnels.
    pub(crate) tunnel: SocketAddr,
    // Last, so that its directory is removed when its programs have ended.
    pub(crate) world: World,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self::with(World::new(), &[])
    }

    /// With recipes that are already there, and options for tier2.
    pub(crate) fn with(world: World, options: &[&str]) -> Self {
        let tier1 = world.tier1(&[]);
        let tunnel = free_udp_port();
        let relay = Relay::to(tunnel);
        let tier2 = cloudlet(&world, "cloudlet", &url(&tier1), tunnel.port(), &relay, options);
        wait_for_cloudlets(&tier1, 1);
        Self { tier1, tier2, relay, tunnel, world }
    }

    pub(crate) fn tier1_url(&self) -> String {
        url(&self.tier1)
    }

    /// Starts the client for an application with this command.
    pub(crate) fn client(&self, options: &[&str], application: &str, command: &[&str]) -> Running {
        let url = self.tier1_url();
        let arguments: Vec<&str> =
            options.iter().copied().chain([url.as_str(), application]).chain(command.iter().copied()).collect();
        self.world.tier3(&arguments)
    }

    /// The deployments that the cloudlet has, as its metrics say.
    pub(crate) fn deployments(&self) -> usize {
        deployments(&self.tier2)
    }
}

/// A fetch of the backend's page by its name, quiet but for the page.
pub(crate) const FETCH: [&str; 7] = ["busybox", "wget", "-q", "-T", "10", "-O-", "http://helloworld/"];

/// Starts a cloudlet that tells clients to come through the relay. Its API port is chosen here, since the reports
/// need to name it.
pub(crate) fn cloudlet(
    world: &World,
    name: &str,
    tier1: &str,
    tunnel_port: u16,
    relay: &Relay,
    options: &[&str],
) -> Running {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (port, tunnel_port) = (port.to_string(), tunnel_port.to_string());
    let (own, endpoint) = (format!("http://127.0.0.1:{port}"), relay.address().to_string());
    let given = [
        "--port", &port, "--tunnel-port", &tunnel_port, "--tier1-url", tier1, "--tier2-url", &own,
        "--tunnel-endpoint", &endpoint, "--name", name,
    ];
    let arguments: Vec<&str> = given.iter().chain(options).copied().collect();
    world.tier2(name, &arguments)
}

pub(crate) fn url(server: &Running) -> String {
    format!("http://{}", server.listens())
}

/// Waits until tier1 knows this many cloudlets.
pub(crate) fn wait_for_cloudlets(tier1: &Running, count: usize) {
    let list = format!("{}/api/v1/cloudlets/", url(tier1));
    eventually("tier1 lists the cloudlets", || {
        let answer: serde_json::Value = serde_json::from_str(&get(&list)).unwrap();
        answer.as_array().is_some_and(|cloudlets| cloudlets.len() == count)
    });
}

pub(crate) fn get(url: &str) -> String {
    ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap()
}

/// How many deployments a cloudlet's metrics count, whatever their state.
pub(crate) fn deployments(tier2: &Running) -> usize {
    let metrics = get(&format!("{}/metrics", url(tier2)));
    let lines = metrics.lines().filter(|line| line.starts_with("sinfonia_deployments"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as usize
}
