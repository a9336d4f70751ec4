//! Signals: who sent one decides what becomes of it.

use std::collections::BTreeSet;
use std::io;

use nix::libc;
use nix::sys::prctl;
use nix::unistd::{Pid, getpid};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level;
use signal_hook::low_level::siginfo::{Cause, Origin};
use tokio::sync::mpsc::UnboundedReceiver;

/// What ends a process, or tells it something, by convention.
const CAUGHT: [libc::c_int; 7] =
    [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGCONT];

/// Of the thread that only passes signals on, bytes.
const STACK: usize = 64 * 1024;

/// One signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) number: i32,
    /// From the terminal, which sends it to the application as well.
    pub(crate) from_terminal: bool,
}

/// Where signals arrive, except those that were ignored when the program started (nohup): they stay so.
#[derive(Debug)]
pub(crate) struct Signals {
    receiver: UnboundedReceiver<Arrived>,
    keys: BTreeSet<i32>,
}

impl Signals {
    /// From now on signals do nothing but arrive here. Programs that this one executes have them as usual.
    pub(crate) fn catch() -> io::Result<Self> {
        let ignored = ignored()?;
        let caught = CAUGHT.iter().filter(|number| ignored & (1 << (**number - 1)) == 0);
        let mut signals = SignalsInfo::<WithOrigin>::new(caught)?;
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let pass_on = move || {
            for origin in &mut signals {
                if sender.send(arrived(&origin)).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(pass_on)?;
        Ok(Self { receiver, keys: BTreeSet::new() })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Arrived {
        match self.receiver.recv().await {
            Some(arrived) => self.noted(arrived),
            None => std::future::pending().await,
        }
    }

    /// Whether this signal has arrived from the terminal; what is still to be taken is taken.
    pub(crate) fn had_key(&mut self, number: i32) -> bool {
        while let Ok(arrived) = self.receiver.try_recv() {
            self.noted(arrived);
        }
        self.keys.contains(&number)
    }

    fn noted(&mut self, arrived: Arrived) -> Arrived {
        self.keys.extend(arrived.from_terminal.then_some(arrived.number));
        arrived
    }

    /// The next signal that asks to end, or says something: not that which only continues.
    pub(crate) async fn ending(&mut self) -> Arrived {
        loop {
            let signal = self.next().await;
            if signal.number != libc::SIGCONT {
                return signal;
            }
        }
    }
}

/// The bits of the signals that this process ignores (proc_pid_status(5)).
fn ignored() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
    u64::from_str_radix(mask.trim(), 16).map_err(io::Error::other)
}

fn arrived(origin: &Origin) -> Arrived {
    Arrived { number: origin.signal, from_terminal: is_key(origin.signal) && origin.cause == Cause::Kernel }
}

/// The kernel sends these two for keys only; SIGHUP it may send to a session's leader alone.
pub(crate) fn is_key(number: i32) -> bool {
    matches!(number, libc::SIGINT | libc::SIGQUIT)
}

/// Ends this program as the signal does when nobody catches it; returns where that does nothing.
pub(crate) fn die_of(number: i32) {
    // Process 1, in a container, is spared its own signals.
    if getpid() == Pid::from_raw(1) {
        return;
    }
    // Its memory is of no use to anybody, and holds keys.
    let _ = prctl::set_dumpable(false);
    if let Err(error) = low_level::emulate_default_handler(number) {
        tracing::debug!(%error, "not ended by the signal");
    }
}
