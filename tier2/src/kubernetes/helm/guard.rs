//! Lets Helm die with the process that started it, even if that is killed.
//!
//! Between the two stands, for an instant, this same executable under another name: it asks the kernel to be killed with
//! its parent and then becomes Helm. A Helm that outlived its operator would go on to change the cluster beside the
//! operator that takes over.

use std::{
    env::ArgsOs,
    ffi::OsStr,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::Command,
};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::getppid,
};

/// The name by which an executable knows that it was started as the guard.
pub(super) const NAME: &str = "sinfonia-helm";

/// What the guard writes first when it cannot become Helm.
pub(super) const NOT_STARTED: &str = "sinfonia-helm: not started: ";

/// Turns this process into Helm if it was started as its guard, and then never returns. To be called first in `main`,
/// before any thread is started.
pub fn run_if_invoked() {
    let mut arguments = std::env::args_os();
    if arguments.next().as_deref() == Some(OsStr::new(NAME)) {
        let error = run(arguments);
        let _ = writeln!(io::stderr(), "{NOT_STARTED}{error}");
        // This process never was the program whose `main` this is.
        std::process::exit(127);
    }
}

/// The parent's process id, the program and its arguments are what follows the name.
fn run(mut arguments: ArgsOs) -> io::Error {
    let parent = arguments.next().and_then(|id| id.to_str()?.parse::<i32>().ok());
    let (Some(parent), Some(program)) = (parent, arguments.next()) else {
        return io::ErrorKind::InvalidInput.into();
    };
    if let Err(errno) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return errno.into();
    }
    // It may have died before the kernel was asked.
    if getppid().as_raw() != parent {
        return io::Error::other("its parent has ended");
    }
    Command::new(program).args(arguments).exec()
}
