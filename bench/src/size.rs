//! How large the programs are.

use crate::figure::show;

pub(crate) const FIGURES: [&str; 3] = ["size_mb_tier1", "size_mb_tier2", "size_mb_tier3"];

/// Looks at the programs as built; the release profile strips them.
pub(crate) fn run() {
    for (figure, program) in FIGURES.iter().zip(["sinfonia-tier1", "sinfonia-tier2", "sinfonia-tier3"]) {
        let length = sinfonia_tests::program(program).metadata().unwrap().len();
        show(figure, length as f64 / 1e6, "MB");
    }
}
