//! The terminal, which the application gets for itself and gives back.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The kernel stops a process group at once, unless nobody is there who could continue it.
const STOPPING: Duration = Duration::from_millis(50);

/// The terminal that the application has as a job of its own, with this program's process group for its way back.
///
/// Only if all three standard streams are that terminal: in a pipeline the application stays in the process group
/// that it shares with its neighbours.
#[derive(Debug)]
pub(crate) struct Terminal {
    group: Pid,
    lent: bool,
}

impl Terminal {
    /// The controlling terminal, if this program is in its foreground and talks to nothing else.
    pub(crate) fn in_foreground() -> Option<Self> {
        let alone = io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal();
        let group = getpgrp();
        (alone && is_foreground(group)).then_some(Self { group, lent: true })
    }

    /// Whether the application has the terminal, or had it until it stopped.
    pub(crate) fn is_lent(&self) -> bool {
        self.lent
    }

    /// True if the shell brought this program back to the foreground: then the application is to be continued there.
    pub(crate) fn lend_again(&mut self) -> bool {
        let back = !self.lent && is_foreground(self.group);
        self.lent |= back;
        back
    }

    /// Sends to the others in this program's group what a key sent to the application, which only that one got.
    pub(crate) fn pass_on_key(&self, number: i32) {
        let sent = Signal::try_from(number).and_then(|signal| killpg(self.group, signal));
        if let Err(error) = sent {
            tracing::debug!(%error, "the key is not passed on");
        }
    }

    /// The application has stopped: stops this program's whole group, so that the shell outside has the terminal, and
    /// returns when it is continued; true if that was in the foreground.
    pub(crate) async fn stop_as_well(&mut self) -> bool {
        self.reclaim();
        if let Err(error) = killpg(self.group, Signal::SIGTSTP) {
            tracing::debug!(%error, "not stopped");
        }
        tokio::time::sleep(STOPPING).await;
        self.lent = is_foreground(self.group);
        self.lent
    }

    /// Brings this program back to the foreground from which the application took it.
    pub(crate) fn reclaim(&self) {
        if !self.lent {
            return;
        }
        // Not to be stopped for touching the terminal from the background.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        let before = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        if let Err(error) = tcsetpgrp(io::stdin(), self.group) {
            tracing::debug!(%error, "the terminal stays in the background");
        }
        if let Ok(before) = before {
            let _ = before.thread_set_mask();
        }
    }
}

fn is_foreground(group: Pid) -> bool {
    tcgetpgrp(io::stdin()) == Ok(group)
}
