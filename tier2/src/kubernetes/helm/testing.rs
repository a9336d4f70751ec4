//! A helm that only pretends.

use std::{ffi::OsString, path::Path};

use super::process::Runner;

/// Runs tests/fake/helm.
pub(super) fn runner() -> Runner {
    let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake");
    let environment = vec![("GIVEN", OsString::from("1"))];
    Runner { program: fake.join("helm"), guard: fake.join("guard"), environment }
}
