//! Keys at a terminal, with a shell around the program. Needs namespaces and /dev/net/tun.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use nix::pty::openpty;
use tokio::process::Child;
use tokio::sync::mpsc;

use crate::support::{Answer, LIMIT, PROGRAM, Stub, tier1, tier3};

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";
const OUTER: &str = "outer> ";

/// Goes on unless it sees that a key ended the program.
const LOOP: &str = "for round in 1 2 3; do $TIER3 sh -c 'echo up; exec sleep 1000'; echo went on; done\n";

/// Says whether it is in the foreground whenever that changes, and ends by Ctrl-C.
const WATCHER: &str = r#"
    $| = 1;
    $SIG{INT} = sub { print "got INT\n"; exit 9 };
    my $before = "";
    while (1) {
        my $now = tcgetpgrp(0) == getpgrp() ? "front" : "back";
        print "in $now\n" if $now ne $before;
        $before = $now;
        select(undef, undef, undef, 0.02);
    }
"#;

#[tokio::test]
async fn a_script_ends_with_the_application_that_a_key_ended() {
    let stub = tier1().await;
    for script in ["bash loop", "bash loop | cat"] {
        let mut terminal = Terminal::open(&stub).await;
        terminal.write("loop", LOOP);
        terminal.play(&[(&format!("{script}\n"), "up\r\n"), (CTRL_C, OUTER)]).await;
        assert!(!terminal.seen.contains("went on"), "{script}: {}", terminal.seen);
        terminal.play(&[("echo status=${PIPESTATUS[0]}\n", "status=130")]).await;
    }
}

#[tokio::test]
async fn a_script_ends_with_a_program_that_a_key_ended_before_the_application_ran() {
    let stub = Stub::start(|_| Answer::Silence);
    let mut terminal = Terminal::open(&stub).await;
    terminal.write("loop", LOOP);
    terminal.play(&[("bash loop\n", "")]).await;
    stub.requested(1).await;
    terminal.play(&[(CTRL_C, OUTER), ("echo status=$?\n", "status=130")]).await;
    assert!(!terminal.seen.contains("went on"), "{}", terminal.seen);
    assert_eq!(stub.requests().len(), 1);
}

#[tokio::test]
async fn an_application_that_was_in_the_background_has_the_keys_again() {
    let stub = tier1().await;
    let mut terminal = Terminal::open(&stub).await;
    terminal.write("watcher", WATCHER);
    terminal
        .play(&[
            ("$TIER3 perl -MPOSIX=tcgetpgrp watcher\n", "in front"),
            (CTRL_Z, "Stopped"),
            ("bg\n", "in back"),
            ("fg\n", "in front"),
            (CTRL_Z, "Stopped"),
            ("bg\n", "in back"),
            ("fg\n", "in front"),
            (CTRL_C, "got INT"),
            ("echo status=$?\n", "status=9"),
        ])
        .await;
}

/// An interactive shell on a terminal of its own. Its variable TIER3 is the program with its first arguments.
struct Terminal {
    keys: File,
    shown: mpsc::UnboundedReceiver<Vec<u8>>,
    seen: String,
    home: tempfile::TempDir,
    _shell: Child,
}

impl Terminal {
    async fn open(stub: &Stub) -> Self {
        let home = tempfile::tempdir().unwrap();
        let pair = openpty(None, None).unwrap();
        // Whoever starts the tests in the background has keys ignored.
        let words = ["--default-signal", "setsid", "--ctty", "--wait", "bash", "--norc", "--noediting", "-i"];
        let mut command = tokio::process::Command::from(std::process::Command::new("env"));
        let quiet = tier3(home.path());
        for (name, value) in quiet.as_std().get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.args(words).current_dir(home.path()).kill_on_drop(true);
        command.env("PS1", OUTER).env("TIER3", format!("{PROGRAM} {} helloworld", stub.url()));
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        let shell = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keys = File::from(pair.master);
        let shown = show(keys.try_clone().unwrap());
        let mut terminal = Self { keys, shown, seen: String::new(), home, _shell: shell };
        terminal.play(&[("", OUTER)]).await;
        terminal
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.home.path().join(name), text).unwrap();
    }

    /// Types, and waits for what is to be seen next; nothing waits for nothing. What was seen on the way is `seen`.
    async fn play(&mut self, steps: &[(&str, &str)]) {
        for (keys, expected) in steps {
            self.keys.write_all(keys.as_bytes()).unwrap();
            self.seen.clear();
            let found = tokio::time::timeout(LIMIT, self.expect(expected)).await.is_ok();
            assert!(found, "waited in vain for {expected:?} after {keys:?} in:\n{}", self.seen);
        }
    }

    async fn expect(&mut self, expected: &str) {
        while !self.seen.contains(expected) {
            let more = self.shown.recv().await.unwrap();
            self.seen += &String::from_utf8_lossy(&more);
        }
    }
}

/// What the terminal shows, until the last program has closed it.
fn show(mut screen: File) -> mpsc::UnboundedReceiver<Vec<u8>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = screen.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}
