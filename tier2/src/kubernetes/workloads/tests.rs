//! The namespaces are those of Kubernetes 1.35 with the charts of tests/charts, shortened.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::runtime::watcher;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    watch::{Change, Follower, Watched},
    *,
};
use crate::deployment::Progress;

macro_rules! recorded {
    ($name:literal) => {
        snapshot(include_str!(concat!("recorded/", $name, ".jsonl")))
    };
}

fn snapshot(recorded: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for line in recorded.lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        match object["kind"].as_str().unwrap() {
            "Deployment" => add(&mut snapshot.deployments, object),
            "StatefulSet" => add(&mut snapshot.stateful_sets, object),
            "DaemonSet" => add(&mut snapshot.daemon_sets, object),
            "ReplicaSet" => add(&mut snapshot.replica_sets, object),
            "Job" => add(&mut snapshot.jobs, object),
            "Pod" => add(&mut snapshot.pods, object),
            "Event" => add(&mut snapshot.events, object),
            other => panic!("{other}"),
        }
    }
    snapshot
}

fn add<K: DeserializeOwned>(objects: &mut BTreeMap<String, K>, object: Value) {
    objects.insert(object["metadata"]["name"].as_str().unwrap().to_owned(), serde_json::from_value(object).unwrap());
}

#[track_caller]
fn failed(snapshot: &Snapshot) -> (&'static str, String) {
    match assess(snapshot) {
        Assessment::Failed(reason) => (reason.code(), reason.to_string()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn doubtful(snapshot: &Snapshot) -> (&'static str, String) {
    match assess(snapshot) {
        Assessment::Doubtful(reason) => (reason.code(), reason.to_string()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn waiting(snapshot: &Snapshot) -> String {
    match assess(snapshot) {
        Assessment::Waiting(words) => words,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_available_is_ready() {
    assert_eq!(assess(&Snapshot::default()), Assessment::Ready);
    assert_eq!(assess(&recorded!("good")), Assessment::Ready);
}

#[test]
fn what_only_runs_has_to_go_on_for_a_while() {
    let mut snapshot = recorded!("kinds");
    assert_eq!(assess(&snapshot), Assessment::Unproven { restarts: 0 });
    snapshot.pods.get_mut("bare").unwrap().status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0]
        .restart_count = 3;
    assert_eq!(assess(&snapshot), Assessment::Unproven { restarts: 3 });
    for pod in snapshot.pods.values_mut() {
        pod.spec.as_mut().unwrap().containers[0].readiness_probe = Some(Default::default());
    }
    assert_eq!(assess(&snapshot), Assessment::Ready);
}

#[test]
fn a_status_of_an_earlier_generation_does_not_count() {
    let mut snapshot = recorded!("good");
    snapshot.deployments.get_mut("web").unwrap().metadata.generation = Some(2);
    assert_eq!(waiting(&snapshot), "waiting for deployment web: 1 of 1 available");
}

#[test]
fn each_kind_is_waited_for() {
    let whole = recorded!("kinds");
    let mut snapshot = whole.clone();
    snapshot.stateful_sets.get_mut("stateful").unwrap().status.as_mut().unwrap().available_replicas = None;
    assert!(waiting(&snapshot).starts_with("waiting for statefulset stateful: 0 of 1 available"));
    let mut snapshot = whole.clone();
    snapshot.daemon_sets.get_mut("daemon").unwrap().status.as_mut().unwrap().number_available = Some(1);
    assert!(waiting(&snapshot).starts_with("waiting for daemonset daemon: 1 of 2 available"));
    let mut snapshot = whole.clone();
    snapshot.replica_sets.get_mut("replicas").unwrap().status.as_mut().unwrap().available_replicas = Some(1);
    assert!(waiting(&snapshot).starts_with("waiting for replicaset replicas: 1 of 2 available"));
    let mut snapshot = whole.clone();
    snapshot.pods.get_mut("bare").unwrap().status.as_mut().unwrap().conditions = None;
    assert!(waiting(&snapshot).starts_with("waiting for pod bare: it is not ready"));
    let mut snapshot = whole;
    snapshot.jobs.get_mut("once").unwrap().status = Some(Default::default());
    assert!(waiting(&snapshot).starts_with("waiting for job once: no pod of it runs"));
}

#[test]
fn hooks_and_parts_of_other_objects_are_not_waited_for() {
    let mut snapshot = recorded!("job-fails");
    let job = snapshot.jobs.get_mut("import").unwrap();
    job.metadata.annotations = Some([("helm.sh/hook".to_owned(), "test".to_owned())].into());
    assert_eq!(assess(&snapshot), Assessment::Ready);
}

#[test]
fn what_is_going_on_is_told() {
    let snapshot = recorded!("slow-start");
    let words = waiting(&snapshot);
    assert!(
        words.starts_with(
            "waiting for deployment web: 0 of 1 available (container web runs and is not ready: Readiness probe failed: "
        ),
        "{words}"
    );
}

#[test]
fn a_pull_in_progress_is_told() {
    let mut snapshot = recorded!("slow-start");
    let (name, pod) = snapshot.pods.iter_mut().next().unwrap();
    let name = name.clone();
    let uid = pod.metadata.uid.clone();
    let container = &mut pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
    container.state = serde_json::from_value(json!({ "waiting": { "reason": "ContainerCreating" } })).unwrap();
    let event = json!({
        "metadata": { "name": "pulling" }, "reason": "Pulling", "message": "Pulling image", "type": "Normal",
        "involvedObject": { "kind": "Pod", "name": name, "uid": uid },
    });
    snapshot.events = [("pulling".to_owned(), serde_json::from_value::<Event>(event).unwrap())].into();
    assert_eq!(
        waiting(&snapshot),
        "waiting for deployment web: 0 of 1 available (pulling image localhost/sinfonia/toolbox:0.1.0)"
    );
}

#[test]
fn an_image_that_failed_twice_is_final() {
    let snapshot = recorded!("image-missing");
    let expected = "the image localhost/sinfonia/not-there:1 of deployment web cannot be pulled: failed to pull and unpack \
                    image \"localhost/sinfonia/not-there:1\": ";
    let (code, sentence) = failed(&snapshot);
    assert_eq!(code, "image-pull-failed");
    assert!(sentence.starts_with(expected) && sentence.ends_with("connection refused"), "{sentence}");

    let mut once = snapshot;
    once.events.values_mut().for_each(|event| event.count = Some(1));
    assert_eq!(doubtful(&once).0, "image-pull-failed");
}

#[test]
fn an_image_that_a_registry_does_not_have_is_final_at_once() {
    let mut snapshot = recorded!("image-missing");
    snapshot.events.clear();
    let state = json!({ "waiting": {
        "reason": "ErrImagePull",
        "message": "failed to resolve reference \"example.com/x:1\": example.com/x:1: not found",
    } });
    set_state(&mut snapshot, &state);
    assert_eq!(failed(&snapshot).0, "image-pull-failed");
    set_state(&mut snapshot, &json!({ "waiting": { "reason": "InvalidImageName", "message": "couldn't parse" } }));
    assert_eq!(failed(&snapshot).0, "image-pull-failed");
}

fn set_state(snapshot: &mut Snapshot, state: &Value) {
    let pod = snapshot.pods.values_mut().next().unwrap();
    let container = &mut pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
    container.state = serde_json::from_value(state.clone()).unwrap();
}

#[test]
fn a_crash_loop_is_told_with_how_it_ended() {
    assert_eq!(
        failed(&recorded!("crash-loop")),
        ("backend-crashes", "container web of deployment web keeps ending: exit status 3".to_owned())
    );
    assert_eq!(
        failed(&recorded!("init-fails")),
        ("backend-crashes", "container migrate of deployment web keeps ending: exit status 4".to_owned())
    );
}

#[test]
fn a_few_crashes_are_borne_while_something_else_is_starting() {
    let mut snapshot = recorded!("crash-loop");
    set_restarts(&mut snapshot, 1);
    let words = waiting(&snapshot);
    assert!(words.ends_with("(container web has ended (exit status 3) and is started again)"), "{words}");
    set_restarts(&mut snapshot, 2);
    assert_eq!(failed(&snapshot).0, "backend-crashes");

    // A database that is starting.
    let mut database = snapshot.deployments["web"].clone();
    database.metadata.name = Some("database".into());
    database.metadata.uid = Some("other".into());
    snapshot.deployments.insert("database".into(), database);
    let words = waiting(&snapshot);
    assert_eq!(words, "waiting for deployment database: 0 of 1 available, and for 1 more");
    set_restarts(&mut snapshot, 5);
    assert_eq!(failed(&snapshot).0, "backend-crashes");
}

fn set_restarts(snapshot: &mut Snapshot, count: i32) {
    let pod = snapshot.pods.values_mut().next().unwrap();
    pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].restart_count = count;
}

#[test]
fn memory_and_missing_programs_are_told() {
    let mut snapshot = recorded!("crash-loop");
    let ended = |reason: &str, code: i32, message: &str| json!({ "terminated": { "reason": reason, "exitCode": code, "message": message } });
    set_state(&mut snapshot, &ended("OOMKilled", 137, ""));
    assert!(failed(&snapshot).1.ends_with("it was killed because it used more memory than its limit"));
    set_state(&mut snapshot, &ended("StartError", 128, "exec: \"x\": not found in $PATH"));
    assert!(failed(&snapshot).1.ends_with("it cannot be started: exec: \"x\": not found in $PATH"));
    set_state(&mut snapshot, &ended("Error", 139, ""));
    assert!(failed(&snapshot).1.ends_with("keeps ending: killed by signal 11"));
}

#[test]
fn pods_of_an_earlier_deployment_of_the_same_name_do_not_count() {
    let mut snapshot = recorded!("crash-loop");
    let pod = snapshot.pods.values().next().unwrap();
    let later = pod.metadata.creation_timestamp.clone().unwrap().0 + Duration::from_secs(1);
    let deployment = snapshot.deployments.get_mut("web").unwrap();
    deployment.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(later));
    assert_eq!(waiting(&snapshot), "waiting for deployment web: 0 of 1 available");
}

#[test]
fn what_the_cluster_refuses_is_told() {
    assert_eq!(
        doubtful(&recorded!("unschedulable")),
        (
            "unschedulable",
            "no node can take a pod of deployment web: 0/2 nodes are available: 2 Insufficient cpu".to_owned()
        )
    );
    assert_eq!(
        doubtful(&recorded!("volume-pending")),
        (
            "volume-pending",
            "a volume of deployment web is not provided: storageclass.storage.k8s.io \"nobody-provides-this\" not found"
                .to_owned()
        )
    );
    assert_eq!(
        doubtful(&recorded!("over-quota")),
        (
            "quota-exceeded",
            "deployment web needs more than a deployment may use here: exceeded quota: sinfonia, requested: \
             limits.memory=900Gi,requests.memory=900Gi, used: limits.memory=0,requests.memory=0, limited: \
             limits.memory=2Gi,requests.memory=2Gi"
                .to_owned()
        )
    );
    assert_eq!(
        failed(&recorded!("hostile-privileged")),
        (
            "pod-security",
            "deployment web is not allowed here: its Pod Security is \"baseline:latest\": privileged (container \"web\" \
             must not set securityContext.privileged=true)"
                .to_owned()
        )
    );
    assert_eq!(
        doubtful(&recorded!("config-missing")),
        (
            "container-not-started",
            "container web of deployment web cannot be started: configmap \"settings\" not found".to_owned()
        )
    );
}

#[test]
fn a_failed_job_is_final_and_its_pod_known() {
    let Assessment::Failed(reason) = assess(&recorded!("job-fails")) else { panic!() };
    assert_eq!(reason.to_string(), "job import failed: Job has reached the specified backoff limit");
    assert_eq!(reason.culprit().unwrap().container, "import");
    let reason = reason.with_output(&["nothing to import".into()]);
    assert!(reason.to_string().ends_with("limit; its last output: nothing to import"), "{reason}");
}

#[test]
fn controllers_without_conditions_tell_by_events() {
    let mut snapshot = recorded!("kinds");
    snapshot.pods.retain(|name, _| !name.starts_with("stateful"));
    let set = snapshot.stateful_sets.get_mut("stateful").unwrap();
    set.status = Some(Default::default());
    let message = "create Pod stateful-0 in StatefulSet stateful failed error: pods \"stateful-0\" is forbidden: violates \
                   PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    let event = json!({
        "metadata": { "name": "refused" }, "reason": "FailedCreate", "message": message, "type": "Warning",
        "involvedObject": { "kind": "StatefulSet", "name": "stateful", "uid": set.metadata.uid },
    });
    snapshot.events.insert("refused".into(), serde_json::from_value(event).unwrap());
    assert_eq!(
        failed(&snapshot).1,
        "statefulset stateful is not allowed here: its Pod Security is \"baseline:latest\": host namespaces \
         (hostNetwork=true)"
    );
}

fn follower(changes: Vec<Change>) -> Follower {
    let kinds = Kinds::of_manifest("kind: Pod");
    let stream = stream::iter(changes).chain(stream::pending()).boxed();
    Follower { changes: stream::select_all([stream]), watched: Watched::new(&kinds) }
}

fn bare(conditions: Value) -> Vec<Change> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "bare", "uid": "1" },
        "status": { "phase": "Pending", "conditions": conditions },
    }))
    .unwrap();
    vec![
        Change::Pod(watcher::Event::Init),
        Change::Pod(watcher::Event::InitApply(pod)),
        Change::Pod(watcher::Event::InitDone),
    ]
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!([{ "type": kind, "status": status, "reason": reason, "message": "0/1 nodes are available: 1 Insufficient cpu." }])
}

async fn follow(changes: Vec<Change>, limit: Duration) -> Result<(), NotReady> {
    follower(changes).follow(&Progress::default(), Instant::now() + limit).await
}

#[tokio::test(start_paused = true)]
async fn a_doubt_that_lasts_becomes_a_failure() {
    let unschedulable = || bare(condition("PodScheduled", "False", "Unschedulable"));
    let started = Instant::now();
    let error = follow(unschedulable(), Duration::from_secs(60)).await.unwrap_err();
    assert_eq!((error.code(), started.elapsed().as_secs()), ("unschedulable", 5));

    let mut passing = unschedulable();
    passing.extend(bare(condition("Ready", "True", "")));
    follow(passing, Duration::from_secs(60)).await.unwrap();
}

fn trouble(blind: Option<Duration>) -> Change {
    Change::Trouble { words: "connection refused".to_owned(), blind }
}

#[tokio::test(start_paused = true)]
async fn events_that_cannot_be_seen_change_no_doubt() {
    let mut changes = bare(condition("PodScheduled", "False", "Unschedulable"));
    changes.push(trouble(None));
    let started = Instant::now();
    let error = follow(changes, Duration::from_secs(60)).await.unwrap_err();
    assert_eq!((error.code(), started.elapsed().as_secs()), ("unschedulable", 5));
}

#[tokio::test(start_paused = true)]
async fn no_doubt_lasts_while_the_api_server_is_away() {
    let later = |seconds, changes: Vec<Change>| {
        stream::once(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            stream::iter(changes)
        })
        .flatten()
    };
    let unschedulable = later(0, bare(condition("PodScheduled", "False", "Unschedulable")));
    let away = stream::iter(0..5).flat_map(move |_| later(4, vec![trouble(Some(Duration::from_secs(25)))]));
    let back = later(25, bare(condition("Ready", "True", "")));
    let changes = unschedulable.chain(away).chain(back).chain(stream::pending()).boxed();
    let follower =
        Follower { changes: stream::select_all([changes]), watched: Watched::new(&Kinds::of_manifest("kind: Pod")) };
    follower.follow(&Progress::default(), Instant::now() + Duration::from_secs(180)).await.unwrap();
}

fn running(restarts: i32) -> Vec<Change> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "bare", "uid": "1" },
        "spec": { "containers": [{ "name": "main" }] },
        "status": {
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{
                "name": "main", "image": "x", "imageID": "", "ready": true, "restartCount": restarts,
                "state": { "running": {} },
            }],
        },
    }))
    .unwrap();
    vec![
        Change::Pod(watcher::Event::Init),
        Change::Pod(watcher::Event::InitApply(pod)),
        Change::Pod(watcher::Event::InitDone),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ended_before_has_to_run_longer() {
    for (changes, seconds) in
        [(running(0), 3), (running(1), 10), (running(0).into_iter().chain(running(1)).collect(), 10)]
    {
        let started = Instant::now();
        follow(changes, Duration::from_secs(60)).await.unwrap();
        assert_eq!(started.elapsed().as_secs(), seconds);
    }
    // There is no more time to see; it is available.
    follow(running(1), Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_deadline_says_what_was_waited_for() {
    let error = follow(bare(json!([])), Duration::from_secs(20)).await.unwrap_err();
    assert_eq!(error.code(), "backend-never-ready");
    assert_eq!(
        error.to_string(),
        "the backend did not become ready within 20 s: it is still waiting for pod bare: it is not ready (not on a node \
         yet)"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_judged_before_every_list_is_there() {
    let error = follow(vec![Change::Pod(watcher::Event::Init)], Duration::from_secs(20)).await.unwrap_err();
    assert_eq!(error.code(), "backend-never-ready");
    let error = follow(vec![trouble(None)], Duration::from_secs(20)).await.unwrap_err();
    assert!(error.to_string().ends_with("waiting for the cluster's API server (connection refused)"), "{error}");
}
