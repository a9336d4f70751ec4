//! Tier1 ends, in whatever way.

use sinfonia_tests::{Postgres, World, database_url, free_port};

use crate::setup::{Crowd, assert_all_there, base, listed, ready_tier1};

#[test]
fn acknowledged_reports_survive_restarts_and_kills_in_mid_batch() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let (url, port) = (database_url(postgres.port()), free_port().to_string());
    let start = || {
        let tier1 = world.tier1(&["--database-url", &url, "--history-step", "0", "--port", &port]);
        tier1.wait_for_log(&["the database is read"]);
        tier1
    };
    let mut tier1 = start();
    let base = base(&tier1);
    let crowd = Crowd::start(16, std::slice::from_ref(&base));
    for is_killed in [true, false, true, true] {
        if is_killed {
            tier1.kill();
        } else {
            assert_eq!(tier1.stop().code(), 0);
        }
        tier1 = start();
        crowd.wait_for_progress();
    }
    tier1.kill();
    let acknowledged = crowd.end();
    let tier1 = ready_tier1(&world, &url);
    assert_all_there(&acknowledged, &listed(&crate::setup::base(&tier1)).unwrap());
    for (uuid, count) in &acknowledged {
        let kept = postgres.query(&format!(
            "SELECT count(*) FROM metrics WHERE cloudlet = '{uuid}' AND (resources->>'count')::float = {count}"
        ));
        assert_eq!(kept, "1", "the history has it too");
    }
}
