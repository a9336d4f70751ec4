//! Amounts in objects of Kubernetes, as numbers.

/// The number that a quantity such as `250m`, `123456n`, `1e3` or `4028436Ki` stands for; none if it is no quantity, or
/// is negative.
pub(crate) fn amount(text: &str) -> Option<f64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[number.len()..] {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => f64::from(1 << 20),
        "Gi" => f64::from(1 << 30),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        _ => return None,
    };
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value = number.parse::<f64>().ok().filter(|_| plain)? * factor;
    (value.is_finite() && value >= 0.0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::amount;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, value) in [
            ("2", 2.0),
            ("250m", 0.25),
            ("156943861n", 0.156_943_861),
            ("1500u", 0.0015),
            ("4028436Ki", 4_125_118_464.0),
            ("1.5Gi", 1_610_612_736.0),
            ("1e3", 1000.0),
            ("12E", 12e18),
        ] {
            let given = amount(text).unwrap();
            assert!((given - value).abs() <= value * 1e-12, "{text}: {given}");
        }
        for text in ["", "m", "-1", "1 Ki", "1KiB", "NaN", "inf", "1e999"] {
            assert_eq!(amount(text), None, "{text}");
        }
    }
}
