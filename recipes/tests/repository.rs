//! Recipes from a directory and from a server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use sinfonia_recipes::{ChartSource, RecipeError, Repository};
use sinfonia_wire::{ApplicationId, Recipe};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

const ID: ApplicationId = ApplicationId::HELLOWORLD;
const RECIPE: &str = "chart: helloworld\nversion: 0.1.0\n";

fn write(directory: &Path, text: &str) {
    fs::write(directory.join(format!("{ID}.yaml")), text).unwrap();
}

fn open(directory: &Path) -> Repository {
    Repository::open(directory.to_str().unwrap()).unwrap()
}

fn recipe(text: &str) -> Recipe {
    serde_saphyr::from_str(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let repository = open(directory.path());
    assert!(matches!(repository.get(&ID).await, Err(RecipeError::NotFound { .. })));
    write(directory.path(), RECIPE);
    let first = repository.get(&ID).await.unwrap();
    assert!(Arc::ptr_eq(&first, &repository.get(&ID).await.unwrap()));
    write(directory.path(), "chart: helloworld\nversion: 0.1.10\n");
    assert!(Arc::ptr_eq(&first, &repository.get(&ID).await.unwrap()), "it is not looked at each time");
    tokio::time::advance(Duration::from_millis(100)).await;
    assert_eq!(repository.get(&ID).await.unwrap().version.as_str(), "0.1.10");
    assert_eq!((repository.is_local(), repository.directory()), (true, Some(directory.path())));
}

#[tokio::test]
async fn a_file_that_is_no_recipe_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let local = "chart: a\nversion: 1\nlocal:\n  command: [nginx]\n  port: 99999\n  service: web\n";
    let cases = [
        ("version: 1\n", "document", "`chart`"),
        ("chart: a\n", "document", "`version`"),
        ("chart: ../a\nversion: 1\n", "chart", ".."),
        ("chart: /etc/a\nversion: 1\n", "chart", "leave"),
        ("chart: file:///etc/a\nversion: 1\n", "chart", "http, https and oci"),
        ("chart: a\nversion: ''\n", "version", "empty"),
        (local, "local.port", "u16"),
        (
            "chart: a\nversion: 1\nrequires: cloudlet.load < 1\n",
            "requires",
            "\"cloudlet.load < 1\" refers to cloudlet.load",
        ),
        ("chart: a\nversion: 1\nprefer: '[1].map(x, x)[0]'\n", "prefer", "\"[1].map(x, x)[0]\" has a comprehension"),
        ("chart: [\n", "", "line"),
        ("", "document", ""),
    ];
    for (text, wanted, why) in cases {
        write(directory.path(), text);
        let error = open(directory.path()).get(&ID).await.unwrap_err();
        assert!(error.to_string().contains(&format!("{ID}.yaml")), "{error}");
        let RecipeError::Invalid { field, reason, .. } = error else { panic!("{text:?}: {error}") };
        assert!(field.contains(wanted) && reason.contains(why), "{text:?}: {field}: {reason}");
    }
    write(directory.path(), &format!("{RECIPE}description: {}\n", "x".repeat(2 << 20)));
    assert!(open(directory.path()).get(&ID).await.unwrap_err().to_string().contains("larger than"));
    fs::write(directory.path().join(format!("{ID}.yaml")), b"\xff\xfe\xfa").unwrap();
    assert!(open(directory.path()).get(&ID).await.unwrap_err().to_string().contains("UTF-8"));
}

#[tokio::test]
async fn expressions_come_with_the_recipe() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &format!("{RECIPE}requires: cloudlet.labels.gpu == 'a100'\n"));
    let placement = open(directory.path()).placement(&ID).await.unwrap();
    assert_eq!(placement.requires.as_ref().unwrap().text(), "cloudlet.labels.gpu == 'a100'");
    assert!(placement.prefer.is_none() && !placement.needs_distance());
    write(directory.path(), &format!("{RECIPE}prefer: -cloudlet.distance\n"));
    assert!(open(directory.path()).placement(&ID).await.unwrap().needs_distance());
}

#[tokio::test]
async fn only_regular_files_are_read() {
    for endless in ["/dev/zero", "/dev"] {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(endless, directory.path().join(format!("{ID}.yaml"))).unwrap();
        let error = open(directory.path()).get(&ID).await.unwrap_err();
        assert!(
            matches!(&error, RecipeError::Unreadable { source, .. } if source.to_string().contains("regular")),
            "{error}"
        );
    }
}

#[test]
fn charts_stay_in_their_repository() {
    let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let local = open(directory.path());
    let chart = local.chart(&recipe("chart: charts/a\nversion: 1.0.0\n")).unwrap();
    assert_eq!(chart, ChartSource::File(directory.path().join("charts/a-1.0.0.tgz")));
    fs::write(outside.path().join("secret-1.tgz"), "").unwrap();
    std::os::unix::fs::symlink(outside.path(), directory.path().join("link")).unwrap();
    let error = local.chart(&recipe("chart: link/secret\nversion: 1\n")).unwrap_err();
    assert!(error.to_string().contains("out of the repository"), "{error}");

    let remote = Repository::open("https://charts.example/recipes").unwrap();
    let urls = [
        ("chart: charts/a\nversion: 1.0.0\n", "https://charts.example/recipes/charts/a-1.0.0.tgz"),
        ("chart: https://other.example/x/a\nversion: 1.0.0\n", "https://other.example/x/a-1.0.0.tgz"),
    ];
    for (text, url) in urls {
        assert_eq!(remote.chart(&recipe(text)).unwrap(), ChartSource::Url(url.parse().unwrap()));
    }
    let oci = remote.chart(&recipe("chart: oci://registry.example/a\nversion: 1.0.0\n")).unwrap();
    assert!(matches!(oci, ChartSource::Oci { reference, version }
        if reference.as_str() == "oci://registry.example/a" && version.as_str() == "1.0.0"));
}

/// A web server for one file, which answers each request as told and notes what it was asked.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/recipes", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = Arc::clone(&asked);
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                notes.lock().unwrap().push(lines.collect::<Vec<_>>().join("\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { url, asked }
    }
}

fn http(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn a_server_is_asked_once_for_a_while() {
    let server = Server::start(vec![http("200 OK", "ETag: \"1\"\r\n", RECIPE)]);
    let repository = Repository::open(&server.url).unwrap();
    assert!(!repository.is_local());
    let waiting = (0..20).map(|_| repository.get(&ID));
    for answer in futures_util::future::join_all(waiting).await {
        assert_eq!(answer.unwrap().version.as_str(), "0.1.0");
    }
    let asked = server.asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with(&format!("GET /recipes/{ID}.yaml ")), "{asked:?}");
}

#[tokio::test]
async fn what_is_known_is_revalidated_and_outlives_its_server() {
    let changed = http("200 OK", "", "chart: helloworld\nversion: 0.2.0\n");
    let first = http("200 OK", "ETag: \"1\"\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\n", RECIPE);
    let same = http("304 Not Modified", "", "");
    let server = Server::start(vec![first, same, changed, http("404 Not Found", "", ""), String::new()]);
    let repository = Repository::open(&server.url).unwrap();
    tokio::time::pause();
    let mut versions = Vec::new();
    for _ in 0..3 {
        versions.push(repository.get(&ID).await.unwrap().version.to_string());
        tokio::time::advance(Duration::from_secs(11)).await;
    }
    assert_eq!(versions, ["0.1.0", "0.1.0", "0.2.0"]);
    assert!(matches!(repository.get(&ID).await, Err(RecipeError::NotFound { .. })));
    let asked = server.asked.lock().unwrap().clone();
    assert!(!asked[0].contains("if-none-match") && !asked[3].contains("if-none-match"), "{asked:?}");
    let conditions = ["if-none-match: \"1\"", "if-modified-since: Sun, 22 Nov 2026 10:00:00 GMT"];
    assert!(conditions.iter().all(|condition| asked[1].contains(condition)), "{asked:?}");

    let server = Server::start(vec![http("200 OK", "", RECIPE), http("503 Service Unavailable", "", "")]);
    let repository = Repository::open(&server.url).unwrap();
    for _ in 0..3 {
        assert_eq!(repository.get(&ID).await.unwrap().version.as_str(), "0.1.0");
        tokio::time::advance(Duration::from_secs(11)).await;
    }
}

#[tokio::test]
async fn commands_from_elsewhere_are_known_but_not_to_be_run() {
    let local = format!("{RECIPE}local:\n  command: [nginx]\n  port: 80\n  service: web\n");
    let server = Server::start(vec![http("200 OK", "", &local)]);
    let repository = Repository::open(&server.url).unwrap();
    let recipe = repository.get(&ID).await.unwrap();
    let error = repository.check_commands(&ID, &recipe).unwrap_err().to_string();
    assert!(error.contains(&server.url) && error.contains("`local:` section"), "{error}");
    assert!(open(Path::new("/")).check_commands(&ID, &recipe).is_ok());
}

#[tokio::test]
async fn what_a_server_may_not_say() {
    let too_long = format!("# {}\n{RECIPE}", "x".repeat(2 << 20));
    let cases = [
        (http("404 Not Found", "", ""), "there is no recipe"),
        (http("200 OK", "", "chart: ../a\nversion: 1\n"), "not valid: chart"),
        (http("200 OK", "", &too_long), "larger than"),
        (http("500 Internal Server Error", "", "sorry"), "answered 500"),
        (http("403 Forbidden", "", ""), "answered 403"),
        (String::new(), "cannot be fetched"),
    ];
    for (answer, reason) in cases {
        let server = Server::start(vec![answer]);
        let error = Repository::open(&server.url).unwrap().get(&ID).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let repository = Repository::open(&format!("http://user:secret@{nobody}/")).unwrap();
    let error = repository.get(&ID).await.unwrap_err().to_string();
    assert!(error.contains("cannot be fetched") && !error.contains("secret"), "{error}");
    assert!(!format!("{repository:?}").contains("secret"));
}
