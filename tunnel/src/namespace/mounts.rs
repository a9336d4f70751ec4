//! What a command sees of the file system, in a mount namespace of its own.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::BoxOptions;
use super::message::{Failure, Stage};
use super::resolver::RESOLV_CONF;

const NONE: Option<&str> = None;
pub(super) const PROC: &str = "/proc";

/// Where a boxed command finds nothing of the host: people's files, and sockets of services.
const HIDDEN: [&str; 8] = ["/home", "/root", "/run", "/tmp", "/var/tmp", "/dev/shm", "/mnt", "/media"];

/// Of the hidden, where a boxed command may write.
const WRITABLE: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Detaches this mount namespace from its parent and shows the new PID namespace in /proc. What the host unmounts goes from
/// here too, so that nothing keeps it busy; but into a box comes nothing that the host mounts later.
pub(super) fn isolate(boxed: bool) -> io::Result<()> {
    let propagation = if boxed { MsFlags::MS_PRIVATE } else { MsFlags::MS_SLAVE };
    mount(NONE, "/", NONE, MsFlags::MS_REC | propagation, NONE)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if let Err(error) = mount(Some("proc"), PROC, Some("proc"), flags, NONE) {
        // In a container whose /proc is partly masked the kernel refuses a new one; the old one stays.
        tracing::debug!(%error, "/proc shows the PID namespace outside");
    }
    Ok(())
}

/// Boxes the command in: read-only root, private temporary directories, no homes and no sockets of services.
pub(super) fn enter_box(options: &BoxOptions) -> Result<(), Failure> {
    let resolv_conf = fs::canonicalize(RESOLV_CONF).ok();
    let mut shown = Vec::new();
    for path in &options.visible {
        let path = fs::canonicalize(path).map_err(|error| Stage::Show(path.clone()).failed(&error))?;
        let fd = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| Stage::Show(path.clone()).failed(&errno.into()))?;
        shown.push((path, fd));
    }
    // One that lies in another is gone once that is hidden.
    for path in HIDDEN.iter().map(Path::new).chain(options.hidden.iter().map(PathBuf::as_path)) {
        if path.is_dir() {
            hide(path).map_err(|error| Stage::Hide(path.to_owned()).failed(&error))?;
        }
    }
    if let Some(target) = resolv_conf.filter(|target| !target.exists()) {
        make_empty(&target).map_err(|error| Stage::Hide(target).failed(&error))?;
    }
    for (path, fd) in &shown {
        let source = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        fs::create_dir_all(path)
            .and_then(|()| bind(&source, path))
            .map_err(|error| Stage::Show(path.clone()).failed(&error))?;
    }
    let changed = change_attributes(Path::new("/"), libc::MOUNT_ATTR_RDONLY, 0, libc::AT_RECURSIVE);
    changed.map_err(|error| Stage::Mounts.failed(&error))?;
    for path in WRITABLE.map(Path::new).into_iter().filter(|path| path.is_dir()) {
        change_attributes(path, 0, libc::MOUNT_ATTR_RDONLY, 0)
            .map_err(|error| Stage::Hide(path.to_owned()).failed(&error))?;
    }
    Ok(())
}

/// Makes a file for the tunnel's to be mounted on, where the host's, to which a link in /etc leads, is hidden.
fn make_empty(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::File::create(path).map(drop)
}

fn hide(path: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mode = if WRITABLE.iter().any(|writable| path == Path::new(writable)) { "1777" } else { "0755" };
    let data = format!("size=64m,mode={mode}");
    Ok(mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(data.as_str()))?)
}

pub(super) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE)?)
}

/// mount_setattr(2), which nix does not wrap: unlike a remount it can change a whole tree at once.
fn change_attributes(path: &Path, set: u64, clear: u64, flags: libc::c_int) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    // SAFETY: path is NUL-terminated, attributes is a mount_attr of the size given; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}
