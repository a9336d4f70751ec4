//! The frame around a few example routes, as its clients see it.

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::net::{IpAddr, SocketAddr};
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    use actix_web::web::{self, ServiceConfig};
    use actix_web::{HttpRequest, HttpResponse, rt};
    use futures_util::FutureExt as _;
    use serde_json::{Value, json};
    use sinfonia_server::{ApiError, BODY_LIMIT, Readiness, ServeError, Server, ServerOptions, client_address};
    use sinfonia_telemetry::{Telemetry, Verbosity, init};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::{Semaphore, oneshot};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn options() -> ServerOptions {
        // Before any request, or else the instruments record nothing.
        static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();
        TELEMETRY.get_or_init(|| init("example", Verbosity::Quiet));
        let mut options = ServerOptions::new("example", 0);
        options.host = Some([127, 0, 0, 1].into());
        options.workers = Some(1);
        options
    }

    fn example(routes: &mut ServiceConfig) {
        async fn echo(body: web::Json<Value>) -> web::Json<Value> {
            body
        }
        async fn number(path: web::Path<u8>, query: web::Query<Vec<(String, String)>>) -> String {
            format!("{path} {}", query.len())
        }
        async fn busy() -> Result<HttpResponse, ApiError> {
            Err(ApiError::new(503.try_into().unwrap(), "busy", "come back")
                .with_retry_after(Duration::from_millis(1500)))
        }
        async fn typed(_: web::Query<Typed>) -> HttpResponse {
            HttpResponse::Ok().finish()
        }
        async fn secret() -> Result<HttpResponse, std::io::Error> {
            Err(std::io::Error::other("the password is swordfish"))
        }
        routes
            .service(web::resource("/echo").post(echo))
            .service(web::resource("/number/{number}").get(number))
            .service(web::resource("/typed").get(typed))
            .service(web::resource("/secret").get(secret))
            .service(web::resource("/busy").get(busy))
            .route("/guarded", web::get().to(HttpResponse::Ok));
    }

    #[derive(serde::Deserialize)]
    struct Typed {
        #[expect(dead_code, reason = "only its type matters")]
        results: u8,
    }

    /// A running server and what it takes to stop it.
    struct Running {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        done: rt::task::JoinHandle<Result<(), ServeError>>,
    }

    impl Running {
        fn start(readiness: Readiness, routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static) -> Self {
            let server = Server::bind(options()).unwrap();
            let address = server.address();
            let (stop, stopped) = oneshot::channel();
            let done = rt::spawn(server.run_until(readiness, routes, stopped.map(drop)));
            Self { address, stop, done }
        }

        fn url(&self, path: &str) -> String {
            format!("http://{}{path}", self.address)
        }

        async fn stop(self) {
            self.stop.send(()).unwrap();
            patiently(self.done).await.unwrap().unwrap();
        }
    }

    async fn patiently<T>(future: impl Future<Output = T>) -> T {
        rt::time::timeout(PATIENCE, future).await.unwrap()
    }

    /// Status, content type and body of the answer to a GET.
    async fn get(url: String) -> (u16, String, String) {
        let mut answer = awc::Client::default().get(url).send().await.unwrap();
        let kind = answer.headers().get("content-type").unwrap().to_str().unwrap().to_owned();
        let body = String::from_utf8(answer.body().await.unwrap().to_vec()).unwrap();
        (answer.status().as_u16(), kind, body)
    }

    /// The problem in an answer, checked for what all problems have.
    async fn problem<S>(mut answer: awc::ClientResponse<S>) -> Value
    where
        S: futures_util::Stream<Item = Result<web::Bytes, awc::error::PayloadError>> + Unpin,
    {
        assert_eq!(answer.headers().get("content-type").unwrap(), "application/problem+json");
        let problem: Value = serde_json::from_slice(&answer.body().await.unwrap()).unwrap();
        assert_eq!(problem["status"], answer.status().as_u16());
        assert_ne!(problem["title"].as_str().unwrap(), "");
        problem
    }

    #[actix_web::test]
    async fn health_readiness_and_metrics_are_there() {
        let readiness = Readiness::new();
        let server = Running::start(readiness.clone(), example);
        assert_eq!(get(server.url("/healthz")).await.0, 200);
        assert_eq!(get(server.url("/")).await.0, 200);
        assert_eq!(get(server.url("/readyz")).await.0, 200);
        let task = readiness.block("recipes");
        let (status, kind, body) = get(server.url("/readyz")).await;
        assert_eq!((status, kind.as_str()), (503, "application/problem+json"));
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["detail"], "waiting for: recipes");
        assert_eq!(problem["pending"], json!(["recipes"]));
        drop(task);
        assert_eq!(get(server.url("/readyz")).await.0, 200);

        assert_eq!(get(server.url("/number/42?a=b")).await.2, "42 1");
        assert_eq!(get(server.url("/raw-client-key")).await.0, 404);
        let (_, kind, metrics) = get(server.url("/metrics")).await;
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        let line = metrics
            .lines()
            .find(|line| {
                line.starts_with("http_server_request_duration_seconds_count{")
                    && line.contains(r#"http_route="/number/{number}""#)
            })
            .unwrap_or_else(|| panic!("{metrics}"));
        assert!(line.contains(r#"http_response_status_code="200""#), "{line}");
        assert!(line.contains(r#"http_request_method="GET""#), "{line}");
        assert!(metrics.contains("http_server_active_requests"), "{metrics}");
        assert!(!metrics.contains("raw-client-key") && !metrics.contains("/number/42"));
        server.stop().await;
    }

    #[actix_web::test]
    async fn answers_are_compressed_for_those_who_want_it() {
        let server = Running::start(Readiness::new(), example);
        let request = awc::Client::default().get(server.url("/metrics")).no_decompress();
        let answer = request.insert_header(("Accept-Encoding", "gzip")).send().await.unwrap();
        assert_eq!(answer.headers().get("content-encoding").unwrap(), "gzip");
        assert_eq!(get(server.url("/")).await.2, "Sinfonia\n");
        server.stop().await;
    }

    #[actix_web::test]
    async fn errors_are_problems() {
        let server = Running::start(Readiness::new(), example);
        let client = awc::Client::default();
        let cases = [
            ("GET", "/nowhere", "", 404, "not-found", "nothing is at this path"),
            ("DELETE", "/echo", "", 405, "method-not-allowed", "Method Not Allowed"),
            ("POST", "/guarded", "", 405, "method-not-allowed", "POST is not possible here"),
            ("POST", "/echo", "{", 400, "invalid-body", "the body is not valid: EOF"),
            ("GET", "/number/300", "", 400, "invalid-path", "the path is not valid: "),
            ("GET", "/typed?results=-1", "", 400, "invalid-query", "the query is not valid: "),
            ("GET", "/busy", "", 503, "busy", "come back"),
            ("GET", "/secret", "", 500, "internal-error", "Internal Server Error"),
        ];
        for (method, path, body, status, code, detail) in cases {
            let request = client.request(method.parse().unwrap(), server.url(path));
            let answer = request.content_type("application/json").send_body(body).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{method} {path}");
            let headers = answer.headers().clone();
            let problem = problem(answer).await;
            assert_eq!(problem["code"], code, "{method} {path}");
            let said = problem["detail"].as_str().unwrap();
            assert!(said.starts_with(detail), "{method} {path}: {said}");
            match path {
                "/echo" if status == 405 => assert_eq!(headers.get("allow").unwrap(), "POST"),
                "/busy" => assert_eq!(headers.get("retry-after").unwrap(), "2"),
                _ => {}
            }
        }
        server.stop().await;
    }

    #[actix_web::test]
    async fn bodies_are_limited_and_have_to_be_json() {
        let server = Running::start(Readiness::new(), example);
        let post = || awc::Client::default().post(server.url("/echo"));
        let long = format!("\"{}\"", "x".repeat(BODY_LIMIT));
        let chunks = [Ok::<_, std::io::Error>(web::Bytes::from(long.clone()))];
        let chunked = futures_util::stream::iter(chunks);
        let answers = [
            post().content_type("application/json").send_body(long).await.unwrap(),
            post().content_type("application/json").send_stream(chunked).await.unwrap(),
        ];
        for answer in answers {
            assert_eq!(answer.status().as_u16(), 413);
            let problem = problem(answer).await;
            assert_eq!(problem["code"], "body-too-large");
            assert_eq!(problem["detail"], "the body is longer than 262144 bytes");
        }
        for request in [post().content_type("text/csv"), post()] {
            let answer = request.send_body("1").await.unwrap();
            assert_eq!(answer.status().as_u16(), 415);
            assert_eq!(problem(answer).await["code"], "unsupported-media-type");
        }
        server.stop().await;
    }

    /// The answer to a request of which nothing but the head is sent.
    async fn answer_to_head(server: &Running, head: &str) -> String {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with('}') {
            let mut part = [0; 1024];
            let length = patiently(stream.read(&mut part)).await.unwrap();
            assert_ne!(length, 0, "{answer}");
            answer.push_str(std::str::from_utf8(&part[..length]).unwrap());
        }
        answer
    }

    #[actix_web::test]
    async fn compressed_bodies_are_refused_unread() {
        let server = Running::start(Readiness::new(), example);
        for encoding in ["gzip", "GZip", "identity, br", "identity\r\nContent-Encoding: zstd"] {
            let head = format!(
                "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Encoding: {encoding}\r\nContent-Length: 1000\r\n\r\n"
            );
            let answer = answer_to_head(&server, &head).await;
            assert!(answer.starts_with("HTTP/1.1 415 "), "{encoding}: {answer}");
            let lower = answer.to_lowercase();
            assert!(lower.contains("\r\naccept-encoding: identity\r\n"), "{answer}");
            assert!(lower.contains("\r\ncontent-type: application/problem+json\r\n"), "{answer}");
            assert!(answer.contains(r#""code":"unsupported-encoding""#), "{answer}");
            assert!(answer.contains("without Content-Encoding"), "{answer}");
        }
        for encoding in ["identity", "Identity", ""] {
            let request = awc::Client::default().post(server.url("/echo")).content_type("application/json");
            let mut answer = request.insert_header(("Content-Encoding", encoding)).send_body("[1]").await.unwrap();
            assert_eq!((answer.status().as_u16(), &answer.body().await.unwrap()[..]), (200, &b"[1]"[..]));
        }
        server.stop().await;
    }

    #[actix_web::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let first = Server::bind(options()).unwrap();
        let mut taken = options();
        taken.port = first.address().port();
        let error = Server::bind(taken.clone()).unwrap_err();
        assert!(matches!(error, ServeError::PortInUse { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("port {} is already in use", taken.port)), "{text}");
        assert!(text.contains("choose another with --port"), "{text}");
        drop(first);
        Server::bind(taken).unwrap();
    }

    #[actix_web::test]
    async fn without_a_host_both_families_are_served() {
        for host in [None, Some("::".parse().unwrap())] {
            both_families_are_served(host).await;
        }
    }

    async fn both_families_are_served(host: Option<IpAddr>) {
        let server = Server::bind(ServerOptions { host, ..options() }).unwrap();
        let port = server.address().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = |routes: &mut ServiceConfig| {
            let peer = |request: HttpRequest| async move { client_address(&request, &[]).to_string() };
            routes.service(web::resource("/peer").get(peer));
        };
        let done = rt::spawn(server.run_until(Readiness::new(), routes, stopped.map(drop)));
        for host in ["127.0.0.1", "::1"] {
            let url = format!("http://{}/peer", SocketAddr::new(host.parse().unwrap(), port));
            assert_eq!(get(url).await.2, host);
        }
        stop.send(()).unwrap();
        patiently(done).await.unwrap().unwrap();
    }

    #[actix_web::test]
    async fn stopping_finishes_what_is_in_flight() {
        let (entered, go_on) = (web::Data::new(Semaphore::new(0)), web::Data::new(Semaphore::new(0)));
        let gates = (entered.clone(), go_on.clone());
        let readiness = Readiness::new();
        let server = Running::start(readiness.clone(), move |routes| {
            let (entered, go_on) = gates.clone();
            routes.service(web::resource("/slow").get(move || {
                let (entered, go_on) = (entered.clone(), go_on.clone());
                async move {
                    entered.add_permits(1);
                    go_on.acquire().await.unwrap().forget();
                    "done"
                }
            }));
        });
        // A connection that is kept open but idle does not hold up the end.
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_ne!(idle.read(&mut [0; 4096]).await.unwrap(), 0);

        let in_flight = rt::spawn(get(server.url("/slow")));
        patiently(entered.acquire()).await.unwrap().forget();
        let address = server.address;
        let started = Instant::now();
        let stopping = rt::spawn(server.stop());
        while readiness.pending().is_empty() {
            rt::task::yield_now().await;
        }
        assert_eq!(readiness.pending(), ["shutdown"]);
        assert!(!stopping.is_finished());
        go_on.add_permits(1);
        assert_eq!(patiently(in_flight).await.unwrap().2, "done");
        patiently(stopping).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[actix_web::test]
    async fn a_request_that_never_ends_is_cut_at_the_deadline() {
        let mut hasty = options();
        hasty.shutdown_deadline = Duration::from_secs(1);
        let server = Server::bind(hasty).unwrap();
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let entered = web::Data::new(Semaphore::new(0));
        let seen = entered.clone();
        let routes = move |routes: &mut ServiceConfig| {
            let seen = seen.clone();
            routes.service(web::resource("/endless").get(move || {
                seen.add_permits(1);
                std::future::pending::<HttpResponse>()
            }));
        };
        let done = rt::spawn(server.run_until(Readiness::new(), routes, stopped.map(drop)));
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        patiently(entered.acquire()).await.unwrap().forget();
        stop.send(()).unwrap();
        let started = Instant::now();
        patiently(done).await.unwrap().unwrap();
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
}
