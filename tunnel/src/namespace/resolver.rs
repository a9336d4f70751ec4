//! The tunnel's resolver configuration in a mount namespace, where it stays whatever the host does with its own.
//!
//! Programs replace /etc/resolv.conf by renaming another file over it (NetworkManager, systemd-resolved, VPN clients). The
//! kernel then removes what other mount namespaces have mounted on the old one, or the name leads elsewhere.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::mounts::{PROC, bind};

pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Resolvers that the C library asks before it reads resolv.conf: they would answer from outside the tunnel.
const SOCKETS: [&str; 4] =
    ["/run/nscd/socket", "/var/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve", "/run/avahi-daemon/socket"];

/// A configuration that is shown as /etc/resolv.conf, while the sockets of other resolvers are hidden.
pub(super) struct Resolver {
    /// The file once more, not mounted anywhere: one that the kernel removed cannot be mounted again.
    spare: OwnedFd,
    /// Device and inode of the file.
    file: (u64, u64),
    /// Tells when something new is where the file or a socket is; none where this user watches too much already.
    changes: Option<Inotify>,
}

impl Resolver {
    /// Shows this text, which replaces what an earlier one showed.
    pub(super) fn show(text: &str) -> io::Result<Self> {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        // The file lives on a tmpfs that covers /proc for a moment: a place that always exists, with nothing to clean
        // up after a crash. What is cloned from the tmpfs keeps the file when that goes.
        mount(Some("tmpfs"), PROC, Some("tmpfs"), MsFlags::empty(), Some("size=64k,mode=0755"))?;
        let path = Path::new(PROC).join("resolv.conf");
        let made = fs::write(&path, text).and_then(|()| Ok((clone_mount(&path)?, identity(&path)?)));
        umount2(PROC, MntFlags::MNT_DETACH)?;
        let (spare, file) = made?;
        let mut resolver = Self { spare, file, changes };
        resolver.look()?;
        Ok(resolver)
    }

    /// What is readable when it is time to [`Resolver::look`]; none where that cannot be told.
    pub(super) fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.changes.as_ref().map(AsFd::as_fd)
    }

    /// Shows the configuration where that is no longer so. Cheap if it is.
    ///
    /// # Errors
    /// Also when there is no /etc/resolv.conf, which then may come.
    pub(super) fn look(&mut self) -> io::Result<()> {
        // Taken before anything is looked at: what comes after is told again.
        if let Some(changes) = &self.changes {
            while changes.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
        let target = target();
        if let Some(changes) = &self.changes {
            watch(changes, target.as_deref().ok());
        }
        let hidden = hide_sockets();
        let target = target?;
        if identity(&target)? != self.file {
            attach(&self.spare, &target)?;
            self.spare = clone_mount(&target)?;
        }
        hidden
    }
}

/// The file that is found as /etc/resolv.conf.
fn target() -> io::Result<PathBuf> {
    fs::canonicalize(RESOLV_CONF).map_err(|error| {
        io::Error::new(error.kind(), format!("it is missing or points nowhere; make it, if only empty ({error})"))
    })
}

/// Watches the directories, since a file that is renamed away takes a watch along. A directory is watched once only.
fn watch(changes: &Inotify, target: Option<&Path>) {
    let places = SOCKETS.map(Path::new).into_iter().chain([Path::new(RESOLV_CONF)]).chain(target);
    let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
    for directory in places.filter_map(Path::parent) {
        // Most machines have not all of them.
        let _ = changes.add_watch(directory, events);
    }
}

fn hide_sockets() -> io::Result<()> {
    for socket in SOCKETS.map(Path::new) {
        if fs::metadata(socket).is_ok_and(|found| found.file_type().is_socket()) {
            bind(Path::new("/dev/null"), socket)?;
        }
    }
    Ok(())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// open_tree(2), which nix does not wrap: what is mounted at this path, once more and not mounted.
fn clone_mount(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: path is NUL-terminated and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = i32::try_from(Errno::result(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// move_mount(2), which nix does not wrap: mounts what is not mounted.
fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: both paths are NUL-terminated and outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(result)?;
    Ok(())
}
