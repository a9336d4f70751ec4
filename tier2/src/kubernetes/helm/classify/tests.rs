//! The complaints are those of Helm 3.20 on Kubernetes 1.35, with the charts of tests/charts.

use super::*;

macro_rules! recorded {
    ($name:literal) => {
        ($name, include_str!(concat!("recorded/", $name, ".txt")))
    };
}

fn sentence(complaints: &str) -> (&'static str, String) {
    let error = classify(complaints);
    (error.code(), error.to_string())
}

#[track_caller]
fn check(cases: &[((&str, &str), &str, &str)]) {
    for ((name, complaints), code, expected) in cases {
        assert_eq!(sentence(complaints), (*code, (*expected).to_owned()), "{name}");
    }
}

#[test]
fn what_charts_may_not_contain_is_named() {
    check(&[
        (
            recorded!("hostile-clusterrole"),
            "chart-forbidden",
            "the chart contains ClusterRole \"hostile\", which is not allowed here: it would have effect in the whole \
             cluster",
        ),
        (
            recorded!("hostile-crd"),
            "chart-forbidden",
            "the chart contains CustomResourceDefinition, which is not allowed here: it would have effect in the whole \
             cluster",
        ),
        (
            recorded!("hostile-new-namespace"),
            "chart-forbidden",
            "the chart contains Namespace \"hostile\", which is not allowed here: it would have effect in the whole \
             cluster",
        ),
        (
            recorded!("hostile-namespace"),
            "chart-forbidden",
            "the chart contains ConfigMap \"hostile\" in namespace \"kube-system\", which is not allowed here: charts \
             have to stay in their deployment's own namespace",
        ),
        (
            recorded!("hostile-policy"),
            "chart-forbidden",
            "the chart contains NetworkPolicy \"allow-all\", which is not allowed here: charts may not create \
             networkpolicies",
        ),
        (
            recorded!("hostile-policy-hook"),
            "chart-forbidden",
            "the chart contains NetworkPolicy \"default-deny\", which is not allowed here: charts may not delete \
             networkpolicies",
        ),
        (
            recorded!("hostile-quota"),
            "chart-forbidden",
            "the chart contains ResourceQuota \"more\", which is not allowed here: charts may not create resourcequotas",
        ),
        (
            recorded!("hostile-role"),
            "chart-forbidden",
            "the chart contains Role \"hostile\", which is not allowed here: it would grant rights that charts do not \
             have: {APIGroups:[\"networking.k8s.io\"], Resources:[\"networkpolicies\"], Verbs:[\"delete\"]}",
        ),
        (
            recorded!("hostile-binding"),
            "chart-forbidden",
            "the chart contains RoleBinding \"hostile\", which is not allowed here: it would grant rights that charts do \
             not have: {APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}, {NonResourceURLs:[\"*\"], Verbs:[\"*\"]}",
        ),
        (
            recorded!("hostile-hostpath"),
            "pod-security",
            "the chart contains Pod \"hostile\", which is not allowed here: its Pod Security is \"baseline:latest\": \
             hostPath volumes (volume \"root\")",
        ),
        (
            recorded!("over-quota-object"),
            "quota-exceeded",
            "the chart needs more than a deployment may use here: PersistentVolumeClaim \"much\": exceeded quota: \
             sinfonia, requested: requests.storage=900Ti, used: requests.storage=0, limited: requests.storage=1Gi",
        ),
    ]);
}

#[test]
fn what_is_wrong_with_a_chart_is_said() {
    check(&[
        (
            recorded!("schema"),
            "values-invalid",
            "the recipe's values do not fit the chart: port: maximum: got 99,999, want 65,535; name: got number, want \
             string",
        ),
        (
            recorded!("template-error"),
            "chart-invalid",
            "the chart is broken: execution error at (template-error/templates/config.yaml:5:12): a value for \
             .Values.password is needed",
        ),
        (
            recorded!("template-syntax"),
            "chart-invalid",
            "the chart is broken: parse error at (template-syntax/templates/config.yaml:3): unexpected \"}\" in operand",
        ),
        (
            recorded!("yaml-error"),
            "chart-invalid",
            "the chart is broken: YAML parse error on yaml-error/templates/config.yaml: error converting YAML to JSON: \
             yaml: line 5: mapping values are not allowed in this context",
        ),
        (
            recorded!("unknown-kind"),
            "chart-invalid",
            "the chart is broken: unable to build kubernetes objects from release manifest: resource mapping not found \
             for name: \"any\" namespace: \"\" from \"\": no matches for kind \"Thing\" in version \
             \"nowhere.example/v1\" ensure CRDs are installed first",
        ),
        (recorded!("truncated"), "chart-invalid", "the chart is broken: unexpected EOF"),
        (
            recorded!("no-archive"),
            "chart-invalid",
            "the chart is broken: file 'text.tgz' does not appear to be a gzipped archive; got \
             'application/octet-stream'",
        ),
        (recorded!("no-chart"), "chart-invalid", "the chart is broken: Chart.yaml file is missing"),
        (
            recorded!("path"),
            "chart-not-found",
            "there is no chart /nowhere/x-1.tgz: the recipe names one that does not exist",
        ),
        (recorded!("hook-fails"), "hook-failed", "a hook of the chart failed: job before failed: BackoffLimitExceeded"),
        (recorded!("hook-hangs"), "hook-failed", "a hook of the chart failed: it did not end in time"),
    ]);
    let (code, sentence) = sentence(recorded!("invalid-object").1);
    assert_eq!(code, "chart-invalid");
    assert!(sentence.starts_with("the chart is broken: Deployment.apps \"web\" is invalid: [spec."), "{sentence}");
    assert!(sentence.chars().count() < 450, "{sentence}");
    assert_eq!(classify(recorded!("conflict").1).code(), "chart-invalid");
}

#[test]
fn what_may_pass_is_told_from_what_stays() {
    check(&[
        (
            recorded!("unreachable"),
            "api-unreachable",
            "the cluster's API server cannot be reached: Get \"https://127.0.0.1:1/version\": dial tcp 127.0.0.1:1: \
             connect: connection refused",
        ),
        (
            recorded!("unauthorized"),
            "deployer-without-rights",
            "the account that installs charts lacks its rights: the server has asked for the client to provide \
             credentials",
        ),
    ]);
    assert_eq!(classify(recorded!("no-rights").1).code(), "deployer-without-rights");
    for complaints in [recorded!("unreachable").1, recorded!("unauthorized").1, recorded!("no-rights").1, BUSY] {
        assert!(classify(complaints).is_retryable(), "{complaints}");
    }
    for (_, complaints) in [recorded!("hostile-policy"), recorded!("schema"), recorded!("hook-fails")] {
        assert!(!classify(complaints).is_retryable(), "{complaints}");
    }
}

const BUSY: &str = "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress\n";

#[test]
fn a_chart_cannot_pass_its_own_words_for_those_of_the_cluster() {
    for words in ["dial tcp 10.0.0.1:6443: connection refused", BUSY, "the server has asked to provide credentials"] {
        let author = format!("Error: execution error at (x/templates/x.yaml:1:3): {words}\n");
        assert_eq!(classify(&author).code(), "chart-invalid");
    }
}

#[test]
fn the_log_of_a_hook_is_not_the_error() {
    let (code, sentence) = sentence(
        "Error: dial tcp: connection refused\nUnauthorized\nError: uninstall: failed pre-delete: job failed: \
         BackoffLimitExceeded",
    );
    assert_eq!(code, "hook-failed", "{sentence}");
    assert!(sentence.contains("BackoffLimitExceeded") && !sentence.contains("refused"), "{sentence}");
}

#[test]
fn log_lines_of_libraries_are_no_errors() {
    let warned = format!(
        "I1124 19:13:34.590819   23005 warnings.go:107] \"Warning: would violate PodSecurity \\\"restricted\\\"\"\n\
         WARNING: Kubernetes configuration file is group-readable.\n{BUSY}"
    );
    assert_eq!(classify(&warned), HelmError::Busy);
    assert_eq!(classify("").to_string(), "Helm failed: it does not say why");
}

#[test]
fn nothing_that_helm_writes_makes_a_long_or_unprintable_sentence() {
    let noise = format!("Error: \u{1b}[31m{}\u{7}", "x ".repeat(5000));
    for start in
        ["", "is forbidden: ", "pods \"x\" is forbidden: User \"", "values don't meet the specifications of the schema"]
    {
        let sentence = classify(&format!("{start}{noise}")).to_string();
        assert!(sentence.chars().count() < 1000 && !sentence.contains(char::is_control), "{sentence}");
    }
}
