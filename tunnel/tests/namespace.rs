//! Namespaces for real, by whoever runs the tests: as a user with a user namespace, as root without.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use sinfonia_tunnel::{
    Binding, BoxOptions, Command, Device, Exit, Namespace, NamespaceError, NamespaceOptions, NetworkPlan, Peer,
    PrivateKey, SocketKind, Stdio, Step,
};

fn options() -> NamespaceOptions {
    // Where the tests run as a user who cannot read the checkout, a copy of a program that is its own helper.
    let staged = std::env::var_os("SINFONIA_BIN_DIR").map(|programs| Path::new(&programs).join("sinfonia-tier3"));
    let helper = Some(staged.unwrap_or_else(|| env!("CARGO_BIN_EXE_sinfonia-netns").into()));
    NamespaceOptions { helper, stdio: Stdio::Capture, ..NamespaceOptions::default() }
}

fn shell(script: &str) -> Command {
    Command { program: "sh".into(), args: vec!["-c".into(), script.into()], ..Command::default() }
}

/// Runs a script in a new namespace; how it ended and what it printed.
async fn run(options: NamespaceOptions, plan: &[Step], script: &str) -> (Exit, String) {
    let namespace = Namespace::create(options).await.unwrap();
    namespace.configure(&NetworkPlan { steps: plan.to_vec() }).await.unwrap();
    namespace.spawn(shell(script)).await.unwrap();
    let exit = namespace.exited().await;
    let pipe = namespace.take_output().unwrap();
    namespace.close().await;
    let mut output = String::new();
    std::fs::File::from(pipe).read_to_string(&mut output).unwrap();
    (exit, output)
}

fn client_plan() -> Vec<Step> {
    vec![
        Step::LoopbackUp,
        Step::Mtu(1420),
        Step::Address("10.5.0.2/32".parse().unwrap()),
        Step::LinkUp,
        Step::Route("0.0.0.0/0".parse().unwrap()),
        Step::ResolvConf("nameserver 10.96.0.10\n".into()),
    ]
}

#[tokio::test]
async fn the_command_sees_only_the_tunnel() {
    let outside = nix_uid();
    let script = "cut -d: -f1 /proc/net/dev | tail -n +3 | sort | tr -d ' \\n'; echo; cat /etc/resolv.conf; id -u; \
                  cat /sys/class/net/none 2>/dev/null; wc -l </proc/net/route; echo $$";
    let (exit, output) = run(options(), &client_plan(), script).await;
    assert_eq!(exit, Exit::Code(0));
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[..3], ["lowg0", "nameserver 10.96.0.10", &outside.to_string()], "{output}");
    assert_eq!(lines[3], "2", "a heading and the default route: {output}");
}

#[tokio::test]
async fn nothing_of_the_namespaces_rights_is_left_to_a_users_command() {
    if nix_uid() == 0 {
        return; // root keeps what it has outside; `make e2e` runs this as an ordinary user too
    }
    let (_, output) = run(options(), &client_plan(), "grep ^Cap /proc/self/status").await;
    for line in output.lines() {
        let (_, value) = line.split_once(':').unwrap();
        assert_eq!(value.trim(), "0000000000000000", "{output}");
    }
}

#[tokio::test]
async fn exit_codes_and_signals_come_through() {
    assert_eq!(run(options(), &[], "exit 7").await.0, Exit::Code(7));
    assert_eq!(run(options(), &[], "kill -9 $$").await.0, Exit::Signal(9));

    let namespace = Namespace::create(options()).await.unwrap();
    namespace.spawn(shell("echo ready; exec sleep 1000")).await.unwrap();
    let mut pipe = std::fs::File::from(namespace.take_output().unwrap());
    let mut ready = [0; 6];
    pipe.read_exact(&mut ready).unwrap();
    namespace.signal(15);
    assert_eq!(namespace.exited().await, Exit::Signal(15));
}

#[tokio::test]
async fn a_command_that_cannot_run_is_an_error() {
    let namespace = Namespace::create(options()).await.unwrap();
    let missing = Command { program: "no-such-program".into(), ..Command::default() };
    let error = namespace.spawn(missing).await.unwrap_err();
    assert!(matches!(error, NamespaceError::CommandNotFound { .. }), "{error}");
    let directory = Command { program: "/etc".into(), ..Command::default() };
    let error = namespace.spawn(directory).await.unwrap_err();
    assert!(matches!(error, NamespaceError::CommandNotExecutable { .. }), "{error}");
    namespace.spawn(shell("exit 0")).await.unwrap();
    assert_eq!(namespace.exited().await, Exit::Code(0));
}

#[tokio::test]
async fn a_command_may_be_as_long_as_the_system_allows() {
    let namespace = Namespace::create(options()).await.unwrap();
    let words = |count: usize| vec!["x".repeat(99).into(); count];
    let command = |count| Command { program: "true".into(), args: words(count), ..Command::default() };
    namespace.spawn(command(15_000)).await.unwrap();
    assert_eq!(namespace.exited().await, Exit::Code(0));
    let error = namespace.spawn(command(100_000)).await.unwrap_err();
    assert!(matches!(error, NamespaceError::CommandNotExecutable { .. }), "{error}");
}

#[tokio::test]
async fn a_bad_step_is_named() {
    let namespace = Namespace::create(options()).await.unwrap();
    let plan = NetworkPlan { steps: vec![Step::LoopbackUp, Step::Mtu(7_000_000)] };
    let error = namespace.configure(&plan).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot set MTU 7000000"), "{error}");
}

/// A helper that is started by a script, in namespaces of the script's own in which it is root. There `$D` is the directory.
fn options_after(script: &str) -> (tempfile::TempDir, NamespaceOptions) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("helper");
    let (here, helper) = (directory.path().display(), options().helper.unwrap());
    let text = format!(
        "#!/bin/sh\nexec unshare --user --map-root-user --net --mount bash -ec 'D={here}\n{script}\n\
         exec -a sinfonia-netns {}'\n",
        helper.display()
    );
    // By another process: a test that forks meanwhile would keep it open for writing, so that it could not be executed.
    let write = "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\"";
    let written = std::process::Command::new("sh").args(["-c", write]).arg(&path).arg(text).status().unwrap();
    assert!(written.success());
    (directory, NamespaceOptions { helper: Some(path), ..options() })
}

/// For a script: a host that does what it is told by lines in `$D/host`.
const HOST: &str = "mkfifo $D/host; while read -r line; do eval \"$line\"; done <$D/host &";

fn tell_host(directory: &Path, lines: &str) {
    std::fs::write(directory.join("host"), lines).unwrap();
}

/// Runs a script in the namespace, which must end in time; what it printed.
async fn run_in(namespace: Namespace, script: &str) -> String {
    namespace.spawn(shell(script)).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), namespace.exited()).await;
    let mut pipe = std::fs::File::from(namespace.take_output().unwrap());
    namespace.close().await;
    assert_eq!(ended, Ok(Exit::Code(0)));
    let mut output = String::new();
    pipe.read_to_string(&mut output).unwrap();
    output
}

#[tokio::test]
async fn keys_do_not_end_a_helper_that_begins() {
    let (_directory, options) = options_after("for signal in INT QUIT HUP TERM; do kill -$signal $$; done");
    let namespace = Namespace::create(options).await.unwrap();
    let masks = run_in(namespace, "grep -E \"Sig(Pnd|Blk)\" /proc/self/status").await;
    assert_eq!(masks, "SigPnd:\t0000000000000000\nSigBlk:\t0000000000000000\n");
}

#[tokio::test]
async fn the_tunnels_resolver_stays_whatever_the_host_does_with_its_own() {
    let script = format!("mount -t tmpfs none /etc; echo nameserver 192.0.2.1 >/etc/resolv.conf; {HOST}");
    let (directory, options) = options_after(&script);
    let namespace = Namespace::create(options).await.unwrap();
    let plan = vec![Step::ResolvConf("nameserver 10.96.0.10\n".into())];
    namespace.configure(&NetworkPlan { steps: plan }).await.unwrap();
    let seen = |round: u8| format!("while [ ! -e $D/seen{round} ]; do sleep 0.02; done; ");
    tell_host(
        directory.path(),
        &[
            "echo nameserver 192.0.2.2 >/etc/new; mv /etc/new /etc/resolv.conf; touch $D/done1\n".to_owned(),
            seen(1) + "rm /etc/resolv.conf; echo nameserver 192.0.2.3 >/etc/resolv.conf; touch $D/done2\n",
            seen(2)
                + "mkdir /etc/run; echo nameserver 192.0.2.4 >/etc/run/stub; ln -s run/stub /etc/new; "
                + "mv -T /etc/new /etc/resolv.conf; touch $D/done3\n",
            seen(3) + "echo nameserver 192.0.2.5 >/etc/new; mv /etc/new /etc/run/stub; touch $D/done4\n",
        ]
        .concat(),
    );
    let rounds = format!(
        "D={}; for round in 1 2 3 4; do while [ ! -e $D/done$round ]; do sleep 0.02; done
         until grep -q 10.96.0.10 /etc/resolv.conf; do sleep 0.02; done; cat /etc/resolv.conf; touch $D/seen$round; done",
        directory.path().display()
    );
    assert_eq!(run_in(namespace, &rounds).await, "nameserver 10.96.0.10\n".repeat(4));
}

/// As systemd-resolved has it.
#[tokio::test]
async fn a_box_has_its_resolver_where_the_hosts_is_hidden() {
    let (_directory, options) = options_after(
        "mount -t tmpfs none /etc; mount -t tmpfs none /run; mkdir /run/resolve; \
         echo nameserver 192.0.2.1 >/run/resolve/stub; ln -s ../run/resolve/stub /etc/resolv.conf",
    );
    let options = NamespaceOptions { boxed: Some(BoxOptions::default()), ..options };
    let namespace = Namespace::create(options).await.unwrap();
    let plan = vec![Step::ResolvConf("nameserver 10.96.0.10\n".into())];
    namespace.configure(&NetworkPlan { steps: plan }).await.unwrap();
    let shown = format!("/proc/{}/root/run/resolve/stub", init_of(&namespace));
    assert_eq!(std::fs::read_to_string(shown).unwrap(), "nameserver 10.96.0.10\n");
}

#[tokio::test]
async fn what_the_host_unmounts_is_not_kept() {
    let script = format!("mount --make-rshared /; mkdir $D/disk; mount -t tmpfs none $D/disk; {HOST}");
    let (directory, options) = options_after(&script);
    let namespace = Namespace::create(options).await.unwrap();
    tell_host(directory.path(), "umount $D/disk; touch $D/done\n");
    let look = format!(
        "cd {}; while [ ! -e done ]; do sleep 0.02; done; grep -c $PWD/disk /proc/self/mountinfo || true",
        directory.path().display()
    );
    assert_eq!(run_in(namespace, &look).await, "0\n");
}

#[tokio::test]
async fn the_containers_resolver_comes_back_at_once_however_the_tunnel_ends() {
    const BEFORE: &str = "nameserver 192.0.2.1\n";
    let (directory, options) = options_after("mount --bind $D/resolv.conf /etc/resolv.conf");
    let options = NamespaceOptions { present: true, ..options };
    let file = directory.path().join("resolv.conf");
    std::fs::write(&file, BEFORE).unwrap();
    let state = || std::fs::read_to_string(&file).unwrap();
    let plan = NetworkPlan { steps: vec![Step::ResolvConf("nameserver 10.96.0.10\n".into())] };

    let namespace = Namespace::create(options.clone()).await.unwrap();
    namespace.configure(&plan).await.unwrap();
    assert!(state().ends_with("\nnameserver 10.96.0.10\n"), "{}", state());
    drop(namespace);
    assert_eq!(state(), BEFORE, "given up");

    let namespace = Namespace::create(options.clone()).await.unwrap();
    namespace.configure(&plan).await.unwrap();
    let init = nix::unistd::Pid::from_raw(init_of(&namespace));
    nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(namespace.exited().await, Exit::HelperLost);
    drop(namespace);
    assert_ne!(state(), BEFORE, "killed, it could not");

    let namespace = Namespace::create(options).await.unwrap();
    assert_eq!(state(), BEFORE, "the next one does, before anybody asks for a name");
    namespace.close().await;
}

/// The helper's only child.
fn init_of(namespace: &Namespace) -> i32 {
    let helper = namespace.helper_pid().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{helper}/task/{helper}/children")).unwrap();
    children.trim().parse().unwrap()
}

#[tokio::test]
async fn where_ipv6_is_switched_off_the_tunnel_goes_without_it() {
    let (_directory, options) = options_after("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    let namespace = Namespace::create(NamespaceOptions { present: true, ..options }).await.unwrap();
    let six = [Step::Address("fd05::2/128".parse().unwrap()), Step::Route("::/0".parse().unwrap())];
    let mut only_six = vec![Step::LoopbackUp, Step::Mtu(1420)];
    only_six.extend(six.clone());
    let error = namespace.configure(&NetworkPlan { steps: only_six }).await.unwrap_err();
    assert!(error.to_string().contains("IPv6 only, which is switched off here"), "{error}");

    let mut both: Vec<_> = client_plan().into_iter().filter(|step| !matches!(step, Step::ResolvConf(_))).collect();
    both.extend(six);
    namespace.configure(&NetworkPlan { steps: both }).await.unwrap();
    let output = run_in(namespace, "cut -f1,2 /proc/net/route").await;
    assert!(output.contains("wg0\t00000000"), "{output}");
}

#[tokio::test]
async fn a_call_that_was_given_up_answers_no_other() {
    let namespace = Namespace::create(options()).await.unwrap();
    for _ in 0..3 {
        // Asked, and given up before the answer can come.
        tokio::select! {
            biased;
            _ = namespace.socket(SocketKind::TcpV4) => panic!("nobody has read the answer yet"),
            () = std::future::ready(()) => {}
        }
    }
    let bad = NetworkPlan { steps: vec![Step::Mtu(7_000_000)] };
    namespace.configure(&bad).await.unwrap_err();
    namespace.socket(SocketKind::UdpV4).await.unwrap();
    namespace.spawn(shell("exit 3")).await.unwrap();
    assert_eq!(namespace.exited().await, Exit::Code(3));
}

#[tokio::test]
async fn what_the_command_left_behind_ends_with_the_namespace() {
    let namespace = Namespace::create(options()).await.unwrap();
    namespace.spawn(shell("setsid sleep 1000 & exit 0")).await.unwrap();
    assert_eq!(namespace.exited().await, Exit::Code(0));
    let pipe = namespace.take_output().unwrap();
    namespace.close().await;
    // The pipe ends only when the last process that holds it is gone.
    let mut rest = Vec::new();
    std::fs::File::from(pipe).read_to_end(&mut rest).unwrap();
}

#[tokio::test]
async fn killing_the_helper_ends_the_command() {
    let namespace = Namespace::create(options()).await.unwrap();
    namespace.spawn(shell("exec sleep 1000")).await.unwrap();
    let helper = i32::try_from(namespace.helper_pid().unwrap()).unwrap();
    let pipe = namespace.take_output().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(helper), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(namespace.exited().await, Exit::HelperLost);
    let mut rest = Vec::new();
    std::fs::File::from(pipe).read_to_end(&mut rest).unwrap();
    assert!(namespace.configure(&NetworkPlan::default()).await.is_err());
}

#[tokio::test]
async fn a_box_is_read_only_and_hides_homes() {
    let recipes = tempfile::tempdir().unwrap();
    std::fs::write(recipes.path().join("page"), "hello").unwrap();
    open_to_all(recipes.path());
    let secret = tempfile::tempdir().unwrap();
    std::fs::write(secret.path().join("key"), "secret").unwrap();
    let boxed = BoxOptions { visible: vec![recipes.path().to_owned()], hidden: vec![secret.path().to_owned()] };
    let script = format!(
        "cat {page}/page; echo; ls -A /home /root /run 2>/dev/null | grep -v : | tr -d '\\n'; echo; \
         touch /tmp/mine && echo tmp; touch /etc/mine /usr/mine {page}/mine 2>/dev/null || echo read-only; \
         cat {secret}/key 2>/dev/null || echo hidden; grep NoNewPrivs /proc/self/status | cut -f2; \
         id -u; grep CapEff /proc/self/status | cut -f2; cat /etc/resolv.conf",
        page = recipes.path().display(),
        secret = secret.path().display(),
    );
    let options = NamespaceOptions { boxed: Some(boxed), unprivileged_ports: true, ..options() };
    let plan = [Step::LoopbackUp, Step::ResolvConf("nameserver 10.96.0.10\n".into())];
    let (exit, output) = run(options, &plan, &script).await;
    assert_eq!(exit, Exit::Code(0), "{output}");
    let uid = if nix_uid() == 0 { 65534 } else { nix_uid() }.to_string();
    // Recipes below a hidden home or /tmp leave their own path visible there, and nothing else.
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], "hello", "{output}");
    let rest = ["tmp", "read-only", "hidden", "1", &uid, "0000000000000000", "nameserver 10.96.0.10"];
    assert_eq!(lines[2..], rest, "{output}");
}

#[tokio::test]
async fn sockets_of_the_namespace_work_outside_it() {
    let namespace = Namespace::create(NamespaceOptions { unprivileged_ports: true, ..options() }).await.unwrap();
    namespace.configure(&NetworkPlan { steps: vec![Step::LoopbackUp] }).await.unwrap();
    let server = std::net::UdpSocket::from(namespace.socket(SocketKind::UdpV4).await.unwrap());
    nix::sys::socket::bind(
        std::os::fd::AsRawFd::as_raw_fd(&server),
        &nix::sys::socket::SockaddrIn::new(127, 0, 0, 1, 53),
    )
    .unwrap();
    let client = namespace.socket(SocketKind::UdpV4).await.unwrap();
    let client = tokio::net::UdpSocket::from_std(client.into()).unwrap();
    client.send_to(b"hello", "127.0.0.1:53").await.unwrap();
    let server = tokio::net::UdpSocket::from_std(server).unwrap();
    let mut buffer = [0; 16];
    let (length, _) = server.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], b"hello");
}

/// Two namespaces, two devices: a packet in at one end comes out at the other, and nothing else is reachable.
#[tokio::test]
async fn a_tunnel_carries_packets_between_two_namespaces() {
    let (client_key, server_key) = (PrivateKey::generate(), PrivateKey::generate());
    let (client_public, server_public) = (client_key.public_key(), server_key.public_key());
    let client = Namespace::create(options()).await.unwrap();
    let server = Namespace::create(options()).await.unwrap();
    let mut plan = client_plan();
    plan.insert(2, Step::Address("fd05::2/128".parse().unwrap()));
    plan.push(Step::Route("::/0".parse().unwrap()));
    client.configure(&NetworkPlan { steps: plan }).await.unwrap();
    let plan = vec![
        Step::LoopbackUp,
        Step::Mtu(1420),
        Step::Address("10.96.0.10/32".parse().unwrap()),
        Step::Address("fd96::10/128".parse().unwrap()),
        Step::LinkUp,
        Step::Route("10.5.0.0/16".parse().unwrap()),
        Step::Route("fd05::/64".parse().unwrap()),
    ];
    server.configure(&NetworkPlan { steps: plan }).await.unwrap();

    let server_device = Device::start(server_key, Binding::Server("127.0.0.1:0".parse().unwrap())).unwrap();
    let endpoint = ([127, 0, 0, 1], server_device.local_port()).into();
    let link = server_device.add_link(server.take_tun().unwrap(), 1420).unwrap();
    server_device.add_peer(Peer {
        public_key: client_public,
        link,
        allowed_ips: vec!["10.5.0.2/32".parse().unwrap(), "fd05::2/128".parse().unwrap()],
        endpoint: None,
        keepalive: None,
    });
    let client_device = Device::start(client_key, Binding::Client(endpoint)).unwrap();
    let link = client_device.add_link(client.take_tun().unwrap(), 1420).unwrap();
    client_device.add_peer(Peer {
        public_key: server_public,
        link,
        allowed_ips: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
        endpoint: Some(endpoint),
        keepalive: Some(Duration::from_secs(30)),
    });
    client_device.handshake(&server_public, Duration::from_secs(5)).await.unwrap();

    let (mut here, mut there) = connect(&client, &server, SocketKind::TcpV4, "10.96.0.10:8080").await;
    assert_eq!(there.peer_addr().unwrap().ip().to_string(), "10.5.0.2");
    one_way(&mut here, &mut there).await;
    one_way(&mut there, &mut here).await;
    let (mut here, mut there) = connect(&client, &server, SocketKind::TcpV6, "[fd96::10]:8080").await;
    assert_eq!(there.peer_addr().unwrap().ip().to_string(), "fd05::2");
    one_way(&mut here, &mut there).await;
    one_way(&mut there, &mut here).await;
    datagrams(&client, &server).await;
}

/// A connection from a socket in one namespace to one in another.
async fn connect(
    client: &Namespace,
    server: &Namespace,
    kind: SocketKind,
    address: &str,
) -> (tokio::net::TcpStream, tokio::net::TcpStream) {
    let address = address.parse().unwrap();
    let listener = server.socket(kind).await.unwrap();
    let listener = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(listener));
    listener.bind(address).unwrap();
    let listener = listener.listen(8).unwrap();
    let stream = client.socket(kind).await.unwrap();
    let stream = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(stream));
    let (connected, accepted) = tokio::join!(stream.connect(address), listener.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

/// Enough bytes that they go in super-packets of every size.
async fn one_way(from: &mut tokio::net::TcpStream, to: &mut tokio::net::TcpStream) {
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut got = vec![0; sent.len()];
    let send = tokio::io::AsyncWriteExt::write_all(from, &sent);
    let receive = tokio::io::AsyncReadExt::read_exact(to, &mut got);
    let (sending, receiving) =
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(send, receive) }).await.unwrap();
    sending.unwrap();
    receiving.unwrap();
    assert!(got == sent, "what arrived is not what was sent");
}

/// Datagrams, whose checksums the kernel leaves to us, of every length.
async fn datagrams(client: &Namespace, server: &Namespace) {
    for (kind, address) in [(SocketKind::UdpV4, "10.96.0.10:5353"), (SocketKind::UdpV6, "[fd96::10]:5353")] {
        let address = address.parse().unwrap();
        let socket = std::net::UdpSocket::from(server.socket(kind).await.unwrap());
        bind(&socket, address);
        let receiver = tokio::net::UdpSocket::from_std(socket).unwrap();
        let sender = tokio::net::UdpSocket::from_std(client.socket(kind).await.unwrap().into()).unwrap();
        for length in [0_usize, 1, 7, 15, 16, 17, 1300, 3000] {
            let sent = vec![length.to_le_bytes()[0]; length];
            sender.send_to(&sent, address).await.unwrap();
            let mut buffer = [0; 4000];
            let received = tokio::time::timeout(Duration::from_secs(5), receiver.recv_from(&mut buffer)).await;
            let (got, _) = received.unwrap().unwrap();
            assert!(buffer[..got] == sent, "{length} bytes over {kind:?}");
        }
    }
}

fn bind(socket: &std::net::UdpSocket, address: std::net::SocketAddr) {
    let address = nix::sys::socket::SockaddrStorage::from(address);
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(socket), &address).unwrap();
}

fn nix_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn open_to_all(path: &Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).unwrap();
}

/// The environment reaches the command, and only what was asked for when it is cleared.
#[tokio::test]
async fn the_environment_is_the_owners_or_only_what_is_given() {
    let namespace = Namespace::create(options()).await.unwrap();
    let env = BTreeMap::from([("PS1".into(), "sinfonia$ ".into())]);
    let command = Command { env, clear_env: true, ..shell("export -p | grep -c PS1; test -z \"$CARGO_PKG_NAME\"") };
    namespace.spawn(command).await.unwrap();
    assert_eq!(namespace.exited().await, Exit::Code(0));
}
