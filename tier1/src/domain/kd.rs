//! Points in space, nearest first: a k-d tree (Bentley, 1975) in flat arrays.
//!
//! Each node halves a range of the points by a plane, so that its number and its range say all about it, and neighbours
//! lie together in memory. Nodes are opened by the least distance that a point in them may have (Hjaltason and Samet,
//! 1999), so that the next point costs little whether one is asked for or many.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

/// Points of a leaf, at most.
const LEAF: usize = 16;
/// Room for what a search for a few points puts aside.
const ASIDE: usize = 64;

/// Coordinates.
pub(crate) type Point = [f64; 3];

/// Points, by number.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    points: Vec<Point>,
    /// By node; the halves of node n are 2n + 1 and 2n + 2.
    planes: Vec<Plane>,
}

/// All points before the middle are on or below it, the others on or above it.
#[derive(Clone, Copy, Debug, Default)]
struct Plane {
    axis: usize,
    at: f64,
}

/// Something that is in order by a distance alone, of whatever kind. In a [`BinaryHeap`] the nearest is on top.
pub(crate) struct ByDistance<T> {
    pub distance: f64,
    pub what: T,
}

/// Part of the tree that has not been looked at, by the least distance (squared) that a point in it may have, up to rounding.
type Aside = ByDistance<Node>;

struct Node {
    /// The parts of that distance along the axes.
    parts: Point,
    number: usize,
    start: usize,
    end: usize,
}

impl Tree {
    /// Arranges points; also where in `points` those that are now numbers 0, 1, ... were.
    pub(crate) fn build(points: impl IntoIterator<Item = Point>) -> (Self, Vec<u32>) {
        let mut points: Vec<(Point, u32)> = points.into_iter().zip(0..).collect();
        let leaves = points.len().div_ceil(LEAF).next_power_of_two();
        let mut planes = vec![Plane::default(); leaves - 1];
        halve(&mut points, &mut planes, 0);
        let (points, order) = points.into_iter().unzip();
        (Self { points, planes }, order)
    }

    /// Distances (squared) and numbers, nearest first.
    pub(crate) fn nearest(&self, from: Point) -> impl Iterator<Item = (f64, u32)> {
        let room = ASIDE.min(self.points.len());
        let (mut nodes, mut points) = (BinaryHeap::with_capacity(room), BinaryHeap::with_capacity(room));
        nodes.push(self.root());
        std::iter::from_fn(move || {
            while let Some(node) = nodes.peek()
                && points.peek().is_none_or(|Reverse((squared, _))| node.distance < f64::from_bits(*squared))
            {
                let leaf = self.descend(from, nodes.pop()?, |aside| nodes.push(aside));
                let numbered = (leaf.start as u32..).zip(&self.points[leaf.start..leaf.end]);
                // As bits, squares are in the same order as numbers.
                points.extend(numbered.map(|(number, point)| Reverse((squared(from, *point).to_bits(), number))));
            }
            points.pop().map(|Reverse((squared, number))| (f64::from_bits(squared), number))
        })
    }

    fn root(&self) -> Aside {
        ByDistance { distance: 0.0, what: Node { parts: [0.0; 3], number: 0, start: 0, end: self.points.len() } }
    }

    /// Goes down to the leaf on whose side `from` is, and puts the other halves aside.
    fn descend(&self, from: Point, aside: Aside, mut put_aside: impl FnMut(Aside)) -> Node {
        let ByDistance { distance, what: mut node } = aside;
        while node.end - node.start > LEAF {
            let Plane { axis, at } = self.planes[node.number];
            let middle = usize::midpoint(node.start, node.end);
            let below = Node { number: 2 * node.number + 1, end: middle, ..node };
            let above = Node { number: 2 * node.number + 2, start: middle, ..node };
            let part = (from[axis] - at).powi(2);
            let (near, mut far) = if from[axis] < at { (below, above) } else { (above, below) };
            let distance = distance + (part - far.parts[axis]);
            far.parts[axis] = part;
            put_aside(ByDistance { distance, what: far });
            node = near;
        }
        node
    }
}

impl<T> Ord for ByDistance<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.distance.total_cmp(&self.distance)
    }
}

impl<T> PartialOrd for ByDistance<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for ByDistance<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for ByDistance<T> {}

/// Halves points along the axis on which they are farthest apart, and so on.
fn halve(points: &mut [(Point, u32)], planes: &mut [Plane], number: usize) {
    if points.len() <= LEAF {
        return;
    }
    let extent = |axis: usize| {
        let all = points.iter().map(|(point, _)| point[axis]);
        all.clone().fold(f64::NEG_INFINITY, f64::max) - all.fold(f64::INFINITY, f64::min)
    };
    let extents = [0, 1, 2].map(extent);
    let axis = if extents[0] >= extents[1].max(extents[2]) { 0 } else { 1 + usize::from(extents[2] > extents[1]) };
    let middle = points.len() / 2;
    let (_, (point, _), _) = points.select_nth_unstable_by(middle, |(a, _), (b, _)| a[axis].total_cmp(&b[axis]));
    planes[number] = Plane { axis, at: point[axis] };
    let (below, above) = points.split_at_mut(middle);
    halve(below, planes, 2 * number + 1);
    halve(above, planes, 2 * number + 2);
}

fn squared(a: Point, b: Point) -> f64 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2) + (a[2] - b[2]).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn point() -> impl Strategy<Value = Point> {
        // Some in line with one another, some at the same place.
        let coordinate = || prop_oneof![-1.0..1.0, prop::sample::select(vec![-0.5, 0.0, 0.5])];
        [coordinate(), coordinate(), coordinate()]
    }

    #[test]
    fn few_leaves_are_looked_at() {
        let points = (0..10_000).map(|i| [f64::from(i % 100), f64::from(i / 100), 0.0]);
        let (tree, _) = Tree::build(points);
        let mut leaves = 0;
        let mut nodes = vec![tree.root()];
        let from = [33.3, 66.6, 0.0];
        let farthest = tree.nearest(from).nth(11).unwrap().0;
        while let Some(node) = nodes.pop() {
            if node.distance <= farthest {
                tree.descend(from, node, |aside| nodes.push(aside));
                leaves += 1;
            }
        }
        assert!(leaves <= 8, "{leaves} of 1,024");
    }

    #[test]
    fn leaves_may_be_as_full_as_they_like() {
        for count in [0, 1, 15, 16, 17, 31, 32, 33, 64, 65, 257] {
            for step in [0.0, 1.0] {
                let (tree, _) = Tree::build((0..count).map(|i| [f64::from(i) * step, 0.0, 0.0]));
                let found: Vec<f64> = tree.nearest([-1.0, 0.0, 0.0]).map(|(squared, _)| squared.sqrt()).collect();
                assert_eq!(found, (0..count).map(|i| 1.0 + f64::from(i) * step).collect::<Vec<_>>());
            }
        }
    }

    proptest! {
        #[test]
        fn each_point_comes_once_and_in_order(points in vec(point(), 0..300), from in point()) {
            let (tree, order) = Tree::build(points.iter().copied());
            let found: Vec<(f64, u32)> = tree.nearest(from).collect();
            prop_assert!(found.is_sorted_by(|(a, _), (b, _)| *a <= *b + 1e-12), "{:?}", found);
            for (distance, number) in &found {
                prop_assert_eq!(*distance, squared(from, points[order[*number as usize] as usize]));
            }
            let mut numbers: Vec<u32> = found.into_iter().map(|(_, number)| order[number as usize]).collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (0..points.len() as u32).collect::<Vec<_>>());
        }
    }
}
