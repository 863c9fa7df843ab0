//! Derivations as JSON: whatever reads must be written so that it reads the same, in every version of the format.

#![no_main]

use kiln_derivation::{BuildOptions, Derivation, JsonVersion};
use kiln_store_path::{StoreDir, StorePathName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let store_dir = StoreDir::default();
    let name = StorePathName::new("fuzzed").expect("the name is valid");
    for version in [JsonVersion::V1, JsonVersion::V2, JsonVersion::V3, JsonVersion::V4] {
        let Ok(derivation) = Derivation::parse_json(data, Some(&name), &store_dir, version) else { continue };
        let json = derivation.to_json(&store_dir, version).expect("what comes from JSON is UTF-8");
        let again = Derivation::from_json(&json, Some(&derivation.name), &store_dir, version)
            .expect("the writer makes what the reader takes");
        assert_eq!(again, derivation);
        let _ = BuildOptions::of(&derivation);
    }
});
