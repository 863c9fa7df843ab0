use proptest::prelude::*;

use super::tests_support::sandboxed;
use super::*;

#[test]
fn printed_plans_can_be_read_again() {
    let plan = sandboxed();
    let text = plan.to_string();
    assert!(text.contains("\"/nix/store\""), "{text}");
    assert_eq!(serde_json::from_str::<LaunchPlan>(&text).unwrap(), plan);
}

#[test]
fn left_out_fields_have_the_safe_default() {
    let plan: LaunchPlan = serde_json::from_str(
        r#"{"builder": "/bin/sh", "arguments": [], "environment": [],
            "build_directory": {"source": "/b", "target": "/build"}, "credentials": "caller",
            "confinement": {"sandbox": {"store": {"target": "/s", "source": "/r", "inputs": []},
                "temporary_directory": "/t", "network": "private", "shared_memory_size": "50%"}}}"#,
    )
    .unwrap();
    assert_eq!(plan.system_calls, SystemCallFilter::Strict);
    let sandbox = plan.sandbox().unwrap();
    assert!(sandbox.mask_proc && !sandbox.kvm && sandbox.paths.is_empty());
}

#[test]
fn cut_off_plans_are_refused() {
    let json = serde_json::to_vec(&sandboxed()).unwrap();
    for length in 0..json.len() {
        assert!(serde_json::from_slice::<LaunchPlan>(&json[..length]).is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn damaged_plans_are_plans_or_errors(at: prop::sample::Index, bit in 0..8_u32) {
        let mut json = serde_json::to_vec(&sandboxed()).unwrap();
        let at = at.index(json.len());
        json[at] ^= 1 << bit;
        if let Ok(plan) = serde_json::from_slice::<LaunchPlan>(&json) {
            // What could be read is whole: it can be written and read again.
            prop_assert_eq!(serde_json::from_str::<LaunchPlan>(&plan.to_string()).unwrap(), plan);
        }
    }

    #[test]
    fn paths_and_variables_of_any_bytes_survive(bytes: Vec<u8>, name: Vec<u8>) {
        let mut plan = sandboxed();
        plan.environment.push((name.into(), bytes.clone().into()));
        plan.build_directory.source = bytes.into();
        let json = serde_json::to_vec(&plan).unwrap();
        prop_assert_eq!(serde_json::from_slice::<LaunchPlan>(&json).unwrap(), plan);
    }
}
