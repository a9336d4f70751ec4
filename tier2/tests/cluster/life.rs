//! Installing, repeating, cutting off, removing.

use std::time::{Duration, Instant};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, ResourceExt as _,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use sinfonia_tier2::kubernetes::{
    helm::{
        HelmError, HelmOptions,
        access::{AccessError, deployer_access},
    },
    ports::tcp_services,
    workloads::{Kind, await_ready, last_log_lines},
};

use crate::world::{LONG, World, in_namespace, in_namespace_with};

#[tokio::test]
async fn a_chart_is_installed_upgraded_and_removed() {
    in_namespace(|world| async move {
        let started = Instant::now();
        let kinds = world.install("good").await.unwrap();
        println!("first install: {:.3} s", started.elapsed().as_secs_f32());
        assert!(kinds.contains(Kind::Deployment) && !kinds.contains(Kind::Job));
        await_ready(&world.client, &world.name, &kinds, &world.progress, tokio::time::Instant::now() + LONG)
            .await
            .unwrap();
        println!("ready: {:.3} s", started.elapsed().as_secs_f32());

        let ports = tcp_services(&world.client, &world.name).await.unwrap();
        assert_eq!(ports.len(), 1);
        assert_eq!((ports[0].name.as_str(), ports[0].address.port()), ("web", 80));

        let started = Instant::now();
        world.install("good").await.unwrap();
        println!("the same again: {:.3} s", started.elapsed().as_secs_f32());
        assert_eq!(releases(&world).await, ["deployed", "superseded"]);

        let started = Instant::now();
        world.helm.uninstall(&world.name, &world.access).await.unwrap();
        println!("uninstall: {:.3} s", started.elapsed().as_secs_f32());
        let deployments: Api<Deployment> = world.api();
        assert!(
            deployments
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .iter()
                .all(|it| it.metadata.deletion_timestamp.is_some())
        );
        assert_eq!(releases(&world).await, [] as [&str; 0]);
        world.helm.uninstall(&world.name, &world.access).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn every_kind_of_workload_is_waited_for() {
    in_namespace(|world| async move {
        world.deploy("kinds").await.unwrap();
        let lines = last_log_lines(&world.client, &world.name, 5).await;
        assert_eq!(lines, [] as [&str; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_slow_backend_is_not_ready_before_it_is() {
    in_namespace(|world| async move {
        let started = Instant::now();
        world.deploy("slow-start").await.unwrap();
        println!("a backend that takes 5 s is ready after {:.2} s", started.elapsed().as_secs_f32());
        assert!(started.elapsed() > Duration::from_secs(5));
    })
    .await;
}

#[tokio::test]
async fn what_a_backend_wrote_can_be_read() {
    in_namespace(|world| async move {
        world.deploy("crash-loop").await.unwrap_err();
        let lines = last_log_lines(&world.client, &world.name, 5).await;
        assert!(
            lines.iter().any(|line| line.starts_with("web-") && line.ends_with("/web: no database at db:5432")),
            "{lines:?}"
        );
    })
    .await;
}

/// The future is dropped while a hook runs; the next installation is not hindered by that.
#[tokio::test]
async fn an_installation_that_was_cut_off_is_followed_by_another() {
    in_namespace(|world| async move {
        let installing = tokio::spawn({
            let world = world.clone();
            async move { world.install("hook-hangs").await }
        });
        until_pending(&world).await;
        installing.abort();
        assert!(installing.await.unwrap_err().is_cancelled());
        assert_eq!(processes_of(&world), []);
        assert_eq!(releases(&world).await, ["pending-install"]);

        world.deploy("good").await.unwrap();
        assert_eq!(releases(&world).await, ["deployed"]);

        // The same with an upgrade.
        let upgrading = tokio::spawn({
            let world = world.clone();
            async move { world.install_with("hook-hangs", json!({ "hook": "pre-upgrade" })).await }
        });
        until_pending(&world).await;
        upgrading.abort();
        assert!(upgrading.await.unwrap_err().is_cancelled());
        world.deploy("good").await.unwrap();
        assert_eq!(releases(&world).await, ["deployed"]);
    })
    .await;
}

/// Somebody kills Helm in the middle: that may be tried again, and then succeeds.
#[tokio::test]
async fn a_helm_that_was_killed_may_be_started_again() {
    in_namespace(|world| async move {
        let installing = tokio::spawn({
            let world = world.clone();
            async move { world.install("hook-hangs").await }
        });
        until_pending(&world).await;
        let helms = processes_of(&world);
        assert_eq!(helms.len(), 1);
        kill(helms[0], Signal::SIGKILL).unwrap();
        let error = installing.await.unwrap().unwrap_err();
        assert_eq!(error, HelmError::Killed { signal: 9 });
        assert!(error.is_retryable());
        world.deploy("good").await.unwrap();
        assert_eq!(processes_of(&world), []);
    })
    .await;
}

/// The processes whose command lines name this test's directory.
fn processes_of(world: &World) -> Vec<Pid> {
    let directory = world.directory.path().to_str().unwrap();
    let all = procfs::process::all_processes().unwrap().filter_map(Result::ok);
    let own =
        all.filter(|process| process.cmdline().is_ok_and(|words| words.iter().any(|word| word.contains(directory))));
    own.map(|process| Pid::from_raw(process.pid())).collect()
}

#[tokio::test]
async fn hooks_do_not_hold_up_for_long() {
    let short = |options: &mut HelmOptions| {
        options.install_limit = Duration::from_secs(7);
        options.uninstall_limit = Duration::from_secs(7);
    };
    in_namespace_with(short, |world| async move {
        let error = world.install("hook-hangs").await.unwrap_err();
        assert_eq!(error.to_string(), "a hook of the chart failed: it did not end in time");
        world.install_with("hook-hangs", json!({ "hook": "pre-delete" })).await.unwrap();
        world.helm.uninstall(&world.name, &world.access).await.unwrap();
        assert_eq!(releases(&world).await, [] as [&str; 0]);
    })
    .await;
}

/// Two operators that both believe to be the leader.
#[tokio::test]
async fn two_helms_at_once_end_in_one_release() {
    in_namespace(|world| async move {
        for _ in 0..5 {
            let (one, two) = tokio::join!(world.install("schema"), world.install("schema"));
            assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
            for error in [one, two].into_iter().filter_map(Result::err) {
                println!("the other: {error} ({})", error.code());
            }
            world.install("schema").await.unwrap();
            assert_eq!(releases(&world).await.first().map(String::as_str), Some("deployed"));
            assert!(world.api::<ConfigMap>().get_opt("any").await.unwrap().is_some());
            world.helm.uninstall(&world.name, &world.access).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_namespace_without_account_is_told() {
    in_namespace(|world| async move {
        let absent = "nowhere-at-all".parse().unwrap();
        let error = deployer_access(&world.client, &world.server, &absent).await.unwrap_err();
        assert!(matches!(error, AccessError::NoAccount(_)), "{error}");
    })
    .await;
}

/// The statuses of the release's revisions as Helm labels them, sorted.
async fn releases(world: &World) -> Vec<String> {
    let secrets = world.api::<Secret>().list(&ListParams::default().labels("owner=helm")).await.unwrap();
    let mut statuses: Vec<_> = secrets.items.iter().map(|secret| secret.labels()["status"].clone()).collect();
    statuses.sort();
    statuses
}

/// Returns when a revision of the release is being made.
async fn until_pending(world: &World) {
    let config = watcher::Config::default().labels("owner=helm,status in (pending-install, pending-upgrade)");
    let mut seen = Box::pin(watcher(world.api::<Secret>(), config).default_backoff().applied_objects());
    let first = futures_util::StreamExt::next(&mut seen);
    tokio::time::timeout(LONG, first).await.unwrap().unwrap().unwrap();
}
