//! Charts that cannot be installed, do not come to run, or want what charts may not have: what the client is told, and
//! that nothing stays.

use std::process::Command;
use std::thread;

use sinfonia_tests::cluster::{Cluster, ask, deploy_path, url};
use sinfonia_tests::{eventually, free_port};

use crate::api::deployed;

/// Charts, the rest of their recipe, and words of what the client reads.
const BROKEN: [(&str, &str, &[&str]); 16] = [
    ("image-missing", "", &["the image localhost/sinfonia/not-there:1 of deployment web cannot be pulled"]),
    ("crash-loop", "", &["deployment web keeps ending", "status 3", "no database at db:5432"]),
    ("config-missing", "", &["container web of deployment web cannot be started", "configmap \"settings\" not found"]),
    ("init-fails", "", &["container migrate of deployment web keeps ending", "status 4", "cannot migrate"]),
    ("job-fails", "", &["job import failed", "nothing to import"]),
    (
        "unschedulable",
        "resources: {quota: {limits.cpu: 1000}}",
        &["no node can take a pod of deployment web", "Insufficient cpu"],
    ),
    ("volume-pending", "", &["volume", "nobody-provides-this"]),
    ("over-quota", "", &["deployment web needs more than a deployment may use here", "memory"]),
    ("over-quota-object", "", &["the chart needs more than a deployment may use here", "storage"]),
    ("hook-fails", "", &["a hook of the chart failed"]),
    ("template-error", "", &["the chart is broken", "a value for .Values.password is needed"]),
    ("template-syntax", "", &["the chart is broken", "config.yaml"]),
    ("yaml-error", "", &["the chart is broken", "config.yaml"]),
    ("invalid-object", "", &["the chart is broken", "containerPort"]),
    ("unknown-kind", "", &["the chart is broken", "Thing"]),
    ("schema", "values: {port: many}", &["the recipe's values do not fit the chart: port", "integer"]),
];

/// Hostile charts, the rest of their recipe, the code of the answer, and words of its sentence.
const HOSTILE: [(&str, &str, &str, &[&str]); 17] = [
    ("hostile-clusterrole", "", "chart-forbidden", &["ClusterRole \"hostile\"", "in the whole cluster"]),
    ("hostile-crd", "", "chart-forbidden", &["CustomResourceDefinition", "in the whole cluster"]),
    ("hostile-new-namespace", "", "chart-forbidden", &["Namespace \"hostile\"", "in the whole cluster"]),
    ("hostile-namespace", "", "chart-forbidden", &["ConfigMap \"hostile\"", "\"kube-system\"", "own namespace"]),
    ("hostile-binding", "", "chart-forbidden", &["RoleBinding \"hostile\"", "grant rights"]),
    ("hostile-binding-others", "", "chart-forbidden", &["RoleBinding \"hostile\"", "of its own namespace only"]),
    ("hostile-role", "", "chart-forbidden", &["Role \"hostile\"", "grant rights", "networkpolicies"]),
    ("hostile-hostpath", "", "pod-security", &["Pod \"hostile\"", "hostPath"]),
    ("hostile-privileged", "", "pod-security", &["deployment web", "privileged"]),
    ("hostile-priority", "", "quota-exceeded", &["Pod \"hostile\"", "sinfonia-system-priority"]),
    ("hostile-quota", "", "chart-forbidden", &["ResourceQuota \"more\"", "charts may not create"]),
    ("hostile-policy", "", "chart-forbidden", &["NetworkPolicy \"allow-all\"", "charts may not create"]),
    ("hostile-service", "", "chart-forbidden", &["Service \"hostile\"", "externalIPs"]),
    ("hostile-nodeport", "", "chart-forbidden", &["Service \"hostile\"", "ClusterIP"]),
    // The deployment's own policy is called sinfonia: one hook deletes it, one only another of some name.
    ("hostile-policy-hook", "values: {policy: sinfonia}", "chart-forbidden", &["networkpolicies", "may not delete"]),
    ("hostile-policy-hook", "values: {policy: x}", "chart-forbidden", &["networkpolicies", "may not"]),
    ("hostile-policy-own", "", "chart-forbidden", &["NetworkPolicy \"sinfonia\"", "charts may not"]),
];

#[test]
fn the_user_reads_in_one_sentence_what_is_wrong_with_a_chart() {
    let cluster = Cluster::new();
    let tier1 = cluster.world.tier1(&[]);
    let port = free_port().to_string();
    let tier2_url = format!("http://127.0.0.1:{port}");
    let _tier2 = cluster.tier2(&["--port", &port, "--tier2-url", &tier2_url, "--tier1-url", &url(&tier1)]);
    let mut cases: Vec<_> = BROKEN
        .into_iter()
        .map(|(chart, more, words)| (chart, tier2_url.clone(), cluster.add_chart(chart, more), words))
        .collect();
    let recipe = "chart: nowhere\nversion: 0.1.0\nrestricted: false\n";
    let nowhere = cluster.world.add_recipe(recipe).to_string();
    cases.push(("nowhere", tier2_url, nowhere, &["there is no chart", "nowhere-0.1.0.tgz"]));
    let list = format!("{}/api/v1/cloudlets/", url(&tier1));
    eventually("tier1 knows the cloudlet", || ask("GET", &list, &[]).1.as_array().is_some_and(|list| list.len() == 1));
    let through_tier1 = cluster.add_chart("template-error", "");
    cases.push(("through-tier1", url(&tier1), through_tier1, &["a value for .Values.password is needed"]));

    let told: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = cases
            .iter()
            .map(|(who, url, application, _)| {
                scope.spawn(|| cluster.tier3_in_the_end(who, &[url, application, "true"]))
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for ((chart, .., words), client) in cases.iter().zip(&told) {
        assert_eq!(client.code(), 70, "{chart}: {}", client.errors);
        // What is wrong, and what can be done.
        let [failure, advice] = client.errors.lines().collect::<Vec<_>>()[..] else { panic!("{}", client.errors) };
        assert!(failure.starts_with("sinfonia-tier3: ") && failure.ends_with('.'), "{chart}: {failure}");
        assert!(words.iter().all(|word| failure.contains(word)), "{chart}: {words:?} in {failure}");
        // A chart does not mend itself, but a node may get room, and tier1 another cloudlet.
        let again = advice.starts_with("Try again in a moment");
        assert_eq!(again, !failure.ends_with("(HTTP status 500)."), "{chart}: {failure} {advice}");
    }
    eventually("nothing of what failed stays", || {
        let (_, peers, namespaces) = cluster.left();
        (peers, namespaces) == (0, 0)
    });
}

#[test]
fn what_may_pass_is_tried_again_and_said_and_ends_after_a_while() {
    let cluster = Cluster::new();
    let registry = format!("127.0.0.1:{}", free_port());
    let recipe = format!("chart: oci://{registry}/nothing\nversion: 0.1.0\nrestricted: false\n");
    let application = cluster.world.add_recipe(&recipe).to_string();
    let tier2 = cluster.tier2(&["--ready-timeout", "10"]);
    let url = format!("{}{}", url(&tier2), deploy_path(&application, 1));
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| ask("POST", &url, &[("Prefer", "wait=50")]));
        eventually("the object says what failed", || {
            let objects = cluster.list("cloudletdeployments", &[]);
            let Some(status) = objects.first().map(|object| &object["status"]) else { return false };
            let message = status["message"].as_str().unwrap_or_default();
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            status["phase"] == "Initializing"
                && message.contains("the last try failed")
                && message.contains(&registry)
                && conditions.iter().any(|condition| condition["type"] == "Retrying")
        });
        asked.join().unwrap()
    });
    let detail = answer.1["detail"].as_str().unwrap_or_default();
    assert_eq!((answer.0, &answer.1["code"]), (500, &"chart-unavailable".into()), "{detail}\n{}", tier2.log());
    assert!(detail.contains(&registry) && detail.contains("tried again for"), "{detail}");
    eventually("nothing of what failed stays", || {
        let (_, peers, namespaces) = cluster.left();
        (peers, namespaces) == (0, 0)
    });
}

#[test]
fn hostile_charts_are_refused_and_leave_nothing() {
    let cluster = Cluster::new();
    let tier2 = cluster.tier2(&[]);
    let url = url(&tier2);
    let before = system_objects(&cluster);
    let urls = HOSTILE.iter().zip(1..).map(|((chart, more, ..), key)| {
        let application = cluster.add_chart(chart, more);
        format!("{url}{}", deploy_path(&application, key))
    });
    let urls: Vec<String> = urls.collect();
    let answers: Vec<_> = thread::scope(|scope| {
        let requests: Vec<_> = urls.iter().map(|url| scope.spawn(|| ask("POST", url, &[]))).collect();
        requests.into_iter().map(|request| request.join().unwrap()).collect()
    });
    for ((chart, _, code, words), (status, problem)) in HOSTILE.iter().zip(&answers) {
        assert_eq!((*status, &problem["code"]), (500, &(*code).into()), "{chart}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(words.iter().all(|word| detail.contains(word)), "{chart}: {words:?} in {detail}");
    }
    eventually("nothing of what failed stays", || {
        let (_, peers, namespaces) = cluster.left();
        (peers, namespaces) == (0, 0)
    });
    assert_eq!(system_objects(&cluster), before);
}

#[test]
fn accounts_that_a_chart_makes_may_do_no_more_than_it() {
    let cluster = Cluster::new();
    let application = cluster.add_chart("nothing", "");
    let tier2 = cluster.tier2(&[]);
    let (_, name) = deployed(&url(&tier2), &application, 1);
    // As the deployer may: all of its own rights, under another name.
    cluster.kubectl(&["-n", &name, "create", "serviceaccount", "second"]);
    let (role, account) = ("--clusterrole=sinfonia-deployer", format!("--serviceaccount={name}:second"));
    cluster.kubectl(&["-n", &name, "create", "rolebinding", "second", role, &account]);

    let user = format!("--as=system:serviceaccount:{name}:second");
    let kubectl = |words: &[&str]| {
        let output = Command::new("kubectl").args(["-n", &name]).args(words).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
    };
    let second = |words: &[&str]| kubectl(&[&[user.as_str()], words].concat());
    eventually("its rights are known", || second(&["create", "configmap", "mine"]).is_ok());
    for (words, reason) in [
        (&["create", "service", "nodeport", "hostile", "--tcp=80:80"][..], "has to be of type ClusterIP"),
        (&["delete", "rolebinding", "sinfonia-deployer"], "may not change"),
        (&["delete", "serviceaccount", "sinfonia-deployer"], "may not change"),
    ] {
        let refused = second(words).unwrap_err();
        assert!(refused.contains(reason), "{words:?}: {refused}");
    }
    let all_of_them = format!("--group=system:serviceaccounts:{name}");
    second(&["create", "rolebinding", "all", role, &all_of_them]).unwrap();
    let others = second(&["create", "rolebinding", "others", role, "--group=system:authenticated"]).unwrap_err();
    assert!(others.contains("of its own namespace only"), "{others}");
    // Not even those who may do everything, since somebody may have got another's rights all the same.
    let refused = kubectl(&["create", "service", "nodeport", "hostile", "--tcp=80:80"]).unwrap_err();
    assert!(refused.contains("has to be of type ClusterIP"), "{refused}");
}

/// The names of what a hostile chart could have put beside its own namespace.
fn system_objects(cluster: &Cluster) -> Vec<String> {
    let everywhere = "clusterroles,clusterrolebindings,customresourcedefinitions,persistentvolumes,storageclasses";
    let inside = "configmaps,secrets,serviceaccounts,roles,rolebindings,services,networkpolicies,resourcequotas,\
                  limitranges,deployments,daemonsets,jobs";
    let mut names = vec![cluster.kubectl(&["get", everywhere, "-o", "name"])];
    for namespace in ["default", "kube-public", "kube-system", "sinfonia"] {
        names.push(cluster.kubectl(&["get", inside, "-n", namespace, "-o", "name"]));
    }
    names.push(cluster.kubectl(&["get", "namespace", "hostile", "--ignore-not-found", "-o", "name"]));
    names
}
