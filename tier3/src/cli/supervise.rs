//! The time in which the application runs.

use std::ffi::OsString;
use std::time::Duration;

use nix::libc;
use sinfonia_tier3::{Command, Error, Exit, Tunnel};

use super::signals::Signals;
use super::terminal::Terminal;

/// How often a program in the background looks whether it still is there: a shell that brings a running job back says nothing.
const LOOK: Duration = Duration::from_millis(100);

/// Starts the application and passes on what is meant for it until it ends.
pub(crate) async fn supervise(
    tunnel: &Tunnel,
    words: &[OsString],
    signals: &mut Signals,
    mut terminal: Option<&mut Terminal>,
) -> Result<Exit, Error> {
    let (program, args) =
        words.split_first().map_or_else(Default::default, |(first, rest)| (first.clone(), rest.to_vec()));
    tunnel.start(Command { program, args, foreground: terminal.is_some(), ..Command::default() }).await?;
    // From here on the application is what counts.
    sinfonia_tunnel::release_code();
    let exited = tunnel.namespace().exited();
    tokio::pin!(exited);
    loop {
        let in_background = terminal.as_ref().is_some_and(|terminal| !terminal.is_lent());
        tokio::select! {
            exit = &mut exited => return Ok(exit),
            signal = signals.next() => {
                // The application, in another group, has not got the key by which this program learns that it is back.
                let is_back = lend_again(tunnel, terminal.as_deref_mut());
                if signal.number != libc::SIGCONT && (is_back || !signal.from_terminal) {
                    tunnel.namespace().signal(signal.number);
                }
            }
            () = tunnel.namespace().stopped() => {
                // In the foreground again it only wanted the terminal.
                if !lend_again(tunnel, terminal.as_deref_mut()) && let Some(terminal) = &mut terminal {
                    let foreground = terminal.stop_as_well().await;
                    tunnel.namespace().resume(foreground);
                }
            }
            () = tokio::time::sleep(LOOK), if in_background => {
                lend_again(tunnel, terminal.as_deref_mut());
            }
        }
    }
}

/// Gives the application the terminal if a shell has brought this program back to the foreground; true if so.
fn lend_again(tunnel: &Tunnel, terminal: Option<&mut Terminal>) -> bool {
    let is_back = terminal.is_some_and(Terminal::lend_again);
    if is_back {
        tunnel.namespace().resume(true);
    }
    is_back
}
