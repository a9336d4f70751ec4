//! Schemas of earlier versions, with data in them, and several tier1s that start at once.

use std::fs;
use std::path::Path;

use sinfonia_tests::{Postgres, World, database_url};
use uuid::Uuid;

use crate::setup::{acknowledged, base, endpoint, listed, ready_tier1};

/// Files by version, and a cloudlet as each of them has it.
fn migrations() -> Vec<(i64, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let version = |path: &Path| path.file_name().unwrap().to_str().unwrap().split('_').next().unwrap().parse().unwrap();
    files.iter().map(|path| (version(path), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_earlier_schema_with_data_in_it_is_migrated() {
    let world = World::new();
    let migrations = migrations();
    let newest = migrations.len();
    let first = &migrations[0].1;
    let (begin, end) = (first.find("CREATE FUNCTION announce_change").unwrap(), first.find("END $$;").unwrap());
    let announcing = first[begin..end].replace("CREATE", "CREATE OR REPLACE") + "END $$";
    // A database as tier1 leaves it; what later versions added is taken back.
    let undo = [
        announcing.as_str(),
        "DROP TRIGGER log_tokens ON tokens; DROP FUNCTION log_tokens; ALTER TABLE tokens DROP COLUMN principal;
         ALTER TABLE holders DROP COLUMN owner; ALTER TABLE changes DROP COLUMN tokens",
        "DROP TABLE tokens, audit",
        "DROP TABLE holders; ALTER TABLE changes DROP COLUMN held",
        "DROP TABLE metrics; ALTER TABLE pulses DROP COLUMN sampled",
    ];
    assert_eq!(undo.len(), newest - 1, "one for every version but the first");
    let postgres = Postgres::start(&world, "postgres", &[]);
    let url = database_url(postgres.port());
    let uuid = Uuid::new_v4();
    for back in 0..newest {
        let tier1 = ready_tier1(&world, &url);
        assert_eq!(postgres.query("SELECT count(*) FROM _sqlx_migrations WHERE success"), newest.to_string());
        if back == 0 {
            acknowledged(&base(&tier1), uuid, 5);
        } else {
            assert_eq!(listed(&base(&tier1)).unwrap()[&uuid], 4 + back as u64, "the data is still there");
            acknowledged(&base(&tier1), uuid, 5 + back as u64);
        }
        assert_eq!(tier1.stop().code(), 0);
        for (undo, version) in undo.iter().take(back + 1).zip((0..).map(|n| newest - n)) {
            postgres.query(&format!("{undo}; DELETE FROM _sqlx_migrations WHERE version = {version}"));
        }
    }
    let endpoint_kept = postgres.query("SELECT info->>'endpoint' FROM cloudlets");
    assert_eq!(endpoint_kept, endpoint());
}

#[test]
fn replicas_that_start_at_once_migrate_once() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &["log_statement=ddl"]);
    let url = database_url(postgres.port());
    let replicas: Vec<_> = (0..3).map(|_| crate::setup::tier1(&world, &url)).collect();
    for tier1 in &replicas {
        tier1.wait_for_log(&["the database is read"]);
    }
    let made = postgres.log().matches("CREATE TABLE cloudlets").count();
    assert_eq!(made, 1);
    assert_eq!(postgres.query("SELECT count(*) FROM _sqlx_migrations"), migrations().len().to_string());
    for tier1 in replicas {
        assert!(!tier1.log().contains("WARN"), "{}", tier1.log());
    }
}

#[test]
fn a_newer_schema_is_no_reason_not_to_start() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let url = database_url(postgres.port());
    assert_eq!(ready_tier1(&world, &url).stop().code(), 0);
    postgres.query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', true, '', 0)",
    );
    acknowledged(&base(&ready_tier1(&world, &url)), Uuid::new_v4(), 1);
}
