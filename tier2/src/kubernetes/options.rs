//! What the Kubernetes driver can be told.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use url::Url;

/// Options of the Kubernetes driver.
#[derive(Debug, Clone, Args)]
pub struct KubernetesOptions {
    /// Kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or the pod's service account].
    #[arg(long, env = "SINFONIA_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig file [default: its current one].
    #[arg(long, env = "SINFONIA_KUBECONTEXT", value_name = "NAME")]
    pub kubecontext: Option<String>,

    /// Namespace of tier2's own objects, such as the leader's lease.
    #[arg(long, env = "SINFONIA_NAMESPACE", default_value = "sinfonia", value_name = "NAME")]
    pub namespace: String,

    /// The helm program.
    #[arg(long, env = "SINFONIA_HELM", default_value = "helm", value_name = "PROGRAM")]
    pub helm: PathBuf,

    /// Prometheus, for resources, and for activity where it knows that of tunnels [default: service
    /// kube-prometheus-stack-prometheus in namespace monitoring, if there is one].
    #[arg(long, env = "SINFONIA_PROMETHEUS", value_name = "URL")]
    pub prometheus: Option<Url>,

    /// How many charts are installed at the same time; others wait in the order in which they came.
    #[arg(long, env = "SINFONIA_CONCURRENT_INSTALLS", default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrent_installs: u16,

    /// How long a backend may take to become ready, and its installation be tried again that fails for reasons which may
    /// pass, in seconds.
    #[arg(long, env = "SINFONIA_READY_TIMEOUT", default_value_t = 180, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub ready_timeout: u64,

    /// Pod Security level that namespaces of deployments enforce.
    #[arg(long, env = "SINFONIA_POD_SECURITY", value_enum, default_value_t = PodSecurity::Baseline)]
    pub pod_security: PodSecurity,

    /// What backends may reach beside themselves and the resolver, where the network enforces NetworkPolicy.
    #[arg(long, env = "SINFONIA_BACKEND_EGRESS", value_enum, default_value_t = Egress::Internet)]
    pub backend_egress: Egress,

    /// OCI registry that is asked without TLS; repeat for more. Those on this machine always are.
    #[arg(
        long = "insecure-registry",
        env = "SINFONIA_INSECURE_REGISTRY",
        value_name = "HOST[:PORT]",
        value_delimiter = ','
    )]
    pub insecure_registries: Vec<String>,

    /// Does not verify the certificates of kubelets, which many clusters leave self-signed.
    #[arg(long, env = "SINFONIA_KUBELET_INSECURE_TLS", value_parser = clap::builder::FalseyValueParser::new())]
    pub kubelet_insecure_tls: bool,
}

impl KubernetesOptions {
    /// How long a backend may take to become ready.
    #[must_use]
    pub const fn ready_limit(&self) -> Duration {
        Duration::from_secs(self.ready_timeout)
    }
}

/// A level of the Pod Security Standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PodSecurity {
    /// No privileges, nothing of the host; what ordinary charts need.
    Baseline,
    /// Hardened pods only.
    Restricted,
}

impl PodSecurity {
    /// The value of the namespace's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// Where backends may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Egress {
    /// Nowhere.
    None,
    /// To public addresses.
    Internet,
}

impl Egress {
    /// How peers say it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Internet => "internet",
        }
    }
}
