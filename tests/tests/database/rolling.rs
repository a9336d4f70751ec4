//! Replicas are stopped, upgraded and lost one after another behind a balancer: no client notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sinfonia_tests::{Postgres, Running, World, database_url, eventually, free_port};
use uuid::Uuid;

use crate::balancer::Balancer;
use crate::cloudlets::{cloudlet, deploy, holder, new_client, wait_for_cloudlets};
use crate::setup::get;

/// How long a replica goes on when it is told to stop: the balancer looks every 100 ms.
const DELAY: Duration = Duration::from_secs(1);

/// Clients that deploy all the time, each at the one cloudlet there is. A deploy that fails ends the test.
struct Crowd {
    counts: Arc<[AtomicUsize]>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn start(size: usize, base: &str, application: Uuid) -> Self {
        let counts: Arc<[AtomicUsize]> = (0..size).map(|_| AtomicUsize::new(0)).collect();
        let ended = Arc::<AtomicBool>::default();
        let client = |index: usize| {
            let (counts, ended, base) = (counts.clone(), ended.clone(), base.to_owned());
            std::thread::spawn(move || {
                let key = new_client();
                while !ended.load(Ordering::SeqCst) {
                    let answer = deploy(&base, application, &key);
                    holder(&answer.unwrap());
                    counts[index].fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let threads = (0..size).map(client).collect();
        let crowd = Self { counts, ended, threads };
        crowd.wait_for_progress();
        crowd
    }

    /// Waits until every client has had some more answers.
    fn wait_for_progress(&self) {
        let count = || self.counts.iter().map(|count| count.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let before = count();
        eventually("every client has deployed", || {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a deploy failed");
            count().iter().zip(&before).all(|(now, before)| *now >= before + 10)
        });
    }

    fn end(mut self) {
        self.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

fn start(world: &World, database: &str, port: u16) -> Running {
    let (port, delay) = (port.to_string(), DELAY.as_secs().to_string());
    let tier1 = world.tier1(&["--database-url", database, "--port", &port, "--shutdown-delay", &delay]);
    tier1.wait_for_log(&["the database is read"]);
    tier1
}

#[test]
fn no_deploy_fails_while_replicas_are_replaced_and_lost() {
    let world = World::new();
    let application = world.add_page("always there");
    let postgres = Postgres::start(&world, "postgres", &[]);
    let url = database_url(postgres.port());
    let ports = [(); 3].map(|()| free_port());
    let mut replicas: Vec<Running> = ports.iter().map(|port| start(&world, &url, *port)).collect();
    let balancer = Balancer::start(&ports);
    let _tier2 = cloudlet(&world, "cloudlet", balancer.base());
    for port in ports {
        wait_for_cloudlets(&format!("http://127.0.0.1:{port}"), 1);
    }
    let crowd = Crowd::start(6, balancer.base(), application);
    // The last one again, and then by a blow.
    for (index, is_killed) in [(0, false), (1, false), (2, false), (2, true), (0, true)] {
        let replica = replicas.remove(index);
        if is_killed {
            replica.kill();
        } else {
            let before = balancer.repeated();
            assert_eq!(replica.stop().code(), 0);
            crowd.wait_for_progress();
            assert_eq!(balancer.repeated(), before, "nobody was sent there any more when it stopped");
        }
        crowd.wait_for_progress();
        replicas.insert(index, start(&world, &url, ports[index]));
        balancer.wait_for_servers(3);
        crowd.wait_for_progress();
    }
    crowd.end();
    eprintln!("{} requests were sent again to another replica", balancer.repeated());
}

#[test]
fn a_replica_that_is_told_to_stop_says_so_before_it_does() {
    let world = World::new();
    let tier1 = world.tier1(&["--shutdown-delay", "2"]);
    let base = format!("http://{}", tier1.listens());
    let ready = || get(&format!("{base}/readyz")).map(|answer| answer.status);
    assert_eq!(ready(), Some(200));
    let told = Instant::now();
    tier1.signal("TERM");
    eventually("it is not ready", || ready() == Some(503));
    assert_eq!(get(&format!("{base}/api/v1/cloudlets/")).unwrap().status, 200, "it still serves");
    assert_eq!(tier1.finish().code(), 0);
    assert!(told.elapsed() >= Duration::from_secs(2));

    let tier1 = world.tier1(&["--shutdown-delay", "600"]);
    let base = format!("http://{}", tier1.listens());
    eventually("it is ready", || get(&format!("{base}/readyz")).is_some_and(|answer| answer.status == 200));
    tier1.signal("TERM");
    eventually("it is not ready", || get(&format!("{base}/readyz")).is_some_and(|answer| answer.status == 503));
    tier1.signal("TERM");
    assert_eq!(tier1.finish().code(), 0, "a second signal ends the wait");
}
