//! tier2 is killed at any moment, again and again, while clients come and go.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sinfonia_tests::cluster::{Cluster, url};

use crate::settled::{ask, forget_leader, holds, settles};

/// How often it is killed, or less often if that takes too long on this machine.
const KILLS: usize = 200;
const TIME: Duration = Duration::from_secs(150);

/// At most so long after its start, in milliseconds: a deployment takes about as long.
const LIFE: u64 = 1000;

const CLIENTS: u8 = 4;
const KEYS_EACH: u8 = 3;

/// What clients and the one that kills share.
#[derive(Default)]
struct Shared {
    base: Mutex<String>,
    stop: AtomicBool,
    failed: AtomicBool,
}

/// Lets the clients end when the test fails.
struct EndsClients<'a>(&'a Shared);

impl Drop for EndsClients<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
        self.0.failed.store(thread::panicking(), Ordering::Relaxed);
    }
}

/// Numbers at random (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Asks for deployments and releases them until it is told to stop; those that it has at the end.
fn client(shared: &Shared, application: &str, keys: std::ops::Range<u8>, mut random: Random) -> BTreeSet<u8> {
    let mut wanted = BTreeSet::new();
    while !shared.stop.load(Ordering::Relaxed) {
        for key in keys.clone() {
            if random.below(3) == 0 {
                until_acknowledged(shared, "DELETE", (application, key));
                wanted.remove(&key);
            } else {
                until_acknowledged(shared, "POST", (application, key));
                wanted.insert(key);
            }
        }
    }
    wanted
}

fn until_acknowledged(shared: &Shared, method: &str, who: (&str, u8)) {
    loop {
        let base = shared.base.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match ask(method, &base, who, &[("Prefer", "wait=3")]) {
            Ok(answer) if matches!(answer.status, 200 | 204) => return,
            // It goes on.
            Ok(answer) if answer.code() == "deployment-not-ready" => return,
            Ok(answer) => assert!(matches!(answer.status, 409 | 503), "{method} {who:?}: {answer:?}"),
            // There is no server at the moment.
            Err(error) if shared.failed.load(Ordering::Relaxed) => panic!("{error}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[test]
fn killed_at_random_under_load() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    let seed = u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos()) | 1;
    let mut random = Random(seed);
    let shared = Shared::default();
    thread::scope(|scope| {
        let _ends = EndsClients(&shared);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (shared, application, random) = (&shared, &application, Random(random.below(u64::MAX) | 1));
                scope.spawn(move || {
                    client(shared, application, 1 + number * KEYS_EACH..1 + (number + 1) * KEYS_EACH, random)
                })
            })
            .collect();
        let (begin, mut kills) = (Instant::now(), 0);
        while kills < KILLS && begin.elapsed() < TIME {
            let tier2 = cluster.tier2(&[]);
            // Some die before they can be asked.
            if random.below(8) > 0 {
                *shared.base.lock().unwrap() = url(&tier2);
            }
            thread::sleep(Duration::from_millis(random.below(LIFE)));
            tier2.kill();
            forget_leader(&cluster);
            kills += 1;
        }
        println!("killed {kills} times in {} s, seed {seed}", begin.elapsed().as_secs());
        let last = cluster.tier2(&[]);
        *shared.base.lock().unwrap() = url(&last);
        shared.stop.store(true, Ordering::Relaxed);
        let wanted = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        settles(|| format!("seed {seed}: {}", last.log()), || holds(&cluster, &wanted));
    });
}
