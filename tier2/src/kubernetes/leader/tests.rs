use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;

/// What the API server has: at most one lease, whose version counts its writes.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Option<Value>>>);

impl Server {
    fn answer(&self, method: &Method, sent: &[u8]) -> (u16, Value) {
        let mut lease = self.0.lock().unwrap();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        let failure = |code: u16, reason| (code, json!({ "status": "Failure", "reason": reason, "code": code }));
        if *method == Method::GET {
            return lease.clone().map_or_else(|| failure(404, "NotFound"), |lease| (200, lease));
        }
        let mut sent: Value = serde_json::from_slice(sent).unwrap();
        let next = match (&*lease, method) {
            (None, &Method::POST) => 1,
            (Some(_), &Method::POST) => return failure(409, "AlreadyExists"),
            (Some(present), &Method::PUT) if version(present) == version(&sent) => {
                version(present).as_str().unwrap().parse::<u64>().unwrap() + 1
            }
            _ => return failure(409, "Conflict"),
        };
        sent["metadata"]["resourceVersion"] = next.to_string().into();
        *lease = Some(sent.clone());
        (200, sent)
    }

    /// A candidate, and whether its requests get no answer.
    fn candidate(&self, identity: &str) -> (Candidate, Arc<AtomicBool>) {
        let (server, is_cut_off) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let cut_off = is_cut_off.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, cut_off) = (server.clone(), cut_off.clone());
            async move {
                if cut_off.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let (parts, body) = request.into_parts();
                let sent = body.collect().await.unwrap().to_bytes();
                let (status, body) = server.answer(&parts.method, &sent);
                let answer = Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        let api = Api::namespaced(Client::new(service, "sinfonia"), "sinfonia");
        (Candidate::new(api, identity), is_cut_off)
    }

    fn spec(&self) -> Value {
        self.0.lock().unwrap().as_ref().unwrap()["spec"].clone()
    }
}

/// When a candidate has led, last.
#[derive(Clone, Default)]
struct Led(Arc<Mutex<(Option<Instant>, Option<Instant>)>>);

impl Led {
    fn begin(&self) -> Option<Instant> {
        self.0.lock().unwrap().0
    }

    fn end(&self) -> Option<Instant> {
        self.0.lock().unwrap().1
    }
}

struct Term(Led);

impl Drop for Term {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().1 = Some(Instant::now());
    }
}

fn stands(candidate: Candidate) -> (Led, JoinHandle<()>) {
    let led = Led::default();
    let work = {
        let led = led.clone();
        move || {
            *led.0.lock().unwrap() = (Some(Instant::now()), None);
            let term = Term(led.clone());
            async move {
                let _term = term;
                std::future::pending().await
            }
        }
    };
    (led, tokio::spawn(candidate.stand(work)))
}

async fn until(mut is: impl FnMut() -> bool) {
    while !is() {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_begins() {
    // Whenever it is cut off, between two renewals.
    for moment in (0..2000).step_by(100).map(Duration::from_millis) {
        let server = Server::default();
        let ((first, cut_off), (second, _)) = (server.candidate("first"), server.candidate("second"));
        let (first, _) = stands(first);
        until(|| first.begin().is_some()).await;
        let (second, _) = stands(second);
        sleep(DURATION + moment).await;
        assert_eq!((first.end(), second.begin()), (None, None));
        let renewed = server.spec()["renewTime"].clone();
        cut_off.store(true, Ordering::SeqCst);
        let begin = Instant::now();
        until(|| second.begin().is_some()).await;
        let (ended, begun) = (first.end().expect("both lead"), second.begin().unwrap());
        assert!(ended - begin <= RENEWED_WITHIN && ended + Duration::from_secs(1) <= begun, "{:?}", begun - ended);
        assert!(begun - begin <= DURATION + 2 * PAUSE);
        assert_ne!(server.spec()["renewTime"], renewed);
        assert_eq!(
            (&server.spec()["holderIdentity"], &server.spec()["leaseTransitions"]),
            (&json!("second"), &json!(2))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_is_shorter_than_the_limit_ends_nothing() {
    let server = Server::default();
    let (first, cut_off) = server.candidate("first");
    let (first, _) = stands(first);
    until(|| first.begin().is_some()).await;
    cut_off.store(true, Ordering::SeqCst);
    sleep(RENEWED_WITHIN - 2 * PAUSE).await;
    cut_off.store(false, Ordering::SeqCst);
    sleep(2 * DURATION).await;
    assert_eq!(first.end(), None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_over_what_somebody_else_wrote() {
    let server = Server::default();
    let (mut first, mut second) = (server.candidate("first").0, server.candidate("second").0);
    assert!(first.try_hold().await.unwrap());
    let read = first.api.get(LEASE).await.unwrap();
    assert!(!second.try_hold().await.unwrap());
    tokio::time::advance(DURATION).await;
    assert!(second.try_hold().await.unwrap());
    assert!(first.write(read).await.unwrap_err().is_conflict());
    assert!(!first.try_hold().await.unwrap());
    assert_eq!(server.spec()["holderIdentity"], "second");
}

#[tokio::test(start_paused = true)]
async fn clocks_of_others_do_not_matter() {
    let server = Server::default();
    for renewed in ["1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"] {
        let spec = json!({ "holderIdentity": "other", "renewTime": renewed, "leaseDurationSeconds": 10 });
        *server.0.lock().unwrap() = Some(json!({ "metadata": { "resourceVersion": "7" }, "spec": spec }));
        let mut candidate = server.candidate("own").0;
        assert!(!candidate.try_hold().await.unwrap());
        tokio::time::advance(DURATION - PAUSE).await;
        assert!(!candidate.try_hold().await.unwrap());
        tokio::time::advance(PAUSE).await;
        assert!(candidate.try_hold().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let server = Server::default();
    let (mut first, mut second) = (server.candidate("first").0, server.candidate("second").0);
    assert!(first.try_hold().await.unwrap());
    second.release().await.unwrap();
    assert!(!second.try_hold().await.unwrap());
    first.release().await.unwrap();
    assert_eq!(server.spec(), json!({ "leaseTransitions": 1 }));
    assert!(second.try_hold().await.unwrap());
}
