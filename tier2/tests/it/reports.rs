//! Reports to tier1, against a tier1 that only listens.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, web};
use futures_util::future::BoxFuture;
use serde_json::Value;
use sinfonia_credentials::BearerToken;
use sinfonia_tier2::{
    Config, ReportFields,
    reports::{NotReady, ReportSource, Reporter},
};
use sinfonia_wire::CloudletInfo;
use url::Url;

use crate::{
    fake::Fake,
    server::{Home, Server},
};

/// What came, as path and body; the token is a member of the body.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

fn tier1(status: u16) -> (Url, Seen, ServerHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let seen = Seen::default();
    let shared = seen.clone();
    let server = HttpServer::new(move || {
        let seen = shared.clone();
        App::new().default_service(web::to(move |request: actix_web::HttpRequest, body: web::Json<Value>| {
            let mut body = body.into_inner();
            if let Some(authorization) = request.headers().get("authorization") {
                body["authorization"] = authorization.to_str().unwrap().into();
            }
            seen.lock().unwrap().push((request.path().to_owned(), body));
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
        report: ReportFields { locations: vec!["40.44,-79.94".parse().unwrap()], ..ReportFields::default() },
        report_interval: Duration::from_millis(50),
        tier1_token: Some("hush".parse::<BearerToken>().unwrap().into()),
        ..home.config()
    };
    let server = Server::start(config.clone(), &Fake::default()).await.unwrap();
    let uuid = server.cloudlet.to_string();
    for (path, report) in reports(&seen, 3).await {
        assert_eq!(path, "/api/v1/cloudlets/");
        assert_eq!((&report["uuid"], &report["authorization"]), (&uuid.as_str().into(), &"Bearer hush".into()));
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

/// A cloudlet that is ready when it is told to be.
#[derive(Default)]
struct Scripted {
    ready: AtomicBool,
    asked: AtomicUsize,
}

impl ReportSource for Scripted {
    fn report(&self) -> BoxFuture<'_, Result<CloudletInfo, NotReady>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let info = CloudletInfo::new("http://edge.example.org/api/v1/deploy".parse().unwrap());
        let ready = self.ready.load(Ordering::SeqCst);
        Box::pin(std::future::ready(if ready {
            Ok(info)
        } else {
            Err(NotReady::Unfit("the resolver is away".to_owned()))
        }))
    }
}

#[actix_web::test]
async fn nothing_is_reported_until_the_cloudlet_is_ready_and_then_at_once_if_told() {
    let (url, seen, stop) = tier1(204);
    let source = Arc::new(Scripted::default());
    let reporter = Reporter::new(source.clone(), Duration::from_secs(3600), None);
    let reporting = actix_rt::spawn(reporter.clone().report(url));
    let asked = async |times| {
        while source.asked.load(Ordering::SeqCst) < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    asked(1).await;
    reporter.tell_now();
    asked(2).await;
    assert!(seen.lock().unwrap().is_empty());
    source.ready.store(true, Ordering::SeqCst);
    reporter.tell_now();
    assert_eq!(reports(&seen, 1).await.len(), 1);
    reporting.abort();
    stop.stop(false).await;
}
