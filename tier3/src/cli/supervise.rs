//! The time in which the application runs.

use std::ffi::OsString;

use sinfonia_tier3::{Command, Error, Exit, Tunnel};

use super::signals::Signals;
use super::terminal::Terminal;

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
        tokio::select! {
            exit = &mut exited => return Ok(exit),
            signal = signals.next() => if !signal.from_terminal {
                tunnel.namespace().signal(signal.number);
            },
            () = tunnel.namespace().stopped() => if let Some(terminal) = &mut terminal {
                let foreground = terminal.stop_as_well().await;
                tunnel.namespace().resume(foreground);
            },
        }
    }
}
