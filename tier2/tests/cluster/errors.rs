//! Charts that cannot be deployed: what the client is told, and how soon.

use std::time::{Duration, Instant};

use serde_json::json;
use sinfonia_tier2::kubernetes::helm::access::{Access, ApiServer};

use crate::world::in_namespace;

/// Charts that Helm or the API server refuses.
#[tokio::test]
async fn what_cannot_be_installed_is_told_with_its_reason() {
    for (chart, code, part) in [
        ("hostile-clusterrole", "chart-forbidden", "ClusterRole \"hostile\", which is not allowed here: it would"),
        ("hostile-crd", "chart-forbidden", "CustomResourceDefinition, which is not allowed here: it would have effect"),
        ("hostile-namespace", "chart-forbidden", "ConfigMap \"hostile\" in namespace \"kube-system\", which is not"),
        ("hostile-new-namespace", "chart-forbidden", "Namespace \"hostile\", which is not allowed here: it would have"),
        ("hostile-policy", "chart-forbidden", "NetworkPolicy \"allow-all\", which is not allowed here: charts may not"),
        ("hostile-policy-hook", "chart-forbidden", "NetworkPolicy \"default-deny\", which is not allowed here: charts"),
        (
            "hostile-quota",
            "chart-forbidden",
            "ResourceQuota \"more\", which is not allowed here: charts may not create",
        ),
        ("hostile-role", "chart-forbidden", "Role \"hostile\", which is not allowed here: it would grant rights"),
        ("hostile-binding", "chart-forbidden", "RoleBinding \"hostile\", which is not allowed here: it would grant"),
        ("hostile-hostpath", "pod-security", "Pod \"hostile\", which is not allowed here: its Pod Security is"),
        ("over-quota-object", "quota-exceeded", "PersistentVolumeClaim \"much\": exceeded quota: sinfonia"),
        ("template-error", "chart-invalid", "a value for .Values.password is needed"),
        ("template-syntax", "chart-invalid", "unexpected \"}\" in operand"),
        ("yaml-error", "chart-invalid", "mapping values are not allowed in this context"),
        ("unknown-kind", "chart-invalid", "no matches for kind \"Thing\" in version \"nowhere.example/v1\""),
        ("invalid-object", "chart-invalid", "Deployment.apps \"web\" is invalid: "),
        ("hook-fails", "hook-failed", "job before failed"),
    ] {
        in_namespace(|world| async move {
            let started = Instant::now();
            let error = world.install(chart).await.unwrap_err();
            println!("{chart}: {error} ({:.2} s)", started.elapsed().as_secs_f32());
            assert_eq!(error.code(), code, "{chart}: {error}");
            assert!(error.to_string().contains(part), "{chart}: {error}");
            assert!(!error.is_retryable(), "{chart}: {error}");
            // Whatever there is of it can be removed, and another chart takes its place.
            world.helm.uninstall(&world.name, &world.access).await.unwrap();
            world.install("good").await.unwrap();
        })
        .await;
    }
}

/// Charts whose workloads do not come up.
#[tokio::test]
async fn what_does_not_run_is_told_with_its_reason() {
    let cases = [
        ("image-missing", "image-pull-failed", "the image localhost/sinfonia/not-there:1 of deployment web cannot"),
        ("crash-loop", "backend-crashes", "exit status 3; its last output: no database at db:5432"),
        ("init-fails", "backend-crashes", "container migrate of deployment web keeps ending: exit status 4; its last"),
        ("unschedulable", "unschedulable", "no node can take a pod of deployment web: 0/"),
        ("over-quota", "quota-exceeded", "deployment web needs more than a deployment may use here: exceeded quota"),
        ("volume-pending", "volume-pending", "storageclass.storage.k8s.io \"nobody-provides-this\" not found"),
        ("config-missing", "container-not-started", "configmap \"settings\" not found"),
        ("job-fails", "job-failed", "job import failed: Job has reached the specified backoff limit; its last output"),
        ("hostile-privileged", "pod-security", "must not set securityContext.privileged=true"),
    ];
    let tests = cases.map(|(chart, code, part)| {
        in_namespace(move |world| async move {
            let started = Instant::now();
            let error = world.deploy(chart).await.unwrap_err();
            println!("{chart}: {error} ({:.2} s)", started.elapsed().as_secs_f32());
            assert_eq!(error.code(), code, "{chart}: {error}");
            assert!(error.to_string().contains(part), "{chart}: {error}");
            assert!(started.elapsed() < Duration::from_secs(60), "{chart}");
        })
    });
    futures_util::future::join_all(tests).await;
}

#[tokio::test]
async fn values_that_do_not_fit_are_named() {
    in_namespace(|world| async move {
        world.install("schema").await.unwrap();
        let error = world.install_with("schema", json!({ "port": 70000, "name": 5 })).await.unwrap_err();
        assert_eq!(error.code(), "values-invalid");
        let expected = "the recipe's values do not fit the chart: port: maximum: got 70,000, want 65,535; name: got \
                        number, want string";
        let mut parts: Vec<_> = expected.split("; ").flat_map(|part| part.split("chart: ")).collect();
        parts.retain(|part| !error.to_string().contains(part));
        assert!(parts.is_empty(), "{error}");
    })
    .await;
}

#[tokio::test]
async fn an_api_server_that_is_away_may_be_asked_again() {
    in_namespace(|world| async move {
        let nowhere = kube::Config::new("https://127.0.0.1:1".parse().unwrap());
        let access = Access::new(ApiServer::new(&nowhere), world.name.clone(), "secret-token".to_owned());
        let error = world.helm.install(&world.release("good", json!({})), &access).await.unwrap_err();
        assert_eq!(error.code(), "api-unreachable", "{error}");
        assert!(error.is_retryable() && !error.to_string().contains("secret"), "{error}");
        let error = world.helm.uninstall(&world.name, &access).await.unwrap_err();
        assert_eq!(error.code(), "api-unreachable", "{error}");

        let refused = Access::new(world.server.clone(), world.name.clone(), "secret-token".to_owned());
        let error = world.helm.install(&world.release("good", json!({})), &refused).await.unwrap_err();
        assert_eq!(error.code(), "deployer-without-rights", "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    })
    .await;
}
