//! What a program writes and sends, seen from outside: each test runs this very file again as a child
//! process with an environment of its own.

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Output};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use sinfonia_telemetry::{Verbosity, init, meter, prometheus_text, propagation};
    use tracing::field::Empty;
    use tracing::level_filters::LevelFilter;

    const CHILD: &str = "SINFONIA_TELEMETRY_CHILD";
    const PATIENCE: Duration = Duration::from_secs(10);

    /// The child process; without a parent that asks for it, there is nothing to do.
    #[test]
    fn child() {
        let verbosity = match std::env::var(CHILD).as_deref() {
            Ok("quiet") => Verbosity::Quiet,
            Ok("normal") => Verbosity::Normal,
            Ok("debug") => Verbosity::Debug,
            _ => return,
        };
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let threads_before = threads();
        let telemetry = init("sinfonia-example", verbosity);
        println!("threads {}", threads() - threads_before);
        println!("level {}", LevelFilter::current());

        let requests = meter().u64_counter("example.requests").build();
        let outer = tracing::info_span!(target: "sinfonia_example", "outer-span", who = "\"me\"", size = Empty);
        outer.record("size", 7);
        outer.in_scope(|| {
            propagation::inject(&mut |name, value| println!("{name} {value}"));
            tracing::info_span!(target: "foreign_crate", "foreign-span").in_scope(|| {
                requests.add(1, &[]);
                tracing::debug!(target: "sinfonia_example", "a detail");
                tracing::info!(target: "sinfonia_example", answer = 42, "some information");
                tracing::warn!(target: "foreign_crate", "a warning");
            });
        });
        drop(outer);
        print!("{}", prometheus_text());

        let end = Instant::now();
        drop(telemetry);
        println!("end {}", end.elapsed().as_millis());
    }

    fn run(verbosity: &str, environment: &[(&str, &str)]) -> Output {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::child", "--nocapture"])
            .env_clear()
            .env(CHILD, verbosity)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// The rest of the line of the child's standard output that begins with `name`.
    fn value(output: &Output, name: &str) -> String {
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in:\n{text}")).to_owned()
    }

    fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (listener, url)
    }

    /// Reads one request, answers 200 and gives back the head as lower-case text and the body.
    fn receive(mut stream: TcpStream) -> (String, Vec<u8>) {
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = stream.read(&mut buffer).unwrap();
            assert_ne!(length, 0, "the request ends early");
            received.extend_from_slice(&buffer[..length]);
            let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&received[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let body = &received[end + 4..];
            if body.len() == length.unwrap().trim().parse::<usize>().unwrap() {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(answer).unwrap();
                return (head, body.to_vec());
            }
        }
    }

    /// Receives one request for each connection, in the background.
    fn collector(listener: TcpListener) -> mpsc::Receiver<(String, Vec<u8>)> {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if sender.send(receive(stream.unwrap())).is_err() {
                    break;
                }
            }
        });
        receiver
    }

    fn holds(body: &[u8], text: &str) -> bool {
        body.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[test]
    fn spans_and_metrics_reach_the_collector_that_the_environment_names() {
        let (listener, url) = listener();
        let collector = collector(listener);
        let output = run(
            "normal",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
                ("OTEL_RESOURCE_ATTRIBUTES", "site=attic"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=house"),
            ],
        );
        let mut requests = [(); 2].map(|()| collector.recv_timeout(PATIENCE).unwrap());
        requests.sort();
        let [(metrics_head, metrics), (traces_head, traces)] = &requests;
        assert!(metrics_head.starts_with("post /v1/metrics "), "{metrics_head}");
        assert!(holds(metrics, "example.requests"));
        assert!(traces_head.starts_with("post /v1/traces "), "{traces_head}");
        assert!(traces_head.contains("content-type: application/x-protobuf"), "{traces_head}");
        assert!(traces_head.contains("x-tenant: house"), "{traces_head}");
        for text in ["outer-span", "sinfonia-example", "site", "attic"] {
            assert!(holds(traces, text), "{text}");
        }
        assert!(!holds(traces, "foreign-span"), "spans of libraries are not exported");
        let trace = value(&output, "traceparent").split('-').nth(1).unwrap().to_owned();
        let trace: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&trace[2 * i..2 * i + 2], 16).unwrap()).collect();
        assert!(traces.windows(16).any(|window| window == trace), "the trace that was passed on");
    }

    #[test]
    fn the_service_name_of_the_environment_wins() {
        let (listener, url) = listener();
        let collector = collector(listener);
        run(
            "normal",
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &format!("{url}/here")), ("OTEL_SERVICE_NAME", "renamed")],
        );
        let (_, traces) = collector.recv_timeout(PATIENCE).unwrap();
        assert!(holds(&traces, "renamed") && !holds(&traces, "sinfonia-example"));
    }

    #[test]
    fn nothing_is_sent_and_no_thread_started_unless_asked_for() {
        let (listener, url) = listener();
        listener.set_nonblocking(true).unwrap();
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str());
        let none = [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none"), endpoint];
        for environment in [&[][..], &none] {
            let output = run("normal", environment);
            assert_eq!(value(&output, "threads"), "0", "{environment:?}");
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(value(&output, "traceparent").starts_with("00-"), "traces have ids all the same");
            assert_eq!(value(&output, "example_requests_total"), "1");
        }
    }

    #[test]
    fn a_disabled_sdk_records_nothing_but_logs() {
        let (listener, url) = listener();
        listener.set_nonblocking(true).unwrap();
        let output = run("normal", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url), ("OTEL_SDK_DISABLED", "true")]);
        assert_eq!(value(&output, "threads"), "0");
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("traceparent") && !text.contains("example_requests"), "{text}");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains("some information") && !log.contains("trace_id"), "{log}");
    }

    #[test]
    fn a_collector_that_is_away_or_silent_or_misspelt_does_not_hold_the_program_up() {
        let (silent, silent_url) = listener();
        let (absent, absent_url) = listener();
        drop(absent);
        for url in [silent_url.as_str(), absent_url.as_str(), "http://192.0.2.1:4318", "no url"] {
            let output = run("quiet", &[("OTEL_EXPORTER_OTLP_ENDPOINT", url)]);
            let end: u64 = value(&output, "end").parse().unwrap();
            assert!(Duration::from_millis(end) < Duration::from_millis(1500), "{url}: {end} ms");
        }
        drop(silent);
    }

    #[test]
    fn logs_of_a_server_are_json_when_not_on_a_terminal() {
        let output = run("normal", &[]);
        let trace = value(&output, "traceparent");
        let text = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["some information", "a warning"]);
        assert_eq!(lines[0]["answer"], 42);
        for line in &lines {
            let outer = &line["spans"][0];
            let fields = serde_json::json!({
                "name": "outer-span", "who": "\"me\"", "size": 7, "trace_id": trace.split('-').nth(1).unwrap(),
            });
            assert_eq!(*outer, fields, "{line}");
        }
    }

    #[test]
    fn what_is_too_detailed_for_anybody_costs_nothing() {
        let disabled = ("OTEL_SDK_DISABLED", "true");
        for (verbosity, environment, expected) in [
            ("normal", &[][..], "info"),
            ("normal", &[disabled], "info"),
            ("quiet", &[disabled], "warn"),
            ("quiet", &[disabled, ("RUST_LOG", "sinfonia=trace")], "trace"),
        ] {
            assert_eq!(value(&run(verbosity, environment), "level"), expected, "{verbosity} {environment:?}");
        }
    }

    #[test]
    fn logs_of_a_command_line_program_are_plain_text() {
        let quiet = String::from_utf8(run("quiet", &[]).stderr).unwrap();
        assert_eq!(quiet.trim_end(), " WARN a warning".trim_end(), "{quiet}");
        let debug = run("debug", &[]);
        let trace = value(&debug, "traceparent");
        let fields = format!("size=7 trace_id={}", trace.split('-').nth(1).unwrap());
        let debug = String::from_utf8(debug.stderr).unwrap();
        assert!(debug.contains("a detail") && debug.contains("some information"), "{debug}");
        assert!(debug.lines().all(|line| line.matches(&fields).count() == 1), "{debug}");
        let asked = run("quiet", &[("RUST_LOG", "sinfonia=info")]).stderr;
        let asked = String::from_utf8(asked).unwrap();
        assert!(asked.contains("some information") && !asked.contains("a warning"), "{asked}");
    }
}
