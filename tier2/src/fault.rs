//! Places at which a test lets the process die, as by SIGKILL.
//!
//! They exist in debug builds only; `SINFONIA_FAULT_POINT` names the one that kills.

/// Kills this process if the test wants it to die here.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    if std::env::var("SINFONIA_FAULT_POINT").is_ok_and(|wanted| wanted == name) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        // The signal may reach another thread first.
        std::thread::park();
    }
}

/// Nothing, in a program that is released.
#[cfg(not(debug_assertions))]
pub(crate) const fn point(_name: &str) {}
