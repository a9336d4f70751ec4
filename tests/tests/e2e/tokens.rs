//! Everybody asks everybody else for a token.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use sinfonia_tests::{Relay, World, eventually, free_udp_port, program};

use crate::setup::{FETCH, cloudlet, send, url};

/// Makes a token and returns the file that holds it.
fn create(world: &World, arguments: &[&str]) -> String {
    let mut command = Command::new(program("sinfonia-tier1"));
    command.args(["token", "create", "--tokens-file"]).arg(world.path("tokens.yaml")).args(arguments);
    let made = world.start(command).finish();
    assert_eq!(made.code(), 0, "{}", made.errors);
    write(world, arguments.last().unwrap(), &made.output)
}

fn write(world: &World, name: &str, token: &str) -> String {
    let path = world.path(name);
    fs::write(&path, token).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_page_is_fetched_where_everybody_asks_for_a_token() {
    let page = "for those who are known";
    let world = World::new();
    let application = world.add_page(page).to_string();
    let report = create(&world, &["--scope", "report", "--any-cloudlet", "--name", "cloudlet-token"]);
    let deploy = create(&world, &["--scope", "deploy", "--name", "client-token"]);
    let other = create(&world, &["--scope", "deploy", "--recipe", &application, "--name", "other-token"]);
    let tier1s = write(&world, "tier1-token", "between-tiers\n");
    let tokens = world.path("tokens.yaml");
    let tier1 = world.tier1(&["--tokens-file", tokens.to_str().unwrap(), "--cloudlet-token-file", &tier1s]);
    let (tunnel, base) = (free_udp_port(), url(&tier1));
    let relay = Relay::to(tunnel);
    let options = ["--tier1-token-file", &report, "--deploy-token-file", &tier1s];
    let tier2 = cloudlet(&world, "cloudlet", &base, tunnel.port(), &relay, &options);
    let list = |file: &str| {
        let token = fs::read_to_string(file).unwrap();
        let request = ureq::http::Request::get(format!("{base}/api/v1/cloudlets/"));
        send(request.header("authorization", format!("Bearer {}", token.trim())).body(()).unwrap())
    };
    eventually("the cloudlet's reports are taken", || list(&deploy).1.as_array().is_some_and(|all| all.len() == 1));

    let client = |options: &[&str], server: &str| {
        world.tier3(&[options, &[server, application.as_str()][..], &FETCH[..]].concat()).finish()
    };
    let fetched = client(&["--token-file", &deploy], &base);
    assert_eq!((fetched.code(), fetched.output.trim()), (0, page), "{}", fetched.errors);
    // The same key, so the same deployment, which is not theirs.
    let others = client(&["--token-file", &other], &base);
    assert!(others.code() == 70 && others.errors.contains("there is no such deployment"), "{}", others.errors);
    for server in [&base, &url(&tier2)] {
        let refused = client(&[], server);
        assert!(refused.code() == 70 && refused.errors.contains("--token-file"), "{}", refused.errors);
    }

    let logs = [tier1.log(), tier2.log(), fetched.errors];
    for file in [&report, &deploy, &other, &tier1s] {
        let token = fs::read_to_string(file).unwrap();
        assert!(!logs.iter().any(|log| log.contains(token.trim())), "a log holds the token of {file}");
        for (pid, name) in world.processes() {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&line).contains(token.trim()), "{name} has it on its command line");
        }
    }
}
