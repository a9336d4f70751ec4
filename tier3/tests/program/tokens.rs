//! The token that a tier asks for: sent to it, and told to nobody else.

use crate::support::{Answer, LIMIT, Stub, tier1, tier3};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;

fn authorizations(stub: &Stub) -> Vec<Option<String>> {
    let value = |head: &String| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization:"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    stub.requests().iter().map(value).collect()
}

#[tokio::test]
async fn it_comes_from_a_file_or_the_environment_and_the_application_does_not_get_it() {
    let (stub, home) = (tier1().await, tempfile::tempdir().unwrap());
    let file = home.path().join("token");
    std::fs::write(&file, "from-file\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (url, file) = (stub.url(), file.to_str().unwrap().to_owned());
    for (variable, options) in [(None, vec!["--token-file", &file]), (Some("from-environment"), vec![]), (None, vec![])]
    {
        let mut command = tier3(home.path());
        command.args(["--debug", "--release"]).args(options).args([
            &url,
            "helloworld",
            "sh",
            "-c",
            // The first process may be of others, who keep it to themselves.
            "env; cat /proc/1/environ 2>/dev/null || true",
        ]);
        command.envs(variable.map(|value| ("SINFONIA_TOKEN", value)));
        let output = tokio::time::timeout(LIMIT, command.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("from-file") && !said.contains("from-environment"), "{said}");
    }
    let expected = [Some("Bearer from-file"), Some("Bearer from-environment"), None];
    // Each asked for a deployment and released it.
    let expected: Vec<_> =
        expected.iter().flat_map(|value| [value.map(str::to_owned), value.map(str::to_owned)]).collect();
    assert_eq!(authorizations(&stub), expected);
}

#[tokio::test]
async fn whoever_is_not_let_in_learns_what_to_do() {
    let problem = || Answer::problem(401, &json!({"code": "token-missing", "detail": "this needs a token"}));
    let (stub, home) = (Stub::start(move |_| problem()), tempfile::tempdir().unwrap());
    let run = async |words: &[&str]| tier3(home.path()).args(words).output().await.unwrap();
    let refused = run(&[&stub.url(), "helloworld", "true"]).await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(70));
    assert!(said.contains("does not allow this: this needs a token") && said.contains("--token-file"), "{said}");
    let missing = run(&["--token-file", "/nonexistent/token", &stub.url(), "helloworld", "true"]).await;
    let said = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(said.contains("--token-file /nonexistent/token"), "{said}");
}
