use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower::BoxError;

use super::*;

fn pod(app: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "n", "labels": {"app": app}},
        "spec": {"containers": [], "nodeName": "w"},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.244.0.5"}]},
    });
    serde_json::from_value(pod).unwrap()
}

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
}

fn of(spec: Value) -> Vec<String> {
    let targets = targets(&service(spec), &[pod("web")]);
    targets.into_iter().map(|target| target.address.to_string()).collect()
}

#[test]
fn only_services_that_should_answer_are_asked() {
    let ports = json!([{"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 443, "protocol": "TCP"}]);
    let spec = json!({"clusterIP": "10.96.0.7", "selector": {"app": "web"}, "ports": ports});
    assert_eq!(of(spec.clone()), ["10.96.0.7:80", "10.96.0.7:443"]);
    let starting = Pod { status: None, ..pod("web") };
    assert_eq!(targets(&service(spec.clone()), &[starting]).len(), 2, "also while its pods have no address yet");
    for (field, value) in [
        ("clusterIP", json!("None")),
        ("clusterIP", json!(null)),
        ("selector", json!(null)),
        ("selector", json!({})),
        ("selector", json!({"app": "other"})),
    ] {
        let mut other = spec.clone();
        other[field] = value;
        assert!(of(other.clone()).is_empty(), "{other}");
    }
}

#[test]
fn rules_must_cover_all_addresses_of_the_clients_families() {
    let addresses = vec!["10.5.0.2/32".parse().unwrap()];
    let peer = TunnelPeer { name: "n".into(), addresses, keepalive: None };
    let mut plan = Plan::default();
    assert!(!is_covered(&pod("web"), &peer, &plan));
    plan.access.pairs.insert(("10.5.0.2".parse().unwrap(), "10.244.0.5".parse().unwrap()));
    assert!(is_covered(&pod("web"), &peer, &plan));
}

/// An API server of empty namespaces, that answers when it is told to.
#[derive(Default)]
struct Api {
    asked: watch::Sender<usize>,
    answering: AtomicUsize,
    most: AtomicUsize,
    gate: watch::Sender<bool>,
}

impl Api {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let at_once = self.answering.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(at_once, Ordering::SeqCst);
        self.asked.send_modify(|asked| *asked += 1);
        self.gate.subscribe().wait_for(|is_open| *is_open).await?;
        self.answering.fetch_sub(1, Ordering::SeqCst);
        let kind = if request.uri().path().ends_with("/pods") { "PodList" } else { "ServiceList" };
        let list = json!({"kind": kind, "apiVersion": "v1", "metadata": {}, "items": []});
        Ok(Response::new(Body::from(list.to_string().into_bytes())))
    }

    fn asked(&self) -> usize {
        *self.asked.borrow()
    }
}

/// A prober of so many deployments, each with the key of its number.
fn prober(deployments: u8) -> (Arc<Api>, Prober, watch::Sender<Arc<Plan>>) {
    let api = Arc::<Api>::default();
    let service = api.clone();
    let client = Client::new(tower::service_fn(move |request| service.clone().answer(request)), "default");
    let peer = |number: u8| TunnelPeer { name: format!("n{number}"), addresses: Vec::new(), keepalive: None };
    let peers = (0..deployments).map(|number| ([number; 32].into(), peer(number))).collect();
    let (sender, applied) = watch::channel(Arc::new(Plan { peers, ..Plan::default() }));
    (api, Prober::new(client, applied), sender)
}

/// Asks for each of these keys at the same time, and opens the API server once it was asked `asked` times.
async fn ask(api: &Api, prober: &Prober, keys: impl Iterator<Item = u8>, asked: usize) -> Vec<Reachability> {
    let keys: Vec<PublicKey> = keys.map(|number| [number; 32].into()).collect();
    let probes = join_all(keys.iter().map(|key| prober.probe(key, Duration::from_secs(30))));
    let open = async {
        api.asked.subscribe().wait_for(|now| *now >= asked).await.unwrap();
        api.gate.send_replace(true);
    };
    tokio::join!(probes, open).0
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_for_the_same_are_answered_by_one_look() {
    let (api, prober, _sender) = prober(1);
    assert_eq!(ask(&api, &prober, std::iter::repeat_n(0, 50), 2).await, vec![Reachability::Reachable; 50]);
    assert_eq!(api.asked(), 2, "for pods and services");
}

#[tokio::test]
async fn the_api_server_is_not_asked_about_everybody_at_once() {
    let (api, prober, _sender) = prober(50);
    assert_eq!(ask(&api, &prober, 0..50, 2 * LOOKS).await, vec![Reachability::Reachable; 50]);
    assert_eq!((api.asked(), api.most.load(Ordering::SeqCst)), (100, 2 * LOOKS));
}

#[tokio::test]
async fn what_was_found_is_soon_of_no_use() {
    let (api, prober, sender) = prober(1);
    api.gate.send_replace(true);
    let key = [0; 32].into();
    let look = async || prober.probe(&key, Duration::ZERO).await;
    assert_eq!(look().await, Reachability::Reachable);
    sender.send_modify(|plan| *plan = Arc::new(Plan::clone(plan)));
    assert_eq!(look().await, Reachability::Reachable);
    assert_eq!(api.asked(), 4, "other rules are in force");
    tokio::time::pause();
    tokio::time::advance(FRESH).await;
    assert_eq!(look().await, Reachability::Reachable);
    assert_eq!(api.asked(), 6);
    assert_eq!(prober.found.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn who_finds_the_gateway_busy_is_told_so() {
    let (api, prober, _sender) = prober(20);
    let waiting = ask(&api, &prober, 0..u8::try_from(LOOKS).unwrap(), usize::MAX);
    let late = async {
        api.asked.subscribe().wait_for(|asked| *asked == 2 * LOOKS).await.unwrap();
        tokio::time::pause();
        for key in [0, 19] {
            assert_eq!(prober.probe(&[key; 32].into(), Duration::ZERO).await, busy());
        }
    };
    tokio::select! {
        _ = waiting => panic!("nobody was answered"),
        () = late => {}
    }
}
