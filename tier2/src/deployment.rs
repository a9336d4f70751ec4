//! What a deployment is, apart from its life: identity, plan, and how the waiting client is told about it.

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sinfonia_wire::{ApplicationId, DeploymentName, PublicKey, Recipe};
use time::OffsetDateTime;

/// Whose deployment of what: there is at most one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId {
    /// The application.
    pub application: ApplicationId,
    /// The client.
    pub key: PublicKey,
}

impl DeploymentId {
    /// A number that spreads clients over a pool, each at a place of its own: keys are as good as random.
    #[must_use]
    pub fn seed(&self) -> u64 {
        let application = self.application.uuid().as_u64_pair();
        self.key
            .as_bytes()
            .chunks_exact(8)
            .filter_map(|chunk| chunk.try_into().ok().map(u64::from_be_bytes))
            .fold(application.0 ^ application.1, |seed, part| seed.rotate_left(7) ^ part)
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.application, self.key.url_safe())
    }
}

/// Everything about a deployment that does not change during its life.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose and what.
    pub id: DeploymentId,
    /// Its readable name.
    pub name: DeploymentName,
    /// The client's addresses in the tunnel.
    pub addresses: Vec<IpAddr>,
    /// When it was first asked for.
    pub created: OffsetDateTime,
    /// The address it was first asked for from, for the limit per client.
    pub client: Option<IpAddr>,
    /// What to run.
    pub recipe: Arc<Recipe>,
}

impl Plan {
    /// When it ends at the latest, if its recipe limits its age.
    #[must_use]
    pub fn ends_at(&self) -> Option<OffsetDateTime> {
        self.recipe.max_age.map(|age| self.created + Duration::from_secs(age.get().into()))
    }
}

/// What counts as one client for limits: with IPv6 the whole /64, of which a client may take any address.
pub(crate) fn client_network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// How many lines of output are kept.
const OUTPUT_LINES: usize = 20;

/// How many of them an error's sentence quotes.
const QUOTED_LINES: usize = 3;

/// How far an installation is, for the text of an error when it takes too long or fails.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    step: String,
    output: VecDeque<String>,
}

impl Progress {
    /// What is being done or waited for, as the rest of a sentence that begins with "is".
    pub fn step(&self, step: impl Into<String>) {
        self.noted().step = step.into();
    }

    /// A line the backend has written.
    pub fn line(&self, line: String) {
        let mut noted = self.noted();
        if noted.output.len() == OUTPUT_LINES {
            noted.output.pop_front();
        }
        noted.output.push_back(line);
    }

    /// Forgets the output of an earlier backend.
    pub fn restart(&self) {
        *self.noted() = Noted::default();
    }

    /// The last lines of output, oldest first.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        self.noted().output.iter().cloned().collect()
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noted = self.noted();
        f.write_str(if noted.step.is_empty() { "queued" } else { &noted.step })?;
        f.write_str(&quote(&noted.output))
    }
}

fn quote(output: &VecDeque<String>) -> String {
    if output.is_empty() {
        return String::new();
    }
    let skipped = output.len().saturating_sub(QUOTED_LINES);
    let lines: Vec<&str> = output.iter().skip(skipped).map(String::as_str).collect();
    format!("; its last output: {}", lines.join(" / "))
}

/// The end of an error's sentence that quotes what the backend wrote last; empty if it wrote nothing.
#[must_use]
pub fn quoted_output(progress: &Progress) -> String {
    quote(&progress.noted().output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_quotes_the_last_lines_and_keeps_twenty() {
        let progress = Progress::default();
        assert_eq!(progress.to_string(), "queued");
        progress.step("waiting for port 80");
        for n in 1..=30 {
            progress.line(format!("line {n}"));
        }
        assert_eq!(progress.to_string(), "waiting for port 80; its last output: line 28 / line 29 / line 30");
        assert_eq!(progress.output().len(), 20);
        assert_eq!(progress.output()[0], "line 11");
    }
}
