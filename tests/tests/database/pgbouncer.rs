//! A pooler between tier1 and Postgres.

use std::fs;
use std::path::Path;
use std::process::Command;

use sinfonia_tests::{Postgres, Running, World, free_port};

/// A PgBouncer in transaction mode with few connections to the server, so that sessions change hands all the time.
pub(crate) struct Pooler {
    pub(crate) port: u16,
    _program: Running,
}

impl Pooler {
    pub(crate) fn start(world: &World, postgres: &Postgres) -> Self {
        let (port, file) = (free_port(), world.path("pgbouncer.ini"));
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres user=sinfonia\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 100\n",
            postgres.port()
        );
        fs::write(&file, settings).unwrap();
        let mut command = Command::new(program());
        command.arg(&file);
        let running = world.start(command);
        running.wait_for_log(&["process up"]);
        Self { port, _program: running }
    }
}

/// Daemons are not in every user's path.
fn program() -> &'static str {
    const PATH: &str = "/usr/sbin/pgbouncer";
    if Path::new(PATH).exists() { PATH } else { "pgbouncer" }
}
