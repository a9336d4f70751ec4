//! What a test made and what is left of it: process groups, and the files of runs that were killed.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

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
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(stat) = Stat::of(pid)
            && groups.contains(&stat.group)
            && !matches!(stat.state, 'Z' | 'X')
        {
            found.push((pid, stat.name));
        }
    }
    found
}

/// Ends what earlier runs of this user left when they were killed.
pub(crate) fn remove_stale(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(owner) else { continue };
        if Path::new(&format!("/proc/{owner}")).exists() {
            continue;
        }
        for (group, start) in recorded(&entry.path()) {
            // The number may be somebody else's by now.
            if start_time(group).is_some_and(|now| now == start) {
                signal(&format!("-{group}"), "KILL");
            }
        }
        let _ = fs::remove_dir_all(entry.path());
    }
}

fn owner(rest: &str) -> Option<u32> {
    rest.split('-').next()?.parse().ok()
}

fn recorded(world: &PathBuf) -> Vec<(u32, u64)> {
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
            group: fields.get(2)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }
}
