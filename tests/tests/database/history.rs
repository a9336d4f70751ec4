//! The days of the metrics history: made ahead, dropped when they are old.

use sinfonia_tests::{Postgres, World, database_url};
use uuid::Uuid;

use crate::setup::{acknowledged, base, get, ready_tier1};

/// Days from today of all partitions, in order.
fn days(postgres: &Postgres) -> String {
    postgres.query(
        "SELECT string_agg(day::text, ' ' ORDER BY day) FROM (
            SELECT to_date(right(c.relname, 8), 'YYYYMMDD') - (now() AT TIME ZONE 'UTC')::date AS day
            FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'metrics'::regclass
        ) AS partitions",
    )
}

fn add(postgres: &Postgres, day: i32) {
    postgres.query(&format!(
        "SET TimeZone = 'UTC';
         DO $$
         DECLARE day date := current_date + {day};
         BEGIN
             EXECUTE format('CREATE TABLE metrics_%s PARTITION OF metrics FOR VALUES FROM (%L) TO (%L)',
                 to_char(day, 'YYYYMMDD'), day, day + 1);
             INSERT INTO metrics VALUES ('{uuid}', day + interval '1 hour', '{{}}');
         END $$",
        uuid = Uuid::nil()
    ));
}

#[test]
fn days_are_made_ahead_and_dropped_by_retention() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let url = database_url(postgres.port());
    let tier1 = ready_tier1(&world, &url);
    acknowledged(&base(&tier1), Uuid::new_v4(), 1);
    assert_eq!(days(&postgres), "-1 0 1 2 3");
    assert_eq!(tier1.stop().code(), 0);

    // Two of the days ahead are missing, as after a long pause; three are old, one of them by a day.
    postgres.query(
        "SET TimeZone = 'UTC';
         DO $$ BEGIN
             EXECUTE format('DROP TABLE metrics_%s, metrics_%s',
                 to_char(current_date + 2, 'YYYYMMDD'), to_char(current_date + 3, 'YYYYMMDD'));
         END $$",
    );
    [-400, -8, -7, -3].into_iter().for_each(|day| add(&postgres, day));
    let week = ready_tier1(&world, &url);
    assert_eq!(days(&postgres), "-7 -3 -1 0 1 2 3", "a week by default");
    // What people keep there for themselves is not tier1's to drop.
    postgres.query("CREATE TABLE metrics_backup AS SELECT * FROM metrics");
    let day = world.tier1(&["--database-url", &url, "--history-days", "1"]);
    day.wait_for_log(&["the database is read"]);
    assert_eq!(days(&postgres), "-1 0 1 2 3");
    assert_eq!(postgres.query("SELECT count(*) FROM metrics_backup"), "3");
    acknowledged(&base(&week), Uuid::new_v4(), 1);
}

#[test]
fn what_was_reported_is_told_in_averages() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let tier1 = ready_tier1(&world, &database_url(postgres.port()));
    let (base, cloudlet) = (base(&tier1), Uuid::new_v4());
    acknowledged(&base, cloudlet, 0);
    postgres.query("DELETE FROM metrics");
    // Five values a minute, from the beginning of a minute two hours ago.
    postgres.query(&format!(
        "INSERT INTO metrics (cloudlet, at, resources)
         SELECT '{cloudlet}', to_timestamp(floor(extract(epoch FROM now()) / 600) * 600 - 7200) + n * interval '12 s',
             json_build_object('cpu_ratio', n)
         FROM generate_series(0, 9) n
         WHERE EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'metrics'::regclass)"
    ));
    let url = format!("{base}/api/v1/cloudlets/{cloudlet}/metrics");
    let from: u64 =
        postgres.query("SELECT (floor(extract(epoch FROM now()) / 600) * 600 - 7200)::bigint").parse().unwrap();
    let ratios = |query: String| {
        let answer = get(&format!("{url}?{query}")).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let points = answer.body["points"].as_array().unwrap().clone();
        points.iter().map(|point| point["resources"]["cpu_ratio"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let to = from + 3600;
    assert_eq!(ratios(format!("from={from}&to={to}")), [2.0, 7.0]);
    assert_eq!(ratios(format!("from={from}&to={to}&step=600")), [4.5]);
    assert_eq!(ratios(format!("from={}&to={to}&step=60", from + 60)), [7.0]);
    assert_eq!(ratios(format!("from={}&to={from}", from - 3600)), [0.0; 0]);
    assert_eq!(get(&format!("{url}?from={from}&to={to}&step=x")).unwrap().status, 400);
}

#[test]
fn histories_leave_connections_to_others() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let tier1 = ready_tier1(&world, &database_url(postgres.port()));
    let uuid = Uuid::new_v4();
    acknowledged(&base(&tier1), uuid, 1);
    // Slow, but not slower than a statement may be.
    postgres.query(
        "ALTER TABLE metrics RENAME TO all_metrics;
         CREATE VIEW metrics AS SELECT all_metrics.* FROM (SELECT pg_sleep(3.5)) AS slowly, all_metrics",
    );
    let url = format!("{}/api/v1/cloudlets/{uuid}/metrics", base(&tier1));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || get(&url).unwrap())
        })
        .collect();
    let answers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 2, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("5")), "{answer:?}");
        assert_eq!(answer.body["code"], "history-busy");
    }
}
