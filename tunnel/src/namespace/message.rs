//! What a namespace's owner and its helper say to each other over a sequenced-packet socket pair.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::cmsg_space;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{BoxOptions, Command, Exit, SocketKind};
use crate::plan::NetworkPlan;

/// The largest message that goes through the socket, bytes; a larger one goes through a file in memory.
const LARGEST: usize = 64 * 1024;

/// What goes through the socket instead of a message in a file: no message begins with this byte.
const IN_FILE: &[u8] = &[0xff];

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// First of all: make the namespaces and the interface. Answered by `Done` with the TUN's descriptor.
    Start(Start),
    Configure(NetworkPlan),
    /// Answered by `Done` with a socket's descriptor.
    Socket(SocketKind),
    Spawn(Command),
    /// Not answered.
    Signal(i32),
    /// Continues a stopped command, in the terminal's foreground or not. Not answered.
    Continue {
        foreground: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) boxed: Option<BoxOptions>,
    pub(crate) unprivileged_ports: bool,
    pub(crate) present: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Failed(Failure),
    /// The spawned command ended; not an answer to a request.
    Exited(Exit),
    /// The command in the foreground stopped; not an answer to a request either.
    Stopped,
    /// What a person should know of, although nothing failed; not an answer either.
    Warned(String),
}

/// Which step failed, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) step: Stage,
    pub(crate) errno: Option<i32>,
    pub(crate) message: String,
}

/// What the helper was at when it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    Namespaces,
    UserMapping,
    Mounts,
    Tun,
    Ports,
    Hide(PathBuf),
    Show(PathBuf),
    Configure(String),
    Ipv6,
    Socket,
    Spawn,
}

impl Stage {
    pub(crate) fn failed(self, error: &io::Error) -> Failure {
        Failure { step: self, errno: error.raw_os_error(), message: error.to_string() }
    }
}

/// Sends one message, with a descriptor if there is one; only small ones can have one.
pub(crate) fn send(fd: RawFd, message: &impl Serialize, attached: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut bytes = postcard::to_allocvec(message).map_err(io::Error::other)?;
    let mut file = None;
    if bytes.len() > LARGEST {
        file = Some(in_file(&bytes)?);
        bytes = IN_FILE.to_vec();
    }
    let attached = file.as_ref().map(AsFd::as_fd).or(attached);
    let fds: Vec<RawFd> = attached.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights };
    sendmsg::<()>(fd, &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message and the descriptor that came with it; none when the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(fd: RawFd) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = vec![0; LARGEST];
    let mut control = cmsg_space!(RawFd);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg::<()>(fd, &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut attached = None;
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            for fd in fds {
                // SAFETY: the kernel made this descriptor for us with this message; nobody else owns it.
                attached = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let length = received.bytes;
    if length == 0 {
        return Ok(None);
    }
    bytes.truncate(length);
    if bytes == IN_FILE
        && let Some(file) = attached.take()
    {
        bytes.clear();
        File::from(file).read_to_end(&mut bytes)?;
    }
    let message = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
    Ok(Some((message, attached)))
}

/// A file without a name that holds these bytes and is about to be read.
fn in_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"message", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}
