//! Texts that come from binary caches: whatever reads must be written back so that it reads the same.

#![no_main]

use kiln_narinfo::registration::{Form, Reader};
use kiln_narinfo::{CacheInfo, NarInfo, PublicKey, Realisation, RealisationId, SecretKey};
use kiln_store_path::StoreDir;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let store_dir = StoreDir::default();
    if let Ok(narinfo) = NarInfo::parse(&store_dir, "fuzzed", data) {
        let again = NarInfo::parse(&store_dir, "written", narinfo.to_text(&store_dir).as_bytes());
        assert_eq!(again.as_ref(), Ok(&narinfo));
        let _ = narinfo.info.is_content_addressed(&store_dir);
    }
    let _ = CacheInfo::parse("fuzzed", data);
    let id: RealisationId = format!("sha256:{}!out", "0".repeat(64)).parse().expect("the id is well-formed");
    if let Ok(realisation) = Realisation::parse(&id, data) {
        assert_eq!(Realisation::parse(&id, realisation.to_json().as_bytes()), Ok(realisation));
    }
    for form in [Form::WithHashes, Form::WithoutHashes] {
        let mut reader = Reader::new(store_dir.clone(), form);
        let mut entries = Vec::new();
        if reader.push(data, &mut entries).is_ok() {
            let _ = reader.finish();
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = text.parse::<PublicKey>();
        let _ = text.parse::<SecretKey>();
    }
});
