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

    /// The same, as another user with keys of their own; all clients after this one are theirs too.
    pub(crate) fn client_of(&self, user: &str, options: &[&str], application: &str, command: &[&str]) -> Running {
        self.world.set("XDG_CACHE_HOME", &self.world.path(user).to_string_lossy());
        self.client(options, application, command)
    }

    /// The deployments that the cloudlet has, as its metrics say.
    pub(crate) fn deployments(&self) -> usize {
        deployments(&self.tier2)
    }
}

/// A fetch of the backend's page by its name, quiet but for the page.
pub(crate) const FETCH: [&str; 8] =
    ["timeout", "--foreground", "10", "busybox", "wget", "-q", "-O-", "http://helloworld/"];

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
    world.cloudlet(name, tier1, tunnel_port, &relay.address().to_string(), options)
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

/// A cloudlet without a tier1, which clients ask themselves.
pub(crate) struct Alone {
    pub(crate) tier2: Running,
    pub(crate) world: World,
}

impl Alone {
    pub(crate) fn with(world: World) -> Self {
        let tier2 = world.tier2("cloudlet", &["--tunnel-endpoint", "127.0.0.1"]);
        Self { tier2, world }
    }

    pub(crate) fn url(&self) -> String {
        url(&self.tier2)
    }

    /// Starts the client for an application with this command.
    pub(crate) fn client(&self, application: &str, command: &[&str]) -> Running {
        self.world.tier3(&[&[self.url().as_str(), application], command].concat())
    }
}

/// A backend that serves a text of its own, another one each time it is started.
pub(crate) const IDENTITY: &str = "mkdir /tmp/site && cat /proc/sys/kernel/random/uuid > /tmp/site/index.html \
                                   && exec busybox httpd -f -p 80 -h /tmp/site";

/// A world with an application whose backend is [`IDENTITY`].
pub(crate) fn world_with_identity() -> (World, String) {
    let world = World::new();
    let application = world.add_script(IDENTITY).to_string();
    (world, application)
}

/// One more cloudlet for a tier1, with a relay of its own.
pub(crate) struct Cloudlet {
    pub(crate) tier2: Running,
    pub(crate) relay: Relay,
}

impl Cloudlet {
    pub(crate) fn start(world: &World, name: &str, tier1: &str, options: &[&str]) -> Self {
        let tunnel = free_udp_port();
        let relay = Relay::to(tunnel);
        Self { tier2: cloudlet(world, name, tier1, tunnel.port(), &relay, options), relay }
    }
}

/// A client that fetches the page, and once more, however often that takes, when it is told to.
pub(crate) struct Returning {
    client: Running,
    go: std::path::PathBuf,
}

impl Returning {
    pub(crate) fn start(setup: &Setup, options: &[&str], application: &str) -> Self {
        let go = setup.world.path("go");
        let script = format!(
            "timeout --foreground 10 busybox wget -q -O- http://helloworld/ || exit 1
             while [ ! -e {} ]; do busybox sleep 0.05; done
             until timeout --foreground 2 busybox wget -q -O- http://helloworld/; do busybox sleep 0.1; done",
            go.display()
        );
        let client = setup.client(options, application, &["sh", "-c", &script]);
        eventually("the client has the page", || client.output().ends_with('\n'));
        Self { client, go }
    }

    /// Both pages.
    pub(crate) fn again(self) -> [String; 2] {
        std::fs::write(&self.go, "").unwrap();
        let client = self.client.finish();
        std::fs::remove_file(&self.go).unwrap();
        assert_eq!(client.code(), 0, "{}", client.errors);
        let mut pages = client.output.lines().map(str::to_owned);
        [pages.next().unwrap(), pages.next().unwrap()]
    }
}

/// The path of the deployment that the client's key has, at tier1 and tier2.
pub(crate) fn deployment_path(world: &World, application: &str) -> String {
    let keys = std::fs::read_to_string(world.path("home/.cache/sinfonia").join(application)).unwrap();
    let key = keys.lines().find_map(|line| line.strip_prefix("public_key: ")).unwrap();
    let key: sinfonia_wire::PublicKey = key.trim_matches('\'').parse().unwrap();
    format!("/api/v1/deploy/{application}/{}", key.url_safe())
}

/// The status and the body, if it is JSON, of an answer to a request without a body.
pub(crate) fn ask(method: &str, url: &str) -> (u16, serde_json::Value) {
    send(ureq::http::Request::builder().method(method).uri(url).body(()).unwrap())
}

/// The same for any request.
pub(crate) fn send(request: ureq::http::Request<impl ureq::AsSendBody>) -> (u16, serde_json::Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.run(request).unwrap();
    let body = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), serde_json::from_str(&body).unwrap_or_default())
}
