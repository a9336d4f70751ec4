//! A directory, recipes and the programs started in it, all gone at the end.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once};

use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::leftovers;
use crate::process::{Running, eventually, signal};

/// The path of one of our programs: in `SINFONIA_BIN_DIR`, or where cargo put them, which is above a test and beside
/// the bench.
pub fn program(name: &str) -> PathBuf {
    let given = std::env::var_os("SINFONIA_BIN_DIR").map(PathBuf::from);
    let own = std::env::current_exe().unwrap();
    let directories =
        given.map_or_else(|| own.ancestors().skip(1).take(2).map(PathBuf::from).collect(), |one| vec![one]);
    let mut paths = directories.iter().map(|directory| directory.join(name));
    paths.find(|path| path.exists()).unwrap_or_else(|| panic!("{name} is missing in {directories:?}: build it first"))
}

/// One test's own directory and processes.
pub struct World {
    directory: tempfile::TempDir,
    groups: Mutex<Vec<u32>>,
    environment: Mutex<Vec<(String, String)>>,
}

impl World {
    /// An empty world with a directory of recipes, which hold [`World::add_recipe`]s only.
    pub fn new() -> Self {
        static STALE: Once = Once::new();
        let temporary = std::env::temp_dir();
        STALE.call_once(|| leftovers::remove_stale(&temporary));
        let prefix = format!("{}{}-", leftovers::PREFIX, std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(temporary).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = Self { directory, groups: Mutex::default(), environment: Mutex::default() };
        fs::create_dir(world.path("recipes")).unwrap();
        world
    }

    /// A path in the world's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a recipe, given as YAML, and returns its new UUID.
    pub fn add_recipe(&self, yaml: &str) -> Uuid {
        let uuid = Uuid::new_v4();
        fs::write(self.path("recipes").join(format!("{uuid}.yaml")), yaml).unwrap();
        uuid
    }

    /// A recipe whose backend serves this page under the name `helloworld`.
    pub fn add_page(&self, page: &str) -> Uuid {
        let site = format!("site-{}", Uuid::new_v4());
        fs::create_dir(self.path("recipes").join(&site)).unwrap();
        fs::write(self.path("recipes").join(&site).join("index.html"), page).unwrap();
        self.add_recipe(&local_recipe(&format!("[busybox, httpd, -f, -p, '80', -h, {site}]")))
    }

    /// A recipe with a shell script as backend, on port 80 of `helloworld`.
    pub fn add_script(&self, script: &str) -> Uuid {
        self.add_recipe(&local_recipe(&serde_json::json!(["sh", "-c", script]).to_string()))
    }

    /// Sets an environment variable for what is started here from now on.
    pub fn set(&self, variable: &str, value: &str) {
        self.environment.lock().unwrap().push((variable.to_owned(), value.to_owned()));
    }

    /// Starts any command in this world, with its home and temporary directory here.
    pub fn start(&self, command: Command) -> Running {
        let running = Running::start(self.at_home(command));
        leftovers::remember(self.directory.path(), running.pid());
        self.groups.lock().unwrap().push(running.pid());
        running
    }

    /// The command with this world as its home.
    pub fn at_home(&self, mut command: Command) -> Command {
        let home = self.path("home");
        fs::create_dir_all(&home).unwrap();
        for variable in ["XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
            command.env_remove(variable);
        }
        command.envs(self.environment.lock().unwrap().iter().cloned());
        command.env("HOME", home).env("TMPDIR", self.directory.path()).stdin(Stdio::null());
        command
    }

    /// Starts tier1 on a free port with this world's recipes; more options may follow.
    pub fn tier1(&self, options: &[&str]) -> Running {
        let mut command = Command::new(program("sinfonia-tier1"));
        command.args(["--allow-local-endpoints", "--recipes"]).arg(self.path("recipes"));
        any_port(&mut command, "--port", options);
        self.start_with(command, options)
    }

    /// Starts a cloudlet that reports to a tier1, with its tunnels' end at this port, and at `endpoint` for clients.
    pub fn cloudlet(&self, name: &str, tier1: &str, tunnel_port: u16, endpoint: &str, options: &[&str]) -> Running {
        let (port, tunnel_port) = (free_port().to_string(), tunnel_port.to_string());
        let own = format!("http://127.0.0.1:{port}");
        let given = [
            ["--port", &port],
            ["--tunnel-port", &tunnel_port],
            ["--tier1-url", tier1],
            ["--tier2-url", &own],
            ["--tunnel-endpoint", endpoint],
            ["--name", name],
        ];
        self.tier2(name, &[given.as_flattened(), options].concat())
    }

    /// Starts a cloudlet with the local driver on free ports and a state directory of this name.
    pub fn tier2(&self, state: &str, options: &[&str]) -> Running {
        let mut command = Command::new(program("sinfonia-tier2"));
        command.args(["--driver", "local"]);
        any_port(&mut command, "--port", options);
        any_port(&mut command, "--tunnel-port", options);
        command.arg("--recipes").arg(self.path("recipes")).arg("--state-directory").arg(self.path(state));
        self.start_with(command, options)
    }

    /// Starts the client; `arguments` begin with its options.
    pub fn tier3(&self, arguments: &[&str]) -> Running {
        self.start_with(Command::new(program("sinfonia-tier3")), arguments)
    }

    /// The processes that are left of everything started here.
    pub fn processes(&self) -> Vec<(u32, String)> {
        leftovers::processes(&self.groups.lock().unwrap())
    }

    /// Waits until nothing runs any more of these process groups.
    pub fn wait_until_gone(&self, what: &str, groups: &[u32]) {
        eventually(&format!("{what}: processes end"), || leftovers::processes(groups).is_empty());
    }

    fn start_with(&self, mut command: Command, arguments: &[&str]) -> Running {
        command.args(arguments);
        self.start(command)
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let groups = self.groups.lock().unwrap();
        for group in groups.iter() {
            signal(-group.cast_signed(), Signal::SIGKILL);
        }
        // Files in use cannot be unmounted from under a process that still ends.
        if !std::thread::panicking() {
            eventually("the world's processes end", || leftovers::processes(&groups).is_empty());
        }
    }
}

/// A UDP port of loopback, for programs that must keep theirs across a restart.
pub fn free_udp_port() -> SocketAddr {
    free(|address| UdpSocket::bind(address)?.local_addr())
}

/// A TCP port of loopback, for servers whose port has to be known before they start.
pub fn free_port() -> u16 {
    free(|address| TcpListener::bind(address)?.local_addr()).port()
}

/// Ports that the kernel gives to nobody who does not ask for them: below its range (ip_local_port_range) and below what a
/// cluster's nodes use. Otherwise any connection could get one before the program that it is for.
const PORTS: Range<u16> = 20_000..30_000;

/// The next port that can be bound; another process of tests begins elsewhere.
fn free(bind: impl Fn(SocketAddr) -> io::Result<SocketAddr>) -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    let mut tried = (0..PORTS.len()).map(|_| {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) as usize;
        let port = PORTS.clone().nth(number % PORTS.len()).unwrap();
        bind((Ipv4Addr::LOCALHOST, port).into())
    });
    tried.find_map(Result::ok).unwrap_or_else(|| panic!("no port in {PORTS:?} is free"))
}

/// A free port, unless the options name one.
pub(crate) fn any_port(command: &mut Command, name: &str, options: &[&str]) {
    if !options.contains(&name) {
        command.args([name, "0"]);
    }
}

fn local_recipe(command: &str) -> String {
    format!(
        "chart: helloworld\nversion: 0.1.0\nrestricted: false\nlocal:\n  command: {command}\n  port: 80\n  \
         service: helloworld\n"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_given_once_and_not_by_the_kernel() {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let lowest: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
        let ports: BTreeSet<u16> = (0..50).flat_map(|_| [free_port(), free_udp_port().port()]).collect();
        assert_eq!(ports.len(), 100);
        assert!(ports.iter().all(|port| *port < lowest && PORTS.contains(port)), "{ports:?}, {lowest}");
    }
}
