//! Nearest sites first, in exact geodesic (WGS84) order, without looking at all of them.
//!
//! The index finds sites by the straight line through the earth. That order differs from the geodesic one, so sites
//! are held back until no site still to come can be nearer. The bounds: every normal curvature of the ellipsoid is at
//! least 1/R with R = a²/b, so (Blaschke) from each of its points the whole ellipsoid lies inside the tangent ball of
//! radius R, and a geodesic of length s has a chord of at most 2R·sin(s/2R). Hence s ≥ 2R·asin(chord/2R). None is more
//! than 1/r with r = b²/a, and a curve that bends no more than that has (Schur) a chord of at least 2r·sin(s/2r), so
//! s ≤ 2r·asin(chord/2r). Within some hundred kilometres the two differ by less than sites are apart from one another:
//! then the exact distance, which costs more than all the rest, need not be known.

use crate::domain::{
    kd::{ByDistance, Point, Tree},
    merge::merged,
};
use geographiclib_rs::{Geodesic, InverseGeodesic};
use sinfonia_wire::Location;
use std::{
    collections::{BinaryHeap, binary_heap::PeekMut},
    ops::Range,
    sync::LazyLock,
};

/// Equatorial radius of WGS84 in metres, and its flattening.
const EQUATORIAL: f64 = 6_378_137.0;
const FLATTENING: f64 = 1.0 / 298.257_223_563;
/// Largest radius of curvature, a²/b.
const LARGEST_RADIUS: f64 = EQUATORIAL / (1.0 - FLATTENING);
/// Smallest radius of curvature, b²/a.
const SMALLEST_RADIUS: f64 = EQUATORIAL * (1.0 - FLATTENING) * (1.0 - FLATTENING);
/// Up to this chord, in metres, the upper bound is taken for the distance, from which it differs by less than a metre.
const SHORT: f64 = 300_000.0;
/// What rounding may amount to, in metres; far more than it does.
const ROUNDING: f64 = 1e-3;

static WGS84: LazyLock<Geodesic> = LazyLock::new(Geodesic::wgs84);

/// Places with what is there.
#[derive(Debug, Default)]
pub struct Sites {
    tree: Tree,
    /// By their numbers in the tree.
    sites: Vec<Site>,
    /// Of all sites, one after another.
    members: Vec<u32>,
}

/// One place.
#[derive(Debug)]
struct Site {
    location: Location,
    members: Range<u32>,
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
        let mut placed: Vec<(u32, Location)> = placed.into_iter().collect();
        let place = |location: &Location| [location.lat().to_bits(), location.lon().to_bits()];
        placed.sort_by_key(|(_, location)| place(location));
        let mut sites: Vec<Site> = Vec::new();
        for (index, (_, location)) in (0u32..).zip(&placed) {
            match sites.last_mut().filter(|site| place(&site.location) == place(location)) {
                Some(site) => site.members.end = index + 1,
                None => sites.push(Site { location: *location, members: index..index + 1 }),
            }
        }
        let (tree, order) = Tree::build(sites.iter().map(|site| centred(site.location)));
        let mut members = Vec::with_capacity(placed.len());
        let ordered = order.iter().map(|former| {
            let Site { location, members: range } = &sites[*former as usize];
            let start = members.len() as u32;
            members.extend(placed[range.start as usize..range.end as usize].iter().map(|(member, _)| *member));
            Site { location: *location, members: start..members.len() as u32 }
        });
        let sites = ordered.collect();
        Self { tree, sites, members }
    }

    /// What is anywhere, neighbours one after another; more than once what is at several places.
    pub fn all(&self) -> &[u32] {
        &self.members
    }

    /// Calls everything by another number.
    pub fn renumber(&mut self, number: impl Fn(u32) -> u32) {
        self.members.iter_mut().for_each(|member| *member = number(*member));
    }

    /// Sites by chord (squared).
    fn by_chord(&self, from: Point) -> impl Iterator<Item = (f64, Found<'_>)> {
        self.tree.nearest(from).map(|(squared, number)| {
            let site = &self.sites[number as usize];
            (squared, Found { location: site.location, members: self.members(site) })
        })
    }

    fn members(&self, site: &Site) -> &[u32] {
        &self.members[site.members.start as usize..site.members.end as usize]
    }
}

/// Distances from `from` and what is there in `first` (marked so) or `second`, in the order in which it was added, each
/// found only when asked for. Their order is exact; short distances themselves may be off by less than a metre.
pub fn nearest<'a>(
    first: &'a Sites,
    second: &'a Sites,
    from: Location,
) -> impl Iterator<Item = (f64, bool, &'a [u32])> {
    let centre = centred(from);
    let mark = |is_first| move |(squared, found)| (squared, (is_first, found));
    let (first, second) = (first.by_chord(centre).map(mark(true)), second.by_chord(centre).map(mark(false)));
    // As bits, squares are in the same order as numbers.
    let by_chord = merged(first, second, |(squared, _): &(f64, _)| squared.to_bits());
    in_order(from, by_chord).map(|(metres, (is_first, found))| (metres, is_first, found.members))
}

/// Brings sites that come by chord (squared) into geodesic order.
fn in_order<'a>(
    from: Location,
    by_chord: impl Iterator<Item = (f64, (bool, Found<'a>))>,
) -> impl Iterator<Item = (f64, (bool, Found<'a>))> {
    let mut coming = by_chord.peekable();
    // Sites whose turn has not come.
    let mut held = BinaryHeap::<ByDistance<_>>::new();
    std::iter::from_fn(move || {
        loop {
            if let Some(nearest) = held.peek_mut() {
                let bound = coming.peek().map_or(f64::INFINITY, |(squared, _)| at_least(squared.sqrt()));
                if nearest.distance <= bound {
                    let ByDistance { distance, what } = PeekMut::pop(nearest);
                    return Some((distance, what));
                }
            }
            let (squared, site) = coming.next()?;
            let most = at_most(squared.sqrt());
            let is_clear = |next: &(f64, _)| most <= at_least(next.0.sqrt());
            if squared <= SHORT * SHORT && held.is_empty() && coming.peek().is_none_or(is_clear) {
                return Some((most, site));
            }
            held.push(ByDistance { distance: distance(from, site.1.location), what: site });
        }
    })
}

/// What is at a place.
#[derive(Clone, Copy, Debug)]
struct Found<'a> {
    location: Location,
    members: &'a [u32],
}

/// A lower bound of the geodesic distance of points with this chord, in metres.
fn at_least(chord: f64) -> f64 {
    arc(chord, LARGEST_RADIUS) - ROUNDING
}

/// An upper bound of the geodesic distance of points with this chord, if it is short, in metres.
fn at_most(chord: f64) -> f64 {
    arc(chord, SMALLEST_RADIUS) + ROUNDING
}

/// Length of a circle's arc over a chord; for short ones by the first terms of the series, which leaves out some
/// micrometres.
fn arc(chord: f64, radius: f64) -> f64 {
    let sine = chord / (2.0 * radius);
    if chord <= SHORT {
        let square = sine * sine;
        return chord * (1.0 + square * (1.0 / 6.0 + square * (3.0 / 40.0)));
    }
    2.0 * radius * sine.min(1.0).asin()
}

/// Earth-centred coordinates in metres.
fn centred(location: Location) -> Point {
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
        let around = (39.0..41.0, -81.0..-79.0);
        let special = (prop::sample::select(vec![-90.0, 0.0, 90.0]), prop::sample::select(vec![-180.0, 0.0, 180.0]));
        prop_oneof![3 => anywhere, 3 => close_by, 3 => around, 1 => special]
            .prop_map(|(lat, lon)| Location::new(lat, lon).unwrap())
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_exact_distances(
            from in place(),
            places in vec(place(), 0..200),
            split in any::<prop::sample::Index>(),
        ) {
            let (few, more) = places.split_at(split.index(places.len() + 1));
            let [first, second] = [few, more].map(|places| Sites::build((0..).zip(places.iter().copied())));
            let found = nearest(&first, &second, from).flat_map(|(metres, is_first, members)| {
                let offset = if is_first { 0 } else { few.len() };
                members.iter().map(move |member| (metres, *member as usize + offset))
            });
            let (told, found): (Vec<f64>, Vec<usize>) = found.unzip();
            let exact: Vec<f64> = found.iter().map(|member| distance(from, places[*member])).collect();
            prop_assert_eq!(exact.len(), places.len());
            prop_assert!(exact.is_sorted(), "{:?}", exact);
            prop_assert!(told.is_sorted() && told.iter().zip(&exact).all(|(told, exact)| (told - exact).abs() < 1.0));
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
        fn the_bounds_hold(from in place(), to in place()) {
            let (a, b) = (centred(from), centred(to));
            let chord = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            prop_assert!(at_least(chord) <= distance(from, to));
            prop_assert!(chord > SHORT || (distance(from, to)..=distance(from, to) + 1.0).contains(&at_most(chord)));
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
        let by_chord = sites.by_chord(centred(from)).map(|(squared, found)| (squared, (true, found)));
        let counted = by_chord.inspect(|_| looked_at.set(looked_at.get() + 1));
        assert_eq!(in_order(from, counted).take(10).count(), 10);
        assert!(looked_at.get() < 20, "{looked_at:?}");
    }
}
