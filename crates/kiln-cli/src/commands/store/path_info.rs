//! What a store knows about a path, for people and for programs.

use std::fmt::Write as _;
use std::path::PathBuf;

use kiln_hash::{Hash, Sha256};
use kiln_narinfo::PathInfo;
use kiln_store_path::StoreDir;
use kiln_substitute::NarFile;
use serde_json::{Map, Value};

use crate::calendar;

/// What is known about a path.
pub(super) struct Known<'a> {
    pub(super) info: &'a PathInfo,
    /// Where its contents are, if not where its name says.
    pub(super) contents: Option<PathBuf>,
    /// The file that it is in, in a binary cache. There it is nothing that was registered.
    pub(super) file: Option<&'a NarFile>,
    pub(super) closure: Option<ClosureSize>,
}

/// What a path takes with all that it needs, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClosureSize {
    /// Of the archives.
    pub(super) nar: u64,
    /// Of the files in a binary cache.
    pub(super) download: Option<u64>,
}

impl<'a> Known<'a> {
    pub(super) fn new(info: &'a PathInfo) -> Self {
        Self { info, contents: None, file: None, closure: None }
    }

    /// The lines for people.
    pub(super) fn readable(&self, store_dir: &StoreDir) -> String {
        let Self { info, contents, file, closure } = self;
        let mut text = store_dir.print(&info.path) + "\n";
        let mut line = |label: &str, value: String| {
            let _ = writeln!(text, "  {label:<15} {value}");
        };
        let bytes = |size: u64| format!("{size} bytes");
        if let Some(contents) = contents {
            line("Contents in", contents.display().to_string());
        }
        let hash = if info.nar_hash == Sha256::UNKNOWN { "unknown".to_owned() } else { sri(info.nar_hash) };
        line("NAR hash", hash);
        line("NAR size", bytes(info.nar_size));
        if let Some(closure) = closure {
            line("Closure size", bytes(closure.nar));
        }
        if let Some(file) = file {
            line("File", file.url.clone());
            line("Compression", file.compression.to_string());
            line("File size", file.size.map_or_else(|| "unknown".to_owned(), bytes));
            if let Some(size) = closure.and_then(|closure| closure.download) {
                line("Closure's files", bytes(size));
            }
        }
        line(
            "Deriver",
            info.deriver.as_ref().map_or_else(|| "unknown".to_owned(), |path| store_dir.print(path)),
        );
        if file.is_none() {
            line("Registered", calendar::utc(info.registration_time));
            line("Built here", if info.ultimate { "yes" } else { "no" }.to_owned());
        }
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
    pub(super) fn json(&self, store_dir: &StoreDir) -> Value {
        let info = self.info;
        let references: Vec<String> = info.references.iter().map(|path| store_dir.print(path)).collect();
        let signatures: Vec<String> = info.signatures.iter().map(ToString::to_string).collect();
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
        put("ca", info.content_address.as_ref().map(ToString::to_string).into());
        put("deriver", info.deriver.as_ref().map(|path| store_dir.print(path)).into());
        put("narHash", sri(info.nar_hash).into());
        put("narSize", info.nar_size.into());
        put("references", references.into());
        put("signatures", signatures.into());
        match self.file {
            Some(file) => {
                put("url", file.url.clone().into());
                put("compression", file.compression.to_string().into());
                put("downloadHash", file.hash.map(|hash| hash.sri()).into());
                put("downloadSize", file.size.into());
            }
            None => {
                put("registrationTime", info.registration_time.into());
                put("ultimate", info.ultimate.into());
            }
        }
        if let Some(closure) = self.closure {
            put("closureSize", closure.nar.into());
            if let Some(size) = closure.download {
                put("closureDownloadSize", size.into());
            }
        }
        Value::Object(object)
    }
}

fn sri(hash: Sha256) -> String {
    Hash::from(hash).sri()
}

#[cfg(test)]
mod tests {
    use kiln_narinfo::Compression;
    use kiln_store_path::StorePath;

    use super::*;

    #[test]
    fn both_forms_tell_the_same() {
        let path = StorePath::from_base_name("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple").unwrap();
        let mut info = PathInfo::new(path.clone(), Sha256::of("abc"), 1234);
        info.registration_time = 1_700_000_000;
        info.references.insert(path);
        let known = Known { contents: Some("/root/nix/store/mz98".into()), ..Known::new(&info) };
        let text = known.readable(&StoreDir::default());
        assert_eq!(
            text,
            "/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple\n  Contents in     /root/nix/store/mz98\n  \
             NAR hash        sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=\n  NAR size        1234 bytes\n  \
             Deriver         unknown\n  Registered      2023-11-14 22:13:20 UTC\n  Built here      no\n  \
             References      1\n    /nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple\n"
        );
        let json = known.json(&StoreDir::default());
        assert_eq!(json["narSize"], 1234);
        assert_eq!(json["ca"], Value::Null);
        assert_eq!(json["references"][0], "/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple");
        assert_eq!(
            (&json["ultimate"], json.get("url"), json.get("closureSize")),
            (&Value::Bool(false), None, None)
        );
    }

    #[test]
    fn of_a_cache_there_are_files_and_nothing_is_registered() {
        let path = StorePath::from_base_name("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple").unwrap();
        let info = PathInfo::new(path, Sha256::of("abc"), 1234);
        let (url, hash) = ("nar/x.nar.xz".to_owned(), Some(Hash::from(Sha256::of("file"))));
        let file = NarFile { url, compression: Compression::Xz, hash, size: Some(99) };
        let closure = Some(ClosureSize { nar: 5000, download: Some(400) });
        let known = Known { file: Some(&file), closure, ..Known::new(&info) };
        let json = known.json(&StoreDir::default());
        assert_eq!((&json["url"], &json["downloadSize"]), (&"nar/x.nar.xz".into(), &99.into()));
        assert_eq!((&json["closureSize"], &json["closureDownloadSize"]), (&5000.into(), &400.into()));
        assert_eq!(json.get("registrationTime"), None);
        let text = known.readable(&StoreDir::default());
        assert!(
            text.contains("  Closure size    5000 bytes\n") && text.contains("  File size       99 bytes\n"),
            "{text}"
        );
        assert!(!text.contains("Registered"), "{text}");
    }
}
