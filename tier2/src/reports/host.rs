//! The reports of a cloudlet that is one host.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use sinfonia_wire::{CloudletId, CloudletInfo, DeployEndpoint, Resources};

use super::{NotReady, ReportSource};
use crate::{report_fields::ReportFields, resources::Sampler};

/// How old figures may be that are given again: rates over less are noise.
const FRESH: Duration = Duration::from_secs(5);

/// What a host with the local driver reports: it is ready as soon as it runs.
pub(crate) struct HostReport {
    cloudlet: CloudletId,
    endpoint: DeployEndpoint,
    fields: ReportFields,
    sampled: Mutex<Sampled>,
}

struct Sampled {
    sampler: Sampler,
    latest: Option<(Instant, Resources)>,
}

impl HostReport {
    pub(crate) fn new(cloudlet: CloudletId, endpoint: DeployEndpoint, fields: ReportFields) -> Self {
        let sampled = Sampled { sampler: Sampler::start(), latest: None };
        Self { cloudlet, endpoint, fields, sampled: Mutex::new(sampled) }
    }

    fn resources(&self) -> Resources {
        let mut sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, resources)) = &sampled.latest
            && at.elapsed() < FRESH
        {
            return resources.clone();
        }
        let resources = sampled.sampler.sample();
        sampled.latest = Some((Instant::now(), resources.clone()));
        resources
    }
}

impl ReportSource for HostReport {
    fn report(&self) -> BoxFuture<'_, Result<CloudletInfo, NotReady>> {
        let info = self.fields.info(self.cloudlet, &self.endpoint, false, self.resources());
        Box::pin(std::future::ready(Ok(info)))
    }
}
