//! HTTP requests by awc, each on a thread of its own: awc's futures cannot leave their thread, ours can, and
//! nothing of it stays in memory while the application runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_tls::connect::{Connector as TcpConnector, Resolve, Resolver};
use awc::error::{ConnectError, SendRequestError};
use awc::http::Method;
use futures_util::future::LocalBoxFuture;
use sinfonia_tls::ClientConfig;
use std::net::SocketAddr;
use tokio::sync::oneshot;
use url::Url;

use crate::names;

/// How long finding and connecting to a server may take. Together with the rest it stays below 5 s.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// No answer of a tier is longer, bytes.
const BODY_LIMIT: usize = 4 << 20;

/// A request without a body. Its headers may hold a token, so they are not shown.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(String, String)>,
    /// Whose certificates the server may have; none: the public authorities'.
    pub(crate) trust: Option<Arc<ClientConfig>>,
    /// For the whole exchange.
    pub(crate) limit: Duration,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Where a redirection points.
    pub(crate) location: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// No answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nobody is there.
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("{0}")]
    Broken(String),
}

/// Sends a request at once, not only when the result is awaited. Dropping the result abandons the request.
pub(crate) fn send(request: Request) -> Pending {
    let (mut answer, receiver) = oneshot::channel();
    let work = move || {
        let result = run(async {
            tokio::select! {
                result = exchange(request) => Some(result),
                () = answer.closed() => None,
            }
        });
        if let Some(result) = result {
            // Nobody waits any more.
            let _ = answer.send(result);
        }
    };
    let failed = std::thread::Builder::new().name("http".into()).spawn(work).err();
    Pending { receiver, failed }
}

/// The answer to come.
#[derive(Debug)]
pub(crate) struct Pending {
    receiver: oneshot::Receiver<Result<Response, HttpError>>,
    failed: Option<std::io::Error>,
}

impl Future for Pending {
    type Output = Result<Response, HttpError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(HttpError::Broken(format!("cannot start a thread for the request: {error}"))));
        }
        Pin::new(&mut self.receiver).poll(context).map(|received| {
            received.unwrap_or_else(|_| Err(HttpError::Broken("the request's thread ended early".into())))
        })
    }
}

fn run<T>(work: impl Future<Output = Option<Result<T, HttpError>>>) -> Option<Result<T, HttpError>> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => tokio::task::LocalSet::new().block_on(&runtime, work),
        Err(error) => Some(Err(HttpError::Broken(format!("cannot start a runtime for the request: {error}")))),
    }
}

async fn exchange(request: Request) -> Result<Response, HttpError> {
    let limit = request.limit;
    tokio::time::timeout(limit, exchange_unlimited(request)).await.unwrap_or(Err(HttpError::Timeout(limit)))
}

async fn exchange_unlimited(request: Request) -> Result<Response, HttpError> {
    let mut outgoing = client(request.trust).request(request.method, request.url.as_str());
    for header in request.headers {
        outgoing = outgoing.insert_header(header);
    }
    let mut answer = outgoing.send().await.map_err(from_awc)?;
    let status = answer.status().as_u16();
    let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).map(Into::into);
    let body = answer.body().limit(BODY_LIMIT).await.map_err(|error| HttpError::Broken(error.to_string()))?;
    Ok(Response { status, location, body: body.into() })
}

fn client(trust: Option<Arc<ClientConfig>>) -> awc::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails when the program that uses this library has chosen one, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let tcp = TcpConnector::new(Resolver::custom(Names)).service();
    let connector = awc::Connector::new();
    let connector = match trust {
        Some(trust) => connector.rustls_0_23(trust),
        None => connector,
    };
    let connector = connector.connector(tcp).timeout(CONNECT_LIMIT).handshake_timeout(CONNECT_LIMIT);
    // The time limit of the whole exchange is ours; a redirected POST would arrive as a GET.
    awc::Client::builder().connector(connector).disable_timeout().disable_redirects().finish()
}

struct Names;

impl Resolve for Names {
    fn lookup<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> LocalBoxFuture<'a, Result<Vec<SocketAddr>, Box<dyn std::error::Error>>> {
        // In URLs, IPv6 addresses stand in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Box::pin(async move { Ok(names::lookup(host, port).await?) })
    }
}

fn from_awc(error: SendRequestError) -> HttpError {
    match error {
        SendRequestError::Connect(ConnectError::Resolver(error)) => HttpError::Unreachable(error.to_string()),
        SendRequestError::Connect(ConnectError::Timeout) => {
            HttpError::Unreachable(format!("no connection within {} s", CONNECT_LIMIT.as_secs()))
        }
        SendRequestError::Connect(ConnectError::Io(error)) => HttpError::Unreachable(describe(&error)),
        SendRequestError::Connect(ConnectError::Disconnected) => {
            HttpError::Broken("it closed the connection without an answer".into())
        }
        SendRequestError::Connect(error) => HttpError::Unreachable(error.to_string()),
        error => HttpError::Broken(error.to_string()),
    }
}

/// The system's words, without its number.
fn describe(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}
