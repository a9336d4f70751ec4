//! What a test made and what is left of it: process groups, and the files of runs that were killed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::process::signal;

/// Begins the names of all worlds' directories.
pub(crate) const PREFIX: &str = "sinfonia-test-";

const GROUPS: &str = "process-groups";

/// Remembers a process group in the world's directory, for the next run if this one is killed.
pub(crate) fn remember(world: &Path, group: u32) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(world.join(GROUPS)).unwrap();
    writeln!(file, "{group} {}", start_time(group).unwrap_or_default()).unwrap();
}

/// The processes that are left of a group, by number and name.
pub(crate) fn processes(groups: &[u32]) -> Vec<(u32, String)> {
    let of_group = living().filter(|(_, stat)| groups.contains(&stat.group));
    of_group.map(|(pid, stat)| (pid, stat.name)).collect()
}

/// The living processes that a process has started.
pub fn children(parent: u32) -> Vec<u32> {
    living().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| pid).collect()
}

/// The living processes in a network namespace, given as `/proc/<pid>/ns/net` links to it.
pub fn processes_in(network: &Path) -> Vec<u32> {
    let is_in = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|link| link == network);
    living().map(|(pid, _)| pid).filter(is_in).collect()
}

fn living() -> impl Iterator<Item = (u32, Stat)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).filter(|(_, stat)| !matches!(stat.state, 'Z' | 'X'))
}

/// Ends what earlier runs of this user left when they were killed.
pub(crate) fn remove_stale(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(owner) else { continue };
        // What another user made may say anything.
        let is_own = entry.metadata().is_ok_and(|metadata| metadata.uid() == geteuid().as_raw());
        if !is_own || Path::new(&format!("/proc/{owner}")).exists() {
            continue;
        }
        for (group, start) in recorded(&entry.path()) {
            // The number may be somebody else's by now.
            if group > 1 && start_time(group).is_some_and(|now| now == start) {
                signal(-group.cast_signed(), Signal::SIGKILL);
            }
        }
        let _ = fs::remove_dir_all(entry.path());
    }
}

fn owner(rest: &str) -> Option<u32> {
    rest.split('-').next()?.parse().ok()
}

fn recorded(world: &Path) -> Vec<(u32, u64)> {
    let text = fs::read_to_string(world.join(GROUPS)).unwrap_or_default();
    let pair = |line: &str| {
        let (group, start) = line.split_once(' ')?;
        Some((group.parse().ok()?, start.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn start_time(pid: u32) -> Option<u64> {
    Stat::of(pid).map(|stat| stat.start)
}

/// What is needed of /proc/pid/stat (proc_pid_stat(5)).
struct Stat {
    name: String,
    state: char,
    parent: u32,
    group: u32,
    start: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Self {
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }
}
