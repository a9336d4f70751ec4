//! Charts of an OCI registry, by the real helm.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use sinfonia_recipes::ChartSource;
use sinfonia_tier2::kubernetes::helm::Release;

use crate::world::{World, in_namespace, packaged};

/// A registry that holds one chart as `x:0.1.0` (OCI distribution specification).
fn registry(chart: Vec<u8>) -> SocketAddr {
    let digest = |content: &[u8]| {
        let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hash}")
    };
    let config = br#"{"name":"good","version":"0.1.0","apiVersion":"v2"}"#.to_vec();
    let descriptor = |kind: &str, content: &[u8]| {
        let kind = format!("application/vnd.cncf.helm.{kind}");
        json!({ "mediaType": kind, "digest": digest(content), "size": content.len() })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("chart.content.v1.tar+gzip", &chart)],
    });
    let manifest = manifest.to_string().into_bytes();
    let contents = [
        ("/v2/x/manifests/0.1.0".to_owned(), manifest.clone()),
        (format!("/v2/x/manifests/{}", digest(&manifest)), manifest),
        (format!("/v2/x/blobs/{}", digest(&config)), config),
        (format!("/v2/x/blobs/{}", digest(&chart)), chart),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let Some(request) = lines.next() else { continue };
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let mut words = request.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let found = contents.iter().find(|(name, _)| name == path);
            let (status, body) = found.map_or(("404 Not Found", &[][..]), |(_, content)| ("200 OK", content));
            let kind = if path.contains("/manifests/") { MANIFEST } else { "application/octet-stream" };
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
                 Docker-Content-Digest: {}\r\n\r\n",
                body.len(),
                digest(body),
            );
            // Who asked may have had enough.
            let _ = stream.write_all(head.as_bytes());
            if method == "GET" {
                let _ = stream.write_all(body);
            }
        }
    });
    address
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn release(world: &World, reference: &str, version: &str) -> Release {
    let chart = ChartSource::Oci { reference: reference.parse().unwrap(), version: version.parse().unwrap() };
    Release { chart, ..world.release("good", json!({})) }
}

#[tokio::test]
async fn a_chart_of_a_registry_is_installed() {
    let registry = registry(fs::read(packaged("good")).unwrap());
    in_namespace(move |world| async move {
        let reference = format!("oci://{registry}/x");
        world.helm.install(&release(&world, &reference, "0.1.0"), &world.access).await.unwrap();

        let error = world.helm.install(&release(&world, &reference, "0.2.0"), &world.access).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("there is no chart {reference}:0.2.0: the recipe names one that does not exist")
        );
        let nobody = release(&world, "oci://127.0.0.1:1/x", "0.1.0");
        let error = world.helm.install(&nobody, &world.access).await.unwrap_err();
        assert_eq!(error.code(), "chart-unavailable");
        assert!(error.to_string().ends_with("connection refused"), "{error}");
    })
    .await;
}
