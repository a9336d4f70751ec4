//! How the client ends: as its application does, or with a status of its own and a message that says what to do.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use sinfonia_tests::{Running, World, eventually, program};

use crate::setup::{Alone, Setup, url};

#[test]
fn the_applications_status_is_the_clients() {
    let world = World::new();
    let application = world.add_page("any").to_string();
    let alone = Alone::with(world);
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
    {
        let client = alone.client(&application, &["sh", "-c", script]).finish();
        assert_eq!((client.code(), client.errors.as_str()), (code, ""), "{script}");
    }
    for (command, code) in [("no-such-command", 127), ("/no/such/command", 127), ("/etc/passwd", 126)] {
        let client = alone.client(&application, &[command]).finish();
        assert_eq!(client.code(), code, "{command}: {}", client.errors);
        assert!(client.errors.contains(command), "{}", client.errors);
    }
}

#[test]
fn each_failure_has_a_status_and_words_of_its_own() {
    let world = World::new();
    let page = world.add_page("any").to_string();
    let missing = world.add_recipe(
        "chart: none\nversion: 0.1.0\nlocal: {command: [no-such-backend], port: 80, service: helloworld}\n",
    );
    let dying = world.add_script("echo my last words; exit 3");
    let (missing, dying) = (missing.to_string(), dying.to_string());
    let unknown = uuid::Uuid::new_v4().to_string();
    let setup = Setup::with(world, &[]);
    setup.relay.drop_all(true);
    let (tier1, empty) = (setup.tier1_url(), setup.world.tier1(&[]));
    let (empty, nobody, silent) = (url(&empty), free_url(), setup.relay.address().to_string());

    let cases: &[(&[&str], i32, &[&str])] = &[
        (&[], 2, &["tier1-url", "--help"]),
        (&["nonsense", &page, "true"], 2, &["`nonsense` is not a URL", "http://127.0.0.1:5000"]),
        (&["ftp://127.0.0.1", &page, "true"], 2, &["http://"]),
        (&[&tier1, "nonsense", "true"], 2, &["nonsense", "UUID", "helloworld"]),
        (&[&tier1, &page], 2, &["application to run is missing"]),
        (&["--results", "4", &tier1, &page, "true"], 2, &["--results", "1..=3"]),
        (&["--location", "91,0", &tier1, &page, "true"], 2, &["--location", "latitude 91", "-90..90"]),
        (&[&nobody, &page, "true"], 68, &[&nobody, "refused", "Check the URL"]),
        (&["http://no-such-host.invalid", &page, "true"], 68, &["no-such-host.invalid", "Check the URL"]),
        (&[&empty, &page, "true"], 69, &[&empty, "no cloudlet is known", "Check that a cloudlet reports"]),
        (&[&tier1, &unknown, "true"], 70, &[&unknown, "no recipe", "recipe is installed"]),
        (&[&tier1, &missing, "true"], 70, &["no-such-backend", "not found"]),
        (&[&tier1, &dying, "true"], 70, &["my last words", "status 3"]),
        (&["--handshake-timeout", "0.5", &tier1, &page, "true"], 71, &[&silent, "handshake within", "UDP"]),
    ];
    let help = setup.world.tier3(&["--help"]).finish().output;
    let documented: BTreeSet<i32> =
        help.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    for (arguments, code, words) in cases {
        let begun = Instant::now();
        let client = setup.world.tier3(arguments).finish();
        assert_eq!(client.code(), *code, "{arguments:?}: {}", client.errors);
        for word in *words {
            assert!(client.errors.contains(word), "{arguments:?}: {word:?} is not in: {}", client.errors);
        }
        assert!(documented.contains(code), "{code} is not in {documented:?}");
        assert!(*code != 68 || begun.elapsed() < Duration::from_secs(5), "{arguments:?} took {:?}", begun.elapsed());
    }
    assert!([73, 74, 77, 126, 127].iter().all(|code| documented.contains(code)), "{documented:?}");
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let world = World::new();
    let application = world.add_page("any").to_string();
    let alone = Alone::with(world);
    let mut command = Command::new(program("sinfonia-tier3"));
    command.args(["--config-debug", &alone.url(), &application]).current_dir("/proc");
    let client = alone.world.start(command).finish();
    assert_eq!(client.code(), 73, "{}", client.errors);
    assert!(client.errors.contains("wg.conf") && client.errors.contains("may write"), "{}", client.errors);
}

#[test]
fn where_namespaces_are_not_allowed_it_says_what_to_enable() {
    let world = World::new();
    let application = world.add_page("any").to_string();
    let alone = Alone::with(world);
    let forbid =
        "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--map-current-user", "--keep-caps", "sh", "-c", forbid, "sh"]);
    command.arg(program("sinfonia-tier3")).args([&alone.url(), &application, "true"]);
    let client = alone.world.start(command).finish();
    assert_eq!(client.code(), 77, "{}", client.errors);
    for word in ["user, network", "kernel.unprivileged_userns_clone=1", "user.max_user_namespaces", "root"] {
        assert!(client.errors.contains(word), "{}", client.errors);
    }
}

#[test]
fn signals_reach_the_application() {
    let world = World::new();
    let application = world.add_page("any").to_string();
    let alone = Alone::with(world);
    let names = ["INT", "HUP", "USR1", "USR2", "QUIT"];
    let traps: String = names.iter().map(|name| format!("trap 'echo got {name}' {name}; ")).collect();
    let script =
        format!("{traps} trap 'echo got TERM; exit 3' TERM; sleep infinity & echo ready; while :; do wait; done");
    // Whoever starts the tests in the background has some signals ignored.
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(program("sinfonia-tier3"));
    command.args([&alone.url(), &application, "bash", "-c", &script]);
    let client = alone.world.start(command);
    eventually("the application runs", || client.output() == "ready\n");
    for name in names.into_iter().chain(["TERM"]) {
        client.signal(name);
        eventually(name, || client.output().ends_with(&format!("got {name}\n")));
    }
    assert_eq!(client.finish().code(), 3);
}

#[test]
fn ended_before_the_application_runs_it_leaves_nothing() {
    let world = World::new();
    let page = world.add_page("any").to_string();
    let never_ready = world.add_script("exec busybox sleep 1000").to_string();
    let setup = Setup::with(world, &[]);
    setup.relay.drop_all(true);
    let deployed = |client: &Running| drop(client.wait_for_log(&["deployed", "count=1"]));
    let deploying = |_: &Running| eventually("it is being deployed", || setup.deployments() == 1);
    let stages = [(&never_ready, &deploying as &dyn Fn(&Running)), (&page, &deployed)];
    for (application, reached) in stages {
        let options = ["--debug", "--release", "--handshake-timeout", "600"];
        let client = setup.client(&options, application, &["echo", "never"]);
        reached(&client);
        client.signal("TERM");
        let group = client.pid();
        let client = client.finish();
        assert_eq!((client.code(), client.output.as_str()), (143, ""), "{}", client.errors);
        setup.world.wait_until_gone("the client", &[group]);
        eventually("the deployment is released", || setup.deployments() == 0);
    }
}

/// An address at which nobody listens: it was free a moment ago.
fn free_url() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}
