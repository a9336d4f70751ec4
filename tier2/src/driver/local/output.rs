//! Follows what a backend writes: into the log at debug level, and the last lines into error texts.

use std::os::fd::OwnedFd;

use sinfonia_wire::DeploymentName;
use tokio::{io::AsyncReadExt as _, net::unix::pipe};

use crate::deployment::Progress;

/// Longer lines are broken, bytes.
const LINE_LIMIT: usize = 1024;

/// Reads until the last process of the namespace has closed the pipe.
pub(super) async fn follow(pipe: OwnedFd, name: DeploymentName, progress: Progress) {
    let mut pipe = match pipe::Receiver::from_owned_fd(pipe) {
        Ok(pipe) => pipe,
        Err(error) => return tracing::warn!(deployment = %name, %error, "the backend's output cannot be read"),
    };
    let emit = |line: String| {
        tracing::debug!(deployment = %name, "{line}");
        progress.line(line);
    };
    let mut lines = Lines::default();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        lines.add(&buffer[..length], &emit);
    }
    lines.end(&emit);
}

/// Cuts a stream of bytes into printable lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, bytes: &[u8], emit: &impl Fn(String)) {
        for byte in bytes {
            if *byte == b'\n' || self.0.len() == LINE_LIMIT {
                self.end(emit);
            }
            if *byte != b'\n' {
                self.0.push(*byte);
            }
        }
    }

    fn end(&mut self, emit: &impl Fn(String)) {
        let line = std::mem::take(&mut self.0);
        let text = String::from_utf8_lossy(&line);
        // Escape sequences must not reach the terminal of whoever reads the log.
        let text: String = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !text.is_empty() {
            emit(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let seen = RefCell::new(vec![]);
        let emit = |line| seen.borrow_mut().push(line);
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.add(chunk, &emit);
        }
        lines.end(&emit);
        seen.into_inner()
    }

    #[test]
    fn lines_are_cut_wherever_the_chunks_end() {
        assert_eq!(lines(&[b"one\ntw", b"o\r\n\n", b"three"]), ["one", "two", "three"]);
    }

    #[test]
    fn control_characters_and_bad_utf8_are_replaced() {
        assert_eq!(lines(&[b"\x1b[31mred\xff\n"]), [" [31mred\u{fffd}"]);
    }

    #[test]
    fn endless_lines_are_broken() {
        let lengths: Vec<_> = lines(&[&[b'x'; 2500]]).iter().map(String::len).collect();
        assert_eq!(lengths, [1024, 1024, 452]);
    }
}
