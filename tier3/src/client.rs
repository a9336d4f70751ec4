//! The client: whom to ask, for which application, and how.

use std::sync::Arc;
use std::time::Duration;

use awc::http::Method;
use futures_util::FutureExt as _;
use sinfonia_credentials::BearerToken;
use sinfonia_tls::{ClientConfig, TlsTrust};
use sinfonia_tunnel::{NamespaceError, NamespaceOptions};
use sinfonia_wire::{ApplicationId, CloudletInfo, DeployEndpoint, Location, PublicKey};
use tracing::Instrument as _;
use url::Url;

use crate::answer::{self, Server};
use crate::http::{self, Request};
use crate::{Deploying, Deployments, Error, KeyCache, Lease, Namespace, Tunnel};

/// A cloudlet may take 25 s to answer, and tier1 a minute, in which it asks others.
const DEPLOY_LIMIT: Duration = Duration::from_secs(65);
const DISCOVER_LIMIT: Duration = Duration::from_secs(10);
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// How long a handshake may take by default.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// How many deployments may be asked for at once.
pub const MAX_RESULTS: u8 = 3;

/// A client of one application at one tier1 or tier2.
#[derive(Debug, Clone)]
pub struct Tier3 {
    pub(crate) server: Server,
    endpoint: DeployEndpoint,
    keys: KeyCache,
    location: Option<Location>,
    results: u8,
    release: bool,
    trust: Option<Arc<ClientConfig>>,
    pub(crate) handshake_limit: Duration,
    pub(crate) helper: Option<std::path::PathBuf>,
    pub(crate) present: bool,
    token: Option<BearerToken>,
}

/// Makes a [`Tier3`].
#[derive(Debug, Clone)]
pub struct Tier3Builder {
    url: Url,
    application: ApplicationId,
    keys: KeyCache,
    location: Option<Location>,
    results: u8,
    release: bool,
    trust: TlsTrust,
    handshake_limit: Duration,
    helper: Option<std::path::PathBuf>,
    present: bool,
    token: Option<BearerToken>,
}

impl Tier3Builder {
    /// What this client presents to the tier at its URL, and to nobody else; by default nothing.
    #[must_use]
    pub fn token(mut self, token: Option<BearerToken>) -> Self {
        self.token = token;
        self
    }

    /// Where to keep key pairs; the user's cache folder by default.
    #[must_use]
    pub fn keys(mut self, keys: KeyCache) -> Self {
        self.keys = keys;
        self
    }

    /// Where this client is; by default tier1 guesses from its address.
    #[must_use]
    pub fn location(mut self, location: Option<Location>) -> Self {
        self.location = location;
        self
    }

    /// How many deployments to ask for, 1 to [`MAX_RESULTS`], of which the first that answers is used; 1 by default.
    #[must_use]
    pub fn results(mut self, results: u8) -> Self {
        self.results = results.clamp(1, MAX_RESULTS);
        self
    }

    /// Frees the cloudlet when the tunnel is closed, instead of leaving that to the deployment's lease.
    #[must_use]
    pub fn release(mut self, release: bool) -> Self {
        self.release = release;
        self
    }

    /// File with certificates of further authorities (PEM) that an https server may be certified by, beside the public
    /// ones.
    #[must_use]
    pub fn tls_ca(mut self, file: Option<std::path::PathBuf>) -> Self {
        self.trust.tls_ca = file;
        self
    }

    /// How long a handshake may take; [`HANDSHAKE_LIMIT`] by default.
    #[must_use]
    pub fn handshake_limit(mut self, limit: Duration) -> Self {
        self.handshake_limit = limit;
        self
    }

    /// The executable to start as namespace helper; the present one by default, whose `main` then begins with
    /// [`sinfonia_tunnel::helper::run_if_invoked`].
    #[must_use]
    pub fn helper(mut self, helper: Option<std::path::PathBuf>) -> Self {
        self.helper = helper;
        self
    }

    /// Makes the tunnel in the present network namespace, that of a container, for all programs in it; needs
    /// `CAP_NET_ADMIN`. One tunnel has room there, so that no more than one deployment is asked for.
    #[must_use]
    pub fn present(mut self, present: bool) -> Self {
        self.present = present;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`Error::Url`] and [`Error::Tls`].
    pub fn build(self) -> Result<Tier3, Error> {
        let endpoint = DeployEndpoint::of_tier(&self.url)?;
        Ok(Tier3 {
            server: Server { name: self.url.to_string(), application: self.application },
            endpoint,
            keys: self.keys,
            location: self.location,
            results: if self.present { 1 } else { self.results },
            release: self.release,
            trust: self.trust.client_config()?,
            handshake_limit: self.handshake_limit,
            helper: self.helper,
            present: self.present,
            token: self.token,
        })
    }
}

impl Tier3 {
    /// A client of `application` at the tier1 or tier2 that serves `url`.
    #[must_use]
    pub fn builder(url: Url, application: ApplicationId) -> Tier3Builder {
        Tier3Builder {
            url,
            application,
            keys: KeyCache::of_user(),
            location: None,
            results: 1,
            release: false,
            trust: TlsTrust::default(),
            handshake_limit: HANDSHAKE_LIMIT,
            helper: None,
            present: false,
            token: None,
        }
    }

    /// The cloudlets that would be asked, best first. Nothing is deployed.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::NoCloudlet`], and [`Error::Deploy`] where the server does not offer this.
    pub async fn discover(&self) -> Result<Vec<CloudletInfo>, Error> {
        let public_key = self.keys.claim(self.server.application).public_key();
        let request = self.request(Method::GET, &public_key, Some(self.results), None, DISCOVER_LIMIT);
        let answered = http::send(request).await;
        self.server.cloudlets(answered)
    }

    /// Asks for deployments; the request is under way when this returns, its result is awaited later.
    pub fn deploy(&self) -> Deploying {
        let span = tracing::info_span!(
            "deploy",
            otel.kind = "client",
            http.request.method = "POST",
            server.address = self.endpoint.host().to_string(),
            server.port = i64::from(self.endpoint.port()),
            sinfonia.application = %self.server.application,
        );
        let (key, answer) = span.in_scope(|| {
            let key = self.keys.claim(self.server.application);
            let results = (self.results > 1).then_some(self.results);
            let request = self.request(Method::POST, &key.public_key(), results, None, DEPLOY_LIMIT);
            tracing::debug!(url = %request.url, "asking for a deployment");
            (key, http::send(request))
        });
        let (client, lease) = (self.clone(), Lease::new(self, &key));
        let answer = async move {
            let deployments = client.server.deployments(answer.await)?;
            tracing::debug!(count = deployments.len(), "deployed");
            Ok(Deployments::new(client, key, deployments))
        };
        Deploying::new(lease, answer.instrument(span).boxed())
    }

    /// Whether its tunnel is made in the present network namespace, see [`Tier3Builder::present`].
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// A namespace for the application, with an interface but no tunnel yet.
    ///
    /// # Errors
    /// [`Error::Namespace`].
    pub async fn namespace(&self) -> Result<Namespace, Error> {
        Ok(self.make_namespace().await?)
    }

    pub(crate) async fn make_namespace(&self) -> Result<Namespace, NamespaceError> {
        let options =
            NamespaceOptions { helper: self.helper.clone(), present: self.present, ..NamespaceOptions::default() };
        Namespace::create(options).await
    }

    /// Deploys and, at the same time, makes the namespace in which the tunnel then ends.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn connect(&self) -> Result<Tunnel, Error> {
        if self.present {
            // First, since it mends what one that was killed left: its resolver would be asked for the server.
            let namespace = self.namespace().await?;
            return self.deploy().await?.connect_in(namespace).await;
        }
        let deploying = self.deploy();
        let namespace = self.namespace().await?;
        deploying.await?.connect_in(namespace).await
    }

    /// Asks that a deployment of this client ends now: that on `cloudlet`, or all. Servers that cannot do that leave
    /// it to the lease.
    pub(crate) fn start_release(
        &self,
        key: &PublicKey,
        cloudlet: Option<sinfonia_wire::CloudletId>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let request = self.request(Method::DELETE, key, None, cloudlet, RELEASE_LIMIT);
        let answer = http::send(request);
        async move {
            match answer.await {
                Ok(answer) if answer::is_released(answer.status) => tracing::debug!("released"),
                Ok(answer) => tracing::warn!("the deployment was not released (status {})", answer.status),
                Err(error) => tracing::warn!("the deployment was not released: {error}"),
            }
        }
    }

    /// Whether to release the deployment when leaving: when asked to, or when nobody can come back to it.
    pub(crate) fn releases(&self, key_is_kept: bool) -> bool {
        self.release || !key_is_kept
    }

    fn request(
        &self,
        method: Method,
        key: &PublicKey,
        results: Option<u8>,
        cloudlet: Option<sinfonia_wire::CloudletId>,
        limit: Duration,
    ) -> Request {
        let mut url = self.endpoint.deployment_url(&self.server.application, key);
        if let Some(results) = results {
            url.query_pairs_mut().append_pair("results", &results.to_string());
        }
        if let Some(cloudlet) = cloudlet {
            url.query_pairs_mut().append_pair("cloudlet", &cloudlet.to_string());
        }
        let mut headers = vec![("Accept".to_owned(), "application/json, application/problem+json".to_owned())];
        if let Some(location) = self.location {
            headers.push((sinfonia_wire::header::X_LOCATION.into(), location.to_string()));
        }
        if let Some(token) = &self.token {
            headers.push(("Authorization".into(), token.authorization().to_string()));
        }
        let mut add = |name: &str, value: &str| headers.push((name.into(), value.into()));
        sinfonia_telemetry::propagation::inject(&mut add);
        Request { method, url, headers, trust: self.trust.clone(), limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_below_the_url() {
        for (url, expected) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/api/v1/deploy"),
            ("https://edge.example/sinfonia//", "https://edge.example/sinfonia/api/v1/deploy"),
            ("http://[2001:db8::1]:5000", "http://[2001:db8::1]:5000/api/v1/deploy"),
        ] {
            let client = Tier3::builder(url.parse().unwrap(), ApplicationId::HELLOWORLD).build().unwrap();
            assert_eq!(client.endpoint.url().as_str(), expected);
        }
    }

    #[test]
    fn other_urls_are_refused_with_the_reason() {
        for url in ["ftp://edge.example", "http://edge.example?x=1", "localhost:5000", "http://me:secret@edge.example"]
        {
            let error = Tier3::builder(url.parse().unwrap(), ApplicationId::HELLOWORLD).build().unwrap_err();
            assert!(matches!(error, Error::Url(_)), "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn queries_and_headers() {
        let client = Tier3::builder("http://t1.example/".parse().unwrap(), ApplicationId::HELLOWORLD)
            .results(9)
            .location(Some("40.4,-79.9".parse().unwrap()))
            .build()
            .unwrap();
        let key: PublicKey = "2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg/8YHRlHBcwV4=".parse().unwrap();
        let request = client.request(Method::POST, &key, Some(client.results), None, DEPLOY_LIMIT);
        assert_eq!(
            request.url.as_str(),
            "http://t1.example/api/v1/deploy/00000000-0000-0000-0000-000000000000/\
             2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg_8YHRlHBcwV4?results=3"
        );
        assert!(request.headers.contains(&("X-Location".into(), "40.4,-79.9".into())));
    }
}
