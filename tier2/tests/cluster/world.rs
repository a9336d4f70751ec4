//! A namespace as tier2 makes it for a deployment, and Helm to fill it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock},
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::{LimitRange, Namespace, ResourceQuota, ServiceAccount},
        networking::v1::NetworkPolicy,
        rbac::v1::RoleBinding,
    },
    serde::{Serialize, de::DeserializeOwned},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Map, Value, json};
use sinfonia_recipes::ChartSource;
use sinfonia_tier2::{
    deployment::Progress,
    kubernetes::{
        helm::{
            Helm, HelmError, HelmOptions, Release,
            access::{Access, ApiServer, DEPLOYER, deployer_access},
        },
        workloads::{Kinds, NotReady, await_ready},
    },
};
use sinfonia_wire::DeploymentName;
use tokio::time::Instant;

/// Longer than anything takes that ends well.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// Marks namespaces of these tests.
const OURS: (&str, &str) = ("findcloudlet.org/test", "helm");

/// Set when what a killed run left is on its way out.
static CLEAN: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();

/// One namespace, and what is needed to install something there.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) server: ApiServer,
    pub(crate) name: DeploymentName,
    pub(crate) helm: Helm,
    pub(crate) access: Access,
    pub(crate) progress: Progress,
    pub(crate) directory: Arc<tempfile::TempDir>,
}

/// Runs a test in a namespace of its own, which is removed afterwards however the test ends.
pub(crate) async fn in_namespace<T, F>(test: T)
where
    T: FnOnce(World) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    in_namespace_with(|_| (), test).await;
}

/// The same with other options of Helm.
pub(crate) async fn in_namespace_with<T, F>(change: impl FnOnce(&mut HelmOptions), test: T)
where
    T: FnOnce(World) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let world = World::new(change).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let name = world.name.to_string();
    // A panic is an error of the task.
    let result = tokio::spawn(test(world)).await;
    namespaces.delete(&name, &DeleteParams::background()).await.unwrap();
    if let Err(error) = result {
        std::panic::resume_unwind(error.into_panic());
    }
}

impl World {
    async fn new(change: impl FnOnce(&mut HelmOptions)) -> Self {
        assert!(std::env::var_os("KUBECONFIG").is_some(), "KUBECONFIG must name the kubeconfig of a cluster for tests");
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::Config::infer().await.unwrap();
        let server = ApiServer::new(&config);
        let client = Client::try_from(config).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut options = HelmOptions::new(directory.path().join("cache"));
        options.guard = env!("CARGO_BIN_EXE_sinfonia-tier2").into();
        change(&mut options);
        let helm = Helm::new(options).unwrap();
        CLEAN.get_or_init(|| remove_leftovers(&client)).await;
        let name = namespace(&client).await;
        let access = deployer_access(&client, &server, &name).await.unwrap();
        Self { client, server, name, helm, access, progress: Progress::default(), directory: Arc::new(directory) }
    }

    pub(crate) async fn install(&self, chart: &str) -> Result<Kinds, HelmError> {
        self.install_with(chart, json!({})).await
    }

    pub(crate) async fn install_with(&self, chart: &str, values: Value) -> Result<Kinds, HelmError> {
        self.helm.install(&self.release(chart, values), &self.access).await
    }

    pub(crate) fn release(&self, chart: &str, values: Value) -> Release {
        let Value::Object(values) = values else { return self.release(chart, Value::Object(Map::new())) };
        Release { name: self.name.clone(), chart: ChartSource::File(packaged(chart)), values }
    }

    /// Installs and waits.
    pub(crate) async fn deploy(&self, chart: &str) -> Result<(), NotReady> {
        let kinds = self.install(chart).await.unwrap();
        await_ready(&self.client, &self.name, &kinds, &self.progress, Instant::now() + LONG).await
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.name.as_str())
    }
}

/// The charts as they are in a recipe repository.
static CHARTS: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

pub(crate) fn packaged(chart: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/charts").join(chart);
    let directory = tempfile::tempdir_in(CHARTS.path()).unwrap().keep();
    let status = Command::new("helm").arg("package").arg(source).arg("--destination").arg(&directory).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    directory.join(format!("{chart}-0.1.0.tgz"))
}

async fn remove_leftovers(client: &Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let ours = ListParams::default().labels(&format!("{}={}", OURS.0, OURS.1));
    for left in namespaces.list_metadata(&ours).await.unwrap() {
        let _ = namespaces.delete(&left.name_any(), &DeleteParams::background()).await;
    }
}

async fn namespace(client: &Client) -> DeploymentName {
    let manifest = json!({
        "metadata": {
            // Not with the label of deployments: a tier2 in the cluster would remove what it does not know.
            "generateName": "test-helm-",
            "labels": { OURS.0: OURS.1, "pod-security.kubernetes.io/enforce": "baseline" },
        },
    });
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let made = namespaces.create(&PostParams::default(), &serde_json::from_value(manifest).unwrap()).await.unwrap();
    let name: DeploymentName = made.metadata.name.unwrap().parse().unwrap();
    // The role itself is there: scripts/cloudlet.sh.
    make::<ServiceAccount>(client, &name, json!({ "metadata": { "name": DEPLOYER } })).await;
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": DEPLOYER });
    let subjects = json!([{ "kind": "ServiceAccount", "name": DEPLOYER, "namespace": name }]);
    let binding = json!({ "metadata": { "name": DEPLOYER }, "roleRef": role, "subjects": subjects });
    make::<RoleBinding>(client, &name, binding).await;
    let hard = json!({ "limits.memory": "2Gi", "requests.storage": "1Gi" });
    make::<ResourceQuota>(client, &name, json!({ "metadata": { "name": "sinfonia" }, "spec": { "hard": hard } })).await;
    let defaults = json!([{ "type": "Container", "default": { "memory": "64Mi" } }]);
    make::<LimitRange>(client, &name, json!({ "metadata": { "name": "sinfonia" }, "spec": { "limits": defaults } }))
        .await;
    let policy =
        json!({ "metadata": { "name": "default-deny" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } });
    make::<NetworkPolicy>(client, &name, policy).await;
    name
}

async fn make<K>(client: &Client, namespace: &DeploymentName, manifest: Value)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace.as_str());
    api.create(&PostParams::default(), &serde_json::from_value(manifest).unwrap()).await.unwrap();
}
