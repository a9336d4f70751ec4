//! Wrong values are refused before anything is made, and the message names them.

use std::process::Command;

use sinfonia_tests::releases::Releases;

/// What helm says of these values.
fn refusal(chart: &str, values: &[&str]) -> String {
    let mut command = Command::new("helm");
    command.args(["template", "test", chart, "--kube-version", "1.35.0"]).current_dir(Releases::project());
    values.iter().for_each(|value| {
        command.args(["--set-json", value]);
    });
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{chart} takes {values:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn wrong_values_are_named() {
    const TIER1: &str = "charts/sinfonia-tier1";
    const TIER2: &str = "charts/sinfonia-tier2";
    const HELLOWORLD: &str = "charts/helloworld";
    let cases: [(&str, &[&str], &[&str]); 35] = [
        (TIER1, &[r#"replica=2"#], &["additional properties 'replica' not allowed"]),
        (TIER1, &[r#"replicas="two""#], &["/replicas", "got string, want integer"]),
        (TIER1, &[r#"replicas=-1"#], &["/replicas", "got -1, want 0"]),
        (TIER1, &[r#"replicas=2"#], &["more than one tier1 need a database", "database.existingSecret"]),
        (TIER1, &[r#"image.repository="""#], &["/image/repository"]),
        (TIER1, &[r#"image.tag="a b""#], &["/image/tag"]),
        (TIER1, &[r#"image.digest="sha256:12""#], &["/image/digest"]),
        (TIER1, &[r#"image.pullPolicy="Sometimes""#], &["/image/pullPolicy", "IfNotPresent"]),
        (TIER1, &[r#"matchers=["nearest"]"#], &["/matchers/0", "'location'"]),
        (TIER1, &[r#"trustedProxies=["everybody"]"#], &["/trustedProxies/0"]),
        (TIER1, &[r#"service.type="Public""#], &["/service/type", "'ClusterIP'"]),
        (TIER1, &[r#"service.port=70000"#], &["/service/port", "maximum"]),
        (TIER1, &[r#"ingress.enabled=true"#], &["ingress.host: an ingress needs a host name"]),
        (TIER1, &[r#"ingress.host="a b""#], &["/ingress/host"]),
        (TIER1, &[r#"recipes.files={"maps.yaml": ""}"#], &["/recipes/files", "'maps.yaml'"]),
        (TIER1, &[r#"recipes.url="ftp://example.org""#], &["/recipes/url"]),
        (TIER1, &[r#"recipes.demo=false"#], &["recipes: there are none"]),
        (TIER1, &[r#"recipes.url="http://a""#, r#"recipes.configMaps=["b"]"#], &["recipes: give url, or"]),
        (TIER1, &[r#"database.historyDays=0"#], &["/database/historyDays"]),
        (
            TIER1,
            &[r#"database.existingSecret="a""#, r#"database.bundled.enabled=true"#],
            &["existingSecret or bundled.enabled, not both"],
        ),
        (TIER1, &[r#"resources.limits.memory="much""#], &["/resources/limits/memory"]),
        (TIER1, &[r#"extraEnv=[{"value": "b"}]"#], &["/extraEnv/0", "missing property 'name'"]),
        (TIER1, &[r#"podDisruptionBudget.maxUnavailable="some""#], &["/podDisruptionBudget/maxUnavailable"]),
        (TIER1, &[r#"serviceMonitor.interval=15"#], &["/serviceMonitor/interval", "want string"]),
        (TIER2, &[r#"tier1.url="tier1:80""#], &["/tier1/url"]),
        (TIER2, &[r#"tier1.existingSecret="a""#], &["tier1.url: there are tokens for a tier1, but not where it is"]),
        (TIER2, &[r#"cloudlet.locations=["here"]"#], &["/cloudlet/locations/0"]),
        (TIER2, &[r#"cloudlet.labels={"a b": "c"}"#], &["/cloudlet/labels", "'a b'"]),
        (TIER2, &[r#"clientNetworks=[]"#], &["/clientNetworks", "minItems"]),
        (TIER2, &[r#"podSecurity="privileged""#], &["/podSecurity", "'restricted'"]),
        (TIER2, &[r#"gateway.replicas=2"#], &["/gateway/replicas", "got 2, want 1"]),
        (TIER2, &[r#"gateway.wireguard="maybe""#], &["/gateway/wireguard", "'userspace'"]),
        (TIER2, &[r#"crds.peers=true"#], &["/crds/peers", "'auto'"]),
        (HELLOWORLD, &[r#"replicas=101"#], &["/replicas", "maximum"]),
        (HELLOWORLD, &[r#"fullnameOverride="A b""#], &["/fullnameOverride"]),
    ];
    for (chart, values, words) in cases {
        let refusal = refusal(chart, values);
        assert!(words.iter().all(|word| refusal.contains(word)), "{chart} {values:?}: {refusal}");
    }
}
