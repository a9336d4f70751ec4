//! Reports to tier1, against a tier1 that only listens.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, web};
use serde_json::Value;
use sinfonia_tier2::Config;
use url::Url;

use crate::{
    fake::Fake,
    server::{Home, Server},
};

/// What came, as path and body.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

fn tier1(status: u16) -> (Url, Seen, ServerHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let seen = Seen::default();
    let shared = seen.clone();
    let server = HttpServer::new(move || {
        let seen = shared.clone();
        App::new().default_service(web::to(move |request: actix_web::HttpRequest, body: web::Json<Value>| {
            seen.lock().unwrap().push((request.path().to_owned(), body.into_inner()));
            let answer = HttpResponse::build(status.try_into().unwrap()).finish();
            async move { answer }
        }))
    });
    let server = server.workers(1).disable_signals().listen(listener).unwrap().run();
    let handle = server.handle();
    actix_rt::spawn(server);
    (url, seen, handle)
}

async fn reports(seen: &Seen, wanted: usize) -> Vec<(String, Value)> {
    let enough = async {
        while seen.lock().unwrap().len() < wanted {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), enough).await.unwrap();
    seen.lock().unwrap().clone()
}

#[actix_web::test]
async fn every_tier1_is_told_on_its_own() {
    let (taking, seen, stop) = tier1(204);
    let (refusing, refused, stop_refusing) = tier1(500);
    let absent = "http://127.0.0.1:9".parse().unwrap();
    let home = Home::new();
    let config = Config {
        tier1_urls: vec![absent, refusing, taking],
        tier2_url: Some("http://edge.example.org:5000/".parse().unwrap()),
        location: Some("40.44,-79.94".parse().unwrap()),
        report_interval: Duration::from_millis(50),
        ..home.config()
    };
    let server = Server::start(config.clone(), &Fake::default()).await.unwrap();
    let uuid = server.cloudlet.to_string();
    for (path, report) in reports(&seen, 3).await {
        assert_eq!(path, "/api/v1/cloudlets/");
        assert_eq!(report["uuid"], uuid);
        assert_eq!(report["endpoint"], "http://edge.example.org:5000/api/v1/deploy");
        assert_eq!(report["locations"], serde_json::json!([[40.44, -79.94]]));
        let memory = report["resources"]["mem_ratio"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&memory));
        assert!(report.get("name").is_none() && report.get("draining").is_none());
    }
    assert!(!reports(&refused, 1).await.is_empty());
    server.stop().await;

    seen.lock().unwrap().clear();
    let server = Server::start(config, &Fake::default()).await.unwrap();
    assert_eq!(reports(&seen, 1).await[0].1["uuid"], uuid, "the same after a restart");
    server.stop().await;
    stop.stop(false).await;
    stop_refusing.stop(false).await;
}

#[actix_web::test]
async fn without_a_url_of_its_own_it_does_not_report() {
    let (url, seen, stop) = tier1(204);
    let home = Home::new();
    let config = Config { tier1_urls: vec![url], report_interval: Duration::from_millis(1), ..home.config() };
    let server = Server::start(config, &Fake::default()).await.unwrap();
    server.request(awc::http::Method::GET, "/readyz").await;
    server.stop().await;
    assert!(seen.lock().unwrap().is_empty());
    stop.stop(false).await;
}
