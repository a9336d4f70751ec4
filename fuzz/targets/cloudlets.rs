//! The operator's list of cloudlets: every entry has an identity of its own, which stays.
#![no_main]

#[path = "../../tier1/src/cloudlets.rs"]
#[expect(dead_code, reason = "files are not read here")]
mod cloudlets;

use libfuzzer_sys::fuzz_target;
use std::collections::HashSet;

fuzz_target!(|data: &[u8]| match cloudlets::parse(data) {
    Ok(list) => {
        let identities: HashSet<_> = list.iter().filter_map(|info| info.uuid).collect();
        assert_eq!(identities.len(), list.len());
        assert_eq!(cloudlets::parse(data).unwrap(), list);
        for info in list {
            let kept = serde_json::to_string(&info).unwrap();
            assert_eq!(serde_json::from_str::<sinfonia_wire::CloudletInfo>(&kept).unwrap(), info, "{kept}");
        }
    }
    Err((document, _)) => assert_ne!(document, 0),
});
