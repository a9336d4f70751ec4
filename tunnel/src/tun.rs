//! TUN interfaces (Linux `Documentation/networking/tuntap.rst`).

use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::libc;

use crate::packet::HEADER;

/// The interface's name in its network namespace.
pub const INTERFACE: &str = "wg0";

pub(crate) const DEVICE: &str = "/dev/net/tun";

/// The user's end of a TUN interface: each read takes one IP packet, each write gives one. Never blocks.
///
/// Where the kernel can, packets come with a virtio header before them, TCP in super-packets, and may be written so.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    virtio: bool,
}

impl Tun {
    /// Makes the interface [`INTERFACE`] in the network namespace of the calling thread.
    ///
    /// # Errors
    /// As [`Tun::open`].
    pub(crate) fn create() -> io::Result<Self> {
        Self::open(INTERFACE)
    }

    /// Makes the interface of this name in the network namespace of the calling thread, or takes it if it is there
    /// and nobody has.
    ///
    /// # Errors
    /// When `/dev/net/tun` cannot be opened, and as [`Tun::attach`].
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        Ok(Self::attach(open_device()?, name)?)
    }

    /// The same, with what [`open_device`] gave.
    ///
    /// # Errors
    /// [`Errno::EPERM`] without `CAP_NET_ADMIN` in the network namespace, [`Errno::EBUSY`] when another process has the
    /// interface, [`Errno::EINVAL`] when something else is called so, [`Errno::ENAMETOOLONG`].
    pub(crate) fn attach(device: OwnedFd, name: &str) -> Result<Self, Errno> {
        match set_interface(&device, name, libc::IFF_VNET_HDR) {
            Ok(()) => {
                if let Err(error) = offload(&device) {
                    tracing::debug!(%error, "the interface does not leave splitting to us");
                }
                Ok(Self { fd: device, virtio: true })
            }
            Err(Errno::EINVAL) => {
                set_interface(&device, name, 0)?;
                Ok(Self { fd: device, virtio: false })
            }
            Err(errno) => Err(errno),
        }
    }

    /// An interface that another process made, of which it knows how by itself. Anything else that keeps the
    /// boundaries of messages passes for an interface without virtio headers.
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        let virtio = flags(&fd).is_ok_and(|flags| flags & libc::IFF_VNET_HDR != 0);
        Self { fd, virtio }
    }

    /// Anything passes for an interface with virtio headers.
    #[cfg(test)]
    pub(crate) fn with_headers(fd: OwnedFd) -> Self {
        Self { fd, virtio: true }
    }

    /// Keeps the interface when the process ends, for a successor to take.
    pub(crate) fn keep(&self) -> Result<(), Errno> {
        let keep: libc::c_ulong = 1;
        // SAFETY: TUNSETPERSIST takes a number and touches no memory of ours.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TUNSETPERSIST as _, keep) };
        Errno::result(result).map(drop)
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Whether a virtio header is before each packet.
    pub(crate) fn has_virtio_headers(&self) -> bool {
        self.virtio
    }

    /// Reads one packet, with its virtio header if it has one; the length of both.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(&self.fd, buffer)?)
    }

    /// Writes one packet; the header goes before it if the interface has such. The kernel takes it whole or not at all.
    pub(crate) fn write(&self, header: &[u8; HEADER], packet: &[u8]) -> io::Result<()> {
        if self.virtio {
            nix::sys::uio::writev(&self.fd, &[IoSlice::new(header), IoSlice::new(packet)])?;
        } else {
            nix::unistd::write(&self.fd, packet)?;
        }
        Ok(())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The device from which interfaces come.
pub(crate) fn open_device() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?.into())
}

/// Makes the interface this descriptor's, with one more flag.
fn set_interface(fd: &OwnedFd, name: &str, flag: libc::c_int) -> Result<(), Errno> {
    let mut request = request();
    if name.len() >= request.ifr_name.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    #[expect(clippy::cast_possible_truncation, reason = "the flags are 0x1001 and 0x4000")]
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI | flag) as libc::c_short;
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    Errno::result(result).map(drop)
}

/// The flags of the interface that is this descriptor's.
fn flags(fd: &OwnedFd) -> Result<libc::c_int, Errno> {
    let mut request = request();
    // SAFETY: TUNGETIFF writes one ifreq, which outlives the call; anything but a TUN refuses it.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) };
    Errno::result(result)?;
    // SAFETY: TUNGETIFF has set the flags, and any bytes are a valid number.
    Ok(unsafe { request.ifr_ifru.ifru_flags }.into())
}

/// Lets the kernel hand over TCP in super-packets, and packets whose checksum is still to be completed.
fn offload(fd: &OwnedFd) -> Result<(), Errno> {
    let kinds = libc::c_ulong::from(libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6);
    // SAFETY: TUNSETOFFLOAD takes a number and touches no memory of ours.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD as _, kinds) };
    Errno::result(result).map(drop)
}

fn request() -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid ifreq.
    unsafe { std::mem::zeroed() }
}
