//! Asks servers of the cluster, within limits of time and size.

use std::{error::Error, time::Duration};

use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client,
    client::{Body, ConfigExt as _},
    config::{AuthInfo, Config},
};
use secrecy::SecretString;
use thiserror::Error;
use tower::{BoxError, ServiceBuilder};
use url::Url;

#[cfg(test)]
pub(crate) mod tests;

/// How long one answer may take, from the connection to its end.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The longest answer that is read, bytes: that of a kubelet with hundreds of pods, or metrics of 50,000 peers.
pub(crate) const SIZE_LIMIT: usize = 16 << 20;

/// A server that can be asked.
#[derive(Clone)]
pub(crate) struct Server {
    client: Client,
    /// Without secrets.
    name: String,
}

/// Why there is no answer. Each sentence names the server.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    /// The URL or its TLS settings.
    #[error("{server} cannot be asked: {reason}")]
    Unusable { server: String, reason: String },
    /// No connection, or it broke.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable { server: String, reason: String },
    /// Too slow.
    #[error("{server} did not answer within {} s", TIME_LIMIT.as_secs())]
    Silent { server: String },
    /// Another status than 200.
    #[error("{server} answers {status}")]
    Refused { server: String, status: StatusCode },
    /// An endless body, or an absurd one.
    #[error("{server} answers more than {} MiB", SIZE_LIMIT >> 20)]
    TooLong { server: String },
}

impl FetchError {
    /// Whether the server itself said that there is no such thing (404), or not now (503).
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE, .. })
    }
}

impl Server {
    /// The API server.
    pub(crate) fn api(client: Client) -> Self {
        Self { client, name: "the API server".to_owned() }
    }

    /// A server outside the API, at an http(s) URL; a user and password in it are sent as basic authentication.
    ///
    /// # Errors
    /// When no client can be made of the URL.
    pub(crate) fn at(url: &Url, what: &str) -> Result<Self, FetchError> {
        let mut bare = url.clone();
        let _ = bare.set_username("").and_then(|()| bare.set_password(None));
        let name = format!("{what} at {bare}");
        let uri = bare
            .as_str()
            .parse::<Uri>()
            .map_err(|error| FetchError::Unusable { server: name.clone(), reason: error.to_string() })?;
        let mut config = Config::new(uri);
        if !url.username().is_empty() {
            let password = url.password().unwrap_or_default().to_owned();
            config.auth_info = AuthInfo {
                username: Some(url.username().to_owned()),
                password: Some(SecretString::from(password)),
                ..AuthInfo::default()
            };
        }
        if url.scheme() != "https" {
            // Else this machine's certificates are read, which a container may not have.
            config.root_cert = Some(vec![]);
        }
        Self::with(config, name)
    }

    /// A server with these settings, called `name`.
    ///
    /// # Errors
    /// When no client can be made of them.
    pub(crate) fn with(config: Config, name: String) -> Result<Self, FetchError> {
        match client(&config) {
            Ok(client) => Ok(Self { client, name }),
            Err(error) => Err(FetchError::Unusable { server: name, reason: reason(&error) }),
        }
    }

    /// What the server is called in sentences.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The body of the answer to `GET <path>`, which is relative to the server's URL and begins with a slash.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(crate) async fn get(&self, path: &str) -> Result<Vec<u8>, FetchError> {
        let server = || self.name.clone();
        let exchange = async {
            let request = Request::get(path)
                .body(Body::empty())
                .map_err(|error| FetchError::Unusable { server: server(), reason: error.to_string() })?;
            let answer = self
                .client
                .send(request)
                .await
                .map_err(|error| FetchError::Unreachable { server: server(), reason: reason(&error) })?;
            if answer.status() != StatusCode::OK {
                return Err(FetchError::Refused { server: server(), status: answer.status() });
            }
            match Limited::new(answer.into_body(), SIZE_LIMIT).collect().await {
                Ok(body) => Ok(body.to_bytes().to_vec()),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    Err(FetchError::TooLong { server: server() })
                }
                Err(error) => Err(FetchError::Unreachable { server: server(), reason: error.to_string() }),
            }
        };
        tokio::time::timeout(TIME_LIMIT, exchange)
            .await
            .unwrap_or_else(|_| Err(FetchError::Silent { server: server() }))
    }
}

/// A client without the layer of kube's own that logs each failure: here, failures are said once.
fn client(config: &Config) -> Result<Client, kube::Error> {
    let connector = config.rustls_https_connector()?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// The reason that helps: what the API server says, or the innermost error, `Connection refused` instead of `client error
/// (Connect)`.
pub(crate) fn reason(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error
        && !status.message.is_empty()
    {
        return status.message.chars().take(300).collect();
    }
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
