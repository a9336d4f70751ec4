//! How figures are gained and shown.

/// Prints a figure.
#[expect(clippy::print_stdout, reason = "what the bench is for")]
pub(crate) fn show(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

/// Makes two measurements in turn, so that whatever else the machine does meets both, and returns what each gave.
pub(crate) fn interleaved<T>(
    rounds: usize,
    mut first: impl FnMut() -> T,
    mut second: impl FnMut() -> T,
) -> (Vec<T>, Vec<T>) {
    (0..rounds).map(|_| (first(), second())).unzip()
}

/// The median.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn measurements_take_turns() {
        let count = std::cell::Cell::new(0);
        let next = || count.replace(count.get() + 1);
        assert_eq!(interleaved(3, next, next), (vec![0, 2, 4], vec![1, 3, 5]));
    }
}
