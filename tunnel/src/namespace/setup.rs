//! Carries out plans inside a namespace, and keeps what the host would undo.

use std::io;
use std::os::fd::BorrowedFd;

use super::message::{Failure, Stage};
use super::possible::{self, Possible};
use super::present;
use super::resolver::Resolver;
use crate::netlink::Network;
use crate::plan::{NetworkPlan, Step};

const TALK: &str = "talk to the kernel";

/// How the namespace is set up.
pub(super) struct Setup {
    /// In the namespaces that were there before.
    present: bool,
    resolver: Option<Resolver>,
}

impl Setup {
    pub(super) fn new(present: bool) -> Self {
        Self { present, resolver: None }
    }

    /// Carries out what is possible of a plan here, and says what is not.
    pub(super) fn configure(&mut self, plan: &NetworkPlan, warnings: &mut Vec<String>) -> Result<(), Failure> {
        let Possible { steps, left_out } = possible::here(&plan.steps, self.present)?;
        if !left_out.is_empty() {
            let left_out: Vec<String> = left_out.iter().map(ToString::to_string).collect();
            warnings.push(format!("IPv6 is switched off here: the tunnel goes without {}", left_out.join(", ")));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|error| Stage::Configure(TALK.into()).failed(&error))?;
        runtime.block_on(self.apply(&steps, warnings))
    }

    async fn apply(&mut self, steps: &[Step], warnings: &mut Vec<String>) -> Result<(), Failure> {
        let network = Network::open().map_err(|error| Stage::Configure(TALK.into()).failed(&error))?;
        for step in steps {
            let done = match step {
                Step::ResolvConf(text) if self.present => present::replace_resolv_conf(text),
                Step::ResolvConf(text) => self.show_resolver(text, warnings),
                other => network.apply(other).await,
            };
            done.map_err(|error| Stage::Configure(step.to_string()).failed(&error))?;
        }
        Ok(())
    }

    fn show_resolver(&mut self, text: &str, warnings: &mut Vec<String>) -> io::Result<()> {
        let resolver = self.resolver.insert(Resolver::show(text)?);
        if resolver.changes().is_none() {
            warnings
                .push("names fail once the host changes /etc/resolv.conf: raise fs.inotify.max_user_instances".into());
        }
        Ok(())
    }

    /// What is readable when it is time to [`Setup::keep_resolver`].
    pub(super) fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.resolver.as_ref().and_then(Resolver::changes)
    }

    /// Shows the tunnel's resolver configuration again if the host changed its own; why not, if that fails.
    pub(super) fn keep_resolver(&mut self) -> Option<String> {
        let error = self.resolver.as_mut()?.look().err()?;
        Some(format!("the host changed /etc/resolv.conf, and the tunnel cannot replace it again: {error}"))
    }
}
