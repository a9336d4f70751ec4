//! Carries out plans inside a namespace.

use super::message::{Failure, Stage};
use super::possible::{self, Possible};
use super::{mounts, present};
use crate::netlink::Network;
use crate::plan::{NetworkPlan, Step};

const TALK: &str = "talk to the kernel";

/// How the namespace is set up.
pub(super) struct Setup {
    /// In the namespaces that were there before.
    present: bool,
}

impl Setup {
    pub(super) fn new(present: bool) -> Self {
        Self { present }
    }

    /// Carries out what is possible of a plan here, and says what is not.
    pub(super) fn configure(&self, plan: &NetworkPlan, warnings: &mut Vec<String>) -> Result<(), Failure> {
        let Possible { steps, left_out } = possible::here(&plan.steps, self.present)?;
        if !left_out.is_empty() {
            let left_out: Vec<String> = left_out.iter().map(ToString::to_string).collect();
            warnings.push(format!("IPv6 is switched off here: the tunnel goes without {}", left_out.join(", ")));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|error| Stage::Configure(TALK.into()).failed(&error))?;
        runtime.block_on(self.apply(&steps))
    }

    async fn apply(&self, steps: &[Step]) -> Result<(), Failure> {
        let network = Network::open().map_err(|error| Stage::Configure(TALK.into()).failed(&error))?;
        for step in steps {
            let done = match step {
                Step::ResolvConf(text) if self.present => present::replace_resolv_conf(text),
                Step::ResolvConf(text) => mounts::replace_resolv_conf(text),
                other => network.apply(other).await,
            };
            done.map_err(|error| Stage::Configure(step.to_string()).failed(&error))?;
        }
        Ok(())
    }
}
