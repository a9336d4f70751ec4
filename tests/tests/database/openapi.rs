//! Whatever the OpenAPI document allows, and what it does not, is answered as the document says.

use std::fs;
use std::process::Command;

use sinfonia_tests::{Postgres, World, program};

/// Names the program that asks.
const ASKER: &str = "SINFONIA_SCHEMATHESIS";
/// Of each operation.
const EXAMPLES: &str = "60";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,unsupported_method";
/// Without a network no name is resolved and no cloudlet can be had (503), and who claims that a request went in a circle
/// is told so (508). Nothing else is the server's fault.
const SETTINGS: &str = "[checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", 503, 508]\n";
/// In a network of its own: cloudlets that are made up may be at any address. Postgres is reached by its socket.
const SCRIPT: &str = r#"
    ip link set lo up
    "$TIER1" --port 5000 --insecure-open --rate-limit 0 --recipes recipes --database-url "$DATABASE" &
    until busybox wget -q -O /dev/null http://127.0.0.1:5000/readyz; do busybox usleep 50000; done
    "$@"
    status=$?
    kill $!
    exit $status
"#;

#[test]
fn nothing_that_may_be_asked_breaks_it() {
    let asker = std::env::var(ASKER).unwrap_or_else(|_| panic!("{ASKER} has to name schemathesis"));
    let world = World::new();
    world.add_page("never deployed");
    let sockets = world.path("sockets");
    fs::create_dir(&sockets).unwrap();
    let sockets = sockets.to_str().unwrap();
    let postgres = Postgres::start(&world, "postgres", &[&format!("unix_socket_directories={sockets}")]);
    let database = format!("postgres://sinfonia@localhost:{}/postgres?host={sockets}", postgres.port());
    fs::write(world.path("schemathesis.toml"), SETTINGS).unwrap();

    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", SCRIPT, "sh", &asker]);
    command.args(["--config-file", "schemathesis.toml", "run", "http://127.0.0.1:5000/api/openapi.json"]);
    command.args(["--seed", "1", "--max-examples", EXAMPLES, "--request-timeout", "30", "--no-color"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all", "--checks", CHECKS]);
    command.env("TIER1", program("sinfonia-tier1")).env("DATABASE", database);
    command.current_dir(world.path(""));
    let asked = world.start(command).finish();
    assert_eq!(asked.code(), 0, "{}\n{}", asked.output, asked.errors);
    let told = |what: &str| asked.output.lines().find_map(|line| line.trim().strip_prefix(what)).map(str::trim);
    let (selected, tested) = (told("Selected:").unwrap(), told("Tested:").unwrap());
    assert_eq!(selected, format!("{tested}/{tested}"), "{}", asked.output);
}
