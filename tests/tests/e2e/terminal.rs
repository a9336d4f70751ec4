//! At a terminal: prompt, job control, the terminal's size, and what is shown while waiting.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use expectrl::session::OsSession;
use expectrl::{Expect as _, Regex, Session};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sinfonia_tests::{World, program};

use crate::setup::Alone;

const LIMIT: Duration = Duration::from_secs(60);

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";
const OUTER: &str = "outer> ";
const INNER: &str = r"sinfonia\$ ";

/// Repeats its input, so that who has the terminal and runs can be told by asking.
const REPEAT: &str = "sed -u s/^/got:/\n";

#[test]
fn a_shell_in_the_tunnel_has_its_prompt_and_its_status_comes_out() {
    let mut terminal = Terminal::open();
    terminal.play(&[
        ("sinfonia-tier3 $BACKEND bash --norc\n", r"tunnel.* up in \d+ ms"),
        ("", INNER),
        ("busybox wget -q -O- http://helloworld/\n", "a page in the terminal"),
        ("exit 7\n", OUTER),
        ("echo status=$?\n", "status=7"),
    ]);
}

#[test]
fn keys_act_on_what_runs_in_the_shell_in_the_tunnel() {
    let mut terminal = Terminal::open();
    terminal.play(&[
        ("sinfonia-tier3 $BACKEND bash --norc\n", INNER),
        (REPEAT, ""),
        ("1\n", "got:1"),
        (CTRL_C, INNER),
        ("echo status=$?\n", "status=130"),
        (REPEAT, ""),
        ("2\n", "got:2"),
        (CTRL_Z, r"\[1\]\+ +Stopped"),
        ("jobs\n", r"\[1\]\+ +Stopped"),
        ("fg\n", "sed"),
        ("3\n", "got:3"),
        (CTRL_C, INNER),
        ("exit 0\n", OUTER),
        ("echo status=$?\n", "status=0"),
    ]);
}

#[test]
fn a_client_in_the_tunnel_is_a_job_of_the_shell_outside() {
    let mut terminal = Terminal::open();
    terminal.play(&[
        (&format!("sinfonia-tier3 $BACKEND {REPEAT}"), "up in"),
        ("1\n", "got:1"),
        (CTRL_Z, r"\[1\]\+ +Stopped"),
        ("", OUTER),
        ("jobs\n", r"\[1\]\+ +Stopped +sinfonia-tier3"),
        ("fg\n", "sinfonia-tier3"),
        ("2\n", "got:2"),
        (CTRL_Z, r"\[1\]\+ +Stopped"),
        ("bg; wait %1; echo stopped=$?\n", "stopped=1"),
        ("fg\n", "sinfonia-tier3"),
        ("3\n", "got:3"),
        (CTRL_C, OUTER),
        ("echo status=$?\n", "status=130"),
    ]);
}

#[test]
fn any_shell_can_be_used_in_the_tunnel_and_be_suspended() {
    let mut terminal = Terminal::open();
    terminal.play(&[
        ("sinfonia-tier3 $BACKEND dash -i\n", INNER),
        (REPEAT, ""),
        ("1\n", "got:1"),
        (CTRL_Z, r"\[1\] \+ Stopped"),
        ("fg\n", "sed"),
        ("2\n", "got:2"),
        (CTRL_C, INNER),
        ("exit 5\n", OUTER),
        ("echo status=$?\n", "status=5"),
        ("sinfonia-tier3 $BACKEND bash --norc\n", INNER),
        ("suspend\n", r"\[1\]\+ +Stopped"),
        ("fg\n", INNER),
        ("exit 6\n", OUTER),
        ("echo status=$?\n", "status=6"),
    ]);
}

#[test]
fn the_size_of_the_terminal_is_followed() {
    let mut terminal = Terminal::open();
    terminal.play(&[("sinfonia-tier3 $BACKEND bash --norc\n", INNER), ("stty size\n", "24 80")]);
    terminal.resize(132, 50);
    terminal.play(&[("stty size\n", "50 132"), ("exit\n", OUTER)]);
}

#[test]
fn nothing_is_shown_where_nobody_looks() {
    let mut terminal = Terminal::open();
    let pipeline = "sinfonia-tier3 $BACKEND seq 3 2>said | sed s/^/got:/; echo said=$(wc -c <said)\n";
    terminal.play(&[(pipeline, "got:1\r\ngot:2\r\ngot:3\r\nsaid=0\r\n")]);
}

/// An interactive shell on a terminal of its own, with a cloudlet at hand.
struct Terminal {
    session: OsSession,
    readable: File,
    seen: String,
    _alone: Alone,
}

impl Terminal {
    fn open() -> Self {
        let world = World::new();
        let application = world.add_page("a page in the terminal");
        let alone = Alone::with(world);
        let inputrc = alone.world.path("inputrc");
        std::fs::write(&inputrc, "set enable-bracketed-paste off\n").unwrap();
        let programs = program("sinfonia-tier3").parent().unwrap().to_owned();
        let mut command = alone.world.at_home(Command::new("env"));
        // Whoever starts the tests in the background has keys ignored.
        command
            .args(["--default-signal", "bash", "--norc", "--noediting", "-i"])
            .stdin(Stdio::inherit())
            .current_dir(alone.world.path("home"));
        command.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
        command.env("BACKEND", format!("{} {application}", alone.url()));
        command.env("PS1", OUTER).env("TERM", "xterm").env("INPUTRC", inputrc);
        let session = Session::spawn(command).unwrap();
        let readable = session.get_process().get_raw_handle().unwrap();
        let mut terminal = Self { session, readable, seen: String::new(), _alone: alone };
        terminal.expect(OUTER);
        terminal
    }

    /// Types, and waits for what is to be seen next, as a regular expression; nothing waits for nothing.
    fn play(&mut self, steps: &[(&str, &str)]) {
        for (keys, expected) in steps {
            self.session.send(keys).unwrap();
            self.expect(expected);
        }
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        self.session.get_process_mut().set_window_size(columns, rows).unwrap();
    }

    /// Not the library's own, which turns in circles until there is something to read.
    fn expect(&mut self, expected: &str) {
        let deadline = Instant::now() + LIMIT;
        while !expected.is_empty() {
            let found = self.session.check(Regex(expected)).unwrap();
            self.seen += &String::from_utf8_lossy(found.as_bytes());
            if !found.is_empty() {
                break;
            }
            let left = PollTimeout::try_from(deadline.saturating_duration_since(Instant::now())).unwrap();
            let mut readable = [PollFd::new(self.readable.as_fd(), PollFlags::POLLIN)];
            if poll(&mut readable, left).unwrap() == 0 {
                let rest = self.session.check(Regex("(?s).*")).unwrap();
                let rest = String::from_utf8_lossy(rest.as_bytes()).into_owned();
                panic!("waited in vain for {expected:?} in {rest:?} after:\n{}", self.seen);
            }
        }
    }
}
