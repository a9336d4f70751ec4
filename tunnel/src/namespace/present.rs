//! A tunnel in the present namespaces, those of a container: what is changed there, and put back.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::resolver::RESOLV_CONF;

/// What a replaced file begins with. The lines below it that begin so too are the file as it was.
const MARK: &str = "# sinfonia-tier3 puts this back when it ends:\n";
const KEPT: &str = "#| ";

/// The stay in the present namespaces; when it ends, its commands end and the resolver's configuration is as before.
pub(super) struct Present {
    /// The interface is ours: no other tunnel is here, which would need the resolver's configuration as it is.
    alone: bool,
}

impl Present {
    /// Orphans of commands become children of this process, to be ended with it; and what a terminal or an engine sends to all
    /// of a container does not end this one, as it would not end process 1 of a namespace. Commands get an empty mask.
    pub(super) fn enter() -> io::Result<Self> {
        prctl::set_child_subreaper(true)?;
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGTSTP] {
            signals.add(signal);
        }
        signals.thread_block()?;
        Ok(Self { alone: false })
    }

    /// With the interface made: puts back what a tunnel that was killed has left, so that its resolver is not asked any more.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.alone = true;
        restore()
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        // Each round ends those whom the one before orphaned.
        while let Some(children) = children().filter(|children| !children.is_empty()) {
            for child in children {
                let _ = kill(child, Signal::SIGKILL);
                let _ = waitpid(child, None);
            }
        }
        if self.alone
            && let Err(error) = restore()
        {
            tracing::warn!(%error, "{RESOLV_CONF} stays as the tunnel needed it");
        }
    }
}

/// Processes whose parent is this one (proc_pid_task(5)).
fn children() -> Option<Vec<Pid>> {
    let list = fs::read_to_string("/proc/thread-self/children").ok()?;
    Some(list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect())
}

/// Writes the resolver's configuration into the file that is there: an engine has mounted it, for all that share this
/// network namespace, and another file would not be theirs.
pub(super) fn replace_resolv_conf(text: &str) -> io::Result<()> {
    let before = original(&fs::read_to_string(RESOLV_CONF)?);
    write_over(Path::new(RESOLV_CONF), &replacement(&before, text))
}

fn restore() -> io::Result<()> {
    let present = match fs::read_to_string(RESOLV_CONF) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        present => present?,
    };
    // Somebody else's is not ours to change.
    if present.starts_with(MARK) { write_over(Path::new(RESOLV_CONF), &original(&present)) } else { Ok(()) }
}

/// Makes this the content of the file that is there, which is never empty or cut meanwhile: an engine that kills a container
/// kills its processes one after the other, this one at any instant.
fn write_over(path: &Path, text: &str) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    let mut bytes = text.as_bytes().to_vec();
    // Blank lines in the place of what was longer, in one write, and only then the right length.
    bytes.resize(bytes.len().max(usize::try_from(file.metadata()?.len()).unwrap_or_default()), b'\n');
    file.write_all_at(&bytes, 0)?;
    file.set_len(text.len() as u64)
}

/// The file for the time of the tunnel. It holds what it replaces, so that not even a crash loses that.
fn replacement(before: &str, text: &str) -> String {
    let kept: String = before.lines().map(|line| format!("{KEPT}{line}\n")).collect();
    format!("{MARK}{kept}{text}")
}

/// The file as it was before any tunnel.
fn original(present: &str) -> String {
    match present.strip_prefix(MARK) {
        Some(rest) => rest.lines().map_while(|line| line.strip_prefix(KEPT)).map(|line| format!("{line}\n")).collect(),
        None => present.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_comes_back() {
        let before = "nameserver 192.0.2.1\nsearch example\n";
        let during = replacement(before, "nameserver 10.0.0.1\n");
        assert!(during.ends_with("nameserver 10.0.0.1\n"));
        assert!(during.lines().filter(|line| !line.starts_with('#')).eq(["nameserver 10.0.0.1"]));
        assert_eq!(original(&during), before);
        assert_eq!(original(before), before);
    }

    #[test]
    fn files_are_written_over_whatever_their_length() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["long enough\n", "short\n", "", "longer than all before\n"] {
            write_over(file.path(), text).unwrap();
            assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
        }
    }

    #[test]
    fn after_a_crash_the_first_is_remembered() {
        let crashed = replacement("nameserver 192.0.2.1\n", "nameserver 10.0.0.1\n");
        let again = replacement(&original(&crashed), "nameserver 10.0.0.2\n");
        assert_eq!(original(&again), "nameserver 192.0.2.1\n");
        assert!(!again.contains("10.0.0.1"));
    }
}
