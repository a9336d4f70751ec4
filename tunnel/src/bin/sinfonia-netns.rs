//! The namespace helper as an executable of its own, for programs that cannot start themselves again.

fn main() -> std::process::ExitCode {
    sinfonia_tunnel::helper::run()
}
