use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::json;

use time::OffsetDateTime;

use super::*;
use crate::kubernetes::fetch::{
    TIME_LIMIT,
    tests::{Behaviour, Fake, client},
};

fn of_prometheus(url: &url::Url, api: &url::Url) -> ClusterResources {
    let client = client(api);
    let prometheus = Prometheus::new(client.clone(), Some(url.clone()));
    let config = Config::new(api.as_str().parse().unwrap());
    ClusterResources::new(ClusterWatch::new(client.clone()), prometheus, config, client, false)
}

fn value(value: &str) -> Behaviour {
    let result = json!([{"metric": {}, "value": [1_764_000_000.5, value]}]);
    Behaviour::Answers(json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string())
}

fn nothing() -> Behaviour {
    Behaviour::Answers(r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#.to_owned())
}

#[tokio::test]
async fn prometheus_gives_what_is_finite_and_within_range() {
    let fake = Fake::start(|path| match path {
        cpu if cpu.contains("cpu_seconds") => value("0.25"),
        memory if memory.contains("MemAvailable") => value("-0.001"),
        gpu if gpu.contains("DCGM") => nothing(),
        received if received.contains("receive") => value("NaN"),
        sent if sent.contains("transmit") => value("12345.5"),
        _ => Behaviour::Refuses(400),
    })
    .await;
    let mut resources = of_prometheus(&fake.url, &Fake::down().await);
    let expected = [("cpu_ratio", 0.25), ("mem_ratio", 0.0), ("net_tx_rate", 12345.5)];
    assert_eq!(resources.sample().await.iter().collect::<Vec<_>>(), expected);
    resources.sample().await;
    assert_eq!(fake.requests(), 5, "figures are given again for a while");
}

#[tokio::test]
async fn a_prometheus_that_fails_leaves_all_out_and_it_is_said_once() {
    let broken = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&broken);
    let fake = Fake::start(move |path| match (path.contains("DCGM"), shared.load(Ordering::SeqCst)) {
        (true, true) => Behaviour::Answers("<html>".to_owned()),
        (_, _) => value("0.5"),
    })
    .await;
    let mut resources = of_prometheus(&fake.url, &Fake::down().await);
    for (now_broken, figures) in [(false, 5), (true, 0), (true, 0), (false, 5)] {
        broken.store(now_broken, Ordering::SeqCst);
        resources.latest = None;
        assert_eq!(resources.sample().await.iter().count(), figures);
        assert_eq!(resources.said.is_failing(), now_broken);
    }
}

#[tokio::test]
async fn a_silent_prometheus_leaves_all_out() {
    let fake = Fake::always(Behaviour::Keeps).await;
    let mut resources = of_prometheus(&fake.url, &Fake::down().await);
    let sampling = tokio::spawn(async move { resources.sample().await });
    fake.asked(5).await;
    tokio::time::pause();
    tokio::time::advance(TIME_LIMIT).await;
    assert!(sampling.await.unwrap().is_empty());
}

#[tokio::test]
async fn without_prometheus_metrics_server_is_asked() {
    let nodes = json!({"metadata": {}, "items": [
        {"metadata": {"name": "edge"}, "status": {"allocatable": {"cpu": "2", "memory": "4Gi"}}},
    ]});
    let usage = json!({"items": [{
        "metadata": {"name": "edge"},
        "timestamp": OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap(),
        "usage": {"cpu": "500m", "memory": "1Gi"},
    }]});
    let api = Fake::start(move |path| match path.split('?').next() {
        Some("/api/v1/nodes") => Behaviour::Answers(nodes.to_string()),
        Some("/apis/metrics.k8s.io/v1beta1/nodes") => Behaviour::Answers(usage.to_string()),
        Some(slices) if slices.ends_with("/endpointslices") => {
            Behaviour::Answers(json!({"metadata": {}, "items": []}).to_string())
        }
        _ => Behaviour::Refuses(404),
    })
    .await;
    let client = api.client();
    let config = Config::new(api.url.as_str().parse().unwrap());
    let watch = ClusterWatch::new(client.clone());
    let mut resources = ClusterResources::new(watch, Prometheus::new(client.clone(), None), config, client, false);
    let sample = resources.sample().await;
    assert_eq!(sample.iter().collect::<Vec<_>>(), [("cpu_ratio", 0.25), ("mem_ratio", 0.25)]);
}
