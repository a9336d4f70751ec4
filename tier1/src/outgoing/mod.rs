//! Requests to cloudlets.

mod error;
mod pass;
mod replaced;

pub(crate) use error::{Blame, CallError};
pub(crate) use pass::Pass;

use crate::{
    domain::{Cloudlet, Origin},
    resolve::{AddressError, Connecting, Policy, Resolver},
};
use actix_tls::connect::{Connector as TcpConnector, Resolver as TcpResolver};
use actix_web::{
    error::PayloadError,
    http::{Method, StatusCode},
    web::Bytes,
};
use awc::{
    Client as HttpClient, ClientRequest, Connector,
    error::{ConnectError, SendRequestError},
    http::header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use error::LONGEST_ANSWER;
use replaced::Replaced;
use sinfonia_credentials::BearerToken;
use sinfonia_telemetry::propagation;
use sinfonia_tls::ClientConfig;
use sinfonia_wire::{ApplicationId, CloudletDeployment, DeploymentStatus, Location, Problem, PublicKey, header};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tracing::{Instrument as _, Span, field::Empty, info_span};

/// What is repeated of a cloudlet's explanation, in characters.
const LONGEST_DETAIL: usize = 500;
/// Idle connections are not used any more before the usual server closes them, which is after 5 s.
const IDLE: Duration = Duration::from_secs(4);
/// Connections of one thread.
const CONNECTIONS: usize = 4096;

/// How long cloudlets may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// To connect, names and all.
    pub connect: Duration,
    /// To deploy; tier2 itself waits up to 25 s for a backend.
    pub deploy: Duration,
    /// To look up or release a deployment.
    pub lookup: Duration,
    /// Until another candidate is asked as well.
    pub patience: Duration,
    /// For all candidates together.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            deploy: Duration::from_secs(30),
            lookup: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            total: Duration::from_secs(60),
        }
    }
}

/// On whose behalf a cloudlet is asked, and what for.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    /// The application.
    pub application: ApplicationId,
    /// The client's key.
    pub key: PublicKey,
    /// The client's address.
    pub address: IpAddr,
    /// Where the client is, if known.
    pub location: Option<Location>,
    /// How many tiers have passed the request on, this one included.
    pub hops: u32,
}

/// Makes requests. Belongs to one thread, whose connections it keeps.
#[derive(Clone)]
pub(crate) struct Outgoing {
    /// For cloudlets that reported themselves, and for those the operator listed.
    reported: Replaced<HttpClient>,
    configured: Replaced<HttpClient>,
    resolver: Resolver,
    policy: Policy,
    limits: Limits,
    pass: Pass,
}

impl Outgoing {
    /// Clients with these limits; `policy` is for endpoints that cloudlets reported, `trust` for their certificates
    /// where the public authorities are not enough.
    #[must_use]
    pub(crate) fn new(
        resolver: Resolver,
        policy: Policy,
        limits: Limits,
        trust: Option<&Arc<ClientConfig>>,
        pass: Pass,
    ) -> Self {
        let client = |policy| {
            let (resolver, trust) = (resolver.clone(), trust.cloned());
            Replaced::new(move || {
                let connecting = Connecting { resolver: resolver.clone(), policy };
                let connector = match &trust {
                    Some(trust) => Connector::new().rustls_0_23(Arc::clone(trust)),
                    None => Connector::new(),
                };
                let connector = connector
                    .connector(TcpConnector::new(TcpResolver::custom(connecting)).service())
                    .timeout(limits.connect)
                    .handshake_timeout(limits.connect)
                    .conn_keep_alive(IDLE)
                    .limit(CONNECTIONS);
                HttpClient::builder().connector(connector).disable_redirects().disable_timeout().finish()
            })
        };
        Self { reported: client(policy), configured: client(Policy::Any), resolver, policy, limits, pass }
    }

    /// Limits in force.
    #[must_use]
    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Finds addresses under the same policy.
    #[must_use]
    pub(crate) const fn resolver(&self) -> (&Resolver, Policy) {
        (&self.resolver, self.policy)
    }

    /// Asks for a deployment that can be used.
    ///
    /// # Errors
    /// When the cloudlet does not make one in time.
    pub(crate) async fn deploy(
        &self,
        cloudlet: &Cloudlet,
        errand: &Errand,
    ) -> Result<Vec<CloudletDeployment>, CallError> {
        let body = self.call(Method::POST, cloudlet, errand, self.limits.deploy).await?;
        let deployments = deployments(&body, cloudlet, errand)?;
        match deployments.iter().find(|deployment| deployment.status != DeploymentStatus::Deployed) {
            Some(other) => Err(CallError::NotReady(other.status)),
            None => Ok(deployments),
        }
    }

    /// Looks up the deployment there.
    ///
    /// # Errors
    /// When there is none, or the cloudlet does not say.
    pub(crate) async fn find(
        &self,
        cloudlet: &Cloudlet,
        errand: &Errand,
    ) -> Result<Vec<CloudletDeployment>, CallError> {
        let body = self.call(Method::GET, cloudlet, errand, self.limits.lookup).await?;
        deployments(&body, cloudlet, errand)
    }

    /// Releases the deployment there.
    ///
    /// # Errors
    /// When the cloudlet does not confirm it.
    pub(crate) async fn release(&self, cloudlet: &Cloudlet, errand: &Errand) -> Result<(), CallError> {
        self.call(Method::DELETE, cloudlet, errand, self.limits.lookup).await.map(drop)
    }

    async fn call(
        &self,
        method: Method,
        cloudlet: &Cloudlet,
        errand: &Errand,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let endpoint = &cloudlet.endpoint;
        let span = info_span!(
            "call cloudlet",
            otel.name = %method,
            otel.kind = "client",
            http.request.method = %method,
            server.address = endpoint.host(),
            server.port = i64::from(endpoint.port()),
            sinfonia.cloudlet = %cloudlet.id,
            http.response.status_code = Empty,
            otel.status_code = Empty,
            "error.type" = Empty,
        );
        let called = async {
            let (client, policy) = match cloudlet.origin {
                Origin::Reported => (&self.reported, self.policy),
                Origin::Configured => (&self.configured, Policy::Any),
            };
            // Addresses in URLs do not pass the resolver.
            if let Ok(address) = endpoint.host().parse() {
                policy.check(endpoint.host(), SocketAddr::new(address, endpoint.port()))?;
            }
            let client = client.get(Instant::now());
            let send = async {
                let token = self.pass.for_cloudlet(cloudlet);
                match exchange(&client, &method, cloudlet, errand, token.as_ref()).await {
                    // A kept connection that the other side had just closed. All requests may be repeated.
                    Err(CallError::Broken(_)) => exchange(&client, &method, cloudlet, errand, token.as_ref()).await,
                    result => result,
                }
            };
            timeout(limit, send).await.unwrap_or(Err(CallError::Timeout(limit)))
        };
        let result = called.instrument(span.clone()).await;
        if let Err(error) = &result {
            span.record("error.type", error.code()).record("otel.status_code", "ERROR");
        }
        result
    }
}

async fn exchange(
    client: &HttpClient,
    method: &Method,
    cloudlet: &Cloudlet,
    errand: &Errand,
    token: Option<&BearerToken>,
) -> Result<Bytes, CallError> {
    let url = cloudlet.endpoint.deployment_url(&errand.application, &errand.key);
    let request = client.request(method.clone(), url.as_str());
    let mut response = with_headers(request, errand, token).send().await.map_err(sending)?;
    let status = response.status();
    Span::current().record("http.response.status_code", i64::from(status.as_u16()));
    let body = response.body().limit(LONGEST_ANSWER).await.map_err(|error| match error {
        PayloadError::Overflow => CallError::TooLong,
        other => CallError::Invalid(other.to_string()),
    })?;
    if matches!(status, StatusCode::OK | StatusCode::NO_CONTENT) {
        return Ok(body);
    }
    let problem = Problem::from_answer(status.as_u16(), &body);
    let detail = excerpt(&problem.detail.unwrap_or(problem.title));
    match problem.code.as_deref() {
        Some("deployment-not-ready") => Err(CallError::Begun(detail)),
        _ => Err(CallError::Refused { status, detail }),
    }
}

/// A cloudlet's words, as they go to clients and into the log.
fn excerpt(text: &str) -> String {
    text.replace(char::is_control, " ").chars().take(LONGEST_DETAIL).collect()
}

fn with_headers(mut request: ClientRequest, errand: &Errand, token: Option<&BearerToken>) -> ClientRequest {
    let headers = request.headers_mut();
    let mut set = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    };
    set(header::X_CLIENT_IP, &errand.address.to_string());
    set(header::X_HOPS, &errand.hops.to_string());
    if let Some(location) = errand.location {
        set(header::X_LOCATION, &location.to_string());
    }
    propagation::inject(&mut set);
    if let Some(token) = token
        && let Ok(mut value) = HeaderValue::try_from(token.authorization().as_str())
    {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    request
}

fn sending(error: SendRequestError) -> CallError {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => CallError::Broken("the connection was closed".into()),
        SendRequestError::Connect(ConnectError::Resolver(error)) => match error.downcast::<AddressError>() {
            Ok(error) => CallError::Address(*error),
            Err(error) => CallError::Unreachable(error.to_string()),
        },
        SendRequestError::Connect(error) => CallError::Unreachable(error.to_string()),
        SendRequestError::Send(error) => CallError::Broken(error.to_string()),
        other => CallError::Broken(other.to_string()),
    }
}

fn deployments(body: &[u8], cloudlet: &Cloudlet, errand: &Errand) -> Result<Vec<CloudletDeployment>, CallError> {
    let mut list: Vec<CloudletDeployment> =
        serde_json::from_slice(body).map_err(|error| CallError::Invalid(excerpt(&error.to_string())))?;
    if list.is_empty() {
        return Err(CallError::Invalid("it lists no deployment".to_owned()));
    }
    for deployment in &mut list {
        if deployment.uuid != errand.application {
            return Err(CallError::Invalid(format!("it is about application {}", deployment.uuid)));
        }
        deployment.cloudlet = Some(cloudlet.id);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloudlets_words_are_cut_and_steer_no_terminal() {
        let words = excerpt(&format!("\u{1b}[31m\r\n{}", "x".repeat(1_000_000)));
        assert!(words.chars().count() == LONGEST_DETAIL && !words.contains(char::is_control), "{words}");
    }
}
