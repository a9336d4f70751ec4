//! What the program says and how it ends when there is no backend. No tunnel is made here.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::support::{Answer, HELLOWORLD, LIMIT, Stub, deployment, key_of, tier3};
use serde_json::json;

struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
    home: tempfile::TempDir,
}

async fn run(words: &[&str]) -> Ended {
    run_in(tempfile::tempdir().unwrap(), words).await
}

async fn run_in(home: tempfile::TempDir, words: &[&str]) -> Ended {
    let output = tokio::time::timeout(LIMIT, tier3(home.path()).args(words).output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr), home }
}

async fn assert_fails(answer: fn() -> Answer, status: i32, expected: &[&str]) {
    let stub = Stub::start(move |_| answer());
    let ended = run(&[&stub.url(), "helloworld", "true"]).await;
    assert_eq!(ended.status, status, "{}", ended.stderr);
    for text in expected {
        assert!(ended.stderr.contains(text), "{text:?} is not in {:?}", ended.stderr);
    }
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr.lines().count(), 2, "what failed and what to do: {:?}", ended.stderr);
}

#[tokio::test]
async fn each_answer_has_its_status_and_words() {
    assert_fails(|| Answer::json(&json!([])), 69, &["no cloudlet", "Check that a cloudlet reports"]).await;
    let none = || Answer::problem(404, &json!({"code": "no-cloudlet", "detail": "no cloudlet accepts 192.0.2.1"}));
    assert_fails(none, 69, &["no cloudlet accepts 192.0.2.1"]).await;
    let unknown = || Answer::problem(404, &json!({"code": "unknown-recipe", "detail": "there is no such recipe"}));
    assert_fails(unknown, 70, &["there is no such recipe"]).await;
    let failed = || {
        let failures = json!([{"cloudlet": "one", "detail": "connection refused"}]);
        Answer::problem(502, &json!({"code": "all-failed", "detail": "each failed", "failures": failures}))
    };
    assert_fails(failed, 70, &["each failed; one: connection refused (HTTP status 502)"]).await;
    assert_fails(|| Answer::Http(502, "text/html", "<html>".into()), 70, &["HTTP status 502"]).await;
    assert_fails(|| Answer::Http(200, "text/html", "<html>".into()), 70, &["not a JSON list"]).await;
    assert_fails(|| Answer::json(&json!([{"UUID": HELLOWORLD}])), 70, &["not a deployment"]).await;
    assert_fails(|| Answer::Raw("SSH-2.0-OpenSSH\r\n"), 70, &["did not deploy"]).await;
}

#[tokio::test]
async fn nobody_there_is_said_in_time() {
    let begun = Instant::now();
    // A port that nobody listens on: it was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, expected) in [
        (format!("http://{free}"), "connection refused"),
        ("http://no-such-host.invalid:5000".into(), "no-such-host.invalid"),
    ] {
        let ended = run(&[&url, "helloworld", "true"]).await;
        assert_eq!(ended.status, 68, "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
        assert!(ended.stderr.contains("Check the URL"), "{}", ended.stderr);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// A server that accepts connections only into its backlog, which is full.
#[tokio::test]
async fn a_black_hole_is_given_up_in_time() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _filling = std::net::TcpStream::connect(address).unwrap();
    let begun = Instant::now();
    let ended = run(&[&format!("http://{address}"), "helloworld", "true"]).await;
    assert_eq!(ended.status, 68, "{}", ended.stderr);
    assert!(ended.stderr.contains("no connection within 3 s"), "{}", ended.stderr);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_signal_ends_the_wait_for_an_answer() {
    let stub = Stub::start(|_| Answer::Silence);
    for (signal, status) in [(nix::sys::signal::SIGINT, 130), (nix::sys::signal::SIGTERM, 143)] {
        let home = tempfile::tempdir().unwrap();
        let before = stub.requests().len();
        let mut child = tier3(home.path()).args([&stub.url(), "helloworld", "true"]).spawn().unwrap();
        stub.requested(before + 1).await;
        let pid = nix::unistd::Pid::from_raw(child.id().unwrap().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
        let ended = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
        assert_eq!(ended.code(), Some(status));
    }
}

fn one_deployment() -> Stub {
    let cloudlet = "2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg/8YHRlHBcwV4=".parse().unwrap();
    Stub::start(move |head| Answer::json(&json!([deployment(key_of(head), cloudlet, "198.51.100.2:51820")])))
}

#[tokio::test]
async fn config_debug_writes_both_files_and_keeps_the_key() {
    let stub = one_deployment();
    let first = run(&["--config-debug", &stub.url(), "helloworld"]).await;
    assert_eq!((first.status, first.stderr.as_str()), (0, ""));
    let path = first.home.path().join("wg.conf");
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(written.contains("Endpoint = 198.51.100.2:51820\n"), "{written}");
    assert!(first.home.path().join("resolv.conf").exists());
    let cache = first.home.path().join(".cache/sinfonia").join(HELLOWORLD);
    let kept = std::fs::read_to_string(&cache).unwrap();
    let private = kept.lines().find_map(|line| line.strip_prefix("private_key: ")).unwrap();
    assert!(written.contains(private));

    let again = run_in(first.home, &["--config-debug", &stub.url(), HELLOWORLD]).await;
    assert_eq!(again.status, 0, "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(again.home.path().join("wg.conf")).unwrap(), written);
}

#[tokio::test]
async fn config_debug_says_where_it_cannot_write() {
    let stub = one_deployment();
    let home = tempfile::tempdir().unwrap();
    let output = tier3(home.path()).args(["--config-debug", &stub.url(), "helloworld"]).current_dir("/proc").output();
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(73));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write wg.conf"));
}

#[tokio::test]
async fn qr_codes_go_to_standard_output() {
    let stub = one_deployment();
    for style in ["compact", "alt"] {
        let ended = run(&["--qrcode", style, &stub.url(), "helloworld", "edu.cmu.cs.openrtist"]).await;
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
        assert!(ended.stdout.lines().count() > 20, "{}", ended.stdout);
    }
}

#[tokio::test]
async fn the_request_is_as_documented() {
    let stub = one_deployment();
    let url = format!("{}/some/path/", stub.url());
    let words = ["--location", "40.4,-79.9", "--results", "2", "--config-debug", &url, "helloworld"];
    assert_eq!(run(&words).await.status, 0);
    let head = stub.requests().remove(0);
    let line = head.lines().next().unwrap();
    assert!(line.starts_with(&format!("POST /some/path/api/v1/deploy/{HELLOWORLD}/")), "{line}");
    assert!(line.ends_with("?results=2 HTTP/1.1"), "{line}");
    let header = |name: &str| {
        let found =
            head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.to_owned())
    };
    assert_eq!(header("x-location").as_deref(), Some("40.4,-79.9"));
    let trace = header("traceparent").unwrap();
    assert!(trace.starts_with("00-") && trace.len() == 55, "{trace}");
}

#[tokio::test]
async fn a_broken_key_file_is_replaced_with_a_warning_that_hides_it() {
    let stub = one_deployment();
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join(".cache/sinfonia");
    std::fs::create_dir_all(&cache).unwrap();
    let secret = "private_key: notbase64butsecret\npublic_key: x\n";
    std::fs::write(cache.join(HELLOWORLD), secret).unwrap();
    std::fs::set_permissions(cache.join(HELLOWORLD), std::fs::Permissions::from_mode(0o600)).unwrap();
    let ended = run_in(home, &["--config-debug", &stub.url(), "helloworld"]).await;
    assert_eq!(ended.status, 0);
    assert!(ended.stderr.contains("is replaced"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
}

#[tokio::test]
async fn debug_output_holds_no_private_key() {
    let stub = one_deployment();
    let ended = run(&["--debug", "--config-debug", &stub.url(), "helloworld"]).await;
    let kept = std::fs::read_to_string(ended.home.path().join(".cache/sinfonia").join(HELLOWORLD)).unwrap();
    let private = kept.lines().find_map(|line| line.strip_prefix("private_key: ")).unwrap();
    assert!(ended.stderr.contains("deploy"), "{}", ended.stderr);
    assert!(!ended.stderr.contains(private.trim_end_matches('=')));
}

#[tokio::test]
async fn a_server_that_needs_another_address_is_named() {
    let stub =
        Stub::start(|_| Answer::Raw("HTTP/1.1 301 X\r\nLocation: https://t1.example/\r\nContent-Length: 0\r\n\r\n"));
    let ended = run(&[&stub.url(), "helloworld", "true"]).await;
    assert_eq!(ended.status, 70);
    assert!(ended.stderr.contains("redirects to https://t1.example/"), "{}", ended.stderr);
}

/// Runs the program after a script, in a user and mount namespace, and those of `flags`, where the script is root.
async fn run_after(flags: &[&str], script: &str, words: &[&str]) -> Ended {
    let home = tempfile::tempdir().unwrap();
    let program = tier3(home.path());
    let mut command = tokio::process::Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount"])
        .args(flags)
        .args(["sh", "-ec", script, "sh"])
        .arg(program.as_std().get_program());
    command.args(words).current_dir(home.path()).env_remove("XDG_CACHE_HOME").env("HOME", home.path());
    let output = tokio::time::timeout(LIMIT, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr), home }
}

#[tokio::test]
async fn a_full_cache_costs_a_warning() {
    let stub = one_deployment();
    let fill = "mkdir .cache; mount -t tmpfs -o size=8k none .cache; mkdir .cache/sinfonia; \
                chmod 700 .cache/sinfonia; cat /dev/zero > .cache/filler 2> /dev/null || true; exec \"$@\"";
    let ended = run_after(&[], fill, &["--config-debug", &stub.url(), "helloworld"]).await;
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    assert!(ended.stderr.contains("a key that is not kept"), "{}", ended.stderr);
    assert!(ended.home.path().join("wg.conf").exists());
}

#[tokio::test]
async fn where_namespaces_are_forbidden_it_says_what_to_enable() {
    let stub = one_deployment();
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set -all -- \"$@\"";
    let ended = run_after(&[], forbid, &["--release", &stub.url(), "helloworld", "true"]).await;
    assert_eq!(ended.status, 77, "{}", ended.stderr);
    for text in ["cannot make user, network, mount and PID namespaces", "max_user_namespaces", "run as root"] {
        assert!(ended.stderr.contains(text), "{}", ended.stderr);
    }
    // What was asked for meanwhile is not kept.
    assert!(stub.lines().iter().any(|line| line.starts_with("DELETE ")), "{:?}", stub.lines());
}

#[tokio::test]
async fn in_a_container_no_name_is_asked_of_the_tunnel_of_a_client_that_was_killed() {
    let script = r#"
        ip link set lo up
        printf '%s\n' '# sinfonia-tier3 puts this back when it ends:' '#| nameserver 127.0.0.1' \
            'nameserver 127.0.0.2' > resolv.conf
        mount --bind resolv.conf /etc/resolv.conf
        # Has the port when this goes on.
        perl -MIO::Socket::INET -e '
            my $socket = IO::Socket::INET->new(LocalAddr => "127.0.0.1:53", Proto => "udp") or die $!;
            exit if fork;
            alarm 10;
            $socket->recv(my $question, 999);
            open(my $asked, ">", "asked") or die $!;
        '
        exec "$@"
    "#;
    let ended = run_after(&["--net"], script, &["--sidecar", "http://tier1.test:5000", "helloworld"]).await;
    assert_eq!(ended.status, 68, "{}", ended.stderr);
    assert!(ended.home.path().join("asked").exists(), "{}", ended.stderr);
    let left = std::fs::read_to_string(ended.home.path().join("resolv.conf")).unwrap();
    assert_eq!(left, "nameserver 127.0.0.1\n");
}
