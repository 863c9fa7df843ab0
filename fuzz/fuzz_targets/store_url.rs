//! URLs of stores: whatever reads must be written so that it reads the same.

#![no_main]

use kiln_settings::StoreUrl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(url) = StoreUrl::parse(text) {
        let rendered = url.render();
        assert_eq!(StoreUrl::parse(&rendered).as_ref(), Ok(&url), "{rendered}");
    }
});
