//! Wrong input of every kind, through the real programs: each is refused with a status and words of its own.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use sinfonia_tests::{Finished, World, program};
use sinfonia_wire::PublicKey;
use ureq::http::Request;

use crate::setup::{Alone, Setup, ask, send, url};

/// A key whose standard base64 holds `/` and `+`, at its beginning too.
const KEY: &str = "//7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtW/QE=";

#[test]
fn a_key_is_the_same_client_in_every_form() {
    let world = World::new();
    let application = world.add_page("any").to_string();
    let setup = Setup::with(world, &[]);
    let key: PublicKey = KEY.parse().unwrap();
    let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let unpadded = KEY.trim_end_matches('=').to_owned();
    let forms = [
        KEY.to_owned(),
        KEY.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D"),
        format!("{unpadded}/"),
        unpadded,
        key.url_safe(),
        format!("{}=", key.url_safe()),
        hex.to_uppercase(),
        hex,
    ];
    let mut names = Vec::new();
    for server in [setup.tier1_url(), url(&setup.tier2)] {
        for form in &forms {
            let (status, body) = ask("POST", &format!("{server}/api/v1/deploy/{application}/{form}"));
            assert_eq!((status, &body[0]["ApplicationKey"]), (200, &KEY.into()), "{form}: {body}");
            names.push(body[0]["DeploymentName"].clone());
        }
    }
    names.dedup();
    assert_eq!((names.len(), setup.deployments()), (1, 1), "{names:?}");
}

#[test]
fn malformed_names_keys_and_recipes_are_told_apart() {
    let world = World::new();
    let page = world.add_page("any").to_string();
    let unknown = uuid::Uuid::new_v4().to_string();
    let recipe = |text: &str| world.add_recipe(text).to_string();
    let no_yaml = recipe("chart: [");
    let no_version = recipe("chart: a\n");
    let no_port = recipe("chart: a\nversion: 0.1.0\nlocal: {command: [id], port: 65536, service: a}\n");
    let outside = recipe("chart: ../../etc/passwd\nversion: 0.1.0\n");
    let absolute = recipe("chart: /etc/passwd\nversion: 0.1.0\n");
    let a_file = recipe("chart: file:///etc/passwd\nversion: 0.1.0\n");
    let not_local = recipe("chart: a\nversion: 0.1.0\n");
    let (short, long, no_hex) = (&KEY[1..], format!("{KEY}AAAA"), "g".repeat(64));
    let yaml = |recipe: &str| format!("{recipe}.yaml");

    let cases: &[(&str, &str, u16, &str, &[&str])] = &[
        ("helloworld", KEY, 400, "invalid-uuid", &["helloworld", "UUID"]),
        ("0", KEY, 400, "invalid-uuid", &["UUID"]),
        ("..%2F..%2Fetc%2Fpasswd", KEY, 400, "invalid-uuid", &["passwd"]),
        (&page, "abc", 400, "invalid-key", &["base64", "64 hex"]),
        (&page, short, 400, "invalid-key", &["base64 of 32 bytes"]),
        (&page, &long, 400, "invalid-key", &["48"]),
        (&page, &no_hex, 400, "invalid-key", &["hex"]),
        (&page, "..%2F..%2F..%2Fetc%2Fpasswd", 400, "invalid-key", &["key"]),
        (&unknown, KEY, 404, "unknown-recipe", &[&unknown]),
        (&no_yaml, KEY, 500, "invalid-recipe", &[&yaml(&no_yaml), "line 1"]),
        (&no_version, KEY, 500, "invalid-recipe", &[&yaml(&no_version), "version"]),
        (&no_port, KEY, 500, "invalid-recipe", &[&yaml(&no_port), "local.port", "line 3"]),
        (&outside, KEY, 500, "invalid-recipe", &[&yaml(&outside), "chart", "leave the recipe repository"]),
        (&absolute, KEY, 500, "invalid-recipe", &[&yaml(&absolute), "chart", "leave the recipe repository"]),
        (&a_file, KEY, 500, "invalid-recipe", &[&yaml(&a_file), "chart", "http, https and oci"]),
    ];
    let (tier1, tier2) = (world.tier1(&[]), world.tier2("cloudlet", &[]));
    for server in [url(&tier1), url(&tier2)] {
        for (application, key, status, code, words) in cases {
            let answer = ask("POST", &format!("{server}/api/v1/deploy/{application}/{key}"));
            assert_problem(&format!("{server} {application} {key}"), &answer, *status, code, words);
        }
        let answer = ask("POST", &format!("{server}/api/v1/deploy/../../../etc/passwd/{KEY}"));
        assert!(matches!(answer.0, 400 | 404), "{answer:?}");
    }
    let answer = ask("POST", &format!("{}/api/v1/deploy/{not_local}/{KEY}", url(&tier2)));
    assert_problem("no `local:`", &answer, 422, "recipe-not-supported", &["`local:`", "command, port and service"]);
    for name in ["..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", &unknown] {
        let answer = ask("GET", &format!("{}/api/v1/recipe/{name}/", url(&tier1)));
        assert_problem(name, &answer, 404, "unknown-recipe", &["there is no"]);
    }
}

#[test]
fn malformed_requests_to_tier1_say_what_is_wrong() {
    let world = World::new();
    let application = world.add_page("any").to_string();
    let tier1 = world.tier1(&[]);
    let api = format!("{}/api/v1", url(&tier1));
    let deploy = format!("{api}/deploy/{application}/{KEY}");
    let uuid = uuid::Uuid::new_v4();
    let endpoint = "http://127.0.0.1:1/api/v1/deploy";
    let too_long = json!({"uuid": uuid, "endpoint": endpoint, "labels": {"a": "b".repeat(300_000)}}).to_string();
    let report = |body: serde_json::Value| body.to_string();

    let reports: &[(String, u16, &str, &[&str])] = &[
        ("{".into(), 400, "invalid-body", &["not valid", "line 1"]),
        (report(json!({"endpoint": endpoint})), 400, "missing-uuid", &["uuid"]),
        (report(json!({"uuid": "7", "endpoint": endpoint})), 400, "invalid-body", &["UUID"]),
        (report(json!({"uuid": uuid})), 400, "invalid-body", &["endpoint"]),
        (report(json!({"uuid": uuid, "endpoint": "nonsense"})), 400, "invalid-body", &["nonsense", "not a URL"]),
        (report(json!({"uuid": uuid, "endpoint": "ftp://a"})), 400, "invalid-body", &["ftp://a", "http"]),
        (
            report(json!({"uuid": uuid, "endpoint": endpoint, "locations": [[91, 0]]})),
            400,
            "invalid-body",
            &["latitude 91", "-90..90"],
        ),
        (
            report(json!({"uuid": uuid, "endpoint": endpoint, "local_networks": ["10.0.0.0/33"]})),
            400,
            "invalid-body",
            &["10.0.0.0/33", "0..32"],
        ),
        (too_long, 413, "body-too-large", &["longer than", "bytes"]),
    ];
    for (body, status, code, words) in reports {
        let request = Request::post(format!("{api}/cloudlets/")).header("Content-Type", "application/json");
        let answer = send(request.body(body.as_str()).unwrap());
        assert_problem(&body[..body.len().min(100)], &answer, *status, code, words);
    }
    let answer = send(Request::post(format!("{api}/cloudlets/")).body("{}").unwrap());
    assert_problem("no content type", &answer, 415, "unsupported-media-type", &["application/json"]);

    for (query, location, code, words) in [
        ("results=0", "0,0", "invalid-query", ["results", "at least 1"]),
        ("results=x", "0,0", "invalid-query", ["results", "whole number"]),
        ("cloudlet=x", "0,0", "invalid-query", ["x", "UUID"]),
        ("", "91,0", "invalid-location", ["X-Location", "latitude 91"]),
        ("", "here", "invalid-location", ["X-Location", "here"]),
    ] {
        let request = Request::post(format!("{deploy}?{query}")).header("X-Location", location);
        assert_problem(query, &send(request.body(()).unwrap()), 400, code, &words);
    }
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let world = World::new();
    let write = |name: &str, text: &str| {
        fs::write(world.path(name), text).unwrap();
        world.path(name).display().to_string()
    };
    let good = "endpoint: http://127.0.0.1:1/api/v1/deploy";
    let north = write("north.yaml", &format!("{good}\n---\n{good}\nlocation: [91, 0]\n"));
    let no_url = write("no-url.yaml", "endpoint: nonsense\n");
    let no_yaml = write("no-yaml.yaml", &format!("{good}\n---\nname: [\n"));
    let read_only = write_protected(&world.path("read-only"));
    let holder = world.tier2("held", &[]);
    holder.listens();
    let (tcp, udp) = (TcpListener::bind("0.0.0.0:0").unwrap(), UdpSocket::bind("0.0.0.0:0").unwrap());
    let tcp = tcp.local_addr().unwrap().port().to_string();
    let udp = udp.local_addr().unwrap().port().to_string();

    let tier1: &[(&[&str], &[&str])] = &[
        (&["--cloudlets", &north], &[&north, "document 2", "location", "latitude 91", "-90..90"]),
        (&["--cloudlets", &no_url], &[&no_url, "document 1", "endpoint", "nonsense", "not a URL"]),
        (&["--cloudlets", &no_yaml], &[&no_yaml, "document 2", "line"]),
        (&["--cloudlets", "/no/such.yaml"], &["/no/such.yaml", "No such file"]),
        (&["--match", "nonsense"], &["nonsense", "network, location, random"]),
        (&["--port", &tcp], &[&tcp, "already in use", "--port"]),
    ];
    let tier2: &[(&str, &[&str], &[&str])] = &[
        ("state", &["--port", &tcp], &[&tcp, "already in use", "--port"]),
        ("state", &["--tunnel-port", &udp], &[&udp, "UDP", "already in use", "--tunnel-port"]),
        ("state", &["--location", "91,0"], &["--location", "latitude 91"]),
        ("state", &["--tier2-url", "nonsense"], &["--tier2-url", "nonsense", "URL"]),
        ("state", &["--tier1-url", "nonsense"], &["--tier1-url", "nonsense", "URL"]),
        ("read-only", &[], &[&read_only, "Permission denied", "--state-directory"]),
        ("held", &[], &["held", "in use by another", "--state-directory"]),
    ];
    for (options, words) in tier1 {
        assert_refused(&world.tier1(options).finish(), words);
    }
    for (state, options, words) in tier2 {
        assert_refused(&world.tier2(state, options).finish(), words);
    }
    for tier in ["sinfonia-tier1", "sinfonia-tier2"] {
        for (recipes, word) in [("/no/such/directory", "existing directory"), ("ftp://127.0.0.1/", "http(s)")] {
            let refused = world.start(with_recipes(tier, recipes, &world.path("other"))).finish();
            assert_refused(&refused, &["recipes", word]);
        }
    }
}

#[test]
fn a_full_state_directory_is_said_at_start_and_to_clients() {
    let world = World::new();
    let application = world.add_page("any").to_string();
    let start = |name: &str, prepare: &str| {
        fs::create_dir(world.path(name)).unwrap();
        let script = format!(
            "mount -t tmpfs -o size=64k,mode=0700 none \"$0\" && {prepare} \
             exec setpriv --inh-caps=-all --ambient-caps=-all \"$@\""
        );
        let mut command = Command::new("unshare");
        command.args(["--map-current-user", "--keep-caps", "--mount", "sh", "-c", &script]).arg(world.path(name));
        let tier2 = with_recipes("sinfonia-tier2", &world.path("recipes").to_string_lossy(), &world.path(name));
        world.start({
            command.arg(tier2.get_program()).args(tier2.get_args());
            command
        })
    };
    let full = start("full", "{ head -c 70000 /dev/zero >\"$0\"/filler 2>/dev/null || true; } &&").finish();
    assert_refused(&full, &["no space is left", "full/private-key", "--state-directory"]);

    let tier2 = start("filling", "");
    let deployment = format!("{}/api/v1/deploy/{application}/{KEY}", url(&tier2));
    let filler = format!("/proc/{}/root{}/filler", tier2.pid(), world.path("filling").display());
    assert_eq!(fs::write(&filler, [0; 70_000]).unwrap_err().kind(), ErrorKind::StorageFull);
    let answer = ask("POST", &deployment);
    assert_problem("full", &answer, 507, "state-directory-full", &["no space is left", "filling/deployments.json"]);
    assert_eq!(ask("GET", &deployment).0, 404, "what cannot be remembered is not made");
    fs::remove_file(&filler).unwrap();
    assert_eq!(ask("POST", &deployment).0, 200);
}

#[test]
fn a_recipe_from_elsewhere_runs_nothing_here() {
    let world = World::new();
    let recipes = serve("chart: a\nversion: 0.1.0\nlocal: {command: [id], port: 80, service: a}\n");
    let tier2 = world.start(with_recipes("sinfonia-tier2", &recipes, &world.path("state")));
    let application = uuid::Uuid::new_v4().to_string();
    let client = world.tier3(&[&url(&tier2), &application, "true"]).finish();
    assert_eq!(client.code(), 70, "{}", client.errors);
    for word in [recipes.as_str(), &application, "`local:`", "only a recipe from a local directory"] {
        assert!(client.errors.contains(word), "{word:?} is not in: {}", client.errors);
    }
}

#[test]
fn a_corrupt_key_is_replaced_with_a_warning() {
    let world = World::new();
    let application = world.add_page("any").to_string();
    let alone = Alone::with(world);
    let file = alone.world.path("home/.cache/sinfonia").join(&application);
    assert_eq!(alone.client(&application, &["true"]).finish().code(), 0);
    let good = fs::read_to_string(&file).unwrap();
    let mismatch =
        good.lines().find(|line| line.starts_with("private_key")).unwrap().to_owned() + "\npublic_key: " + KEY;
    for (text, mode, reason) in [
        ("", 0o600, "not YAML"),
        ("private_key: [", 0o600, "not YAML"),
        ("private_key: abc\npublic_key: abc\n", 0o600, "not YAML with `public_key` and `private_key` in base64"),
        (&mismatch, 0o600, "does not belong to its private key"),
        (&good, 0o644, "0644 instead of 0600"),
    ] {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let client = alone.client(&application, &["true"]).finish();
        assert_eq!(client.code(), 0, "{}", client.errors);
        for word in [&file.to_string_lossy(), "is replaced", reason] {
            assert!(client.errors.contains(word), "{word:?} is not in: {}", client.errors);
        }
        assert!(client.errors.lines().count() == 1 && !client.errors.contains("abc"), "{}", client.errors);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(alone.client(&application, &["true"]).finish().errors, "", "the new one is used");
    }
}

/// A server's command line with recipes from another place than the world's.
fn with_recipes(program_name: &str, recipes: &str, state: &Path) -> Command {
    let mut command = Command::new(program(program_name));
    command.args(["--port", "0", "--recipes", recipes]);
    if program_name == "sinfonia-tier2" {
        command.args(["--driver", "local", "--tunnel-port", "0", "--tunnel-endpoint", "127.0.0.1"]);
        command.arg("--state-directory").arg(state);
    }
    command
}

/// A directory that nobody without privileges can write to, as its path.
fn write_protected(path: &Path) -> String {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o500)).unwrap();
    path.display().to_string()
}

/// The URL of an HTTP server that answers everything with this text. Its thread ends with the test program.
fn serve(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/recipes", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", text.len());
            let _ = stream.write_all((head + text).as_bytes());
        }
    });
    url
}

fn assert_refused(finished: &Finished, words: &[&str]) {
    assert!(!finished.errors.contains("Caused by"), "as a program says it, not as a developer: {}", finished.errors);
    assert!(matches!(finished.code(), 1 | 2), "{}: {}", finished.code(), finished.errors);
    for word in words {
        assert!(finished.errors.contains(word), "{word:?} is not in: {}", finished.errors);
    }
}

fn assert_problem(what: &str, answer: &(u16, serde_json::Value), status: u16, code: &str, words: &[&str]) {
    let (answered, problem) = answer;
    assert_eq!((*answered, problem["code"].as_str()), (status, Some(code)), "{what}: {problem}");
    let detail = problem["detail"].as_str().unwrap();
    for word in words {
        assert!(detail.contains(word), "{what}: {word:?} is not in: {detail}");
    }
}
