//! What the account that installs charts can do, and what remains of it on this machine.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::{Api, api::PostParams};
use serde_json::json;
use sinfonia_tier2::kubernetes::helm::access::DEPLOYER;

use crate::world::{World, in_namespace};

#[tokio::test]
async fn the_account_reaches_its_own_workloads_only() {
    in_namespace(|world| async move {
        let own = world.name.to_string();
        for (verb, group, resource) in
            [("create", "apps", "deployments"), ("delete", "", "services"), ("list", "", "secrets")]
        {
            assert!(may(&world, verb, group, resource, &own).await, "{verb} {resource}");
            assert!(!may(&world, verb, group, resource, "default").await, "{verb} {resource} elsewhere");
            assert!(!may(&world, verb, group, resource, "").await, "{verb} {resource} everywhere");
        }
        for (group, resource) in [
            ("networking.k8s.io", "networkpolicies"),
            ("networking.k8s.io", "ingresses"),
            ("", "resourcequotas"),
            ("", "limitranges"),
            ("", "namespaces"),
            ("", "endpoints"),
            ("", "serviceaccounts/token"),
            ("", "pods/exec"),
            ("discovery.k8s.io", "endpointslices"),
            ("rbac.authorization.k8s.io", "clusterroles"),
            ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ] {
            for verb in ["create", "update", "patch", "delete", "deletecollection"] {
                assert!(!may(&world, verb, group, resource, &own).await, "{verb} {resource}");
            }
        }
        for verb in ["bind", "escalate", "impersonate"] {
            assert!(!may(&world, verb, "rbac.authorization.k8s.io", "roles", &own).await, "{verb}");
            assert!(!may(&world, verb, "", "serviceaccounts", &own).await, "{verb}");
        }
    })
    .await;
}

async fn may(world: &World, verb: &str, group: &str, resource: &str, namespace: &str) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({
        "spec": {
            "user": format!("system:serviceaccount:{}:{DEPLOYER}", world.name),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{}", world.name), "system:authenticated"],
            "resourceAttributes": {
                "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace,
            },
        },
    });
    let reviews: Api<SubjectAccessReview> = Api::all(world.client.clone());
    let answer = reviews.create(&PostParams::default(), &serde_json::from_value(review).unwrap()).await.unwrap();
    answer.status.unwrap().allowed
}

#[tokio::test]
async fn no_credentials_remain_and_nobody_else_can_read_the_cache() {
    in_namespace(|world| async move {
        world.install("good").await.unwrap();
        world.helm.uninstall(&world.name, &world.access).await.unwrap();
        let cache = world.directory.path().join("cache");
        assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
        let mut files = Vec::new();
        collect(&cache, &mut files);
        for file in files {
            let content = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
            // Every JSON web token begins so.
            assert!(!content.contains("eyJhbGciOi"), "{}", file.display());
        }
    })
    .await;
}

fn collect(directory: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => collect(&entry.path(), files),
            false => files.push(entry.path()),
        }
    }
}
