//! The account that installs charts, and how Helm gets to be it.

use std::{fmt, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};
use sinfonia_wire::DeploymentName;
use thiserror::Error;

/// Name of the ServiceAccount in each deployment's namespace, and of the ClusterRole that it is bound to there.
pub const DEPLOYER: &str = "sinfonia-deployer";

/// How long a token lives, seconds: the least that Kubernetes gives, and longer than an installation may take.
const TOKEN_SECONDS: i64 = 600;

/// How long the API server may take to give one.
const LIMIT: Duration = Duration::from_secs(10);

/// How the API server is reached and recognised, without the rights of whoever asks.
#[derive(Debug, Clone)]
pub struct ApiServer {
    server: String,
    authority: Authority,
    server_name: Option<String>,
    proxy: Option<String>,
}

#[derive(Debug, Clone)]
enum Authority {
    /// The system's.
    Public,
    /// Nobody checks.
    Unchecked,
    /// A file that may be renewed.
    File(PathBuf),
    /// Certificates as PEM.
    Known(String),
}

/// The rights to install charts in one namespace, for a while. Its `Debug` shows no token.
#[derive(Clone)]
pub struct Access {
    server: ApiServer,
    namespace: DeploymentName,
    token: String,
}

/// Why the account cannot be used.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The namespace or the account in it is not there (any more).
    #[error("namespace {0} has no ServiceAccount {DEPLOYER}")]
    NoAccount(DeploymentName),
    /// The API server refuses.
    #[error("the cluster gives no token for ServiceAccount {DEPLOYER} in namespace {namespace}: {reason}")]
    Refused {
        /// Where.
        namespace: DeploymentName,
        /// The API server's words.
        reason: String,
    },
    /// The API server does not answer.
    #[error("the cluster's API server cannot be reached: {0}")]
    Unreachable(String),
}

impl AccessError {
    /// A stable name of the cause.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoAccount(_) => "deployer-missing",
            Self::Refused { .. } => "deployer-without-rights",
            Self::Unreachable(_) => "api-unreachable",
        }
    }

    /// Whether the same may succeed in a moment, without anybody's doing.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

impl ApiServer {
    /// The server of a client's configuration.
    #[must_use]
    pub fn new(config: &kube::Config) -> Self {
        let authority = match (&config.root_cert_file, &config.root_cert) {
            _ if config.accept_invalid_certs => Authority::Unchecked,
            (Some(file), _) => Authority::File(file.clone()),
            (None, Some(certificates)) => Authority::Known(certificates.iter().map(|der| pem(der)).collect()),
            (None, None) => Authority::Public,
        };
        Self {
            server: config.cluster_url.to_string(),
            authority,
            server_name: config.tls_server_name.clone(),
            proxy: config.proxy_url.as_ref().map(ToString::to_string),
        }
    }

    fn cluster(&self) -> Value {
        let mut cluster = json!({ "server": self.server });
        match &self.authority {
            Authority::Public => {}
            Authority::Unchecked => cluster["insecure-skip-tls-verify"] = true.into(),
            Authority::File(file) => cluster["certificate-authority"] = file.to_string_lossy().into(),
            Authority::Known(pem) => cluster["certificate-authority-data"] = STANDARD.encode(pem).into(),
        }
        if let Some(name) = &self.server_name {
            cluster["tls-server-name"] = name.as_str().into();
        }
        if let Some(proxy) = &self.proxy {
            cluster["proxy-url"] = proxy.as_str().into();
        }
        cluster
    }
}

impl Access {
    /// The rights that a token of the namespace's account gives.
    #[must_use]
    pub const fn new(server: ApiServer, namespace: DeploymentName, token: String) -> Self {
        Self { server, namespace, token }
    }

    /// A kubeconfig file's content.
    pub(super) fn kubeconfig(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "cluster", "cluster": self.server.cluster() }],
            "users": [{ "name": DEPLOYER, "user": { "token": self.token } }],
            "contexts": [{
                "name": "deployment",
                "context": { "cluster": "cluster", "user": DEPLOYER, "namespace": self.namespace },
            }],
            "current-context": "deployment",
        })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Asks for a token of the namespace's account.
///
/// # Errors
/// See [`AccessError`].
pub async fn deployer_access(
    client: &Client,
    server: &ApiServer,
    namespace: &DeploymentName,
) -> Result<Access, AccessError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace.as_str());
    let request = TokenRequest {
        spec: TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let parameters = PostParams::default();
    let answer = accounts.create_token_request(DEPLOYER, &parameters, &request);
    let answer = tokio::time::timeout(LIMIT, answer)
        .await
        .map_err(|_| AccessError::Unreachable(format!("no answer within {} s", LIMIT.as_secs())))?;
    let refused = |reason: String| AccessError::Refused { namespace: namespace.clone(), reason };
    let answer = answer.map_err(|error| match error {
        kube::Error::Api(status) if status.code == 404 => AccessError::NoAccount(namespace.clone()),
        kube::Error::Api(status) if status.code < 500 && status.code != 429 => refused(status.message.clone()),
        error => AccessError::Unreachable(error.to_string()),
    })?;
    let token = answer.status.map(|status| status.token).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| refused("the answer holds none".to_owned()))?;
    Ok(Access::new(server.clone(), namespace.clone(), token))
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(change: impl FnOnce(&mut kube::Config)) -> Access {
        let mut config = kube::Config::new("https://192.0.2.1:6443".parse().unwrap());
        change(&mut config);
        Access::new(ApiServer::new(&config), "small-cat".parse().unwrap(), "secret-token".into())
    }

    #[test]
    fn a_kubeconfig_has_what_the_client_knows_of_the_server() {
        let known = access(|config| {
            config.root_cert = Some(vec![vec![1; 60]]);
            config.tls_server_name = Some("kubernetes".into());
        });
        let kubeconfig = known.kubeconfig();
        let cluster = &kubeconfig["clusters"][0]["cluster"];
        assert_eq!(cluster["server"], "https://192.0.2.1:6443/");
        assert_eq!(cluster["tls-server-name"], "kubernetes");
        let pem = STANDARD.decode(cluster["certificate-authority-data"].as_str().unwrap()).unwrap();
        let pem = String::from_utf8(pem).unwrap();
        assert_eq!(pem.lines().map(str::len).collect::<Vec<_>>(), [27, 64, 16, 25]);
        assert_eq!(kubeconfig["users"][0]["user"]["token"], "secret-token");
        assert_eq!(kubeconfig["contexts"][0]["context"]["namespace"], "small-cat");

        let unchecked = access(|config| config.accept_invalid_certs = true).kubeconfig();
        assert_eq!(unchecked["clusters"][0]["cluster"]["insecure-skip-tls-verify"], true);
        let file = access(|config| config.root_cert_file = Some("/ca.crt".into())).kubeconfig();
        assert_eq!(file["clusters"][0]["cluster"]["certificate-authority"], "/ca.crt");
    }

    #[test]
    fn debug_shows_no_token() {
        let shown = format!("{:?}", access(|_| ()));
        assert!(shown.contains("small-cat") && !shown.contains("secret"), "{shown}");
    }
}
