//! What a store knows about a path, for people and for programs.

use std::fmt::Write as _;
use std::path::Path;

use kiln_hash::{Hash, Sha256};
use kiln_narinfo::PathInfo;
use kiln_store_path::StoreDir;
use serde_json::{Value, json};

use crate::calendar;

/// The lines for people. `file` is where the path's contents are, if not where its name says.
pub(super) fn readable(info: &PathInfo, store_dir: &StoreDir, file: Option<&Path>) -> String {
    let mut text = store_dir.print(&info.path) + "\n";
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "  {label:<15} {value}");
    };
    if let Some(file) = file {
        line("Contents in", file.display().to_string());
    }
    let hash = if info.nar_hash == Sha256::UNKNOWN { "unknown".to_owned() } else { sri(info.nar_hash) };
    line("NAR hash", hash);
    line("NAR size", format!("{} bytes", info.nar_size));
    line("Deriver", info.deriver.as_ref().map_or_else(|| "unknown".to_owned(), |path| store_dir.print(path)));
    line("Registered", calendar::utc(info.registration_time));
    line("Built here", if info.ultimate { "yes" } else { "no" }.to_owned());
    if let Some(address) = &info.content_address {
        line("Content address", address.to_string());
    }
    for signature in &info.signatures {
        line("Signature", signature.to_string());
    }
    line("References", info.references.len().to_string());
    for reference in &info.references {
        let _ = writeln!(text, "    {}", store_dir.display(reference));
    }
    text
}

/// The JSON object, with the keys that `nix path-info --json` has.
pub(super) fn json(info: &PathInfo, store_dir: &StoreDir) -> Value {
    let references: Vec<String> = info.references.iter().map(|path| store_dir.print(path)).collect();
    let signatures: Vec<String> = info.signatures.iter().map(ToString::to_string).collect();
    json!({
        "ca": info.content_address.as_ref().map(ToString::to_string),
        "deriver": info.deriver.as_ref().map(|path| store_dir.print(path)),
        "narHash": sri(info.nar_hash),
        "narSize": info.nar_size,
        "references": references,
        "registrationTime": info.registration_time,
        "signatures": signatures,
        "ultimate": info.ultimate,
    })
}

fn sri(hash: Sha256) -> String {
    Hash::from(hash).sri()
}

#[cfg(test)]
mod tests {
    use kiln_store_path::StorePath;

    use super::*;

    #[test]
    fn both_forms_tell_the_same() {
        let path = StorePath::from_base_name("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple").unwrap();
        let mut info = PathInfo::new(path.clone(), Sha256::of("abc"), 1234);
        info.registration_time = 1_700_000_000;
        info.references.insert(path);
        let text = readable(&info, &StoreDir::default(), Some(Path::new("/root/nix/store/mz98")));
        assert_eq!(
            text,
            "/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple\n  Contents in     /root/nix/store/mz98\n  \
             NAR hash        sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=\n  NAR size        1234 bytes\n  \
             Deriver         unknown\n  Registered      2023-11-14 22:13:20 UTC\n  Built here      no\n  \
             References      1\n    /nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple\n"
        );
        let json = json(&info, &StoreDir::default());
        assert_eq!(json["narSize"], 1234);
        assert_eq!(json["ca"], Value::Null);
        assert_eq!(json["references"][0], "/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple");
    }
}
