//! What cloudlets report: what is taken can be kept as JSON, and is the same when it is read from there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinfonia_wire::CloudletInfo;

fuzz_target!(|data: &[u8]| {
    let Ok(info) = serde_json::from_slice::<CloudletInfo>(data) else { return };
    let kept = serde_json::to_string(&info).unwrap();
    assert_eq!(serde_json::from_str::<CloudletInfo>(&kept).unwrap(), info, "{kept}");
    assert!(info.resources.iter().all(|(_, value)| value.is_finite()));
    assert_ne!(info.endpoint.port(), 0);
});
