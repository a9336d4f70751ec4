//! The program itself.

use crate::harness::recipes;
use std::process::{Command, Output};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sinfonia-tier1"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SINFONIA_")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn matchers_and_version_are_told() {
    let (code, out, _) = run(&["--list-matchers"], &[]);
    let names: Vec<_> = out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!((code, names), (Some(0), vec!["network", "location", "random"]));
    let (code, out, _) = run(&["--version"], &[]);
    assert_eq!((code, out.trim()), (Some(0), concat!("sinfonia-tier1 ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_environment_counts_and_is_checked() {
    let (directory, taken) = (recipes(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let (directory, port) = (directory.path().to_str().unwrap(), taken.local_addr().unwrap().port().to_string());
    let cases: [(&str, &str, &str); 8] = [
        ("SINFONIA_MATCHERS", "network", "JSON list"),
        ("SINFONIA_MATCH", "network,nearest", "nearest"),
        ("SINFONIA_PORT", "many", "many"),
        ("SINFONIA_PORT", &port, &port),
        ("SINFONIA_HOST", "here", "here"),
        ("SINFONIA_CLOUDLETS", "/nonexistent/cloudlets.yaml", "/nonexistent/cloudlets.yaml"),
        ("SINFONIA_GEOIP", "/nonexistent/city.mmdb", "/nonexistent/city.mmdb"),
        ("SINFONIA_TRUSTED_PROXY", "127.0.0.0/8,everyone", "everyone"),
    ];
    for (name, value, reason) in cases {
        let (code, _, errors) = run(&["--recipes", directory], &[(name, value)]);
        assert!(code.is_some_and(|code| code != 0) && errors.contains(reason), "{name}={value}: {errors}");
    }
    let (_, _, errors) = run(&[], &[("SINFONIA_RECIPES", "/nonexistent/recipes")]);
    assert!(errors.contains("/nonexistent/recipes"), "{errors}");
}
