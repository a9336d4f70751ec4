//! Finding cloudlets among very many.

pub(crate) mod candidates;
pub(crate) mod spread;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use sinfonia_wire::Location;

/// Cities by size: the second is half as big as the first, the third a third, and so on.
pub(crate) struct Cities {
    centres: Vec<Location>,
    /// Share of the people in each city and those before it.
    shares: Vec<f64>,
    /// Of people and cloudlets around a centre: standard deviation in km.
    extent: f64,
}

impl Cities {
    /// Always the same ones.
    pub(crate) fn new(count: usize, extent: f64) -> Self {
        let mut rng = SmallRng::seed_from_u64(1);
        // Where people live: hardly anybody near the poles.
        let centres = (0..count).map(|_| {
            let lat = rng.random_range(-0.6_f64..=0.85).asin().to_degrees();
            Location::new(lat, rng.random_range(-180.0..=180.0)).unwrap()
        });
        let centres = centres.collect();
        let mut sum = 0.0;
        let sums: Vec<f64> = (1..=count).map(|rank| (sum += 1.0 / rank as f64, sum).1).collect();
        Self { centres, shares: sums.iter().map(|part| part / sum).collect(), extent }
    }

    /// A place where somebody may live.
    pub(crate) fn place(&self, rng: &mut SmallRng) -> Location {
        let which: f64 = rng.random();
        let index = self.shares.partition_point(|share| *share < which).min(self.centres.len() - 1);
        let centre = &self.centres[index];
        let distance = self.extent * (-2.0 * rng.random::<f64>().max(1e-12).ln()).sqrt();
        let (sin, cos) = rng.random_range(0.0..std::f64::consts::TAU).sin_cos();
        let lat = (centre.lat() + distance * sin / 111.2).clamp(-89.0, 89.0);
        let lon = centre.lon() + distance * cos / (111.2 * lat.to_radians().cos());
        Location::new(lat, (lon + 540.0).rem_euclid(360.0) - 180.0).unwrap()
    }
}

/// The value below which a share of the values is.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}
