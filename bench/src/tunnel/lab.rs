//! Two network namespaces and a wire between them.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sinfonia_tests::eventually;

/// A process that ends with its owner.
pub(crate) struct Kept(pub(super) Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network namespace, by a process in it; and what must live as long.
pub(crate) struct End {
    pid: u32,
    pub(super) keep: Vec<Kept>,
}

impl End {
    /// The namespace of a process.
    pub(crate) fn of(pid: u32, keep: Vec<Kept>) -> Self {
        Self { pid, keep }
    }

    /// A new namespace.
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--kill-child", "sleep", "infinity"]);
        let child = Kept(command.stdin(Stdio::null()).spawn().unwrap());
        let pid = child.0.id();
        let network = |process: String| fs::read_link(PathBuf::from("/proc").join(process).join("ns/net")).ok();
        let own = network("self".into());
        eventually("a namespace is made", || network(pid.to_string()).is_some_and(|other| Some(other) != own));
        Self::of(pid, vec![child])
    }

    /// A command that will run in the namespace.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid)).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// The same namespace, for one more tunnel.
    pub(super) fn again(&self) -> Self {
        Self::of(self.pid, Vec::new())
    }

    /// Runs `ip` in the namespace.
    pub(super) fn ip(&self, arguments: &str) {
        let status = self.command("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}: {status}");
    }
}

/// The wire's two ends.
pub(super) struct Wire {
    pub(super) client: End,
    pub(super) server: End,
}

impl Wire {
    /// The ends' addresses on the wire.
    pub(super) const CLIENT: &str = "192.0.2.1";
    pub(super) const SERVER: &str = "192.0.2.2";

    pub(super) fn new() -> Self {
        let (client, server) = (End::new(), End::new());
        client.ip(&format!("link add wire type veth peer name wire netns {}", server.pid));
        for (end, address) in [(&client, Self::CLIENT), (&server, Self::SERVER)] {
            end.ip("link set lo up");
            end.ip(&format!("address add {address}/24 dev wire"));
            end.ip("link set wire up");
        }
        Self { client, server }
    }
}

/// Somewhere to put sockets where a user may not write; nobody else sees it.
pub(super) fn prepare() {
    let status = Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).status().unwrap();
    assert!(status.success(), "mount: {status}");
}
