//! Nearest sites first, in exact geodesic (WGS84) order, without looking at all of them.
//!
//! The index finds sites by the straight line through the earth. That order differs from the geodesic one, so sites
//! are held back until no site still to come can be nearer. The bound: every normal curvature of the ellipsoid is at
//! least 1/R with R = a²/b, so (Blaschke) from each of its points the whole ellipsoid lies inside the tangent ball of
//! radius R, and a geodesic of length s has a chord of at most 2R·sin(s/2R). Hence s ≥ 2R·asin(chord/2R).

use geographiclib_rs::{Geodesic, InverseGeodesic};
use rstar::{RTree, primitives::GeomWithData};
use sinfonia_wire::Location;
use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashMap},
    sync::LazyLock,
};

/// Equatorial radius of WGS84 in metres, and its flattening.
const EQUATORIAL: f64 = 6_378_137.0;
const FLATTENING: f64 = 1.0 / 298.257_223_563;
/// Largest radius of curvature, a²/b.
const LARGEST_RADIUS: f64 = EQUATORIAL / (1.0 - FLATTENING);
/// What rounding may amount to, in metres; far more than it does.
const ROUNDING: f64 = 1e-3;

static WGS84: LazyLock<Geodesic> = LazyLock::new(Geodesic::wgs84);

type Point = GeomWithData<[f64; 3], u32>;

/// Places with what is there.
#[derive(Debug, Default)]
pub struct Sites {
    tree: RTree<Point>,
    sites: Vec<Site>,
}

/// One place.
#[derive(Debug)]
pub struct Site {
    location: Location,
    /// Indices of what is there, in the order in which it was added.
    pub members: Vec<u32>,
}

/// Distance on the ellipsoid in metres.
#[must_use]
pub fn distance(from: Location, to: Location) -> f64 {
    WGS84.inverse(from.lat(), from.lon(), to.lat(), to.lon())
}

impl Sites {
    /// Indexes what is where. Things at the same place share a site, so that crowded places cost as little as others.
    #[must_use]
    pub fn build(placed: impl IntoIterator<Item = (u32, Location)>) -> Self {
        let mut known: HashMap<[u64; 2], usize> = HashMap::new();
        let mut sites: Vec<Site> = Vec::new();
        for (member, location) in placed {
            let key = [location.lat().to_bits(), location.lon().to_bits()];
            let site = *known.entry(key).or_insert_with(|| {
                sites.push(Site { location, members: Vec::new() });
                sites.len() - 1
            });
            sites[site].members.push(member);
        }
        let points = (0u32..).zip(&sites).map(|(index, site)| Point::new(centred(site.location), index)).collect();
        Self { tree: RTree::bulk_load(points), sites }
    }

    /// Sites by distance from `from`, each found only when asked for.
    pub fn nearest(&self, from: Location) -> impl Iterator<Item = (f64, &Site)> {
        self.in_order(from, self.tree.nearest_neighbor_iter_with_distance_2(centred(from)))
    }

    /// Brings points that come by chord (squared) into geodesic order.
    fn in_order<'a>(
        &'a self,
        from: Location,
        by_chord: impl Iterator<Item = (&'a Point, f64)>,
    ) -> impl Iterator<Item = (f64, &'a Site)> {
        let mut coming = by_chord.peekable();
        let mut held: BinaryHeap<Reverse<Held<'_>>> = BinaryHeap::new();
        std::iter::from_fn(move || {
            loop {
                let bound = coming.peek().map_or(f64::INFINITY, |(_, squared)| at_least(squared.sqrt()));
                if held.peek().is_some_and(|Reverse(nearest)| nearest.distance <= bound) {
                    return held.pop().map(|Reverse(nearest)| (nearest.distance, nearest.site));
                }
                let (point, _) = coming.next()?;
                let site = &self.sites[point.data as usize];
                held.push(Reverse(Held { distance: distance(from, site.location), site }));
            }
        })
    }
}

/// A site whose turn has not come.
struct Held<'a> {
    distance: f64,
    site: &'a Site,
}

impl Ord for Held<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance)
    }
}

impl PartialOrd for Held<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Held<'_> {}

/// A lower bound of the geodesic distance of points with this chord, in metres.
fn at_least(chord: f64) -> f64 {
    2.0 * LARGEST_RADIUS * (chord / (2.0 * LARGEST_RADIUS)).min(1.0).asin() - ROUNDING
}

/// Earth-centred coordinates in metres.
fn centred(location: Location) -> [f64; 3] {
    let eccentricity2 = FLATTENING * (2.0 - FLATTENING);
    let (lat_sin, lat_cos) = location.lat().to_radians().sin_cos();
    let (lon_sin, lon_cos) = location.lon().to_radians().sin_cos();
    let radius = EQUATORIAL / (1.0 - eccentricity2 * lat_sin * lat_sin).sqrt();
    [radius * lat_cos * lon_cos, radius * lat_cos * lon_sin, radius * (1.0 - eccentricity2) * lat_sin]
}

#[cfg(test)]
mod tests {
    use super::*;
    use geo::{Distance as _, Point as GeoPoint, VincentyDistance as _};
    use proptest::{collection::vec, prelude::*};
    use std::cell::Cell;

    fn place() -> impl Strategy<Value = Location> {
        let anywhere = (-90.0..=90.0, -180.0..=180.0);
        let close_by = (40.0..40.1, -80.0..-79.9);
        let special = (prop::sample::select(vec![-90.0, 0.0, 90.0]), prop::sample::select(vec![-180.0, 0.0, 180.0]));
        prop_oneof![3 => anywhere, 3 => close_by, 1 => special].prop_map(|(lat, lon)| Location::new(lat, lon).unwrap())
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_exact_distances(from in place(), places in vec(place(), 0..200)) {
            let sites = Sites::build((0..).zip(places.iter().copied()));
            let found: Vec<f64> =
                sites.nearest(from).flat_map(|(metres, site)| site.members.iter().map(move |_| metres)).collect();
            let mut expected: Vec<f64> = places.iter().map(|to| distance(from, *to)).collect();
            expected.sort_by(f64::total_cmp);
            prop_assert_eq!(found, expected);
        }

        /// Vincenty's series is another algorithm by another author; near the antipode it does not converge.
        #[test]
        fn distances_agree_with_vincenty(from in place(), to in place()) {
            let point = |location: Location| GeoPoint::new(location.lon(), location.lat());
            if let Ok(expected) = point(from).vincenty_distance(&point(to)) {
                let metres = distance(from, to);
                prop_assert!((metres - expected).abs() < 1e-3 + expected * 1e-9, "{metres} and {expected}");
            }
        }

        #[test]
        fn the_bound_holds(from in place(), to in place()) {
            let (a, b) = (centred(from), centred(to));
            let chord = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            prop_assert!(at_least(chord) <= distance(from, to));
            let sphere = geo::Haversine.distance(
                GeoPoint::new(from.lon(), from.lat()),
                GeoPoint::new(to.lon(), to.lat()),
            );
            prop_assert!((distance(from, to) - sphere).abs() <= 1.0 + 0.006 * sphere);
        }
    }

    #[test]
    fn few_sites_are_looked_at() {
        let grid = (0..10_000u32).map(|i| {
            let (row, column) = (f64::from(i / 100), f64::from(i % 100));
            (i, Location::new(row * 1.7 - 85.0, column * 3.5 - 175.0).unwrap())
        });
        let sites = Sites::build(grid);
        let from = Location::new(48.1, 11.6).unwrap();
        let looked_at = Cell::new(0);
        let by_chord = sites.tree.nearest_neighbor_iter_with_distance_2(centred(from));
        let counted = by_chord.inspect(|_| looked_at.set(looked_at.get() + 1));
        assert_eq!(sites.in_order(from, counted).take(10).count(), 10);
        assert!(looked_at.get() < 20, "{looked_at:?}");
    }
}
