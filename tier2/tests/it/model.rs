//! Whatever sequence of requests, ticks, failures and restarts: no deployment, backend or address is leaked.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use sinfonia_tier2::{
    addresses::AddressPool,
    clock::Clock as _,
    driver::InstallError,
    lifecycle::{Activity, Expiring, Policy, State},
    registry::{CreateError, Outcome, Parts, Registry},
};
use tokio::runtime::{Builder, Runtime};

use crate::fake::{Fake, ManualClock, id, recipe};

const CLIENTS: u8 = 7;
const MAX_DEPLOYMENTS: usize = 6;
/// One less than deployments are allowed, so that both limits are met.
const ADDRESSES: usize = 5;
const LEASE: u64 = 300;

#[derive(Debug, Clone)]
enum Op {
    Request(u8),
    Delete(u8),
    /// Time passes and the periodic job runs.
    Tick(u64),
    Activity(u8, Activity),
    /// Installations are held from now on, or no longer.
    Hold(bool),
    /// The verdict on a held installation.
    Decide(u8, bool),
    BackendExits(u8),
    DiskFull(bool),
    Stop,
    Crash,
}

fn ops() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    let activity = prop_oneof![
        Just(Activity::Unknown),
        Just(Activity::Never),
        (0..2 * LEASE).prop_map(|ago| Activity::Ago(Duration::from_secs(ago))),
    ];
    prop_oneof![
        6 => client.clone().prop_map(Op::Request),
        2 => client.clone().prop_map(Op::Delete),
        4 => (0..2 * LEASE).prop_map(Op::Tick),
        2 => (client.clone(), activity).prop_map(|(client, activity)| Op::Activity(client, activity)),
        2 => any::<bool>().prop_map(Op::Hold),
        3 => (client.clone(), any::<bool>()).prop_map(|(client, works)| Op::Decide(client, works)),
        3 => client.prop_map(Op::BackendExits),
        1 => any::<bool>().prop_map(Op::DiskFull),
        1 => Just(Op::Stop),
        1 => Just(Op::Crash),
    ]
}

/// One process of tier2 after another on one machine.
struct Machine {
    fake: Fake,
    clock: ManualClock,
    runtime: Runtime,
    registry: Registry,
}

impl Machine {
    fn new() -> Self {
        let (fake, clock) = (Fake::default(), ManualClock::new());
        let (runtime, registry) = start(&fake, &clock);
        Self { fake, clock, runtime, registry }
    }

    fn restart(&mut self) {
        // Dropping the runtime drops every task where it stands.
        (self.runtime, self.registry) = start(&self.fake, &self.clock);
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Request(n) => {
                // Two at once must be as good as one.
                for _ in 0..2 {
                    let registry = self.registry.clone();
                    self.runtime.spawn(async move {
                        if registry.renew(&id(n)).is_none() {
                            // Refusals are judged by what is there afterwards.
                            let _ = registry.create(id(n), recipe(), None).await;
                        }
                    });
                }
            }
            Op::Delete(n) => {
                let registry = self.registry.clone();
                self.runtime.spawn(async move { registry.delete(&id(n)).await });
            }
            Op::Tick(seconds) => {
                self.clock.advance(seconds);
                self.registry.tick();
            }
            Op::Activity(n, activity) => {
                self.fake.world().activity.insert(id(n).key, activity);
            }
            Op::Hold(hold) => self.fake.world().hold = hold,
            Op::Decide(n, works) => {
                let verdict = self.fake.world().pending.remove(&id(n));
                let failure = InstallError::Platform("the test says so".to_owned());
                if let Some(verdict) = verdict {
                    let _ = verdict.send(if works { Ok(()) } else { Err(failure) });
                }
            }
            Op::BackendExits(n) => {
                let backend = self.fake.world().backends.remove(&id(n));
                if let Some(backend) = backend {
                    let _ = backend.send("killed".to_owned());
                }
            }
            Op::DiskFull(full) => self.fake.world().disk_full = full,
            Op::Stop => {
                self.runtime.block_on(self.registry.shutdown());
                assert_eq!(self.fake.world().live, BTreeSet::new(), "left behind by a graceful stop");
                self.fake.crash();
                self.restart();
            }
            Op::Crash => {
                self.fake.crash();
                self.restart();
            }
        }
        self.settle();
        self.check();
    }

    /// The clock of the runtime moves only when every task waits, so this ends when nothing is left to do.
    fn settle(&self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_secs(3600)).await });
    }

    fn check(&self) {
        let world = self.fake.world();
        let mut addresses = BTreeSet::<IpAddr>::new();
        let mut names = BTreeSet::new();
        let mut known = BTreeSet::new();
        for id in (0..CLIENTS).map(id) {
            let Some(deployment) = self.registry.get(&id) else {
                assert!(!world.live.contains(&id) && !world.named.contains(&id), "leaked");
                continue;
            };
            let plan = deployment.plan();
            assert!(plan.addresses.iter().all(|address| addresses.insert(*address)), "address given twice");
            assert!(names.insert(plan.name.clone()), "name given twice");
            known.insert(id);
            let running = world.backends.contains_key(&id);
            match deployment.state() {
                State::Deployed => assert!(running),
                State::Initializing | State::Expiring(Expiring::Reviving) => {
                    assert!(!running && world.pending.contains_key(&id));
                }
                State::Expiring(_) => assert!(!world.live.contains(&id)),
                State::Expired => unreachable!("not shown"),
            }
        }
        assert!(known.len() <= ADDRESSES);
        if !world.disk_full {
            let remembered: BTreeSet<_> = world.records.iter().map(sinfonia_tier2::state::Record::id).collect();
            assert!(known.is_subset(&remembered), "a restart would forget one");
        }
    }

    /// Everybody leaves. Then nothing may be left, and every address can be given again.
    fn finish(mut self) {
        {
            let mut world = self.fake.world();
            world.hold = false;
            world.disk_full = false;
            world.activity.clear();
        }
        for n in 0..CLIENTS {
            self.apply(Op::Decide(n, true));
        }
        for _ in 0..3 {
            self.apply(Op::Tick(LEASE + 1));
        }
        {
            let world = self.fake.world();
            assert!(world.live.is_empty() && world.named.is_empty() && world.records.is_empty());
        }
        let registry = self.registry.clone();
        let outcomes: Vec<_> = self.runtime.block_on(async {
            let mut outcomes = vec![];
            for n in 0..CLIENTS {
                outcomes.push(match registry.create(id(n), recipe(), None).await {
                    Ok(deployment) => Ok(deployment.settled().await),
                    Err(error) => Err(error),
                });
            }
            outcomes
        });
        let (made, refused) = outcomes.split_at(ADDRESSES);
        assert!(made.iter().all(|outcome| *outcome == Ok(Outcome::Ready)));
        assert!(refused.iter().all(|outcome| matches!(outcome, Err(CreateError::Exhausted(_)))));
    }
}

fn start(fake: &Fake, clock: &ManualClock) -> (Runtime, Registry) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let pool = AddressPool::new(&["10.7.0.0/29".parse().unwrap()], &[]).unwrap();
    let before: BTreeMap<_, _> = fake.world().records.iter().map(|record| (record.id(), record.clone())).collect();
    let registry = runtime.block_on(async {
        let registry = Registry::new(Parts {
            driver: fake.driver(),
            store: fake.store(),
            clock: Arc::new(clock.clone()),
            policy: Policy::with_lease(Duration::from_secs(LEASE)),
            pool,
            max_deployments: MAX_DEPLOYMENTS,
            max_per_client: None,
        });
        for record in before.values() {
            let live = record.lease_end > clock.now();
            assert_eq!(registry.restore(record, recipe()), live);
            let again = registry.get(&record.id());
            assert_eq!(again.is_some(), live);
            if let Some(deployment) = again {
                let plan = deployment.plan();
                assert_eq!((&plan.name, &plan.addresses), (&record.name, &record.addresses));
                assert!(!registry.restore(record, recipe()), "restored twice");
            }
        }
        registry
    });
    (runtime, registry)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_leaked(ops in proptest::collection::vec(ops(), 0..60)) {
        let mut machine = Machine::new();
        machine.settle();
        for op in ops {
            machine.apply(op);
        }
        machine.finish();
    }
}
