//! Programs under test: started, watched by what they log, ended.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take that a test waits for; generous, since it only ends a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs in a process group of its own, whose errors are collected.
pub struct Running {
    child: Child,
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
    output: Arc<Mutex<Vec<u8>>>,
}

/// What a program left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (log, output) = (Arc::<Log>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let (errors, stdout) = (child.stderr.take().unwrap(), child.stdout.take().unwrap());
        let readers = vec![
            {
                let log = log.clone();
                std::thread::spawn(move || log.collect(errors))
            },
            {
                let output = output.clone();
                std::thread::spawn(move || collect(stdout, &output))
            },
        ];
        Self { child, log, readers, output }
    }

    /// The process, which leads its group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of its log that holds all of `words`.
    pub fn wait_for_log(&self, words: &[&str]) -> String {
        self.log.wait(words)
    }

    /// The address that a server says it listens on.
    pub fn listens(&self) -> SocketAddr {
        let line = self.wait_for_log(&["listens", "\"address\""]);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = line.pointer("/fields/address").or_else(|| line.get("address"));
        address.and_then(serde_json::Value::as_str).unwrap_or_else(|| panic!("no address in {line}")).parse().unwrap()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.log.lines.lock().unwrap().0.join("\n")
    }

    /// Its standard output so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Sends a signal by name, such as `TERM`, to the process alone.
    pub fn signal(&self, name: &str) {
        let number = format!("SIG{name}").parse().unwrap();
        signal(self.pid().cast_signed(), number);
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, and for the end of what it wrote.
    pub fn finish(mut self) -> Finished {
        let log = self.log.clone();
        eventually(&format!("end of process {}: {}", self.pid(), log.lines.lock().unwrap().0.join("\n")), || {
            self.child.try_wait().unwrap().is_some()
        });
        let status = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Finished { status, output: self.output(), errors: self.log() }
    }

    /// Ends it as an operator would, and waits.
    pub fn stop(self) -> Finished {
        self.signal("TERM");
        self.finish()
    }

    /// Ends it without a chance to clean up.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        signal(-self.child.id().cast_signed(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Finished {
    /// The exit status as a shell shows it.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }
}

/// Waits until something is so; the test fails when it does not happen.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal to a process, or to a group if the number is negative. It may be gone.
pub(crate) fn signal(target: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(target), signal);
}

impl Log {
    fn collect(&self, source: impl Read) {
        for line in BufReader::new(source).split(b'\n') {
            let Ok(line) = line else { break };
            self.lines.lock().unwrap().0.push(String::from_utf8_lossy(&line).into_owned());
            self.more.notify_all();
        }
        self.lines.lock().unwrap().1 = true;
        self.more.notify_all();
    }

    fn wait(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.0.iter().find(|line| words.iter().all(|word| line.contains(word))) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!lines.1 && !left.is_zero(), "no line with {words:?} in the log:\n{}", lines.0.join("\n"));
            lines = self.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}

fn collect(mut source: impl Read, output: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = source.read(&mut buffer) {
        output.lock().unwrap().extend_from_slice(&buffer[..length]);
    }
}
