//! Docker and podman, and a cloudlet whose clients are containers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sinfonia_tests::cluster::{ask, output_of};
use sinfonia_tests::{Finished, Running, World, eventually, free_udp_port};

use crate::archive::{VERSION, path};

/// What tests start is called so, for those after one that was killed.
const LABEL: &str = "sinfonia-test";

/// What podman is told where the machine keeps CAP_SYS_RESOURCE and its cgroups from it: harmless elsewhere.
const PODMAN: &str = "[containers]
default_ulimits = ['nofile=1024:1024', 'nproc=1024:1024']
[engine]
cgroup_manager = 'cgroupfs'
events_logger = 'file'
runtime = 'runc'
";

const TIER3: &str = "sinfonia-tier3";
const TOOLBOX: &str = "localhost/sinfonia/toolbox";

/// Who runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Docker,
    Podman,
}

/// An engine, and the directory where podman has everything of its own.
struct Containers {
    engine: Engine,
    directory: PathBuf,
}

/// tier1, a cloudlet with one application, and containers that reach both.
pub(crate) struct Scene {
    // First, since containers use what the rest is.
    containers: Containers,
    application: String,
    server: String,
    _tier1: Running,
    _tier2: Running,
    // Last, so that its directory is removed when its programs have ended.
    world: World,
}

/// What the backend of the application serves.
pub(crate) const PAGE: &str = "for a container";

/// Runs a test with this engine: podman in a network of its own, which ends with the thread.
pub(crate) fn with(engine: Engine, test: impl FnOnce(&Scene) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        if engine == Engine::Podman {
            alone();
        }
        test(&Scene::new(engine));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Leaves the network and the mounts of the other threads: what this one starts has neither.
fn alone() {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
    output_of(Command::new("ip").args(["link", "set", "lo", "up"]));
}

impl Scene {
    fn new(engine: Engine) -> Self {
        let world = World::new();
        let containers = Containers::new(engine, world.path("podman"));
        let application = world.add_page(PAGE).to_string();
        let tier1 = world.tier1(&["--host", "0.0.0.0", "--insecure-open"]);
        let port = tier1.listens().port();
        let local = format!("http://127.0.0.1:{port}");
        let (host, tunnels) = (containers.host(), free_udp_port().port());
        let tier2 = world.cloudlet("cloudlet", &local, tunnels, &format!("{host}:{tunnels}"), &[]);
        eventually("tier1 knows the cloudlet", || {
            ask("GET", &format!("{local}/api/v1/cloudlets/"), &[]).1.as_array().is_some_and(|list| list.len() == 1)
        });
        let server = format!("http://{host}:{port}");
        Self { containers, application, server, _tier1: tier1, _tier2: tier2, world }
    }

    /// The client in a container with these flags, to its end. The words follow the application.
    pub(crate) fn client(&self, flags: &[&str], words: &[&str]) -> Finished {
        self.start(flags, words).finish()
    }

    /// The same, not waiting.
    pub(crate) fn start(&self, flags: &[&str], words: &[&str]) -> Running {
        let mut command = self.containers.run(flags, TIER3);
        command.args([&self.server, &self.application]).args(words);
        self.world.start(command)
    }

    /// Another program of the image, in the network of the container `name`.
    pub(crate) fn beside(&self, name: &str, words: &[&str]) -> Finished {
        let (program, arguments) = words.split_first().unwrap();
        let network = format!("container:{name}");
        let mut command = self.containers.run(&["--network", &network, "--entrypoint", program], TIER3);
        command.args(arguments);
        self.world.start(command).finish()
    }

    /// A container of this name that only keeps its network.
    pub(crate) fn rest(&self, name: &str) {
        let mut command = self.containers.run(&["--detach", "--name", name], TOOLBOX);
        output_of(command.args(["sleep", "600"]));
    }

    /// What a program of such a container prints.
    pub(crate) fn inside(&self, name: &str, words: &[&str]) -> String {
        output_of(&mut self.containers.command(&[&["exec", name], words].concat()))
    }

    /// Ends a container without a chance to clean up.
    pub(crate) fn kill(&self, name: &str, client: Running) -> Finished {
        output_of(&mut self.containers.command(&["kill", "--signal", "KILL", name]));
        client.finish()
    }

    /// Ends a container as an operator would.
    pub(crate) fn stop(&self, name: &str) {
        output_of(&mut self.containers.command(&["stop", "--time", "20", name]));
    }
}

impl Containers {
    /// Without what an earlier test left.
    fn new(engine: Engine, directory: PathBuf) -> Self {
        let containers = Self { engine, directory };
        if engine == Engine::Podman {
            fs::create_dir(&containers.directory).unwrap();
            fs::write(containers.directory.join("containers.conf"), PODMAN).unwrap();
            for archive in [path("sinfonia-tier3", "tar"), path("localhost-sinfonia-toolbox", "tar")] {
                output_of(containers.command(&["load", "--quiet", "--input"]).arg(archive));
            }
        }
        containers.remove_all();
        containers
    }

    fn run(&self, flags: &[&str], image: &str) -> Command {
        let (label, image) = (format!("--label={LABEL}"), format!("{image}:{VERSION}"));
        let mut command = self.command(&["run", "--rm", &label]);
        command.args(flags).arg(image);
        command
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(match self.engine {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
        });
        if self.engine == Engine::Podman {
            let places = ["root", "runroot", "tmpdir", "network-config-dir"];
            command.args(places.map(|place| format!("--{place}={}", self.directory.join(place).display())));
            command.args(["--storage-driver", "vfs"]).env("CONTAINERS_CONF", self.directory.join("containers.conf"));
        }
        command.args(words);
        command
    }

    /// The address at which containers reach this machine.
    fn host(&self) -> String {
        let (network, template) = match self.engine {
            Engine::Docker => ("bridge", "{{(index .IPAM.Config 0).Gateway}}"),
            Engine::Podman => ("podman", "{{(index .Subnets 0).Gateway}}"),
        };
        output_of(&mut self.command(&["network", "inspect", "--format", template, network])).trim().into()
    }

    fn remove_all(&self) {
        let label = format!("label={LABEL}");
        let left = output_of(&mut self.command(&["ps", "--all", "--quiet", "--filter", &label]));
        for container in left.split_whitespace() {
            output_of(&mut self.command(&["rm", "--force", container]));
        }
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.remove_all();
        }
    }
}
