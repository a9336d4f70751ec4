//! The helper: a fresh process that makes the namespaces, and in them a minimal init.
//!
//! It is spawned rather than forked, because the program it serves has threads. The first process leaves its
//! namespaces and waits; its child is process 1 of the new PID namespace, so that everything in it ends with it.
//! It ends when the owner's end of the socket closes, however the owner died.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, killpg, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid};

use super::message::{Failure, Reply, Request, Stage, Start, receive, send};
use super::present::Present;
use super::setup::Setup;
use super::{Exit, SocketKind, command, mounts};
use crate::memory::release_code;
use crate::plan::NetworkPlan;
use crate::tun::Tun;

/// The name by which an executable knows that it was started as a helper.
pub(super) const NAME: &str = "sinfonia-netns";

const NAME_C: &CStr = c"sinfonia-netns";

/// The descriptor at which the helper finds its end of the socket pair.
pub(super) const CONTROL: RawFd = 3;

/// Turns this process into a namespace helper if it was started as one, and then never returns.
///
/// [`Namespace::create`](super::Namespace::create) starts the present executable again by default, so a program that
/// uses it calls this first thing in `main`, before it starts a thread.
pub fn run_if_invoked() {
    if std::env::args_os().next().as_deref() == Some(OsStr::new(NAME)) {
        // This process never was the program whose `main` this is.
        std::process::exit(i32::from(run() != ExitCode::SUCCESS));
    }
}

/// The helper's own `main`.
#[must_use]
pub fn run() -> ExitCode {
    // What ps(1) and top(1) show would otherwise be the end of /proc/self/exe.
    let _ = prctl::set_name(NAME_C);
    let Ok(Some((Request::Start(start), _))) = receive(CONTROL) else {
        return ExitCode::FAILURE;
    };
    let entered = if start.present { Ok(false) } else { enter_namespaces() };
    match entered {
        Ok(user_namespace) => in_new_namespaces(&start, user_namespace),
        Err(failure) => {
            let _ = send(CONTROL, &Reply::Failed(failure), None);
            ExitCode::FAILURE
        }
    }
}

/// Leaves the namespaces of the caller; true when that took a user namespace.
fn enter_namespaces() -> Result<bool, Failure> {
    let others = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    // Root needs no user namespace, and without one keeps its rights to other people's files. Root of a
    // container may lack the capability: then it is a user like any other.
    if geteuid().is_root() && unshare(others).is_ok() {
        return Ok(false);
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(others | CloneFlags::CLONE_NEWUSER).map_err(|errno| Stage::Namespaces.failed(&errno.into()))?;
    // Everybody stays who they are; a group can be mapped only by who cannot change groups (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")))
        .map_err(|error| Stage::UserMapping.failed(&error))?;
    Ok(true)
}

fn in_new_namespaces(start: &Start, user_namespace: bool) -> ExitCode {
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let result = init(start, user_namespace);
            // Leaving process 1 ends every process in the PID namespace, if it has one of its own.
            std::process::exit(i32::from(result.is_err()));
        }
        Ok(ForkResult::Parent { child }) => {
            // Only the child may hold the socket open. What the terminal sends is for the command to decide.
            let _ = nix::unistd::close(CONTROL);
            ignore_terminal_signals();
            release_code();
            while matches!(waitpid(child, None), Err(Errno::EINTR)) {}
            ExitCode::SUCCESS
        }
        Err(errno) => {
            let _ = send(CONTROL, &Reply::Failed(Stage::Namespaces.failed(&errno.into())), None);
            ExitCode::FAILURE
        }
    }
}

/// What the terminal or a shell sends to all of a process group.
pub(super) fn terminal_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM].into_iter().collect()
}

fn ignore_terminal_signals() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in &terminal_signals() {
        // SAFETY: ignoring a signal runs no handler.
        let _ = unsafe { sigaction(signal, &ignore) };
    }
}

/// Process 1 of the PID namespace: does what the owner asks, reaps what dies, until the owner hangs up.
fn init(start: &Start, user_namespace: bool) -> io::Result<()> {
    // The helper must not outlive its parent, nor the parent's death go unseen if it was killed just now.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let control = claim_control()?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    // Undone when this function is left, whatever the reason.
    let mut stay = if start.present { Some(Present::enter()?) } else { None };
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    match prepare(start, stay.as_mut()) {
        Ok(tun) => send(control.as_raw_fd(), &Reply::Done, Some(tun.as_fd()))?,
        Err(failure) => return send(control.as_raw_fd(), &Reply::Failed(failure), None),
    }
    let (boxed, setup) = (start.boxed.is_some(), Setup::new(start.present));
    let mut init = Init { _stay: stay, control, user_namespace, boxed, setup, command: None, foreground: false };
    loop {
        let watched = [init.control.as_fd(), signals.as_fd()].into_iter().chain(init.setup.changes());
        let mut ready: Vec<_> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |index: usize| ready.get(index).and_then(PollFd::any).unwrap_or_default();
        let (asked, died, changed) = (is_ready(0), is_ready(1), is_ready(2));
        if changed && let Some(text) = init.setup.keep_resolver() {
            init.warn(text);
        }
        if died {
            while signals.read_signal()?.is_some() {}
            init.reap()?;
        }
        if asked && !init.answer()? {
            return Ok(());
        }
    }
}

/// The socket as an owned descriptor that the command does not inherit.
fn claim_control() -> io::Result<OwnedFd> {
    // SAFETY: the owner put the socket at this number for this process, which has not used it otherwise.
    let control = unsafe { BorrowedFd::borrow_raw(CONTROL) };
    let owned = control.try_clone_to_owned()?;
    nix::unistd::close(CONTROL)?;
    Ok(owned)
}

/// What needs doing once, before the owner knows of the namespace. The interface's descriptor.
fn prepare(start: &Start, stay: Option<&mut Present>) -> Result<OwnedFd, Failure> {
    if !start.present {
        mounts::isolate(start.boxed.is_some()).map_err(|error| Stage::Mounts.failed(&error))?;
    }
    let tun = Tun::create().map_err(|error| Stage::Tun.failed(&error))?;
    if let Some(stay) = stay {
        stay.begin().map_err(|error| Stage::Configure("put back /etc/resolv.conf".into()).failed(&error))?;
    }
    if start.unprivileged_ports {
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").map_err(|error| Stage::Ports.failed(&error))?;
    }
    if let Some(options) = &start.boxed {
        mounts::enter_box(options)?;
    }
    Ok(tun.into_fd())
}

struct Init {
    // Before the socket, whose end tells the owner that all is undone.
    _stay: Option<Present>,
    control: OwnedFd,
    user_namespace: bool,
    boxed: bool,
    setup: Setup,
    command: Option<Pid>,
    /// The command has a process group of its own, whose stops its owner does not see.
    foreground: bool,
}

impl Init {
    /// Does one thing that the owner asks; false when the owner is gone.
    fn answer(&mut self) -> io::Result<bool> {
        let Some((request, _)) = receive(self.control.as_raw_fd())? else {
            return Ok(false);
        };
        let is_start = matches!(request, Request::Spawn(_));
        let mut attached = None;
        let result = match request {
            Request::Start(_) => Err(Stage::Namespaces.failed(&io::Error::other("already started"))),
            Request::Configure(plan) => self.configure(&plan),
            Request::Socket(kind) => {
                open_socket(kind).map(|fd| attached = Some(fd)).map_err(|errno| Stage::Socket.failed(&errno.into()))
            }
            Request::Spawn(wanted) => command::spawn(&wanted, self.user_namespace, self.boxed)
                .map(|pid| {
                    self.command = Some(pid);
                    self.foreground = wanted.foreground;
                })
                .map_err(|error| Stage::Spawn.failed(&error)),
            Request::Signal(number) => {
                if let (Some(pid), Ok(signal)) = (self.command, Signal::try_from(number)) {
                    let _ = kill(pid, signal);
                }
                return Ok(true);
            }
            Request::Continue { foreground } => {
                if let Some(group) = self.command {
                    if foreground {
                        let _ = command::give_terminal(group);
                    }
                    let _ = killpg(group, Signal::SIGCONT);
                }
                return Ok(true);
            }
        };
        let reply = result.map_or_else(Reply::Failed, |()| Reply::Done);
        send(self.control.as_raw_fd(), &reply, attached.as_ref().map(OwnedFd::as_fd))?;
        if is_start {
            release_code();
        }
        Ok(true)
    }

    fn configure(&mut self, plan: &NetworkPlan) -> Result<(), Failure> {
        let mut warnings = Vec::new();
        let result = self.setup.configure(plan, &mut warnings);
        warnings.into_iter().for_each(|text| self.warn(text));
        result
    }

    /// The owner has a log, unlike this process. When it is gone nobody needs to know.
    fn warn(&self, text: String) {
        let _ = send(self.control.as_raw_fd(), &Reply::Warned(text), None);
    }

    /// Buries the dead: the command's end is news for the owner, orphans' is not.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::Stopped(pid, _)) if self.foreground && self.command == Some(pid) => {
                    send(self.control.as_raw_fd(), &Reply::Stopped, None)?;
                    continue;
                }
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if self.command == Some(pid) {
                self.command = None;
                send(self.control.as_raw_fd(), &Reply::Exited(exit), None)?;
            }
        }
    }
}

fn open_socket(kind: SocketKind) -> Result<OwnedFd, Errno> {
    let (family, kind) = match kind {
        SocketKind::TcpV4 => (AddressFamily::Inet, SockType::Stream),
        SocketKind::TcpV6 => (AddressFamily::Inet6, SockType::Stream),
        SocketKind::UdpV4 => (AddressFamily::Inet, SockType::Datagram),
        SocketKind::UdpV6 => (AddressFamily::Inet6, SockType::Datagram),
    };
    socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

const _: () = assert!(libc::STDERR_FILENO < CONTROL, "the standard descriptors belong to the command");
