//! What cloudlets and tier1 answer: deployments, and problems in whatever form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinfonia_wire::{CloudletDeployment, Problem};

fuzz_target!(|data: &[u8]| {
    let problem = Problem::from_answer(503, data);
    assert!(problem.status == 503 && !problem.title.is_empty());
    let told = serde_json::to_vec(&problem).unwrap();
    assert_eq!(Problem::from_answer(503, &told), problem);
    let Ok(list) = serde_json::from_slice::<Vec<CloudletDeployment>>(data) else { return };
    let passed_on = serde_json::to_string(&list).unwrap();
    assert_eq!(serde_json::from_str::<Vec<CloudletDeployment>>(&passed_on).unwrap(), list, "{passed_on}");
});
