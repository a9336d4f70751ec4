//! Questions to the kernel by generic netlink (netlink(7), Linux `Documentation/userspace-api/netlink/intro.rst`). Each
//! has a socket of its own, so that no answer to an earlier one is taken for its own.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_bindings::nlctrl;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use zeroize::Zeroizing;

/// Longest wait for the kernel, seconds.
const LIMIT: i64 = 5;

/// Length of a message's header, bytes.
const HEADER: usize = 16;

/// As much as the kernel puts into one datagram, bytes.
const LARGEST: usize = 1 << 16;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;

/// A family of generic netlink, by the number that this kernel gave it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family(u16);

impl Family {
    /// Looks a family up by its name; the kernel loads a module for it if it must.
    pub(super) fn find(name: &str) -> io::Result<Self> {
        let mut question = Vec::new();
        nlctrl::OpGetfamilyDo::encode_request(&mut question).push_family_name_bytes(name.as_bytes());
        let mut found = None;
        let control = u16::try_from(libc::GENL_ID_CTRL).map_err(io::Error::other)?;
        exchange(control, ACKNOWLEDGE, &question, &mut |reply| {
            found = nlctrl::OpGetfamilyDo::decode_request(reply).get_family_id().ok();
        })?;
        found.map(Self).ok_or_else(|| io::Error::other("the kernel gave a family no number"))
    }

    /// Asks for a change.
    pub(super) fn change(self, payload: &[u8]) -> io::Result<()> {
        exchange(self.0, ACKNOWLEDGE, payload, &mut |_| ())
    }

    /// Asks for everything; `each` gets the payload of each message.
    pub(super) fn dump(self, payload: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<()> {
        exchange(self.0, DUMP, payload, each)
    }
}

fn exchange(kind: u16, flags: u16, payload: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let socket = open()?;
    let request = request(kind, flags, payload)?;
    let sent = sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    if sent != request.len() {
        return Err(io::Error::other("the kernel took only a part of the request"));
    }
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = receive(&socket, &mut buffer)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some(message) = next_message(&mut rest) {
            match message? {
                Message::Payload(payload) => each(payload),
                Message::End => return Ok(()),
            }
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let generic = nix::sys::socket::SockProtocol::NetlinkGeneric;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, generic)?;
    let limit = TimeVal::new(LIMIT, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    Ok(socket)
}

/// The message; it may hold a private key, which is wiped and never moved.
fn request(kind: u16, flags: u16, payload: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = HEADER + payload.len();
    let mut request = Zeroizing::new(Vec::with_capacity(length));
    request.extend(u32::try_from(length).map_err(io::Error::other)?.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((REQUEST | flags).to_ne_bytes());
    // Sequence number and sender: one question is on each socket, and the kernel knows whose it is.
    request.extend([0; 8]);
    request.extend(payload);
    Ok(request)
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

#[derive(Debug, PartialEq, Eq)]
enum Message<'a> {
    Payload(&'a [u8]),
    /// No more will come: a change is made, or a dump is whole.
    End,
}

/// The next message of a datagram, or the error that it is.
fn next_message<'a>(rest: &mut &'a [u8]) -> Option<io::Result<Message<'a>>> {
    let header = rest.get(..HEADER)?;
    let length = u32::from_ne_bytes(header[..4].try_into().ok()?);
    let kind = u16::from_ne_bytes(header[4..6].try_into().ok()?);
    let length = usize::try_from(length).ok().filter(|length| *length >= HEADER)?;
    let payload = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    let kind = i32::from(kind);
    if kind != libc::NLMSG_ERROR && kind != libc::NLMSG_DONE {
        return Some(Ok(Message::Payload(payload)));
    }
    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    Some(if code < 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(Message::End) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let message = |kind: i32, payload: &[u8]| {
            request(u16::try_from(kind).unwrap(), 0, payload).unwrap().iter().copied().collect::<Vec<u8>>()
        };
        let refusal = (-17_i32).to_ne_bytes();
        let datagram = [message(30, b"abcd"), message(libc::NLMSG_ERROR, &[0; 20]), message(2, &refusal)].concat();
        let mut rest = &datagram[..];
        assert_eq!(next_message(&mut rest).unwrap().unwrap(), Message::Payload(b"abcd"));
        assert_eq!(next_message(&mut rest).unwrap().unwrap(), Message::End);
        let error = next_message(&mut rest).unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(17));
        assert!(next_message(&mut rest).is_none());
    }

    #[test]
    fn cut_off_messages_are_none() {
        let whole = request(30, 0, b"abcd").unwrap();
        for length in 0..whole.len() {
            assert!(next_message(&mut &whole[..length]).is_none(), "{length} bytes");
        }
        assert!(next_message(&mut &[0; 40][..]).is_none(), "a length of zero");
    }

    #[test]
    fn the_control_family_is_everywhere() {
        assert!(Family::find("nlctrl").is_ok());
        let error = Family::find("no-such-family").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
