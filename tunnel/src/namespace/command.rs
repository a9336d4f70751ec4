//! Starting a command in the namespace, with no more rights than its owner has outside.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use caps::CapSet;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::{Pid, geteuid, getpid, setpgid, tcsetpgrp};

use super::Command;

/// Who a boxed command of root's runs as: Debian's `nobody` and `nogroup`, the kernel's overflow ids.
const NOBODY: u32 = 65534;

/// Starts the command; an error when it could not be executed.
pub(super) fn spawn(wanted: &Command, user_namespace: bool, boxed: bool) -> io::Result<Pid> {
    let mut command = std::process::Command::new(&wanted.program);
    command.args(&wanted.args);
    if wanted.clear_env {
        command.env_clear();
    }
    command.envs(&wanted.env);
    if let Some(directory) = &wanted.current_dir {
        command.current_dir(directory);
    }
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    if boxed && geteuid().is_root() && !user_namespace {
        command.uid(NOBODY).gid(NOBODY);
    }
    let foreground = wanted.foreground;
    // SAFETY: the init process has one thread, so its child may allocate and take locks.
    unsafe {
        command.pre_exec(move || {
            if foreground {
                setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
                give_terminal(getpid())?;
            }
            // What the owner and the init loop read from descriptors, the command gets as signals.
            nix::sys::signal::SigSet::empty().thread_set_mask()?;
            if boxed {
                nix::sys::prctl::set_no_new_privs()?;
            }
            if user_namespace {
                drop_capabilities()?;
            }
            Ok(())
        });
    }
    // Reaped by the init loop with every other process of the namespace.
    let child = command.spawn().map_err(|error| not_in_path(wanted, error))?;
    Ok(Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?))
}

/// Makes a process group the one that the terminal's keys act on, from the background too.
pub(super) fn give_terminal(group: Pid) -> io::Result<()> {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTTOU);
    let before = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let given = tcsetpgrp(io::stdin(), group);
    before.thread_set_mask()?;
    Ok(given?)
}

/// execvp(3) says "permission denied" as soon as one directory of `PATH` cannot be searched, although the command is
/// in none of the others.
fn not_in_path(wanted: &Command, error: io::Error) -> io::Error {
    let path = wanted.env.get(OsStr::new("PATH")).cloned().or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let looked_up = error.kind() == io::ErrorKind::PermissionDenied && !wanted.program.as_bytes().contains(&b'/');
    if looked_up && !std::env::split_paths(&path).any(|directory| directory.join(&wanted.program).exists()) {
        return io::Error::from_raw_os_error(nix::libc::ENOENT);
    }
    error
}

/// Gives up what the user namespace gave: without the bounding set not even its root gets anything back on exec.
fn drop_capabilities() -> io::Result<()> {
    for set in [CapSet::Ambient, CapSet::Bounding, CapSet::Inheritable] {
        caps::clear(None, set).map_err(io::Error::other)?;
    }
    Ok(())
}
