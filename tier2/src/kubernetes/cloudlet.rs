//! The wiring of a cloudlet on Kubernetes.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use futures_util::future::{BoxFuture, FutureExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, Config as ClientConfig,
    config::{KubeConfigOptions, Kubeconfig},
};
use sinfonia_recipes::Repository;
use sinfonia_telemetry::opentelemetry::metrics::ObservableGauge;
use sinfonia_wire::{CloudletId, CloudletInfo, DeployEndpoint};
use thiserror::Error;
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};

use super::{
    account::Account,
    activity::ActivityWatch,
    admission::Admission,
    api::ApiError,
    check::{ChartCheck, CheckParts, Finding, check},
    drain::Drain,
    ends::Ends,
    helm::{Helm, HelmError, HelmOptions, access::ApiServer},
    leader,
    operator::{self, Parts},
    options::KubernetesOptions,
    prometheus::Prometheus,
    readiness::ClusterReadiness,
    requests::Requests,
    resources::ClusterResources,
    view::{ClusterWatch, ViewError, cluster_id},
    watched::Watched,
};
use crate::{
    addresses::{AddressPool, PoolError},
    config::Config,
    deployments::Deployments,
    lifecycle::Policy,
    metrics,
    report_fields::ReportFields,
    reports::{NotReady, ReportSource},
    tier2::Cloudlet,
};

/// Why a cloudlet on Kubernetes does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// How to reach the cluster.
    #[error("no way to reach a cluster: {0}; give --kubeconfig, or run in a pod with a service account")]
    Kubeconfig(String),
    /// The cluster.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The cluster.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Helm.
    #[error(transparent)]
    Helm(#[from] HelmError),
    /// Client networks.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// Finds out whether a cloudlet could do its work. `image` is tier2's own, for trying the network.
///
/// # Errors
/// See [`StartError`]; what can be found without a cluster is not worth much.
pub async fn examine(
    config: Config,
    options: KubernetesOptions,
    recipes: Arc<Repository>,
    image: Option<String>,
) -> Result<Vec<Finding>, StartError> {
    let (client, client_config) = connect(&options).await?;
    let helm = Helm::new(helm_options(&options, &config.state_directory))?;
    helm.version().await?;
    let chart: ChartCheck = Arc::new(move |chart| {
        let helm = helm.clone();
        async move { helm.check_chart(&chart).await.map_err(|error| error.to_string()) }.boxed()
    });
    let parts = CheckParts {
        settings: config,
        namespace: options.namespace,
        prometheus: Prometheus::new(client.clone(), options.prometheus),
        client,
        client_config,
        recipes,
        chart,
        kubelet_insecure_tls: options.kubelet_insecure_tls,
        image,
    };
    Ok(check(parts).await)
}

/// A cluster's cloudlet, ready to run.
struct KubernetesCloudlet {
    id: CloudletId,
    deployments: Arc<Requests>,
    parts: Arc<Parts>,
    drain: Arc<Drain>,
    activity: Arc<Mutex<ActivityWatch>>,
    client_config: ClientConfig,
    namespace: String,
    /// Who this replica is to the others.
    identity: String,
    leads: Arc<watch::Sender<bool>>,
    watch: ClusterWatch,
    prometheus: Prometheus,
    kubelet_insecure_tls: bool,
    _gauges: [ObservableGauge<u64>; 4],
}

/// Connects to the cluster. Nothing runs before [`Cloudlet::begin`].
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    config: &Config,
    options: KubernetesOptions,
    recipes: Arc<Repository>,
) -> Result<Box<dyn Cloudlet>, StartError> {
    let (client, client_config) = connect(&options).await?;
    let pool = AddressPool::new(&config.client_networks, &[])?;
    let own_account = Account::own(&client).await?.service();
    let id = cluster_id(&client).await?;
    let helm = Helm::new(helm_options(&options, &config.state_directory))?;
    helm.version().await?;

    let watch = ClusterWatch::new(client.clone());
    let prometheus = Prometheus::new(client.clone(), options.prometheus.clone());
    let watched = Arc::new(Watched::default());
    let admission = Admission { total: config.max_deployments, per_client: config.max_per_client };
    let drain = Arc::new(Drain::new(Api::<Lease>::namespaced(client.clone(), &options.namespace)));
    let ends = Ends::new(watch.clone(), pod_namespace(own_account.as_ref()));
    let deployments = Arc::new(Requests {
        client: client.clone(),
        api: Api::all(client.clone()),
        watched: watched.clone(),
        recipes: recipes.clone(),
        ends: ends.clone(),
        drain: drain.clone(),
        admission,
        wait: config.request_wait,
    });
    let parts = Arc::new(Parts {
        server: ApiServer::new(&client_config),
        client,
        watched,
        recipes,
        ends,
        helm,
        admission,
        policy: Policy::with_lease(config.lease),
        interval: config.expiry_interval,
        pool,
        own_account,
        endless: Arc::default(),
        options: options.clone(),
    });
    let leads = Arc::new(watch::Sender::new(false));
    let gauges = {
        let (watched, leads, endless) = (parts.watched.clone(), leads.subscribe(), parts.endless.clone());
        let same = watched.clone();
        [
            metrics::watch(move || watched.states()),
            metrics::watch_retrying(move || same.count(operator::status::is_retrying)),
            metrics::watch_leadership(move || *leads.borrow()),
            metrics::watch_endless(move || endless.load(Ordering::Relaxed)),
        ]
    };
    let activity = ActivityWatch::new(watch.clone(), prometheus.clone(), config.lease);
    Ok(Box::new(KubernetesCloudlet {
        id,
        deployments,
        parts,
        drain,
        activity: Arc::new(Mutex::new(activity)),
        client_config,
        namespace: options.namespace,
        identity: format!("{}-{}", nix::unistd::gethostname().unwrap_or_default().to_string_lossy(), identity()),
        leads,
        watch,
        prometheus,
        kubelet_insecure_tls: options.kubelet_insecure_tls,
        _gauges: gauges,
    }))
}

impl Cloudlet for KubernetesCloudlet {
    fn id(&self) -> CloudletId {
        self.id
    }

    fn deployments(&self) -> Arc<dyn Deployments> {
        self.deployments.clone()
    }

    fn report_source(&self, endpoint: DeployEndpoint, fields: ReportFields) -> Arc<dyn ReportSource> {
        let (config, client) = (self.client_config.clone(), self.parts.client.clone());
        let resources = ClusterResources::new(
            self.watch.clone(),
            self.prometheus.clone(),
            config,
            client,
            self.kubelet_insecure_tls,
        );
        Arc::new(ClusterReport {
            id: self.id,
            endpoint,
            fields,
            leads: self.leads.subscribe(),
            readiness: ClusterReadiness::new(self.watch.clone()),
            resources: Mutex::new(resources),
        })
    }

    fn begin(&self) -> Vec<JoinHandle<()>> {
        let (watched, drain) = (self.parts.watched.clone(), self.drain.clone());
        let objects = Api::all(self.parts.client.clone());
        let (config, namespace, identity) = (self.client_config.clone(), self.namespace.clone(), self.identity.clone());
        let (parts, activity, leads) = (self.parts.clone(), self.activity.clone(), self.leads.clone());
        let leading = async move {
            let work = || {
                let (parts, activity, leads) = (parts.clone(), activity.clone(), Term::begin(leads.clone()));
                async move {
                    operator::operate(parts, activity).await;
                    drop(leads);
                }
            };
            leader::lead(&config, &namespace, &identity, work).await;
        };
        vec![
            tokio::spawn(async move { watched.run(objects).await }),
            tokio::spawn(async move { drain.run().await }),
            tokio::spawn(leading),
        ]
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        let watched = self.parts.watched.clone();
        async move { watched.synced().await }.boxed()
    }

    fn close(&self) {}

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        // Deployments outlive us; another replica, or our next life, goes on at once.
        leader::release(&self.client_config, &self.namespace, &self.identity).boxed()
    }
}

/// Says that this replica leads until it is dropped.
struct Term(Arc<watch::Sender<bool>>);

impl Term {
    fn begin(leads: Arc<watch::Sender<bool>>) -> Self {
        leads.send_replace(true);
        Self(leads)
    }
}

impl Drop for Term {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

/// The reports of a cluster: the leader's, once the whole cluster is ready.
struct ClusterReport {
    id: CloudletId,
    endpoint: DeployEndpoint,
    fields: ReportFields,
    leads: watch::Receiver<bool>,
    readiness: ClusterReadiness,
    resources: Mutex<ClusterResources>,
}

impl ReportSource for ClusterReport {
    fn report(&self) -> BoxFuture<'_, Result<CloudletInfo, NotReady>> {
        async move {
            if !*self.leads.borrow() {
                return Err(NotReady::Follower);
            }
            self.readiness.check().await.map_err(|missing| NotReady::Unfit(missing.to_string()))?;
            let resources = self.resources.lock().await.sample().await;
            Ok(self.fields.info(self.id, &self.endpoint, false, resources))
        }
        .boxed()
    }
}

/// A client of the cluster, and how that is reached.
pub(super) async fn connect(options: &KubernetesOptions) -> Result<(Client, ClientConfig), StartError> {
    let config = client_config(options).await?;
    let client = Client::try_from(config.clone()).map_err(|error| StartError::Kubeconfig(error.to_string()))?;
    Ok((client, config))
}

async fn client_config(options: &KubernetesOptions) -> Result<ClientConfig, StartError> {
    // Fails only when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let failed = |error: String| StartError::Kubeconfig(error);
    let context = KubeConfigOptions { context: options.kubecontext.clone(), ..KubeConfigOptions::default() };
    match &options.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(|error| failed(error.to_string()))?;
            ClientConfig::from_custom_kubeconfig(kubeconfig, &context).await.map_err(|error| failed(error.to_string()))
        }
        None if options.kubecontext.is_some() => {
            ClientConfig::from_kubeconfig(&context).await.map_err(|error| failed(error.to_string()))
        }
        None => ClientConfig::infer().await.map_err(|error| failed(error.to_string())),
    }
}

/// The namespace of the pod that this runs in: its account's. A kubelet sets this variable in every container.
fn pod_namespace(own_account: Option<&(String, String)>) -> Option<String> {
    std::env::var_os("KUBERNETES_SERVICE_HOST")?;
    own_account.map(|(namespace, _)| namespace.clone())
}

fn helm_options(options: &KubernetesOptions, state: &std::path::Path) -> HelmOptions {
    let cache: PathBuf = state.join("helm");
    HelmOptions {
        program: options.helm.clone(),
        plain_http: options.insecure_registries.clone(),
        ..HelmOptions::new(cache)
    }
}

/// Tells replicas apart that share a host name.
fn identity() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
