//! Files of settings and lists of machines: whatever reads must be shown so that it reads the same.

#![no_main]

use std::path::Path;

use kiln_settings::{Configuration, Machine, Origin, SourceError, parse_machines};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let machine = Machine::plain("x86_64-linux");
    // Files include themselves, and others that are missing.
    let source = |path: &Path| -> Result<Option<Vec<u8>>, SourceError> {
        Ok(path.ends_with("nix.conf").then(|| data.to_vec()))
    };
    let path = Path::new("/etc/nix/nix.conf");
    let mut configuration = Configuration::new(&machine);
    if configuration.apply(data.to_vec(), path, Origin::SystemFile, &source).is_ok() {
        let shown = configuration.show();
        let mut again = Configuration::new(&machine);
        again
            .apply(shown.clone().into_bytes(), path, Origin::SystemFile, &source)
            .expect("what is shown can be read");
        assert_eq!(again.show(), shown);
    }
    let _ = (configuration.to_json(), configuration.overrides());
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = parse_machines(text, "x86_64-linux", &source);
    }
});
