//! The exit status of the program.

use sinfonia_tier3::{Error, Exit, NamespaceError};

/// tier1 cannot be reached.
const UNREACHABLE: u8 = 68;
/// There is no cloudlet for this client.
pub(crate) const NO_CLOUDLET: u8 = 69;
/// The backend was not deployed.
const DEPLOY: u8 = 70;
/// The tunnel did not come up, or its namespace broke.
pub(crate) const TUNNEL: u8 = 71;
/// A file could not be written.
pub(crate) const CANNOT_WRITE: u8 = 73;
/// The system denied something that it usually grants.
pub(crate) const OS: u8 = 74;
/// Namespaces are not allowed.
pub(crate) const NAMESPACE: u8 = 77;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
const SIGNALLED: u8 = 128;

/// How this program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself.
    Status(u8),
    /// By this signal, which a key sent: a shell goes on with its script unless it sees that.
    Key(i32),
}

/// What users are told.
pub(crate) const HELP: &str = "\
Each option can also be set by an environment variable, --handshake-timeout as SINFONIA_HANDSHAKE_TIMEOUT.

Exit status: that of the application, 128+N if signal N ended it (if that was a key such as Ctrl-C, it ends this program
too, so that scripts do not go on), and
    2  the command line is wrong
   68  tier1 cannot be reached
   69  no cloudlet for this client
   70  the backend was not deployed
   71  the tunnel did not come up
   73  a file cannot be written
   74  another failure of the system
   77  namespaces are not allowed; the message says what to enable
  126  the application cannot be executed
  127  the application was not found
128+N  signal N ended this program before the application ran (130: Ctrl-C)";

pub(crate) fn of_error(error: &Error) -> u8 {
    match error {
        Error::Url(_) | Error::Tls(_) => 2,
        Error::Unreachable { .. } => UNREACHABLE,
        Error::NoCloudlet { .. } => NO_CLOUDLET,
        Error::UnknownApplication { .. } | Error::NotAllowed { .. } | Error::Deploy { .. } => DEPLOY,
        Error::Namespace(NamespaceError::Forbidden { .. }) => NAMESPACE,
        Error::Namespace(NamespaceError::CommandNotFound { .. }) => NOT_FOUND,
        Error::Namespace(NamespaceError::CommandNotExecutable { .. }) => NOT_EXECUTABLE,
        _ => TUNNEL,
    }
}

pub(crate) fn of_exit(exit: Exit) -> u8 {
    match exit {
        // Linux keeps the low eight bits itself.
        Exit::Code(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        Exit::Signal(number) => of_signal(number),
        Exit::HelperLost => TUNNEL,
    }
}

pub(crate) fn of_signal(number: i32) -> u8 {
    SIGNALLED.saturating_add(u8::try_from(number).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_keep_their_status() {
        for code in [0, 1, 2, 77, 255] {
            assert_eq!(i32::from(of_exit(Exit::Code(code))), code);
        }
        assert_eq!(of_exit(Exit::Signal(15)), 143);
        assert_eq!(of_exit(Exit::Signal(9)), 137);
        assert_eq!(of_exit(Exit::HelperLost), TUNNEL);
    }

    #[test]
    fn failures_differ_and_are_documented() {
        let server = String::new;
        let application = sinfonia_wire::ApplicationId::HELLOWORLD;
        let reason = String::new;
        let errors = [
            (Error::Unreachable { server: server(), reason: reason() }, 68),
            (Error::NoCloudlet { server: server(), application, reason: reason() }, 69),
            (Error::Deploy { server: server(), application, reason: reason(), passing: false }, 70),
            (Error::UnknownApplication { server: server(), application, reason: reason() }, 70),
            (Error::Tunnel(sinfonia_tier3::TunnelErrors(Vec::new())), 71),
            (Error::Namespace(NamespaceError::Forbidden { what: reason(), reason: reason(), advice: "" }), 77),
            (Error::Namespace(NamespaceError::CommandNotExecutable { program: reason(), reason: reason() }), 126),
            (Error::Namespace(NamespaceError::CommandNotFound { program: reason() }), 127),
        ];
        for (error, status) in errors {
            assert_eq!(of_error(&error), status, "{error:?}");
            assert!(HELP.contains(&status.to_string()), "{status}");
        }
    }
}
