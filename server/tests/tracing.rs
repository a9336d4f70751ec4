//! Spans of requests, as a collector would see them.

#[cfg(test)]
mod tests {
    use actix_web::{HttpResponse, rt, web};
    use futures_util::FutureExt as _;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
    use sinfonia_server::{Readiness, Server, ServerOptions};
    use sinfonia_telemetry::opentelemetry::trace::{SpanId, SpanKind, Status, TracerProvider as _};
    use sinfonia_telemetry::propagation;
    use tokio::sync::oneshot;
    use tracing_subscriber::layer::SubscriberExt as _;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    async fn work() -> HttpResponse {
        let span = tracing::info_span!("outgoing");
        let _entered = span.enter();
        let mut header = String::new();
        propagation::inject(&mut |name, value| header = format!("{name}: {value}"));
        HttpResponse::Ok().body(header)
    }

    async fn broken() -> HttpResponse {
        HttpResponse::InternalServerError().finish()
    }

    fn named<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {spans:?}"))
    }

    fn attribute(span: &SpanData, key: &str) -> Option<String> {
        let found = span.attributes.iter().find(|pair| pair.key.as_str() == key);
        found.map(|pair| pair.value.as_str().into_owned())
    }

    #[actix_web::test]
    async fn the_server_span_continues_the_callers_trace_and_is_the_parent_of_the_handlers() {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        // The server has threads of its own.
        tracing::subscriber::set_global_default(subscriber).unwrap();

        let mut options = ServerOptions::new("example", 0);
        options.workers = Some(1);
        let server = Server::bind(options).unwrap();
        let port = server.address().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = |routes: &mut web::ServiceConfig| {
            routes.service(web::resource("/tasks/{key}").get(work));
            routes.service(web::resource("/broken").get(broken));
        };
        let done = rt::spawn(server.run_until(Readiness::new(), routes, stopped.map(drop)));

        let get = |path: &str| {
            awc::Client::default()
                .get(format!("http://127.0.0.1:{port}{path}"))
                .insert_header(("traceparent", format!("00-{TRACE}-{PARENT}-01")))
        };
        let answer = get("/tasks/raw-client-key").send().await.unwrap().body().await.unwrap();
        get("/broken").send().await.unwrap();
        get("/raw-client-key").send().await.unwrap();
        stop.send(()).unwrap();
        done.await.unwrap().unwrap();

        let spans = exporter.get_finished_spans().unwrap();
        let request = named(&spans, "GET /tasks/{key}");
        assert_eq!(request.span_context.trace_id().to_string(), TRACE);
        assert_eq!(request.parent_span_id, SpanId::from_hex(PARENT).unwrap());
        assert!(request.parent_span_is_remote);
        assert_eq!(request.span_kind, SpanKind::Server);
        assert_eq!(request.status, Status::Unset);
        for (key, value) in [
            ("http.request.method", "GET"),
            ("http.route", "/tasks/{key}"),
            ("http.response.status_code", "200"),
            ("url.scheme", "http"),
            ("network.peer.address", "127.0.0.1"),
        ] {
            assert_eq!(attribute(request, key).as_deref(), Some(value), "{key}");
        }

        let outgoing = named(&spans, "outgoing");
        assert_eq!(outgoing.parent_span_id, request.span_context.span_id());
        let passed_on = format!("traceparent: 00-{TRACE}-{}-01", outgoing.span_context.span_id());
        assert_eq!(answer, passed_on.as_bytes());

        let broken = named(&spans, "GET /broken");
        assert!(matches!(broken.status, Status::Error { .. }), "{:?}", broken.status);
        assert_eq!(attribute(broken, "error.type").as_deref(), Some("500"));

        let unmatched = named(&spans, "GET");
        assert_eq!(attribute(unmatched, "http.route"), None);
        assert!(!format!("{spans:?}").contains("raw-client-key"));
    }
}
