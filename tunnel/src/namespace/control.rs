//! The owner's end of the socket to a helper: requests and their answers, and news of the command.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::Stdio as ProcessStdio;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::message::{Failure, Reply, Request, receive, send};
use super::{CLOSING, Exit, NamespaceError, NamespaceOptions, Stdio, helper};

/// The helper's steps take milliseconds; more means that it hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

type Answer = Result<Option<OwnedFd>, Failure>;

#[derive(Debug)]
pub(super) struct Control {
    socket: Arc<AsyncFd<OwnedFd>>,
    answers: Mutex<Answers>,
    exit: watch::Receiver<Option<Exit>>,
    stops: Arc<Notify>,
    reader: JoinHandle<()>,
    /// The helper leaves traces unless it is waited for.
    awaited: bool,
}

/// What the helper answers, in the order in which it was asked.
#[derive(Debug)]
struct Answers {
    receiver: mpsc::Receiver<Answer>,
    /// How many are still to come, also those that nobody waits for any more.
    unanswered: usize,
}

/// Starts a helper process; its socket, its handle, and the pipe of its output if that is captured.
pub(super) fn start_helper(options: &NamespaceOptions) -> Result<(Control, Child, Option<OwnedFd>), NamespaceError> {
    let failed = NamespaceError::Helper;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|errno| failed(errno.into()))?;
    nix::fcntl::fcntl(&ours, nix::fcntl::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| failed(errno.into()))?;
    let mut command = match &options.helper {
        Some(path) => Command::new(path),
        None => Command::new("/proc/self/exe"),
    };
    command.arg0(helper::NAME).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        // What its owner identifies itself with is not the application's.
        if is_token(&name) {
            command.env_remove(name);
        }
    }
    let output = match options.stdio {
        Stdio::Inherit => None,
        Stdio::Capture => {
            let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
            let again = write.try_clone().map_err(failed)?;
            command.stdin(ProcessStdio::null()).stdout(write).stderr(again);
            Some(read)
        }
    };
    let socket = theirs.as_raw_fd();
    // SAFETY: dup2, fcntl and pthread_sigmask are async-signal-safe (signal-safety(7)), and `theirs` is open until after the spawn.
    unsafe {
        command.pre_exec(move || {
            // Until the helper ignores what a terminal sends to all of a group. Its command gets an empty mask.
            helper::terminal_signals().thread_block()?;
            pass_socket(socket)
        });
    }
    let child = command.spawn().map_err(failed)?;
    let control = Control::new(ours, options.present).map_err(failed)?;
    Ok((control, child, output))
}

/// Whether an environment variable is one of Sinfonia's that hold tokens.
fn is_token(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("SINFONIA_") && name.ends_with("TOKEN"))
}

/// Puts the helper's end where it looks for it, open across exec.
fn pass_socket(socket: RawFd) -> io::Result<()> {
    use nix::libc;
    // SAFETY: plain system calls on a descriptor that is open in this process.
    let result = unsafe {
        if socket == helper::CONTROL {
            libc::fcntl(socket, libc::F_SETFD, 0)
        } else {
            libc::dup2(socket, helper::CONTROL)
        }
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}

impl Answers {
    /// The answer to what was asked last; those before it are dropped.
    async fn last(&mut self) -> Option<Answer> {
        loop {
            let answer = self.receiver.recv().await?;
            self.unanswered -= 1;
            if self.unanswered == 0 {
                return Some(answer);
            }
        }
    }
}

impl Control {
    fn new(socket: OwnedFd, awaited: bool) -> io::Result<Self> {
        // SAFETY: an OwnedFd keeps its descriptor open, and the same, until it is dropped.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(io::Error::from)?;
        let socket = Arc::new(socket);
        let (answers, receiver) = mpsc::channel(1);
        let (exit, watcher) = watch::channel(None);
        let stops = Arc::<Notify>::default();
        let reader = tokio::spawn(read(socket.clone(), answers, exit, stops.clone()));
        let answers = Mutex::new(Answers { receiver, unanswered: 0 });
        Ok(Self { socket, answers, exit: watcher, stops, reader, awaited })
    }

    /// Asks, and waits for the answer: a descriptor if one came with it. `program` is what a spawn starts.
    pub(super) async fn call(
        &self,
        request: &Request,
        program: Option<&str>,
    ) -> Result<Option<OwnedFd>, NamespaceError> {
        let mut answers = self.answers.lock().await;
        send(self.socket.as_raw_fd(), request, None).map_err(|_| NamespaceError::HelperLost)?;
        // It stays so for the next call, should this one be given up.
        answers.unanswered += 1;
        match tokio::time::timeout(ANSWER_LIMIT, answers.last()).await {
            Ok(Some(Ok(attached))) => Ok(attached),
            Ok(Some(Err(failure))) => Err(NamespaceError::from_failure(failure, program)),
            Ok(None) => Err(NamespaceError::HelperLost),
            Err(_) => Err(NamespaceError::HelperSilent(ANSWER_LIMIT.as_secs())),
        }
    }

    /// Says something that is not answered.
    pub(super) fn tell(&self, request: &Request) {
        if let Err(error) = send(self.socket.as_raw_fd(), request, None) {
            tracing::debug!(%error, "namespace helper is gone");
        }
    }

    /// Tells the helper to clean up and end; it closes its end last.
    pub(super) fn hang_up(&self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
    }

    /// Blocks until the helper has ended, for who cannot await it: milliseconds, unless it hangs.
    fn wait_for_end(&self) {
        let mut ended = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let limit = PollTimeout::try_from(CLOSING).unwrap_or(PollTimeout::ZERO);
        match poll(&mut ended, limit) {
            Ok(1) => {}
            result => tracing::warn!(?result, "a namespace helper did not end in time"),
        }
    }

    pub(super) async fn stopped(&self) {
        self.stops.notified().await;
    }

    pub(super) async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::HelperLost),
            Err(_) => Exit::HelperLost,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The reader holds the socket too.
        self.reader.abort();
        self.hang_up();
        if self.awaited {
            self.wait_for_end();
        }
    }
}

/// Sorts what the helper says into answers and news, until it hangs up.
async fn read(
    socket: Arc<AsyncFd<OwnedFd>>,
    answers: mpsc::Sender<Answer>,
    exit: watch::Sender<Option<Exit>>,
    stops: Arc<Notify>,
) {
    loop {
        let message = socket.async_io(Interest::READABLE, |fd| receive::<Reply>(fd.as_raw_fd())).await;
        let answer = match message {
            Ok(Some((Reply::Done, attached))) => Ok(attached),
            Ok(Some((Reply::Failed(failure), _))) => Err(failure),
            Ok(Some((Reply::Exited(how), _))) => {
                exit.send_replace(Some(how));
                continue;
            }
            Ok(Some((Reply::Stopped, _))) => {
                stops.notify_one();
                continue;
            }
            Ok(Some((Reply::Warned(text), _))) => {
                tracing::warn!("{text}");
                continue;
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%error, "namespace helper");
                break;
            }
        };
        if answers.send(answer).await.is_err() {
            break;
        }
    }
    exit.send_if_modified(|known| known.is_none() && known.replace(Exit::HelperLost).is_none());
}
