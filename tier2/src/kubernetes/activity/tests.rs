use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use kube::Client;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::fetch::{
    TIME_LIMIT,
    tests::{Behaviour, Fake, client},
};

const KEY: &str = "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=";
const OTHER: &str = "2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg/8YHRlHBcwV4=";
const LEASE: Duration = Duration::from_secs(300);
/// Unix time of the looks.
const NOW: i64 = 1_764_000_000;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

fn ago(seconds: u64) -> Activity {
    Activity::Ago(Duration::from_secs(seconds))
}

/// The two clients' activity.
async fn look(watch: &mut ActivityWatch) -> [Activity; 2] {
    let snapshot = watch.look(now()).await;
    [KEY, OTHER].map(|key| snapshot.of(&key.parse().unwrap()))
}

/// Looks at this Prometheus, without a cluster.
async fn of_prometheus(url: &url::Url) -> ActivityWatch {
    watch(client(&Fake::down().await), Some(url))
}

fn watch(client: Client, prometheus: Option<&url::Url>) -> ActivityWatch {
    ActivityWatch::new(ClusterWatch::new(client.clone()), Prometheus::new(client, prometheus.cloned()), LEASE)
}

fn vector(values: &[(&str, f64)]) -> String {
    let element =
        |(key, value): &(&str, f64)| json!({"metric": {"public_key": key}, "value": [NOW, value.to_string()]});
    let result: Vec<Value> = values.iter().map(element).collect();
    json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string()
}

/// A Prometheus that knows these handshakes and, of the same keys, some bytes of this age.
fn prometheus(handshakes: &'static [(&'static str, f64)], age: f64) -> impl Fn(&str) -> Behaviour + Send + Sync {
    move |path| {
        let of = |values: &dyn Fn(f64) -> f64| {
            let values: Vec<_> = handshakes.iter().map(|(key, handshake)| (*key, values(*handshake))).collect();
            Behaviour::Answers(vector(&values))
        };
        if path.contains("handshake") {
            of(&|handshake| handshake)
        } else if path.contains("timestamp") {
            of(&|_| NOW as f64 - age)
        } else if path.contains("received") {
            of(&|_| 1000.0)
        } else {
            Behaviour::Refuses(400)
        }
    }
}

#[tokio::test]
async fn prometheus_tells_who_was_there() {
    let fake = Fake::start(prometheus(&[(KEY, NOW as f64 - 100.0), ("(none)", 7.0)], 20.0)).await;
    let mut watch = of_prometheus(&fake.url).await;
    assert_eq!(look(&mut watch).await, [ago(80), Activity::Unknown], "as seen 20 s ago");
    assert_eq!(fake.requests(), 3);
    let stale = Fake::start(prometheus(&[(KEY, NOW as f64 - 400.0)], 301.0)).await;
    assert_eq!(look(&mut of_prometheus(&stale.url).await).await, [Activity::Unknown; 2]);
}

#[tokio::test]
async fn whatever_is_wrong_nothing_is_known_and_it_is_said_once() {
    let nan = vector(&[(KEY, f64::NAN)]);
    let negative = vector(&[(KEY, -1.0)]);
    for behaviour in [
        Behaviour::Refuses(500),
        Behaviour::Drops,
        Behaviour::Floods,
        Behaviour::Answers("<html>".to_owned()),
        Behaviour::Answers(r#"{"status":"error","error":"overloaded"}"#.to_owned()),
        Behaviour::Answers(nan),
        Behaviour::Answers(negative),
    ] {
        // A good answer, then two bad ones, then a good one.
        let asked = AtomicUsize::new(0);
        let good = prometheus(&[(KEY, NOW as f64)], 0.0);
        let (described, bad) = (format!("{behaviour:?}"), behaviour);
        let phase = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&phase);
        let fake = Fake::start(move |path| {
            asked.fetch_add(1, Ordering::SeqCst);
            if matches!(shared.load(Ordering::SeqCst), 1 | 2) { bad.clone() } else { good(path) }
        })
        .await;
        let mut watch = of_prometheus(&fake.url).await;
        let mut failing = vec![];
        for turn in 0..4 {
            phase.store(turn, Ordering::SeqCst);
            let expected = if matches!(turn, 1 | 2) { Activity::Unknown } else { ago(0) };
            assert_eq!(look(&mut watch).await[0], expected, "{described}");
            failing.push(watch.said.is_failing());
        }
        assert_eq!(failing, [false, true, true, false], "{described}");
    }
}

#[tokio::test]
async fn a_silent_prometheus_leaves_everything_unknown() {
    let fake = Fake::always(Behaviour::Keeps).await;
    let mut watch = of_prometheus(&fake.url).await;
    let looking = tokio::spawn(async move { (look(&mut watch).await, watch.said.is_failing()) });
    fake.asked(3).await;
    tokio::time::pause();
    tokio::time::advance(TIME_LIMIT).await;
    assert_eq!(looking.await.unwrap(), ([Activity::Unknown; 2], true));
}

#[tokio::test]
async fn no_figures_at_all_are_a_failure_only_the_second_time() {
    let fake = Fake::always(Behaviour::Answers(vector(&[]))).await;
    let mut watch = of_prometheus(&fake.url).await;
    for failing in [false, true, true] {
        assert_eq!(look(&mut watch).await, [Activity::Unknown; 2]);
        assert_eq!(watch.said.is_failing(), failing);
    }
}

/// An API server whose only node has these annotations, and that knows no Prometheus.
async fn api(annotations: Value) -> Fake {
    let nodes = json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": [{
        "metadata": {"name": "edge", "annotations": annotations},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }]});
    let slices = json!({"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": {}, "items": []});
    Fake::start(move |path| match path.split('?').next() {
        Some("/api/v1/nodes") => Behaviour::Answers(nodes.to_string()),
        Some("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices") => {
            Behaviour::Answers(slices.to_string())
        }
        _ => Behaviour::Refuses(404),
    })
    .await
}

/// One whose node announces our gateway.
async fn with_gateway(gateway: &Fake) -> Fake {
    let (kilo, gateway) = ("192.0.2.1:51820", &gateway.url);
    api(json!({"kilo.squat.ai/key": KEY, "kilo.squat.ai/endpoint": kilo, "findcloudlet.org/gateway": gateway})).await
}

fn of_cluster(api: &Fake) -> ActivityWatch {
    watch(api.client(), None)
}

const METRICS: &str = r#"# HELP wireguard_last_handshake_seconds Time of the last handshake.
# TYPE wireguard_last_handshake_seconds gauge
wireguard_last_handshake_seconds{public_key="Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE="} 1763999970
# TYPE wireguard_received_bytes_total counter
wireguard_received_bytes_total{public_key="Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE="} 18
wireguard_received_bytes_total{public_key="2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg/8YHRlHBcwV4="} 0
wireguard_sent_bytes_total{public_key="2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg/8YHRlHBcwV4="} 0
"#;

#[tokio::test]
async fn our_gateway_tells_who_was_there() {
    let gateway = Fake::always(Behaviour::Answers(METRICS.to_owned())).await;
    let api = with_gateway(&gateway).await;
    let mut watch = of_cluster(&api);
    assert_eq!(look(&mut watch).await, [ago(30), Activity::Never]);
    assert_eq!(gateway.requests(), 1, "one look for all");
}

#[tokio::test]
async fn our_gateway_is_asked_where_the_given_prometheus_does_not_know_it() {
    let gateway = Fake::always(Behaviour::Answers(METRICS.to_owned())).await;
    let api = with_gateway(&gateway).await;
    let given = |url| watch(api.client(), Some(url));
    let empty = Fake::always(Behaviour::Answers(vector(&[]))).await;
    assert_eq!(look(&mut given(&empty.url)).await, [ago(30), Activity::Never]);
    let knowing = Fake::start(prometheus(&[(KEY, NOW as f64 - 100.0)], 0.0)).await;
    assert_eq!(look(&mut given(&knowing.url)).await, [ago(100), Activity::Never], "it is meant to be used first");
}

#[tokio::test]
async fn kilo_without_prometheus_tells_nothing() {
    let api = api(json!({"kilo.squat.ai/key": KEY, "kilo.squat.ai/endpoint": "192.0.2.1:51820"})).await;
    let mut watch = of_cluster(&api);
    assert_eq!(look(&mut watch).await, [Activity::Unknown; 2]);
    let error = sources::observe(&watch.watch, &watch.prometheus).await.unwrap_err().to_string();
    assert!(error.contains("node edge ends tunnels by Kilo") && error.contains("--prometheus"), "{error}");
    let none = self::api(json!({})).await;
    let error = sources::observe(&of_cluster(&none).watch, &watch.prometheus).await.unwrap_err().to_string();
    assert!(error.contains("install sinfonia-gateway"), "{error}");
}
