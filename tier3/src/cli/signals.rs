//! Signals, by a descriptor: who sent one decides what becomes of it.

use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use tokio::sync::mpsc::UnboundedReceiver;

/// Of the thread that only reads, bytes.
const STACK: usize = 64 * 1024;

/// What ends a process, or tells it something, by convention.
const CAUGHT: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// Keeps signals from acting on this thread, and on those it starts, until [`Signals`] takes them. Those that were
/// ignored when the program started (nohup) stay so.
pub(crate) fn block() -> io::Result<SigSet> {
    let ignored = ignored()?;
    let caught: SigSet = CAUGHT.into_iter().filter(|signal| ignored & (1 << (*signal as i32 - 1)) == 0).collect();
    caught.thread_block()?;
    Ok(caught)
}

/// The bits of the signals that this process ignores (proc_pid_status(5)).
fn ignored() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
    u64::from_str_radix(mask.trim(), 16).map_err(io::Error::other)
}

/// One signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) number: i32,
    /// From the terminal, which sends it to the application as well.
    pub(crate) from_terminal: bool,
}

/// Where blocked signals arrive.
#[derive(Debug)]
pub(crate) struct Signals(UnboundedReceiver<Arrived>);

impl Signals {
    /// Takes the signals that [`block`] blocked. The thread that reads them ends with the process.
    pub(crate) fn open(caught: &SigSet) -> io::Result<Self> {
        let descriptor = SignalFd::with_flags(caught, SfdFlags::SFD_CLOEXEC)?;
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let read = move || {
            loop {
                match descriptor.read_signal() {
                    Ok(Some(info)) if sender.send(arrived(&info)).is_err() => break,
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => {
                        tracing::warn!(%error, "signals are no longer passed on");
                        break;
                    }
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(read)?;
        Ok(Self(receiver))
    }

    /// The next signal; never if they cannot be read any more, so that the application goes on.
    pub(crate) async fn next(&mut self) -> Arrived {
        match self.0.recv().await {
            Some(arrived) => arrived,
            None => std::future::pending().await,
        }
    }
}

fn arrived(info: &siginfo) -> Arrived {
    let number = i32::try_from(info.ssi_signo).unwrap_or_default();
    // The kernel sends these two for keys only; SIGHUP it may send to a session's leader alone.
    let key = matches!(number, libc::SIGINT | libc::SIGQUIT);
    Arrived { number, from_terminal: key && info.ssi_code == libc::SI_KERNEL }
}

/// The terminal as it was before the application ran, if the application took it and is gone.
#[derive(Debug)]
pub(crate) struct Terminal {
    group: nix::unistd::Pid,
}

impl Terminal {
    /// The controlling terminal on standard input, if this program is in its foreground.
    pub(crate) fn in_foreground() -> Option<Self> {
        let group = nix::unistd::getpgrp();
        (nix::unistd::tcgetpgrp(io::stdin()) == Ok(group)).then_some(Self { group })
    }

    /// Brings this program back to the foreground when nobody else is there: a shell in the namespace cannot name
    /// the process group that was there before it, so it cannot give the terminal back.
    pub(crate) fn reclaim(&self) {
        let orphaned = match nix::unistd::tcgetpgrp(io::stdin()) {
            Ok(group) if group == self.group => false,
            Ok(group) => group.as_raw() <= 0 || nix::sys::signal::killpg(group, None).is_err(),
            Err(_) => false,
        };
        if !orphaned {
            return;
        }
        // Not to be stopped for touching the terminal from the background.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        let before = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        if let Err(error) = nix::unistd::tcsetpgrp(io::stdin(), self.group) {
            tracing::debug!(%error, "the terminal stays in the background");
        }
        if let Ok(before) = before {
            let _ = before.thread_set_mask();
        }
    }
}
