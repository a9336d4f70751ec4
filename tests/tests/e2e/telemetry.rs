//! What the programs export is what `docs/telemetry.md` says, both ways.

use std::process::Command;

use sinfonia_tests::{Collector, Documented, Running, World, eventually, free_port, free_udp_port, program};

use crate::setup::{FETCH, Setup, ask, deployment_path, get, url};

/// The programs of this test, as the document calls them.
const PROGRAMS: [&str; 4] = ["tier1", "tier2", "tier2 local", "tier3"];

#[test]
fn what_is_exported_is_what_is_documented() {
    let collector = Collector::start();
    let world = World::new();
    world.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    world.set("OTEL_BSP_SCHEDULE_DELAY", "100");
    world.set("OTEL_METRIC_EXPORT_INTERVAL", "500");
    let application = world.add_page("seen").to_string();
    let broken = world.add_script("exit 3").to_string();
    let setup = Setup::with(world, &[]);

    // One that works, one that fails, one that nobody knows, and one that reports in vain and has its recipes from a URL.
    assert_eq!(setup.client(&[], &application, &FETCH).finish().code(), 0);
    assert_ne!(setup.client(&[], &broken, &FETCH).finish().code(), 0);
    assert_eq!(ask("GET", &(url(&setup.tier1) + "/nowhere")).0, 404);
    let path = deployment_path(&setup.world, &application);
    let (recipes, away) = (serve_recipes(&setup.world), format!("http://127.0.0.1:{}", free_port()));
    let remote = remote_cloudlet(&setup.world, &recipes.1, &away);
    let other = other_tier1(&setup.world, &recipes.1);
    for server in [&remote, &other] {
        assert_ne!(ask("POST", &(url(server) + &path)).0, 404);
    }

    let documented = Documented::read();
    let mut unseen = Vec::new();
    eventually("everything is exported", || {
        unseen = documented.unseen(&collector, &PROGRAMS);
        if unseen.len() < 4 {
            eprintln!("not yet: {unseen:#?}");
        }
        unseen.is_empty()
    });
    let undocumented = documented.undocumented(&collector);
    assert!(undocumented.is_empty(), "{undocumented:#?}");

    for (server, program) in [(&setup.tier1, "tier1"), (&setup.tier2, "tier2")] {
        let text = get(&(url(server) + "/metrics"));
        let undocumented = documented.undocumented_in_text(program, &text);
        assert!(undocumented.is_empty(), "{program}: {undocumented:#?}");
        for row in documented.metrics.iter().filter(|row| row.of.iter().any(|of| of == program)) {
            assert!(text.contains(&format!("# TYPE {} ", row.prometheus)), "{program}: no {}", row.prometheus);
        }
    }
}

/// The world's recipes by HTTP.
fn serve_recipes(world: &World) -> (Running, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new("busybox");
    command.args(["httpd", "-f", "-p", &address, "-h"]).arg(world.path("recipes"));
    let server = world.start(command);
    eventually("recipes are served", || std::net::TcpStream::connect(&address).is_ok());
    (server, format!("http://{address}/"))
}

fn remote_cloudlet(world: &World, recipes: &str, tier1: &str) -> Running {
    let port = free_port();
    let mut command = Command::new(program("sinfonia-tier2"));
    command.args(["--driver", "local", "--recipes", recipes, "--tier1-url", tier1, "--tunnel-endpoint", "127.0.0.1"]);
    command.args(["--port", &port.to_string(), "--tier2-url", &format!("http://127.0.0.1:{port}")]);
    command.args(["--tunnel-port", &free_udp_port().port().to_string(), "--state-directory"]).arg(world.path("remote"));
    world.start(command)
}

/// One that could ask a cloudlet, so that it looks for the recipe.
fn other_tier1(world: &World, recipes: &str) -> Running {
    let mut command = Command::new(program("sinfonia-tier1"));
    command.args(["--port", "0", "--recipes", recipes]);
    world.start(command)
}
