//! Talking to the kernel's netfilter subsystem (netlink(7)). Each exchange has a socket of its own, so that no answer
//! of an earlier one is taken for its own.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// Longest wait for the kernel, seconds. It answers in the time of a few RCU grace periods.
const LIMIT: i64 = 5;
const HEADER: usize = 16;
const ERROR: u16 = 2;
/// Where a message's error number ends: after the header.
const ERROR_END: usize = HEADER + 4;

/// Why a batch was refused.
pub(super) struct Failure {
    /// The number of the message that the kernel does not want; none if the whole exchange failed.
    pub(super) message: Option<u32>,
    /// What the kernel said.
    pub(super) reason: io::Error,
}

impl From<io::Error> for Failure {
    fn from(reason: io::Error) -> Self {
        Self { message: None, reason }
    }
}

/// Sends a batch and waits until each of `messages` is confirmed.
pub(super) fn commit(batch: &[u8], messages: Range<u32>) -> Result<(), Failure> {
    let socket = open(batch.len())?;
    send(&socket, batch)?;
    let mut left = messages.len();
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let length = receive(&socket, &mut buffer)?;
        for answer in answers(&buffer[..length]) {
            answer.result.map_err(|reason| Failure { message: Some(answer.number), reason })?;
            left -= usize::from(messages.contains(&answer.number));
        }
    }
    Ok(())
}

/// Sends one question; whether what it asks for exists.
pub(super) fn exists(question: &[u8]) -> io::Result<bool> {
    let socket = open(question.len())?;
    send(&socket, question)?;
    let mut buffer = vec![0; 1 << 16];
    let length = receive(&socket, &mut buffer)?;
    match answers(&buffer[..length]).find_map(|answer| answer.result.err()) {
        Some(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(false),
        Some(error) => Err(error),
        None => Ok(true),
    }
}

fn open(size: usize) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
    let limit = TimeVal::new(LIMIT, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    // A batch is one datagram. The kernel counts more than its bytes.
    let room = 2 * size + (1 << 16);
    if setsockopt(&socket, sockopt::SndBufForce, &room).is_err() {
        setsockopt(&socket, sockopt::SndBuf, &room)?;
    }
    Ok(socket)
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let kernel = NetlinkAddr::new(0, 0);
    let sent = sendto(socket.as_raw_fd(), bytes, &kernel, MsgFlags::empty())?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::other("the kernel took only a part of the request")) }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match recv(socket.as_raw_fd(), buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            result => return Ok(result?),
        }
    }
}

struct Answer {
    number: u32,
    result: io::Result<()>,
}

/// The messages in a datagram; those that are no errors or confirmations count as good.
fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Answer> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let length = u32::from_ne_bytes(header[..4].try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(header[4..6].try_into().ok()?);
        let number = u32::from_ne_bytes(header[8..12].try_into().ok()?);
        let message = bytes.get(..length.max(HEADER))?;
        bytes = bytes.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
        let code = message.get(HEADER..ERROR_END).filter(|_| kind == ERROR);
        let code = code.and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
        let result = if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
        Some(Answer { number, result })
    })
}
