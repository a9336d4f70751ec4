//! A Postgres of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::leftovers;
use crate::process::{Running, eventually};
use crate::world::{World, free_port};

/// The role that owns everything.
const ROLE: &str = "sinfonia";

/// A server on a port of loopback, with its data in the world's directory. Dropping it kills it.
pub struct Postgres {
    data: PathBuf,
    port: u16,
    settings: Vec<String>,
    room: Option<u32>,
    server: Option<Running>,
}

impl Postgres {
    /// Starts a server that owes nothing to others, with settings such as `max_connections=10`.
    pub fn start(world: &World, name: &str, settings: &[&str]) -> Self {
        let data = world.path(name);
        initdb(&data);
        Self::of(world, data, settings, None)
    }

    /// Starts one whose data has to fit into so many megabytes.
    pub fn start_in(world: &World, name: &str, megabytes: u32, settings: &[&str]) -> Self {
        let disk = world.path(name);
        fs::create_dir(&disk).unwrap();
        initdb(&fresh(&disk));
        Self::of(world, disk.join("data"), settings, Some(megabytes))
    }

    /// Starts a standby that follows this server; it has to be promoted before anybody may write.
    pub fn standby(&self, world: &World, name: &str, settings: &[&str]) -> Self {
        let data = world.path(name);
        let from = format!("host=127.0.0.1 port={} user={ROLE}", self.port);
        let copied = Command::new(program("pg_basebackup"))
            .args(["--checkpoint=fast", "--write-recovery-conf", "--dbname", &from, "--pgdata"])
            .arg(&data)
            .output();
        succeeded(&copied.unwrap());
        Self::of(world, data, settings, None)
    }

    fn of(world: &World, data: PathBuf, settings: &[&str], room: Option<u32>) -> Self {
        let settings = settings.iter().map(ToString::to_string).collect();
        let mut postgres = Self { data, port: free_port(), settings, room, server: None };
        postgres.launch(world);
        postgres.wait();
        postgres
    }

    /// Starts it again, on the same port.
    pub fn start_again(&mut self, world: &World) {
        self.launch(world);
        self.wait();
    }

    fn launch(&mut self, world: &World) {
        let mut command = Command::new(program("postgres"));
        if let Some(megabytes) = self.room {
            command = boxed(&self.data, megabytes);
        }
        let port = self.port.to_string();
        command.arg("-D").arg(&self.data).args(["-p", &port, "-c", "unix_socket_directories="]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        self.server = Some(world.start(command));
    }

    fn wait(&self) {
        eventually("Postgres answers", || self.psql("SELECT 1").status.success());
    }

    /// Ends it as an operator would: sessions are ended, data is written.
    pub fn stop(&mut self) {
        let server = self.server.take().unwrap();
        server.signal("INT");
        server.finish();
    }

    /// Ends it as a lost machine would: nothing is written any more.
    pub fn kill(&mut self) {
        let server = self.server.take().unwrap();
        let group = server.pid();
        drop(server);
        eventually("Postgres has gone", || leftovers::processes(&[group]).is_empty());
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        self.query("SELECT pg_promote()");
    }

    /// Where it is.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process that started all others.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().unwrap().pid()
    }

    /// A path below its data as others see it, wherever that is mounted.
    pub fn seen(&self, name: &str) -> PathBuf {
        let data = self.data.strip_prefix("/").unwrap();
        Path::new("/proc").join(self.pid().to_string()).join("root").join(data).join(name)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Running::log).unwrap_or_default()
    }

    /// The answer to a statement, a row a line, with `|` between columns.
    pub fn query(&self, sql: &str) -> String {
        let output = self.psql(sql);
        succeeded(&output);
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs statements in one session.
    pub fn psql(&self, sql: &str) -> Output {
        self.session(sql).output().unwrap()
    }

    /// A session to be started, for one that has to stay.
    pub fn session(&self, sql: &str) -> Command {
        let mut command = self.command("psql");
        command.args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--command",
            sql,
        ]);
        command
    }

    /// One of Postgres' programs, told where this server is.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        let port = self.port.to_string();
        for (variable, value) in [
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", &port),
            ("PGUSER", ROLE),
            ("PGDATABASE", "postgres"),
            ("PGCONNECT_TIMEOUT", "5"),
        ] {
            command.env(variable, value);
        }
        command
    }
}

/// The URL of a database at a port of loopback: a server's own, or a proxy's.
pub fn database_url(port: u16) -> String {
    format!("postgres://{ROLE}@127.0.0.1:{port}/postgres")
}

fn initdb(data: &Path) {
    let made = Command::new(program("initdb"))
        .args(["--username", ROLE, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--pgdata"])
        .arg(data)
        .output();
    succeeded(&made.unwrap());
}

/// What a small disk holds at first.
fn fresh(disk: &Path) -> PathBuf {
    disk.with_extension("fresh")
}

/// Postgres with a small disk of its own for `data`: in namespaces, so that nobody needs to be root.
fn boxed(data: &Path, megabytes: u32) -> Command {
    // As nobody's root Postgres would refuse, so that it gets its own user back.
    let script = format!(
        "mount -t tmpfs -o size={megabytes}m tmpfs \"$1\" && cp -a \"$2\" \"$3\" && chmod 700 \"$3\" && shift 3 && \
         exec unshare --user --map-user={} -- \"$@\"",
        nix::unistd::getuid()
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", &script, "sh"]);
    let disk = data.parent().unwrap();
    command.arg(disk).arg(fresh(disk)).arg(data).arg(program("postgres"));
    command
}

/// A program of the newest Postgres that is installed.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    let path = newest.map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")).join(name));
    path.filter(|path| path.exists())
        .unwrap_or_else(|| panic!("Postgres' {name} is missing: scripts/setup.sh test installs it"))
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
