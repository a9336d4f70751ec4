//! Time that processes were busy.

use procfs::process::{Process, Stat, all_processes};

/// Seconds of a process, in user and kernel mode.
pub(crate) fn seconds(process: &Process) -> f64 {
    own(&process.stat().unwrap())
}

/// Seconds of a process, its children, and those of its children that have ended.
pub(crate) fn seconds_with_children(parent: u32) -> f64 {
    let parent = i32::try_from(parent).unwrap();
    let stats = all_processes().unwrap().flatten().filter_map(|process| process.stat().ok());
    let seconds = stats.map(|stat| match stat {
        stat if stat.pid == parent => own(&stat) + ticks(stat.cutime + stat.cstime),
        stat if stat.ppid == parent => own(&stat),
        _ => 0.0,
    });
    seconds.sum()
}

fn own(stat: &Stat) -> f64 {
    ticks(i64::try_from(stat.utime + stat.stime).unwrap())
}

fn ticks(count: i64) -> f64 {
    count as f64 / procfs::ticks_per_second() as f64
}
