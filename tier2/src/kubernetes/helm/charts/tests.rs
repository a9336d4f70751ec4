use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    sync::mpsc,
    thread,
};

use super::*;
use crate::kubernetes::helm::testing::runner;

struct World {
    root: tempfile::TempDir,
    directory: Directory,
    charts: Charts,
}

fn world() -> World {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    let charts = Charts::new(directory.charts(), vec!["registry.example:5000".into()]);
    World { root, directory, charts }
}

impl World {
    async fn locate(&self, source: &ChartSource) -> Result<PathBuf, HelmError> {
        self.charts.locate(source, &runner(), &self.directory).await
    }

    /// Nothing but whole charts lies in the cache.
    fn kept(&self) -> usize {
        let files: Vec<_> =
            self.root.path().join("charts").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.iter().all(|file| file.extension() == Some("tgz".as_ref())), "{files:?}");
        files.len()
    }
}

/// Gives these answers, one for each connection, and tells what was asked.
fn server(answers: Vec<Vec<u8>>) -> (ChartSource, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:hush@{}/x-1.0.0.tgz", listener.local_addr().unwrap()).parse().unwrap();
    let (asked, requests) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            asked.send(lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")).unwrap();
            // Who asked may have had enough.
            let _ = stream.write_all(&answer);
        }
    });
    (ChartSource::Url(url), requests)
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const CHART: &[u8] = &[0x1f, 0x8b, 8, 0];
const OTHER: &[u8] = &[0x1f, 0x8b, 8, 1];

async fn after_fresh() {
    tokio::time::pause();
    tokio::time::advance(FRESH + Duration::from_secs(1)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_chart_is_fetched_once_and_revalidated() {
    let world = world();
    let (source, requests) = server(vec![
        answer("200 OK", "ETag: \"1\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", CHART),
        answer("304 Not Modified", "", b""),
        answer("200 OK", "ETag: \"2\"\r\n", OTHER),
    ]);
    let (first, second) = tokio::join!(world.locate(&source), world.locate(&source));
    let file = first.unwrap();
    assert_eq!(second.unwrap(), file);
    assert_eq!(fs::read(&file).unwrap(), CHART);
    assert!(!requests.recv().unwrap().contains("if-none-match"));

    after_fresh().await;
    world.locate(&source).await.unwrap();
    let asked = requests.recv().unwrap();
    assert!(asked.contains("if-none-match: \"1\"") && asked.contains("if-modified-since: Mon, 01"), "{asked}");
    assert_eq!(fs::read(&file).unwrap(), CHART);

    after_fresh().await;
    assert_eq!(world.locate(&source).await.unwrap(), file);
    assert_eq!(fs::read(&file).unwrap(), OTHER);
    assert_eq!(world.kept(), 1);
}

#[tokio::test]
async fn a_server_that_fails_does_not_take_away_what_is_there() {
    let world = world();
    let (source, _requests) = server(vec![answer("200 OK", "", CHART), answer("503 Unavailable", "", b"")]);
    let file = world.locate(&source).await.unwrap();
    after_fresh().await;
    assert_eq!(world.locate(&source).await.unwrap(), file);
    // The server is gone altogether.
    after_fresh().await;
    assert_eq!(world.locate(&source).await.unwrap(), file);
}

#[tokio::test]
async fn what_is_no_chart_is_refused_and_not_kept() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n\x1f\x8b".to_vec();
    let large = [CHART, &vec![0; SIZE_LIMIT as usize]].concat();
    for (given, code, part) in [
        (answer("404 Not Found", "", b""), "chart-not-found", "there is no chart http://127.0.0.1:"),
        (answer("500 Oops", "", b""), "chart-unavailable", "the server answers 500"),
        (answer("200 OK", "", b"<html>"), "chart-invalid", "is not a packaged chart"),
        (answer("200 OK", "", b""), "chart-invalid", "is not a packaged chart"),
        (answer("200 OK", "", &large), "chart-invalid", "is larger than 16 MiB"),
        (cut, "chart-unavailable", "cannot be fetched"),
    ] {
        let world = world();
        let (source, _requests) = server(vec![given]);
        let error = world.locate(&source).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part) && !error.to_string().contains("hush"), "{error}");
        assert_eq!(world.kept(), 0);
        // Those who ask at once get the same answer without another request.
        assert_eq!(world.locate(&source).await.unwrap_err(), error);
    }
}

#[tokio::test]
async fn files_are_taken_where_they_are() {
    let world = world();
    let file = world.root.path().join("x-1.0.0.tgz");
    let locate = async |file: &Path| world.locate(&ChartSource::File(file.to_owned())).await;
    let error = locate(&file).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no chart x-1.0.0.tgz: the recipe names one that does not exist");
    fs::write(&file, CHART).unwrap();
    assert_eq!(locate(&file).await.unwrap(), file);
    assert_eq!(locate(world.root.path()).await.unwrap_err().code(), "chart-invalid");
    fs::File::create(&file).unwrap().set_len(SIZE_LIMIT + 1).unwrap();
    assert!(locate(&file).await.unwrap_err().to_string().contains("x-1.0.0.tgz is larger than 16 MiB"));
}

fn oci(reference: &str) -> ChartSource {
    ChartSource::Oci { reference: reference.parse().unwrap(), version: "1.0.0".parse().unwrap() }
}

#[tokio::test]
async fn charts_of_registries_are_pulled_by_helm() {
    let world = world();
    for (reference, plain) in [
        ("oci://registry.example/x", ""),
        ("oci://registry.example:5000/x", "--plain-http"),
        ("oci://127.0.0.1:5000/x", "--plain-http"),
        ("oci://[::1]:5000/x", "--plain-http"),
        ("oci://localhost/x", "--plain-http"),
    ] {
        let file = world.locate(&oci(reference)).await.unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{reference} 1.0.0 {plain}"));
    }
    assert_eq!(world.kept(), 5);
    let error = world.locate(&oci("oci://registry.example/missing")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no chart oci://registry.example/missing:1.0.0: the recipe names one that does not exist"
    );
    let error = world.locate(&oci("oci://registry.example/broken")).await.unwrap_err();
    assert_eq!(error.code(), "chart-unavailable");
    assert!(error.to_string().ends_with("dial tcp: no such host"), "{error}");
}

#[test]
fn what_nobody_used_for_long_is_removed() {
    let world = world();
    let old = world.root.path().join("charts/old.tgz");
    let new = world.root.path().join("charts/new.tgz");
    for (file, age) in [(&old, KEPT + Duration::from_secs(1)), (&new, Duration::ZERO)] {
        fs::File::create(file).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }
    remove_old(&world.directory.charts());
    assert!(!old.exists() && new.exists());
}
