//! How busy a cloudlet is: what it last said, and what was sent there since.

use crate::domain::{Cloudlet, cloudlet::Moment};
use sinfonia_wire::Resources;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Older readings say nothing about the load; cloudlets report every 15 s.
pub const STALE: Duration = Duration::from_secs(60);
/// Taken as the load where none is known.
const UNKNOWN: f64 = 0.5;
/// What a deployment adds to the load of a cloudlet that has not shown it yet, and what it may be taken for.
const COST: f32 = 0.02;
const COSTS: (f32, f32) = (0.000_5, 0.25);
/// A report after so many deployments counts as much for their cost as all before.
const INERTIA: f32 = 4.0;

/// What each report renews.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// Readings.
    pub resources: Resources,
    /// When they came.
    pub heard: Moment,
    pub(super) tally: Tally,
}

/// Deployments that the last report cannot know of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    /// Being made.
    asked: u32,
    /// Made since the last report, or within the last minute where there are no reports.
    made: u32,
    since: Instant,
    /// What one adds to the load.
    cost: f32,
}

/// The load at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// The busiest of processors, memory and graphics processors at the last report, 0..1; unknown without a recent one.
    pub reported: Option<f64>,
    /// Deployments sent there since.
    pub sent: u32,
    /// What each of them is taken for.
    pub cost: f64,
}

impl Load {
    /// The best guess, 0..1 and above.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        self.reported.unwrap_or(UNKNOWN) + f64::from(self.sent) * self.cost
    }
}

impl Pulse {
    /// First readings.
    #[must_use]
    pub(super) const fn new(resources: Resources, heard: Moment) -> Self {
        let tally = Tally { asked: 0, made: 0, since: heard.at, cost: COST };
        Self { resources, heard, tally }
    }

    /// The load at `now`. The operator's cloudlets, which do not report, have readings that never change (`lasting`).
    #[must_use]
    pub(super) fn load(&self, now: Instant, lasting: bool) -> Load {
        let is_recent = lasting || now.saturating_duration_since(self.heard.at) <= STALE;
        let made = if is_recent && !lasting || !self.tally.is_over(now) { self.tally.made } else { 0 };
        Load {
            reported: busiest(&self.resources).filter(|_| is_recent),
            sent: self.tally.asked.saturating_add(made),
            cost: self.tally.cost.into(),
        }
    }

    /// Takes note of later readings, and learns from them what a deployment costs.
    pub(super) fn renew(&mut self, resources: Resources, heard: Moment) {
        let tally = &mut self.tally;
        if let (Some(before), Some(after), 1..) = (busiest(&self.resources), busiest(&resources), tally.made) {
            let made = tally.made as f32;
            let seen = (after - before) as f32 / made;
            let weight = made / (made + INERTIA);
            tally.cost = (tally.cost + weight * (seen - tally.cost)).clamp(COSTS.0, COSTS.1);
        }
        tally.made = 0;
        tally.since = heard.at;
        (self.resources, self.heard) = (resources, heard);
    }

    /// Goes on where the same cloudlet was under another description: what is being made there will not be told here.
    pub(super) fn go_on(&mut self, former: &Self) {
        let Tally { asked, made, .. } = former.tally;
        self.tally = Tally { asked: 0, made: made.saturating_add(asked), ..former.tally };
    }
}

impl Tally {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) > STALE
    }

    fn ask(&mut self) {
        self.asked = self.asked.saturating_add(1);
    }

    fn settle(&mut self, made: bool, now: Instant) {
        self.asked = self.asked.saturating_sub(1);
        if made {
            if self.is_over(now) {
                (self.made, self.since) = (0, now);
            }
            self.made = self.made.saturating_add(1);
        }
    }
}

/// A deployment on its way to a cloudlet, which counts as load there until it turns out not to be made.
#[derive(Debug)]
pub struct Sent {
    cloudlet: Arc<Cloudlet>,
    made: bool,
}

impl Sent {
    /// Counts one more.
    #[must_use]
    pub fn to(cloudlet: &Arc<Cloudlet>) -> Self {
        cloudlet.lock().tally.ask();
        Self { cloudlet: Arc::clone(cloudlet), made: false }
    }

    /// It was made: the next report will know of it.
    pub fn made(mut self) {
        self.made = true;
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.cloudlet.lock().tally.settle(self.made, Instant::now());
    }
}

fn busiest(resources: &Resources) -> Option<f64> {
    let ratios = [Resources::CPU_RATIO, Resources::MEM_RATIO, Resources::GPU_RATIO];
    ratios.into_iter().filter_map(|name| resources.get(name)).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(values: &[(&str, f64)]) -> Resources {
        let mut resources = Resources::new();
        values.iter().for_each(|(name, value)| resources.insert(*name, *value).unwrap());
        resources
    }

    fn later(moment: Moment, seconds: u64) -> Moment {
        let wait = Duration::from_secs(seconds);
        Moment { at: moment.at + wait, date: moment.date + wait }
    }

    #[test]
    fn the_busiest_part_counts_as_long_as_it_is_recent() {
        let start = Moment::now();
        let pulse = Pulse::new(readings(&[("cpu_ratio", 0.2), ("mem_ratio", 0.6), ("net_rx_rate", 9e9)]), start);
        assert_eq!(pulse.load(later(start, 60).at, false).reported, Some(0.6));
        assert_eq!(pulse.load(later(start, 61).at, false).reported, None);
        assert_eq!(pulse.load(later(start, 61).at, true).reported, Some(0.6));
        assert_eq!(Pulse::new(Resources::new(), start).load(start.at, false).estimate(), UNKNOWN);
    }

    #[test]
    fn what_was_sent_counts_until_the_next_report() {
        let start = Moment::now();
        let mut pulse = Pulse::new(readings(&[("cpu_ratio", 0.2)]), start);
        (0..3).for_each(|_| pulse.tally.ask());
        pulse.tally.settle(true, start.at);
        pulse.tally.settle(false, start.at);
        let load = pulse.load(start.at, false);
        assert_eq!((load.sent, load.estimate() > 0.2), (2, true));
        pulse.renew(readings(&[("cpu_ratio", 0.3)]), later(start, 15));
        assert_eq!(pulse.load(later(start, 15).at, false).sent, 1, "one is still being made");
    }

    #[test]
    fn without_reports_what_was_sent_counts_for_a_minute() {
        let start = Moment::now();
        let mut pulse = Pulse::new(Resources::new(), start);
        let mut sent = |moment: Moment| {
            pulse.tally.ask();
            pulse.tally.settle(true, moment.at);
            pulse.load(moment.at, true).sent
        };
        assert_eq!([sent(start), sent(later(start, 59)), sent(later(start, 90))], [1, 2, 1]);
        assert_eq!(pulse.load(later(start, 151).at, true).sent, 0);
    }

    #[test]
    fn the_cost_of_a_deployment_is_learnt() {
        let mut now = Moment::now();
        let mut pulse = Pulse::new(readings(&[("cpu_ratio", 0.0)]), now);
        for round in 1..=5 {
            (0..10).for_each(|_| pulse.tally.ask());
            (0..10).for_each(|_| pulse.tally.settle(true, now.at));
            now = later(now, 15);
            pulse.renew(readings(&[("cpu_ratio", 0.1 * f64::from(round))]), now);
        }
        assert!((pulse.load(now.at, false).cost - 0.01).abs() < 0.001, "{:?}", pulse.tally);
        // Nonsense is limited.
        (0..10).for_each(|_| pulse.tally.settle(true, now.at));
        pulse.renew(readings(&[("cpu_ratio", -1e9)]), later(now, 15));
        assert_eq!(pulse.tally.cost, COSTS.0);
    }
}
