//! Helm dies with tier2, even if tier2 is killed.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sinfonia-tier2");

#[test]
fn what_the_guard_became_dies_with_its_parent() {
    // The shell is tier2; what it starts holds the pipe as long as it lives.
    let script = r#"(exec -a sinfonia-helm "$0" $$ /bin/sh -c 'echo started; exec sleep 1000') & wait"#;
    let mut owner =
        Command::new("bash").args(["-c", script, PROGRAM]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(owner.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_eq!(output.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_guard_whose_parent_is_another_starts_nothing() {
    let output = Command::new(PROGRAM).arg0("sinfonia-helm").args(["1", "/bin/echo", "started"]).output().unwrap();
    assert_eq!(output.stdout, b"");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "sinfonia-helm: not started: its parent has ended\n");
    assert_eq!(output.status.code(), Some(127));
}

#[test]
fn a_program_that_is_missing_is_told() {
    let id = std::process::id().to_string();
    let output = Command::new(PROGRAM).arg0("sinfonia-helm").args([&id, "/nowhere/helm"]).output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.starts_with("sinfonia-helm: not started: No such file"), "{complaint}");
}
