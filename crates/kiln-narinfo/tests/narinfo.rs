//! narinfo files made by real Nix, and malformed ones with the verdicts of real Nix.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;

use kiln_narinfo::{Compression, NarInfo, PublicKeys, Trust};
use kiln_store_path::{StoreDir, StorePath};
use proptest::prelude::*;

fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

fn parse(text: &[u8]) -> Result<NarInfo, kiln_narinfo::NarInfoError> {
    NarInfo::parse(&StoreDir::default(), "sample.narinfo", text)
}

fn ok() -> Vec<u8> {
    fs::read(data("bad-narinfo/ok.narinfo")).unwrap()
}

#[test]
fn files_of_nix_are_written_back_byte_for_byte_and_their_signatures_hold() {
    let key = fs::read_to_string(data("keys/kiln-test-1.pub")).unwrap().parse().unwrap();
    let keys = PublicKeys::from_iter([key]);
    let mut files = 0;
    for cache in ["2.34-none", "2.34-ca", "2.8-ca"] {
        for entry in fs::read_dir(data("cache").join(cache)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "narinfo") {
                continue;
            }
            let text = fs::read(&path).unwrap();
            let narinfo = parse(&text).unwrap();
            assert_eq!(narinfo.to_text(&StoreDir::default()).as_bytes(), text, "{}", path.display());
            narinfo.check_has_digest("f", path.file_stem().unwrap().to_str().unwrap()).unwrap();
            assert_eq!(narinfo.info.count_valid_signatures(&StoreDir::default(), &keys), 1);
            assert_eq!(
                narinfo.info.is_content_addressed(&StoreDir::default()),
                narinfo.info.content_address.is_some(),
                "{}",
                path.display()
            );
            assert!(narinfo.info.trust(&StoreDir::default(), &keys) != Trust::None);
            files += 1;
        }
    }
    assert_eq!(files, 17, "all samples are checked");
}

/// Files that some version of Nix takes and this engine refuses, each for a reason.
const STRICTER: [(&str, &str); 5] = [
    (
        "blank-line.narinfo",
        "Nix takes the empty line and the name after it for one unknown name and loses a field",
    ),
    ("narhash-sha512.narinfo", "a NAR hash is SHA-256 everywhere else"),
    ("no-space-after-colon.narinfo", "Nix drops the first digit of the size"),
    ("sig-bad.narinfo", "as Nix 2.34"),
    ("sig-empty-name.narinfo", "as Nix 2.34"),
];

#[test]
fn malformed_files_have_the_verdict_of_nix() {
    let table = fs::read_to_string(data("bad-narinfo/results.tsv")).unwrap();
    let mut rows = 0;
    for row in table.lines().skip(1) {
        let columns: Vec<_> = row.split('\t').collect();
        let (file, newest) = (columns[0], columns[3]);
        let text = fs::read(data("bad-narinfo").join(file)).unwrap();
        let stricter = STRICTER.iter().any(|(name, _)| *name == file);
        let expected = newest.starts_with("INFO-OK") && !stricter;
        // What is about another path reads, and is refused when it is compared with what was asked for.
        let parsed = parse(&text);
        assert_eq!(parsed.is_ok(), expected, "{file}: {parsed:?}");
        rows += 1;
    }
    assert_eq!(rows, 42, "every row of the table is checked");
}

#[test]
fn a_file_about_another_path_is_refused() {
    let asked = StorePath::from_base_name("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple").unwrap();
    let check = |file: &str| {
        let narinfo = parse(&fs::read(data("bad-narinfo").join(file)).unwrap()).unwrap();
        (narinfo.check_is_about(file, &asked).is_ok(), narinfo.check_has_digest(file, asked.digest()).is_ok())
    };
    assert_eq!(check("ok.narinfo"), (true, true));
    assert_eq!(check("storepath-other-hash.narinfo"), (false, false));
    assert_eq!(check("storepath-other-name.narinfo"), (false, true));
}

#[test]
fn optional_fields_have_their_defaults() {
    let read = |file: &str| parse(&fs::read(data("bad-narinfo").join(file)).unwrap()).unwrap();
    assert_eq!(read("no-compression.narinfo").compression, Compression::Bzip2);
    assert_eq!(read("no-filehash.narinfo").file_hash, None);
    assert_eq!(read("no-filesize.narinfo").file_size, None);
    assert_eq!(read("deriver-unknown.narinfo").info.deriver, None);
    assert_eq!(read("ca-empty.narinfo").info.content_address, None);
    assert_eq!(read("sig-two.narinfo").info.signatures.len(), 2);
    assert_eq!(read("refs-double-space.narinfo").info.references.len(), 2);
    assert_eq!(read("narhash-sri.narinfo").info, read("ok.narinfo").info);
    assert_eq!(read("narhash-hex.narinfo").info, read("ok.narinfo").info);
}

#[test]
fn messages_name_the_file_the_fault_and_the_line() {
    let message =
        |file: &str| parse(&fs::read(data("bad-narinfo").join(file)).unwrap()).unwrap_err().to_string();
    assert_eq!(
        message("no-final-newline.narinfo"),
        "NAR info file 'sample.narinfo' is corrupt: expecting a line feed after the last line at line 10"
    );
    assert_eq!(message("no-narhash.narinfo"), "NAR info file 'sample.narinfo' is corrupt: NarHash missing");
}

#[test]
fn no_truncation_is_taken_for_the_whole() {
    let text = ok();
    let whole = parse(&text).unwrap();
    for end in 0..text.len() {
        if let Ok(narinfo) = parse(&text[..end]) {
            // Cut between two lines, only fields that are optional may be missing.
            assert_eq!(text[end - 1], b'\n', "{end} bytes");
            assert_eq!(narinfo.info.nar_hash, whole.info.nar_hash);
        }
    }
}

proptest! {
    #[test]
    fn damage_is_refused_or_read(position in 0_usize..484, bit in 0_u32..8) {
        let mut text = ok();
        text[position] ^= 1_u8 << bit;
        if let Ok(narinfo) = parse(&text) {
            let again = parse(narinfo.to_text(&StoreDir::default()).as_bytes()).unwrap();
            prop_assert_eq!(again, narinfo);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&text);
    }
}
