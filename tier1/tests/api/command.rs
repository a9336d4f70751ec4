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
    assert_eq!((code, names), (Some(0), vec!["requirements", "load", "network", "location", "random"]));
    let (code, out, _) = run(&["--version"], &[]);
    assert_eq!((code, out.trim()), (Some(0), concat!("sinfonia-tier1 ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn check_says_everything_that_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let endpoint = "endpoint: http://192.0.2.1/api/v1/deploy";
    let good = write("good.yaml", &format!("{endpoint}\nlocation: [40.4, -79.9]\n"));
    let bad = write(
        "bad.yaml",
        &format!(
            "{endpoint}\nlocation: [91, 0]\naccepted_clients: [10.0.0.0/8, 10.0.0.0/33, nowhere]\naccpeted: 1\n---\nname: x\n"
        ),
    );
    let recipe = write(
        "737b5001-d27a-413f-9806-abf9bfce6746.yaml",
        "chart: ../x\nversion: 1.0.0\nrestricted: 7\nrequires: '1 +'\nprefer: 'x.all(y, y)'\n",
    );

    let (code, out, errors) = run(&["check", &good], &[]);
    assert_eq!((code, out.as_str(), errors.as_str()), (Some(0), "looked at 1 cloudlets and 0 recipes: 0 errors\n", ""));

    let (code, out, errors) = run(&["check", &bad, &recipe, "/nonexistent.yaml"], &[]);
    let lines: Vec<_> = errors.lines().collect();
    let said = [
        "bad.yaml: document 1: location: latitude 91",
        "bad.yaml: document 1: accepted_clients[1]: ",
        "bad.yaml: document 1: accepted_clients[2]: ",
        "bad.yaml: document 1: warning: accpeted ",
        "bad.yaml: document 2: missing field `endpoint`",
        ".yaml: restricted: ",
        ".yaml: chart: ",
        ".yaml: requires: ",
        ".yaml: prefer: ",
        "/nonexistent.yaml: cannot be read",
    ];
    assert_eq!(code, Some(1), "{errors}");
    for what in said {
        assert_eq!(lines.iter().filter(|line| line.contains(what)).count(), 1, "{what}: {errors}");
    }
    assert_eq!(lines.len(), said.len(), "{errors}");
    assert_eq!(out, "looked at 2 cloudlets and 1 recipes: 9 errors\n");

    // What else tier1 would not start with.
    let no_token = write("token", "two words");
    let options = ["--tls-ca", &good, "--tls-cert", "/nonexistent.crt", "--tls-key", "/nonexistent.key"];
    let recipes = tempfile::tempdir().unwrap();
    let more = [
        "--host",
        "0.0.0.0",
        "--recipes",
        recipes.path().to_str().unwrap(),
        "--cloudlet-token-file",
        &no_token,
        "check",
    ];
    let (code, _, errors) = run(&[&options[..], &more].concat(), &[]);
    let lines: Vec<_> = errors.lines().collect();
    let said = [
        "--host: tier1 would let everybody who reaches 0.0.0.0 in",
        "token for cloudlets: --cloudlet-token-file ",
        "HTTPS: --tls-cert: /nonexistent.crt cannot be read",
        "HTTPS: --tls-ca: ",
    ];
    assert_eq!((code, lines.len()), (Some(1), said.len()), "{errors}");
    for (line, what) in lines.into_iter().zip(said) {
        assert!(line.starts_with(what), "{what}: {errors}");
    }
}

#[test]
fn tokens_are_made_and_listed_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens.yaml");
    let file = file.to_str().unwrap();
    let token = |arguments: &[&str]| run(&[&["token"], arguments, &["--tokens-file", file]].concat(), &[]);
    let uuid = "737b5001-d27a-413f-9806-abf9bfce6746";
    let mut made = Vec::new();
    for options in [
        vec!["--scope", "report", "--cloudlet", uuid, "--name", "a cloudlet"],
        vec!["--scope", "deploy", "--recipe", uuid, "--name", "laptop: \"north\"", "--expires", "90d"],
        vec!["--scope", "admin", "--name", "me"],
    ] {
        let (code, out, errors) = token(&[&["create"], &options[..]].concat());
        assert_eq!((code, out.lines().count()), (Some(0), 1), "{errors}");
        assert!(out.starts_with("sinfonia_") && !errors.contains(out.trim()), "{errors}");
        let id = errors.split_whitespace().nth(1).unwrap().to_owned();
        made.push((out.trim().to_owned(), id));
    }
    let text = std::fs::read_to_string(file).unwrap();
    let (_, table, _) = token(&["list"]);
    let (_, json, _) = token(&["list", "--json"]);
    let is_hidden = |token: &String| !(text.contains(token) || table.contains(token) || json.contains(token));
    assert!(made.iter().all(|(token, id)| is_hidden(token) && table.contains(id)), "{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["cloudlet"], &json[1]["recipes"][0]), (&uuid.into(), &uuid.into()));
    assert_eq!((&json[2]["scopes"][0], &json[1]["state"]), (&"admin".into(), &"valid".into()));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(file).unwrap());
    assert_eq!(mode & 0o777, 0o600);

    let cases: [(&[&str], &str); 6] = [
        (&["create", "--scope", "report", "--name", "a"], "--any-cloudlet"),
        (&["create", "--scope", "deploy", "--cloudlet", uuid, "--name", "a"], "--scope report"),
        (&["create", "--scope", "admin", "--recipe", uuid, "--name", "a"], "--scope deploy"),
        (&["create", "--scope", "admin", "--name", "a\nb"], "one line"),
        (&["revoke", uuid], "remove its entry"),
        (&["rotate", uuid], "same name"),
    ];
    for (arguments, reason) in cases {
        let (code, out, errors) = token(arguments);
        assert!(code != Some(0) && out.is_empty() && errors.contains(reason), "{arguments:?}: {errors}");
    }
    let (code, _, errors) = run(&["token", "list"], &[]);
    assert!(code != Some(0) && errors.contains("--database-url") && errors.contains("--tokens-file"), "{errors}");
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
