//! TUN interfaces (Linux `Documentation/networking/tuntap.rst`).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

/// The interface's name in its network namespace.
pub const INTERFACE: &str = "wg0";

const DEVICE: &str = "/dev/net/tun";

/// The user's end of a TUN interface: each read takes one IP packet, each write gives one. Never blocks.
#[derive(Debug)]
pub struct Tun(OwnedFd);

impl Tun {
    /// Makes the interface [`INTERFACE`] in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When `/dev/net/tun` cannot be opened, or without `CAP_NET_ADMIN` in the network namespace.
    pub(crate) fn create() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
        // SAFETY: all-zero bytes are a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(INTERFACE.bytes()) {
            *to = from.cast_signed();
        }
        #[expect(clippy::cast_possible_truncation, reason = "the two flags are 0x1001")]
        let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        request.ifr_ifru.ifru_flags = flags;
        // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
        nix::errno::Errno::result(result)?;
        Ok(Self(file.into()))
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Reads one packet; its length.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(&self.0, buffer)?)
    }

    /// Writes one packet. The kernel takes it whole or not at all.
    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<()> {
        nix::unistd::write(&self.0, packet)?;
        Ok(())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
