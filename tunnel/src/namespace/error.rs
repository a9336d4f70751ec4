//! Why a namespace could not be made or used, and what a person can do about it.

use std::io;

use nix::errno::Errno;

use super::message::{Failure, Stage};

/// A network namespace could not be made, configured or used.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The system does not let this process make namespaces, mounts or TUN interfaces.
    #[error("{what}: {reason}. {advice}")]
    Forbidden {
        /// What was tried.
        what: String,
        /// What the system said.
        reason: String,
        /// What to enable.
        advice: &'static str,
    },
    /// The command does not exist, in the place where it was looked for.
    #[error("{program}: command not found")]
    CommandNotFound {
        /// The command.
        program: String,
    },
    /// The command exists but cannot be run.
    #[error("{program}: {reason}")]
    CommandNotExecutable {
        /// The command.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// A step failed for another reason.
    #[error("{what}: {reason}")]
    Failed {
        /// What was tried.
        what: String,
        /// What the system said.
        reason: String,
    },
    /// The helper process could not be started.
    #[error("cannot start the namespace helper: {0}")]
    Helper(#[source] io::Error),
    /// The helper process is gone, and the namespace with it.
    #[error("the namespace's helper process ended unexpectedly")]
    HelperLost,
    /// The helper process did not answer in time.
    #[error("the namespace's helper process did not answer within {0} s")]
    HelperSilent(u64),
}

impl NamespaceError {
    pub(super) fn from_failure(failure: Failure, program: Option<&str>) -> Self {
        let Failure { step, errno, message } = failure;
        let errno = errno.map(Errno::from_raw);
        if let (Stage::Spawn, Some(program)) = (&step, program) {
            let program = program.to_owned();
            return match errno {
                Some(Errno::ENOENT | Errno::ENOTDIR) => Self::CommandNotFound { program },
                _ => Self::CommandNotExecutable { program, reason: message },
            };
        }
        match advice(&step, errno) {
            Some(advice) => Self::Forbidden { what: describe(&step), reason: message, advice },
            None => Self::Failed { what: describe(&step), reason: message },
        }
    }
}

fn describe(step: &Stage) -> String {
    match step {
        Stage::Namespaces => "cannot make user, network, mount and PID namespaces".into(),
        Stage::UserMapping => "cannot map this user into a new user namespace".into(),
        Stage::Mounts => "cannot change mounts in a new mount namespace".into(),
        Stage::Tun => "cannot make a TUN interface with /dev/net/tun".into(),
        Stage::Ports => "cannot open low ports in a new network namespace".into(),
        Stage::Hide(path) => format!("cannot hide {} from the command", path.display()),
        Stage::Show(path) => format!("cannot show {} to the command", path.display()),
        Stage::Configure(step) => format!("cannot {step}"),
        Stage::Ipv6 => "cannot use the tunnel".into(),
        Stage::Socket => "cannot open a socket in the namespace".into(),
        Stage::Spawn => "cannot start the command".into(),
    }
}

/// What a person can change when the system refuses a step; none when it is not a matter of permission.
fn advice(step: &Stage, errno: Option<Errno>) -> Option<&'static str> {
    const USER_NAMESPACES: &str = "Unprivileged user namespaces are switched off here: enable them with \
        `sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000` (Debian), \
        `sysctl kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor profile (Ubuntu), \
        in a container `--cap-add NET_ADMIN --device /dev/net/tun` for tier3, which then needs none (--sidecar), \
        or a seccomp profile that allows them; \
        or run as root";
    const TUN_MISSING: &str = "Load the driver with `modprobe tun`; in a container add `--device /dev/net/tun`";
    const TUN_FORBIDDEN: &str = "Let users open it with `chmod 0666 /dev/net/tun` (what systemd's udev rules do)";
    const TUN_TAKEN: &str = "Another tunnel is in this network namespace: end it first";
    const READ_ONLY: &str = "Start the container without `--read-only`, which makes this file read-only too";
    match (step, errno?) {
        (Stage::Namespaces, Errno::EPERM | Errno::ENOSPC | Errno::EINVAL | Errno::ENOSYS | Errno::EACCES)
        | (Stage::UserMapping | Stage::Mounts | Stage::Hide(_), Errno::EPERM | Errno::EACCES)
        | (Stage::Tun, Errno::EPERM) => Some(USER_NAMESPACES),
        (Stage::Tun, Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => Some(TUN_MISSING),
        (Stage::Tun, Errno::EACCES) => Some(TUN_FORBIDDEN),
        (Stage::Tun, Errno::EBUSY) => Some(TUN_TAKEN),
        (Stage::Configure(_), Errno::EROFS) => Some(READ_ONLY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(step: Stage, errno: Errno) -> String {
        NamespaceError::from_failure(step.failed(&errno.into()), None).to_string()
    }

    #[test]
    fn a_refusal_says_what_to_enable() {
        assert!(text(Stage::Namespaces, Errno::EPERM).contains("unprivileged_userns_clone"));
        assert!(text(Stage::UserMapping, Errno::EPERM).contains("AppArmor"));
        assert!(text(Stage::Tun, Errno::EACCES).contains("chmod 0666 /dev/net/tun"));
        assert!(text(Stage::Tun, Errno::ENOENT).contains("--device /dev/net/tun"));
    }

    #[test]
    fn a_command_that_cannot_run_is_told_from_one_that_is_not_there() {
        let spawn = |errno: Errno| NamespaceError::from_failure(Stage::Spawn.failed(&errno.into()), Some("app"));
        assert!(matches!(spawn(Errno::ENOENT), NamespaceError::CommandNotFound { .. }));
        assert!(matches!(spawn(Errno::EACCES), NamespaceError::CommandNotExecutable { .. }));
    }

    #[test]
    fn other_failures_are_no_matter_of_permission() {
        assert_eq!(
            text(Stage::Configure("set MTU 7".into()), Errno::EINVAL),
            "cannot set MTU 7: Invalid argument (os error 22)"
        );
    }
}
