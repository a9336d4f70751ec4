//! One run of the helm program.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

use super::{HelmError, guard};

/// How much of an answer is kept, bytes: a release as JSON holds its chart (at most 1 MiB compressed) and its objects.
const OUTPUT_LIMIT: usize = 64 << 20;

/// How much of the complaints is kept, bytes: the end, where the error is.
const COMPLAINTS_LIMIT: usize = 64 << 10;

/// How Helm is started.
pub(super) struct Runner {
    pub(super) program: PathBuf,
    pub(super) guard: PathBuf,
    /// The whole environment.
    pub(super) environment: Vec<(&'static str, OsString)>,
}

/// Why a run gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The system's words.
    NotStarted(String),
    /// It was killed because it took too long.
    TimeLimit,
    /// Somebody else killed it, with this signal.
    Killed(i32),
    /// What Helm wrote.
    Refused(String),
}

impl Runner {
    /// Runs Helm to its end and returns what it wrote. Dropping the future kills it.
    pub(super) async fn run(&self, arguments: &[OsString], limit: Duration) -> Result<Vec<u8>, Failure> {
        let not_started = |error: std::io::Error| Failure::NotStarted(error.to_string());
        let mut child = Command::new(&self.guard)
            .arg0(guard::NAME)
            .arg(std::process::id().to_string())
            .arg(&self.program)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(not_started)?;
        let mut group = Group(child.id());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (output, complaints) = tokio::join!(read_end(stdout, OUTPUT_LIMIT), read_end(stderr, COMPLAINTS_LIMIT));
            (child.wait().await, output, complaints)
        };
        let (status, output, complaints) = tokio::time::timeout(limit, work).await.map_err(|_| Failure::TimeLimit)?;
        group.0 = None;
        let status = status.map_err(not_started)?;
        if status.success() {
            return Ok(output);
        }
        if let Some(signal) = status.signal() {
            return Err(Failure::Killed(signal));
        }
        let complaints = String::from_utf8_lossy(&complaints).into_owned();
        Err(match complaints.strip_prefix(guard::NOT_STARTED) {
            Some(reason) => Failure::NotStarted(reason.trim().to_owned()),
            None => Failure::Refused(complaints),
        })
    }
}

/// Kills a process with all its children, unless it has ended.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// Reads to the end and keeps the last bytes.
async fn read_end(pipe: Option<impl AsyncRead + Unpin>, limit: usize) -> Vec<u8> {
    let Some(mut pipe) = pipe else { return Vec::new() };
    let mut kept = Vec::new();
    while let Ok(1..) = pipe.read_buf(&mut kept).await {
        if kept.len() > 2 * limit {
            kept.drain(..kept.len() - limit);
        }
    }
    kept.drain(..kept.len().saturating_sub(limit));
    kept
}

/// The program's absolute path.
pub(super) fn find(program: &Path) -> Result<PathBuf, HelmError> {
    let found = if program.components().count() > 1 {
        executable(program).then(|| program.to_owned())
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| executable(file))
    };
    let missing = |reason: &OsStr| HelmError::Missing {
        program: program.display().to_string(),
        reason: reason.display().to_string(),
    };
    let found = found.ok_or_else(|| missing(OsStr::new("there is no such program")))?;
    std::path::absolute(found).map_err(|error| missing(OsStr::new(&error.to_string())))
}

fn executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::helm::testing::runner;

    fn arguments(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn only_the_given_environment_is_passed() {
        let output = runner().run(&arguments(&["environment"]), LONG).await.unwrap();
        let names: Vec<_> =
            std::str::from_utf8(&output).unwrap().lines().filter_map(|line| line.split_once('=')).collect();
        // The shell adds what it keeps for itself.
        let own = |name: &str| !["PWD", "SHLVL", "_", "OLDPWD"].contains(&name);
        assert_eq!(names.into_iter().filter(|(name, _)| own(name)).collect::<Vec<_>>(), [("GIVEN", "1")]);
    }

    #[tokio::test]
    async fn complaints_and_missing_programs_are_told_apart() {
        let failure = runner().run(&arguments(&["complain"]), LONG).await.unwrap_err();
        assert!(matches!(&failure, Failure::Refused(words) if words == "Error: no\n"), "{failure:?}");
        let failure = runner().run(&arguments(&["die"]), LONG).await.unwrap_err();
        assert!(matches!(failure, Failure::Killed(9)), "{failure:?}");
        let nowhere = Runner { guard: "/nowhere/guard".into(), ..runner() };
        let failure = nowhere.run(&[], LONG).await.unwrap_err();
        assert!(matches!(failure, Failure::NotStarted(_)), "{failure:?}");
        let failure = runner().run(&arguments(&["not-started"]), LONG).await.unwrap_err();
        assert!(matches!(&failure, Failure::NotStarted(reason) if reason == "no such file"), "{failure:?}");
    }

    #[tokio::test]
    async fn the_time_limit_ends_its_children_too() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("alive");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // The open waits for the child, which holds the other end as long as it lives.
        let reading = {
            let fifo = fifo.clone();
            tokio::task::spawn_blocking(move || std::fs::read(fifo))
        };
        let program = runner();
        let arguments = [OsString::from("hang"), fifo.into()];
        let failure = program.run(&arguments, Duration::from_millis(500)).await.unwrap_err();
        assert!(matches!(failure, Failure::TimeLimit), "{failure:?}");
        assert_eq!(reading.await.unwrap().unwrap(), b"");
    }

    #[tokio::test]
    async fn the_last_bytes_are_kept() {
        let mut input: Vec<u8> = vec![b'x'; 100_000];
        input.extend(b"the end");
        assert_eq!(read_end(Some(&input[..]), 7).await, b"the end");
        assert_eq!(read_end(None::<&[u8]>, 7).await, b"");
    }
}
