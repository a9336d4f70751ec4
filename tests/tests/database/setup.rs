//! Tier1s on one database, cloudlets that report to them, and clients that ask.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use sinfonia_tests::{Running, World, eventually};
use uuid::Uuid;

/// Longer than tier1 lets anybody wait.
const LIMIT: Duration = Duration::from_secs(30);

/// Starts a tier1 on a database; every report is in its history.
pub(crate) fn tier1(world: &World, database: &str) -> Running {
    world.tier1(&["--database-url", database, "--history-step", "0"])
}

/// The same, when it has read the database.
pub(crate) fn ready_tier1(world: &World, database: &str) -> Running {
    let tier1 = tier1(world, database);
    let url = format!("{}/readyz", base(&tier1));
    eventually("tier1 is ready", || get(&url).is_some_and(|answer| answer.status == 200));
    tier1
}

pub(crate) fn base(tier1: &Running) -> String {
    format!("http://{}", tier1.listens())
}

/// What a server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

/// None if there was no answer.
pub(crate) fn get(url: &str) -> Option<Answer> {
    send(ureq::http::Request::get(url).body(()).unwrap())
}

pub(crate) fn send(request: ureq::http::Request<impl ureq::AsSendBody>) -> Option<Answer> {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(LIMIT));
    let agent: ureq::Agent = config.build().into();
    let mut answer = agent.run(request).ok()?;
    let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let body = answer.body_mut().read_to_string().ok()?;
    let body = serde_json::from_str(&body).unwrap_or_default();
    Some(Answer { status: answer.status().as_u16(), retry_after, body })
}

/// Reports a cloudlet, whose load is this count.
pub(crate) fn report(base: &str, uuid: Uuid, count: u64) -> Option<Answer> {
    report_as(base, &json!({"uuid": uuid, "endpoint": endpoint(), "resources": {"count": count}}))
}

pub(crate) fn report_as(base: &str, info: &Value) -> Option<Answer> {
    let request = ureq::http::Request::post(format!("{base}/api/v1/cloudlets/"));
    send(request.header("content-type", "application/json").body(info.to_string()).unwrap())
}

/// Where nobody listens.
pub(crate) fn endpoint() -> &'static str {
    "http://127.0.0.1:9/api/v1/deploy"
}

/// Reports until it is acknowledged.
pub(crate) fn acknowledged(base: &str, uuid: Uuid, count: u64) {
    eventually("a report is acknowledged", || report(base, uuid, count).is_some_and(|answer| answer.status == 204));
}

/// What a tier1 lists: cloudlets and their counts.
pub(crate) fn listed(base: &str) -> Option<BTreeMap<Uuid, u64>> {
    let answer = get(&format!("{base}/api/v1/cloudlets/")).filter(|answer| answer.status == 200)?;
    let cloudlets = answer.body.as_array().unwrap().iter();
    Some(cloudlets.map(|cloudlet| (uuid(cloudlet), cloudlet["resources"]["count"].as_f64().unwrap() as u64)).collect())
}

fn uuid(cloudlet: &Value) -> Uuid {
    cloudlet["uuid"].as_str().unwrap().parse().unwrap()
}

/// Cloudlets that report as fast as they can, each with a growing count.
pub(crate) struct Crowd {
    acknowledged: Arc<Mutex<BTreeMap<Uuid, u64>>>,
    strange: Arc<Mutex<Vec<Answer>>>,
    refused: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// So many, each reporting to one of the tier1s after the other.
    pub(crate) fn start(size: usize, bases: &[String]) -> Self {
        let mut crowd = Self {
            acknowledged: Arc::default(),
            strange: Arc::default(),
            refused: Arc::default(),
            ended: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 0..size {
            let (acknowledged, strange) = (crowd.acknowledged.clone(), crowd.strange.clone());
            let (refused, ended, bases) = (crowd.refused.clone(), crowd.ended.clone(), bases.to_vec());
            crowd.threads.push(std::thread::spawn(move || {
                let uuid = Uuid::new_v4();
                for (count, base) in (1..).zip(bases.iter().cycle()) {
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    match report(base, uuid, count) {
                        Some(answer) if answer.status == 204 => {
                            acknowledged.lock().unwrap().insert(uuid, count);
                        }
                        Some(answer) if answer.status == 503 && answer.retry_after.is_some() => {
                            refused.store(true, Ordering::SeqCst);
                        }
                        Some(answer) => strange.lock().unwrap().push(answer),
                        // Nobody is there.
                        None => std::thread::sleep(Duration::from_millis(10)),
                    }
                }
            }));
        }
        crowd.wait_for_progress();
        crowd
    }

    /// Waits until every cloudlet has had one more report acknowledged.
    pub(crate) fn wait_for_progress(&self) {
        let size = self.threads.len();
        let before = self.acknowledged.lock().unwrap().clone();
        eventually("every cloudlet's reports are acknowledged", || {
            let now = self.acknowledged.lock().unwrap();
            now.len() == size && now.iter().all(|(uuid, count)| before.get(uuid).is_none_or(|before| before < count))
        });
    }

    /// Waits until a report is refused, properly.
    pub(crate) fn wait_for_refusal(&self) {
        self.refused.store(false, Ordering::SeqCst);
        eventually("a report is refused with 503 and Retry-After", || self.refused.load(Ordering::SeqCst));
    }

    /// Ends it and returns the last count of each cloudlet that was acknowledged.
    pub(crate) fn end(mut self) -> BTreeMap<Uuid, u64> {
        self.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let strange = self.strange.lock().unwrap();
        assert!(strange.is_empty(), "neither 204 nor 503 with Retry-After: {strange:?}");
        self.acknowledged.lock().unwrap().clone()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

/// Whether everything acknowledged is there.
pub(crate) fn are_all_there(acknowledged: &BTreeMap<Uuid, u64>, listed: &BTreeMap<Uuid, u64>) -> bool {
    acknowledged.iter().all(|(uuid, count)| listed.get(uuid).is_some_and(|found| found >= count))
}

/// Everything acknowledged is there: a later report that got no answer may be as well.
pub(crate) fn assert_all_there(acknowledged: &BTreeMap<Uuid, u64>, listed: &BTreeMap<Uuid, u64>) {
    assert!(are_all_there(acknowledged, listed), "{acknowledged:?} was acknowledged, {listed:?} is there");
}

/// Clients that ask for candidates all the time, and have to get some.
pub(crate) struct Clients {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Clients {
    pub(crate) fn start(base: &str, application: Uuid) -> Self {
        let ended = Arc::<AtomicBool>::default();
        let stop = ended.clone();
        let url = format!("{base}/api/v1/deploy/{application}/Sx7g5QA5PN4T-CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE");
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !stop.load(Ordering::SeqCst) {
                let answer = get(&url).unwrap();
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_ne!(answer.body.as_array().unwrap().len(), 0);
                count += 1;
            }
            count
        });
        Self { ended, thread: Some(thread) }
    }

    /// Ends them; all of them have been answered.
    pub(crate) fn end(mut self) {
        self.ended.store(true, Ordering::SeqCst);
        assert_ne!(self.thread.take().unwrap().join().unwrap(), 0);
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}
