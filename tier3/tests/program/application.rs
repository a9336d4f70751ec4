//! The application at the near end of a real tunnel. Needs namespaces and /dev/net/tun.

use std::process::{Output, Stdio};
use std::time::Duration;

use crate::support::{Answer, BACKEND, Cloudlet, HELLOWORLD, LIMIT, PAGE, Stub, deployment, key_of, tier1, tier3};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

async fn run(words: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    tokio::time::timeout(LIMIT, tier3(home.path()).args(words).output()).await.unwrap().unwrap()
}

/// Runs a shell script as the application.
async fn shell(stub: &Stub, options: &[&str], script: &str) -> Output {
    run(&[options, &[&stub.url(), "helloworld", "bash", "-c", script]].concat()).await
}

fn fetch() -> String {
    format!("exec 3<>/dev/tcp/{BACKEND}/80 && cat <&3")
}

#[tokio::test]
async fn the_page_comes_through_the_tunnel_and_nothing_else_is_said() {
    let stub = tier1().await;
    let output = shell(&stub, &[], &fetch()).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{PAGE}\n"));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stub.lines().len(), 1, "no release unless asked to: {:?}", stub.lines());
}

#[tokio::test]
async fn the_applications_end_is_the_programs() {
    let stub = tier1().await;
    for (script, status) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    {
        assert_eq!(shell(&stub, &[], script).await.status.code(), Some(status), "{script}");
    }
    let url = stub.url();
    let missing = run(&[&url, "helloworld", "no-such-program"]).await;
    assert_eq!(missing.status.code(), Some(127));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("no-such-program"));
    assert_eq!(run(&[&url, "helloworld", "/etc/passwd"]).await.status.code(), Some(126));
}

#[tokio::test]
async fn the_application_finds_a_clean_process_and_its_prompt() {
    let stub = tier1().await;
    let see = async |words: &[&str]| {
        let output = run(&[&[stub.url().as_str(), "helloworld"], words].concat()).await;
        String::from_utf8(output.stdout).unwrap()
    };
    // glibc's own way to start a process ignores signal 32, which is its own too.
    let signals = see(&["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]).await;
    assert_eq!(signals.replace("80000000", "00000000"), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    assert!(see(&["env"]).await.contains("PS1=sinfonia$ \n"));
    let resolver = see(&["cat", "/etc/resolv.conf"]).await;
    assert!(resolver.starts_with("nameserver 10.5.0.1\nsearch vertical-module.svc.cluster.local"), "{resolver}");
    let here = tokio::process::Command::new("ls").arg("/proc/self/fd").output().await.unwrap().stdout;
    assert_eq!(see(&["ls", "/proc/self/fd"]).await.as_bytes(), here, "no descriptor is left open");
}

#[tokio::test]
async fn signals_from_processes_reach_the_application() {
    let stub = tier1().await;
    // A shell may lose one that arrives while it parses.
    let script = r#"
        $| = 1;
        my $all = POSIX::SigSet->new;
        $all->fillset;
        sigprocmask(SIG_BLOCK, $all);
        for my $name ("INT", "USR1") { $SIG{$name} = sub { print "got $name\n" } }
        $SIG{TERM} = sub { print "got TERM\n"; exit 3 };
        print "ready\n";
        sigsuspend(POSIX::SigSet->new) while 1;
    "#;
    let home = tempfile::tempdir().unwrap();
    let mut child = tier3(home.path())
        .args([&stub.url(), "helloworld", "perl", "-MPOSIX", "-e", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut expect = async |expected: &str| {
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
        assert_eq!(line.as_deref(), Some(expected));
    };
    let pid = Pid::from_raw(child.id().unwrap().cast_signed());
    expect("ready").await;
    for (signal, answer) in [(Signal::SIGINT, "got INT"), (Signal::SIGUSR1, "got USR1"), (Signal::SIGTERM, "got TERM")]
    {
        kill(pid, signal).unwrap();
        expect(answer).await;
    }
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
}

#[tokio::test]
async fn a_kept_key_serves_one_run_and_a_second_run_cleans_up() {
    let stub = tier1().await;
    let home = tempfile::tempdir().unwrap();
    let first = || {
        let mut command = tier3(home.path());
        command.args([&stub.url(), "helloworld", "cat"]).stdin(Stdio::piped());
        command
    };
    let mut long = first().spawn().unwrap();
    // It asks with the key that it has kept.
    stub.requested(1).await;
    assert!(home.path().join(".cache/sinfonia").join(HELLOWORLD).exists());
    let second = tier3(home.path()).args([&stub.url(), "helloworld", "true"]).output().await.unwrap();
    assert_eq!((second.status.code(), second.stderr.len()), (Some(0), 0));
    drop(long.stdin.take());
    assert_eq!(long.wait().await.unwrap().code(), Some(0));
    let third = tier3(home.path()).args([&stub.url(), "helloworld", "true"]).output().await.unwrap();
    assert_eq!(third.status.code(), Some(0));

    let lines = stub.lines();
    let path = |line: &String| line.split(' ').nth(1).unwrap().to_owned();
    let methods: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(methods, ["POST", "POST", "DELETE", "POST"]);
    assert_ne!(path(&lines[0]), path(&lines[1]));
    assert_eq!(path(&lines[1]), path(&lines[2]), "nobody can come back with the second key");
    assert_eq!(path(&lines[0]), path(&lines[3]));
}

#[tokio::test]
async fn release_is_sent_on_leaving() {
    let stub = tier1().await;
    assert_eq!(shell(&stub, &["--release"], "exit 5").await.status.code(), Some(5));
    let lines = stub.lines();
    assert_eq!(lines[1].replace("DELETE", "POST"), lines[0], "{lines:?}");
}

#[tokio::test]
async fn of_three_deployments_the_one_that_answers_is_used_and_the_others_are_released() {
    let cloudlet = Cloudlet::start().await;
    // Takes datagrams and never answers.
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let deaf = deaf.local_addr().unwrap().to_string();
    let ids = ["7ab50e1e-8f4a-4c1e-9d2a-0a8f6c1f5a01", "7ab50e1e-8f4a-4c1e-9d2a-0a8f6c1f5a02"];
    let stub = Stub::start(move |head| {
        if head.starts_with("DELETE") {
            return Answer::Http(204, "text/plain", String::new());
        }
        let other = "2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg/8YHRlHBcwV4=".parse().unwrap();
        let mut silent = deployment(key_of(head), other, &deaf);
        silent["Cloudlet"] = ids[0].into();
        let mut broken = deployment(key_of(head), other, "no-such-host.invalid:51820");
        broken["Cloudlet"] = ids[1].into();
        Answer::json(&json!([silent, broken, cloudlet.deploy(key_of(head))]))
    });
    let output = shell(&stub, &["--results", "3"], &fetch()).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{PAGE}\n"));
    let mut released: Vec<_> =
        stub.lines()[1..].iter().map(|line| line.split_once("?cloudlet=").unwrap().1.to_owned()).collect();
    released.sort();
    assert_eq!(released, ids);
}

/// A cloudlet's answer with other client addresses and networks.
fn with_networks(mut deployment: serde_json::Value, addresses: &[&str], networks: &[&str]) -> serde_json::Value {
    deployment["TunnelConfig"]["address"] = json!(addresses);
    deployment["TunnelConfig"]["allowedIPs"] = json!(networks);
    deployment
}

#[tokio::test]
async fn the_network_of_the_address_may_be_all_that_is_allowed() {
    let cloudlet = Cloudlet::start().await;
    let stub = Stub::start(move |head| {
        Answer::json(&json!([with_networks(cloudlet.deploy(key_of(head)), &["10.5.0.2/16"], &["10.5.0.0/16"])]))
    });
    let output = shell(&stub, &[], &fetch()).await;
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{PAGE}\n"));
}

/// The kernel takes an IPv6 address only once.
const TWICE: [&str; 3] = ["10.5.0.2", "fd05::2/64", "fd05::2/128"];

#[tokio::test]
async fn of_three_deployments_one_that_cannot_be_configured_does_not_end_the_others() {
    let (good, bad) = (Cloudlet::start().await, Cloudlet::start().await);
    let stub = Stub::start(move |head| {
        let broken = with_networks(bad.deploy(key_of(head)), &TWICE, &["0.0.0.0/0"]);
        Answer::json(&json!([broken, broken, good.deploy(key_of(head))]))
    });
    let output = shell(&stub, &["--results", "3"], &fetch()).await;
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{PAGE}\n"));
}

#[tokio::test]
async fn a_deployment_that_cannot_be_configured_is_no_matter_of_firewalls() {
    let cloudlet = Cloudlet::start().await;
    let stub = Stub::start(move |head| {
        Answer::json(&json!([with_networks(cloudlet.deploy(key_of(head)), &TWICE, &["0.0.0.0/0"])]))
    });
    let output = shell(&stub, &[], "echo never").await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(71), 0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot add address fd05::2/128") && !said.contains("UDP"), "{said}");
}

#[tokio::test]
async fn without_an_answer_the_tunnel_is_given_up() {
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = deaf.local_addr().unwrap().to_string();
    let other = "2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg/8YHRlHBcwV4=".parse().unwrap();
    let stub = Stub::start(move |head| Answer::json(&json!([deployment(key_of(head), other, &endpoint)])));
    let output = shell(&stub, &["--handshake-timeout", "0.3"], "echo never").await;
    assert_eq!(output.status.code(), Some(71));
    assert_eq!(output.stdout, b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no answer from 127.0.0.1:") && said.contains("Check that UDP"), "{said}");
}

#[tokio::test]
async fn killing_the_program_ends_the_application() {
    let stub = tier1().await;
    let home = tempfile::tempdir().unwrap();
    let mut child = tier3(home.path())
        .args([&stub.url(), "helloworld", "bash", "-c", "echo ready; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut ready = [0; 6];
    output.read_exact(&mut ready).await.unwrap();
    child.kill().await.unwrap();
    // The pipe ends when the last process that could write into it is gone.
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), output.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"");
}
