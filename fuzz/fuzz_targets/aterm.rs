//! Texts of derivations: whatever reads must be written so that it reads the same, and must bear every question.

#![no_main]

use kiln_derivation::{BuildOptions, Derivation, HashModuloCache, Strictness, check_outputs};
use kiln_store_path::{StoreDir, StorePathName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let store_dir = StoreDir::default();
    let name = StorePathName::new("fuzzed").expect("the name is valid");
    let read = |text: &[u8], strictness| Derivation::parse_aterm(text, &name, &store_dir, strictness);
    if let Ok(derivation) = read(data, Strictness::Strict) {
        assert_eq!(derivation.to_aterm(&store_dir).expect("strict reading has written it"), data);
    }
    let Ok(derivation) = read(data, Strictness::Lenient) else { return };
    if let Ok(text) = derivation.to_aterm(&store_dir) {
        let again = read(&text, Strictness::Strict).expect("the writer makes canonical texts");
        assert_eq!(again, derivation);
    }
    let _ = BuildOptions::of(&derivation);
    let _ = check_outputs(&derivation, &HashModuloCache::new(store_dir.clone()));
    let _ = derivation.resolve(&store_dir, |path, _| Some(path.clone()));
});
