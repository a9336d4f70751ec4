//! Network namespaces made without root, each with a TUN interface and at most one command in it.
//!
//! A [`Namespace`] is the owner's handle. A helper process (see [`helper`]) holds the user, network, mount and PID
//! namespaces, does what must be done inside them, and passes descriptors out. Dropping the handle, or the death of
//! the owner or of any helper process, ends every process in the namespace, and the kernel then removes the rest.

mod command;
mod control;
mod error;
pub mod helper;
mod message;
mod mounts;
mod possible;
mod present;
mod resolver;
mod setup;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Tun;
use crate::plan::NetworkPlan;
use control::Control;
pub use error::NamespaceError;
use message::{Request, Start};

/// How a [`Namespace`] is made.
#[derive(Debug, Clone, Default)]
pub struct NamespaceOptions {
    /// The executable to start as helper; the present one by default (see [`helper::run_if_invoked`]).
    pub helper: Option<PathBuf>,
    /// What the command reads and writes.
    pub stdio: Stdio,
    /// Boxes the command in; none: it sees what its owner sees.
    pub boxed: Option<BoxOptions>,
    /// Lets commands and the owner bind ports below 1024 in the namespace.
    pub unprivileged_ports: bool,
    /// Takes the present namespaces, those of a container, instead of making new ones: its other programs use the tunnel
    /// too, beside whatever network they have. Needs `CAP_NET_ADMIN`, and leaves no trace but after a crash, which the
    /// next one mends.
    pub present: bool,
}

/// Standard input, output and error of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdio {
    /// The owner's.
    #[default]
    Inherit,
    /// No input; output and errors go into one pipe, see [`Namespace::take_output`].
    Capture,
}

/// A box: read-only root, private temporary directories, hidden homes and service sockets, no new privileges;
/// a command of root's runs as nobody.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BoxOptions {
    /// Directories that stay visible, read-only, where they would be hidden.
    pub visible: Vec<PathBuf>,
    /// More directories to hide.
    pub hidden: Vec<PathBuf>,
}

/// A command to run in a namespace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Command {
    /// The program, looked up in `PATH` if it holds no slash.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables beside the owner's.
    pub env: BTreeMap<OsString, OsString>,
    /// Starts from an empty environment instead of the owner's.
    pub clear_env: bool,
    /// The working directory; the owner's by default.
    pub current_dir: Option<PathBuf>,
    /// Runs it in a process group of its own, in the foreground of the terminal on standard input, as a shell does
    /// with a job. Its owner then hears when it stops, see [`Namespace::stopped`].
    pub foreground: bool,
}

/// A socket to open in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over IPv4.
    UdpV4,
    /// UDP over IPv6.
    UdpV6,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// Its namespace ended under it.
    HelperLost,
}

/// How long a helper may take to clean up before it is killed.
const CLOSING: Duration = Duration::from_secs(2);

/// A network namespace with a TUN interface in it.
#[derive(Debug)]
pub struct Namespace {
    // First, since the helper is killed with `child`.
    control: Control,
    child: tokio::process::Child,
    tun: Mutex<Option<Tun>>,
    output: Mutex<Option<OwnedFd>>,
}

impl Namespace {
    /// Makes the namespaces and the TUN interface, inside a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`NamespaceError::Forbidden`] says what to enable where the system refuses.
    pub async fn create(options: NamespaceOptions) -> Result<Self, NamespaceError> {
        let (control, child, output) = control::start_helper(&options)?;
        let NamespaceOptions { boxed, unprivileged_ports, present, .. } = options;
        let start = Start { boxed, unprivileged_ports, present };
        let namespace = Self { control, child, tun: Mutex::default(), output: Mutex::new(output) };
        let tun = namespace.control.call(&Request::Start(start), None).await?.ok_or(NamespaceError::HelperLost)?;
        *namespace.tun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Tun::from_fd(tun));
        Ok(namespace)
    }

    /// The interface's other end, once.
    pub fn take_tun(&self) -> Option<Tun> {
        self.tun.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The pipe of a captured command's output and errors, once. It ends when the last process in the namespace has.
    pub fn take_output(&self) -> Option<OwnedFd> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Carries out a plan.
    ///
    /// # Errors
    /// The step that failed; later ones were not tried.
    pub async fn configure(&self, plan: &NetworkPlan) -> Result<(), NamespaceError> {
        self.control.call(&Request::Configure(plan.clone()), None).await.map(drop)
    }

    /// A new non-blocking socket that lives in the namespace while the caller need not.
    ///
    /// # Errors
    /// When the namespace is gone, or has no such protocol.
    pub async fn socket(&self, kind: SocketKind) -> Result<OwnedFd, NamespaceError> {
        self.control.call(&Request::Socket(kind), None).await?.ok_or(NamespaceError::HelperLost)
    }

    /// Starts the command. [`Namespace::exited`] tells of its end.
    ///
    /// # Errors
    /// [`NamespaceError::CommandNotFound`] or [`NamespaceError::CommandNotExecutable`].
    pub async fn spawn(&self, command: Command) -> Result<(), NamespaceError> {
        let program = command.program.to_string_lossy().into_owned();
        self.control.call(&Request::Spawn(command), Some(&program)).await.map(drop)
    }

    /// Waits for the end of the command. Can be called by several, and again.
    pub async fn exited(&self) -> Exit {
        self.control.exited().await
    }

    /// Sends a signal to the command, by number; nothing happens when none runs.
    pub fn signal(&self, number: i32) {
        self.control.tell(&Request::Signal(number));
    }

    /// Waits until a command in the foreground stops, as by Ctrl-Z.
    pub async fn stopped(&self) {
        self.control.stopped().await;
    }

    /// Continues a stopped command, in the terminal's foreground or not.
    pub fn resume(&self, foreground: bool) {
        self.control.tell(&Request::Continue { foreground });
    }

    /// The process that holds the namespace, seen from outside; none when it has ended.
    #[must_use]
    pub fn helper_pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends everything in the namespace and waits until it is gone.
    pub async fn close(mut self) {
        self.control.hang_up();
        if tokio::time::timeout(CLOSING, self.child.wait()).await.is_err() {
            // Dropping the child kills it; the kernel takes the rest with it.
            tracing::warn!("a namespace helper did not end by itself and is killed");
        }
    }
}
