//! A tier1 and a local cloudlet, ready for clients.

use std::fs;

use sinfonia_tests::{Running, World};
use uuid::Uuid;

/// What clients need.
pub(crate) struct Scene {
    /// URL of tier1.
    pub(crate) url: String,
    /// The application: a page.
    pub(crate) application: Uuid,
    _tiers: [Running; 2],
    // Last, so that its directory is removed when its programs have ended.
    pub(crate) world: World,
}

impl Scene {
    /// Starts the tiers.
    pub(crate) fn new() -> Self {
        let world = World::new();
        let application = world.add_page("<h1>Here</h1>");
        let tier2 = world.tier2("cloudlet", &["--tunnel-endpoint", "127.0.0.1"]);
        let tier1 = tier1(&world, "cloudlets.yaml", &format!("endpoint: http://{}/api/v1/deploy\n", tier2.listens()));
        Self { url: url(&tier1), application, _tiers: [tier1, tier2], world }
    }
}

/// Starts a tier1 that knows these cloudlets, given as YAML and kept in a file of this name.
pub(crate) fn tier1(world: &World, file: &str, cloudlets: &str) -> Running {
    let path = world.path(file);
    fs::write(&path, cloudlets).unwrap();
    world.tier1(&["--cloudlets", path.to_str().unwrap()])
}

/// Where a server is.
pub(crate) fn url(server: &Running) -> String {
    format!("http://{}", server.listens())
}
