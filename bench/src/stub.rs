//! A tier2 that deploys nothing and answers at once.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use uuid::Uuid;

/// Longer than the callers keep connections, so that it is not the one to close them.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The tunnel of a cloudlet that is not there.
pub(crate) fn no_tunnel() -> Value {
    json!({
        "publicKey": "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=",
        "allowedIPs": ["0.0.0.0/0"],
        "endpoint": "127.0.0.1:51820",
        "address": ["10.5.8.210"],
        "dns": ["10.96.0.10", "vertical-module.svc.cluster.local", "svc.cluster.local", "cluster.local"],
    })
}

/// Serves on loopback, from a thread of its own, as long as the bench runs.
pub(crate) fn start(application: Uuid, tunnel: &Value) -> SocketAddr {
    let deployment = json!([{
        "UUID": application,
        "ApplicationKey": tunnel["publicKey"],
        "Status": "Deployed",
        "DeploymentName": "vertical-module",
        "Created": "2026-01-01T00:00:00Z",
        "TunnelConfig": tunnel,
    }]);
    let body = web::Bytes::from(deployment.to_string());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || actix_web::rt::System::new().block_on(serve(listener, body)).unwrap());
    address
}

async fn serve(listener: TcpListener, body: web::Bytes) -> std::io::Result<()> {
    let server = HttpServer::new(move || {
        let body = body.clone();
        App::new().default_service(web::to(move || {
            let answer = HttpResponse::Ok().content_type("application/json").body(body.clone());
            std::future::ready(answer)
        }))
    });
    server.workers(1).keep_alive(KEEP_ALIVE).disable_signals().listen(listener)?.run().await
}
