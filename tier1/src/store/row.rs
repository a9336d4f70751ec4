//! Cloudlets as rows, and back.

use crate::domain::{Cloudlet, Origin, Registration, cloudlet::Moment};
use sinfonia_wire::{CloudletInfo, Resources};
use sqlx::types::Uuid;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tracing::warn;

/// What is stored of a registration beside its load, each as JSON.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub(super) info: String,
    pub(super) addresses: String,
    pub(super) places: String,
}

impl TryFrom<&Registration> for Declared {
    type Error = serde_json::Error;

    fn try_from(registration: &Registration) -> Result<Self, serde_json::Error> {
        let info = CloudletInfo { resources: Resources::new(), last_update: None, ..registration.info.clone() };
        Ok(Self {
            info: serde_json::to_string(&info)?,
            addresses: serde_json::to_string(&registration.addresses)?,
            places: serde_json::to_string(&registration.places)?,
        })
    }
}

/// A cloudlet as the database has it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) info: String,
    pub(super) addresses: String,
    pub(super) places: String,
    pub(super) resources: String,
    pub(super) heard: OffsetDateTime,
}

impl Row {
    /// The cloudlet, unless the row was written by somebody who knows better; `clock` relates the database's time to
    /// ours.
    pub(super) fn cloudlet(self, clock: Clock) -> Option<Cloudlet> {
        let id = self.id;
        let cloudlet = self.read(clock);
        cloudlet.inspect_err(|error| warn!(cloudlet = %id, %error, "a cloudlet in the database is not usable")).ok()
    }

    fn read(self, clock: Clock) -> Result<Cloudlet, serde_json::Error> {
        let mut info: CloudletInfo = serde_json::from_str(&self.info)?;
        info.uuid = Some(self.id.into());
        info.resources = serde_json::from_str(&self.resources)?;
        let registration = Registration {
            info,
            origin: Origin::Reported,
            addresses: serde_json::from_str(&self.addresses)?,
            places: serde_json::from_str(&self.places)?,
            heard: clock.moment(self.heard),
        };
        Cloudlet::try_from(registration).map_err(serde::de::Error::custom)
    }
}

/// One instant on the database's clock and on ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    here: Instant,
    there: OffsetDateTime,
}

impl Clock {
    /// What the database's clock says now.
    pub(super) fn now(there: OffsetDateTime) -> Self {
        Self { here: Instant::now(), there }
    }

    /// An instant of the database's past; what is in its future is now.
    pub(super) fn moment(self, date: OffsetDateTime) -> Moment {
        let age = Duration::try_from(self.there - date).unwrap_or_default();
        Moment { at: self.here.checked_sub(age).unwrap_or(self.here), date }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinfonia_wire::{CloudletId, Location};

    #[test]
    fn a_cloudlet_comes_back_as_it_was_declared() {
        let mut info = CloudletInfo::new("http://192.0.2.1/api/v1/deploy".parse().unwrap());
        info.uuid = Some(CloudletId::random());
        info.locations = Some(vec![Location::new(40.443_231_234_567_89, -79.1).unwrap()]);
        info.labels.insert("tier".to_owned(), "\"ä".to_owned());
        info.resources.insert("cpu_ratio", 0.25).unwrap();
        let registration = Registration {
            info: info.clone(),
            origin: Origin::Reported,
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            places: vec![Location::new(1.5, 2.5).unwrap()],
            heard: Moment::now(),
        };
        let stored = Declared::try_from(&registration).unwrap();
        assert!(!stored.info.contains("cpu_ratio"));
        let now = OffsetDateTime::now_utc();
        let row = Row {
            id: info.uuid.unwrap().uuid(),
            info: stored.info,
            addresses: stored.addresses,
            places: stored.places,
            resources: serde_json::to_string(&info.resources).unwrap(),
            heard: now - Duration::from_secs(9),
        };
        let cloudlet = row.cloudlet(Clock::now(now)).unwrap();
        assert!(cloudlet.is_declared_by(&info, Origin::Reported));
        assert_eq!(cloudlet.pulse().resources, info.resources);
        assert!(cloudlet.pulse().heard.at.elapsed() >= Duration::from_secs(9));
    }

    #[test]
    fn rows_that_cannot_be_read_are_left_out() {
        let row = Row {
            id: Uuid::nil(),
            info: "{}".to_owned(),
            addresses: "[]".to_owned(),
            places: "[]".to_owned(),
            resources: "{}".to_owned(),
            heard: OffsetDateTime::UNIX_EPOCH,
        };
        assert!(row.cloudlet(Clock::now(OffsetDateTime::now_utc())).is_none());
    }
}
