//! What real Nix wrote, and what it made of damaged archives (`tests/data`).

use crate::tree::decode;
use kiln_hash::{Algorithm, Sha256};
use kiln_nar::export::{
    ExportError, ExportEvent, ExportReader, ItemInfo, put_end, put_item_end, put_item_start,
};
use kiln_nar::*;
use std::fs;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The second column of `results.tsv` that is wanted here: the verdict of 2.34.8.
fn verdicts() -> Vec<(String, String, String)> {
    let table = fs::read_to_string(data("results.tsv")).unwrap();
    let rows: Vec<_> = table
        .lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<_> = line.split('\t').map(str::to_owned).collect();
            (columns[0].clone(), columns[1].clone(), columns[4].clone())
        })
        .collect();
    assert_eq!(
        rows.len(),
        fs::read_dir(data("good")).unwrap().count() - 1 + fs::read_dir(data("bad")).unwrap().count()
    );
    rows
}

#[test]
fn verdicts_are_those_of_nix() {
    for (set, file, verdict) in verdicts() {
        let archive = fs::read(data(&set).join(&file)).unwrap();
        for size in [archive.len().max(1), 1, 7, 64] {
            let result = decode(archive.chunks(size));
            if file == "trailing-garbage.nar" {
                // The decoder stops at the end of the archive; whoever knows the size checks it.
                assert_eq!(result.unwrap().1 + 8, archive.len() as u64);
            } else if verdict.starts_with("ACCEPT") {
                assert_eq!(verdict, "ACCEPT same");
                let (tree, taken) = result.unwrap_or_else(|error| panic!("{file}: {error}"));
                assert_eq!(taken, archive.len() as u64, "{file}");
                assert_eq!(tree.encode(), archive, "{file}");
            } else {
                let error = result.expect_err(&file).to_string();
                let reason = verdict.trim_start_matches("REJECT: ").trim_start_matches("bad archive: ");
                let reason = reason.replace("end-of-file", "end of input").replace("NAR contains ", "");
                let reason = reason
                    .replace("exceeds maximum", "exceeds the maximum")
                    .replace("NAR directory", "directory");
                let reason = reason.replace("'ab'", r"'a\x00b'");
                assert!(error.contains(&reason), "{file}: {error} / {reason}");
            }
        }
    }
}

#[test]
fn hashes_and_sizes_are_those_of_nix() {
    let hashes: serde_json::Value =
        serde_json::from_slice(&fs::read(data("good/hashes.json")).unwrap()).unwrap();
    for (name, expected) in hashes.as_object().unwrap() {
        let archive = fs::read(data("good").join(format!("{name}.nar"))).unwrap();
        let mut hasher = NarHasher::new();
        archive.chunks(100).for_each(|piece| hasher.update(piece));
        let digest = hasher.finish();
        assert_eq!(digest.hash.base16(), expected["hex"].as_str().unwrap(), "{name}");
        assert_eq!(digest.size, expected["size"].as_u64().unwrap(), "{name}");
    }
}

#[test]
fn listings_are_those_of_nix() {
    let mut seen = 0;
    for entry in fs::read_dir(data("cache")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "ls") {
            let archive = fs::read(path.with_extension("nar")).unwrap();
            let mut decoder = Decoder::new();
            let mut writer = ListingWriter::new();
            for mut piece in archive.chunks(5) {
                while let Some(event) = decoder.next(&mut piece).unwrap() {
                    writer.event(event).unwrap();
                }
            }
            assert_eq!(writer.finish().unwrap(), fs::read_to_string(&path).unwrap(), "{}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 7);
}

/// Nix 2.26 and later named this path by the new form of the hash without regard to itself, 2.8 by the old form.
#[test]
fn self_references_are_hashed_as_in_nix() {
    let new = "1dn9mch4nc1zjb0g19vb8whhp1zbhxzg";
    let archive = fs::read(data("cache").join(format!("{new}.nar"))).unwrap();
    assert_eq!(Sha256::of(&archive).nix32(), "13h4lh93602dan78r0c81zwk7j02jh16hz15kqhxkjbzgmyc81qn");
    let digest = DigestText::new(new).unwrap();
    let mut positions = HashRewriter::new([(digest, *digest.as_bytes())]).record_positions();
    let mut hasher = SelfHasher::new(Algorithm::Sha256, digest).with_old_hash();
    let mut same = Vec::new();
    for piece in archive.chunks(10) {
        hasher.update(piece);
        positions.update(piece, &mut same);
    }
    assert_eq!(positions.finish(&mut same), 2);
    assert_eq!(same, archive);
    assert_eq!(positions.positions(), [243, 483]);
    let hashes = hasher.finish();
    let path_digest = |hash: &kiln_hash::Hash| {
        let fingerprint = format!("source:self:sha256:{}:/nix/store:ca-self", hash.base16());
        kiln_hash::encoding::nix32(&kiln_hash::fold(&Sha256::of(fingerprint).0, 20))
    };
    assert_eq!(path_digest(&hashes.hash), new);
    assert_eq!(path_digest(&hashes.old_hash.unwrap()), "jnn7h5i54z9l014hqrnng33ldrkwbg24");
}

/// Reads a whole export stream; the archives as they lie in it, and what is said of each.
fn read_export(stream: &[u8], size: usize) -> Result<Vec<(Vec<u8>, ItemInfo)>, ExportError> {
    let mut reader = ExportReader::new();
    let (mut items, mut archive, mut ended) = (Vec::new(), Vec::new(), false);
    for mut piece in stream.chunks(size) {
        loop {
            let before = piece;
            while reader.archive(&mut piece)?.is_some() {}
            archive.extend_from_slice(&before[..before.len() - piece.len()]);
            if reader.in_archive() {
                break;
            }
            match reader.next(&mut piece)? {
                None => break,
                Some(ExportEvent::Item) => archive.clear(),
                Some(ExportEvent::Info(info)) => items.push((archive.clone(), info)),
                Some(ExportEvent::End) => ended = true,
            }
        }
    }
    reader.finish()?;
    assert!(ended);
    Ok(items)
}

#[test]
fn export_streams_are_those_of_nix() {
    for (file, count) in [("simple", 1), ("dep2-closure", 6)] {
        let stream = fs::read(data("export").join(format!("{file}.export"))).unwrap();
        for size in [1, 9, stream.len()] {
            let items = read_export(&stream, size).unwrap();
            assert_eq!(items.len(), count);
            let mut out = Vec::new();
            for (archive, info) in &items {
                put_item_start(&mut out);
                out.extend_from_slice(archive);
                put_item_end(&mut out, info);
            }
            put_end(&mut out);
            assert_eq!(out, stream);
            let last = &items.last().unwrap().1;
            let refers_to_itself = last.references.contains(&last.path);
            assert_eq!(refers_to_itself, file == "dep2-closure");
            assert!(last.deriver.as_deref().unwrap().ends_with(b".drv"));
        }
    }
}

#[test]
fn damaged_export_streams() {
    let stream = fs::read(data("export/dep2-closure.export")).unwrap();
    for length in 0..stream.len() {
        assert!(read_export(&stream[..length], 4096).is_err(), "{length}");
    }
    assert_eq!(read_export(b"hello, world", 100), Err(ExportError::NotAnExport));
    let simple = fs::read(data("export/simple.export")).unwrap();
    let damaged = |at: usize, value: u8| {
        let mut stream = simple.clone();
        stream[at] = value;
        read_export(&stream, 31)
    };
    assert_eq!(damaged(128, b'M'), Err(ExportError::WrongFormat));
    assert!(matches!(damaged(136 + 2, 1), Err(ExportError::TooLong { what: "store path", .. })));
    assert_eq!(damaged(136 + 8 + 50, 1), Err(ExportError::NonZeroPadding("store path")));
    assert_eq!(damaged(simple.len() - 16, 2), Err(ExportError::BadMarker(2)));
    assert!(matches!(damaged(40, b'x'), Err(ExportError::Archive(_))));
}

/// An item of which the importer has the path already is skipped without looking at its archive.
#[test]
fn export_items_can_be_skipped_and_old_signatures_are() {
    let link = {
        let mut out = Vec::new();
        Encoder::new().symlink(&mut out, b"target").unwrap();
        out
    };
    let info = ItemInfo { path: b"/nix/store/x".to_vec(), ..ItemInfo::default() };
    let mut stream = Vec::new();
    put_item_start(&mut stream);
    stream.extend_from_slice(&link);
    put_item_end(&mut stream, &info);
    stream.truncate(stream.len() - 8);
    stream.extend_from_slice(b"\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0sig\0\0\0\0\0");
    put_end(&mut stream);
    let mut reader = ExportReader::new();
    let mut input = &stream[..];
    assert_eq!(reader.next(&mut input).unwrap(), Some(ExportEvent::Item));
    assert!(reader.in_archive());
    assert_eq!(reader.next(&mut input).unwrap(), Some(ExportEvent::Info(info)));
    assert_eq!(reader.next(&mut input).unwrap(), Some(ExportEvent::End));
    reader.finish().unwrap();
    assert_eq!(reader.next(&mut input).unwrap(), None);
}
