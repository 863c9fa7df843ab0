//! Caches that lie.

use crate::bench::{Bench, DEP2, Making, SIMPLE, data, nar, path};
use kiln_hash::{Algorithm, Hash, Sha256};
use kiln_narinfo::{Compression, NarInfo};
use kiln_store_path::{ContentAddress, ContentAddressMethod, StoreDir};
use kiln_testing::{Fault, WebServer};
use std::fs;
use std::io::Write as _;
use std::path::Path;

fn resign(narinfo: &mut NarInfo) {
    narinfo.info.signatures = kiln_narinfo::SignatureSet::new();
    narinfo.info.sign(&StoreDir::default(), &crate::bench::signing_key()).unwrap();
}

/// Makes a cache of one path and has it refused, from the directory and from a server.
async fn refused(contents: &[u8], change: impl Fn(&mut NarInfo, &Path)) -> String {
    let mut errors = Vec::new();
    for served in [false, true] {
        let bench = Bench::new().await;
        let root = bench.directory().join("made");
        Making::new(&root, 0).add(&path(SIMPLE), &[], contents, |narinfo| change(narinfo, &root));
        let server = WebServer::serving(&root);
        let url = if served { server.url() } else { format!("file://{}", root.display()) };
        let error = bench.refuse(&url, &path(SIMPLE)).await;
        assert!(error.contains(&url) && error.contains(SIMPLE), "{error}");
        errors
            .push(error.replace(&url, "URL").replace(&bench.directory().display().to_string(), "DIRECTORY"));
    }
    assert_eq!(errors[0], errors[1]);
    errors.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_contents_must_be_those_of_the_narinfo() {
    let error = refused(&nar(b"x"), |narinfo, _| {
        narinfo.info.nar_hash = Sha256::of(b"other");
        resign(narinfo);
    })
    .await;
    assert!(error.contains("hash mismatch importing path") && error.contains("got: "), "{error}");
    let error = refused(&nar(b"x"), |narinfo, _| {
        narinfo.info.nar_size += 8;
        resign(narinfo);
    })
    .await;
    assert!(error.contains("size mismatch importing path"), "{error}");
    let error = refused(&nar(b"x"), |narinfo, _| {
        narinfo.info.nar_size -= 8;
        resign(narinfo);
    })
    .await;
    assert!(error.contains("cannot fetch path"), "{error}");
    let error =
        refused(&nar(b"x"), |narinfo, _| narinfo.file_hash = Some(Hash::of(Algorithm::Sha512, b"other")))
            .await;
    assert!(error.contains("its file has another hash than its narinfo says"), "{error}");
    for size in [1, 1 << 40] {
        let error = refused(&nar(b"x"), |narinfo, _| narinfo.file_size = Some(size)).await;
        assert!(error.contains(&format!("but its narinfo says {size}")), "{error}");
    }
    let trailing = [nar(b"x"), b"more".to_vec()].concat();
    let error = refused(&trailing, |narinfo, _| {
        narinfo.info.nar_hash = Sha256::of(nar(b"x"));
        narinfo.info.nar_size = nar(b"x").len() as u64;
        resign(narinfo);
    })
    .await;
    assert!(error.contains("there is more after the end of the archive"), "{error}");
    let error = refused(b"this is no archive at all, is it?", |_, _| {}).await;
    assert!(error.contains("cannot fetch path"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_a_false_content_address_is_no_signature() {
    let address = |bytes: &[u8]| ContentAddress {
        method: ContentAddressMethod::Nar,
        hash: Hash::of(Algorithm::Sha256, bytes),
    };
    // It does not fit the path ...
    let error = refused(&nar(b"x"), |narinfo, _| {
        narinfo.info.signatures = kiln_narinfo::SignatureSet::new();
        narinfo.info.content_address = Some(address(&nar(b"x")));
    })
    .await;
    assert!(error.contains("it is not signed"), "{error}");
    // ... or fits the path but not the contents.
    let bench = Bench::new().await;
    let root = bench.directory().join("made");
    let claimed = address(&nar(b"claimed"));
    let references = kiln_store_path::References::default();
    let name = path(SIMPLE).to_name();
    let wanted = StoreDir::default().make_content_addressed_path(&name, &claimed, &references).unwrap();
    Making::new(&root, 0).add(&wanted, &[], &nar(b"other"), |narinfo| {
        narinfo.info.signatures = kiln_narinfo::SignatureSet::new();
        narinfo.info.content_address = Some(claimed);
    });
    let error = bench.refuse(&format!("file://{}", root.display()), &wanted).await;
    assert!(error.contains("ca hash mismatch"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_nothing_is_taken_from_strangers() {
    let error =
        refused(&nar(b"x"), |narinfo, _| narinfo.info.signatures = kiln_narinfo::SignatureSet::new()).await;
    assert!(error.ends_with("it is not signed"), "{error}");
    // The signature is one of the path with other references.
    let error = refused(&nar(b"x"), |narinfo, _| {
        narinfo.info.references.insert(path(DEP2));
    })
    .await;
    assert!(error.ends_with("its signature by 'bench' is false"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_whoever_is_trusted_needs_no_signature() {
    let bench = Bench::new().await;
    let root = bench.directory().join("made");
    let unsigned = |narinfo: &mut NarInfo| narinfo.info.signatures = kiln_narinfo::SignatureSet::new();
    Making::new(&root, 0).add(&path(SIMPLE), &[], &nar(b"x"), unsigned);
    let url = format!("file://{}", root.display());
    let substituters = bench.substituters(&[format!("{url}?trusted=true")]).await;
    bench.obtain(&substituters, &path(SIMPLE)).await.unwrap();

    let mut lax = Bench::new().await;
    lax.trust.require_signatures = false;
    let substituters = lax.substituters(&[url]).await;
    lax.obtain(&substituters, &path(SIMPLE)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn narinfos_about_other_paths_are_refused() {
    let renamed = path(&SIMPLE.replace("simple", "other"));
    for other in [path(DEP2), renamed] {
        let bench = Bench::new().await;
        let root = bench.directory().join("made");
        Making::new(&root, 0).add(&other, &[], &nar(b"x"), |_| {});
        let file = |path: &kiln_store_path::StorePath| root.join(format!("{}.narinfo", path.digest()));
        if file(&other) != file(&path(SIMPLE)) {
            fs::rename(file(&other), file(&path(SIMPLE))).unwrap();
        }
        let error = bench.refuse(&format!("file://{}", root.display()), &path(SIMPLE)).await;
        assert!(error.contains(&format!("it is about '{other}' instead of '{SIMPLE}'")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_lead_nowhere_else() {
    for (url, in_directory, at_server) in [
        ("/etc/passwd", "has the URL '/etc/passwd', but only paths below the cache", "its file is gone"),
        (
            "../../etc/passwd",
            "has the URL '../../etc/passwd', but only paths below the cache",
            "its file is gone",
        ),
        ("nar/./x", "but only paths below the cache", "its file is gone"),
        ("file:///etc/passwd", "its file is gone", "but only http and https are possible there"),
        ("ftp://host/x", "its file is gone", "but only http and https are possible there"),
        ("http://[", "its file is gone", "has the URL 'http://[', which is none"),
    ] {
        for (served, text) in [(false, in_directory), (true, at_server)] {
            let bench = Bench::new().await;
            let root = bench.directory().join("made");
            Making::new(&root, 0).add(&path(SIMPLE), &[], &nar(b"x"), |narinfo| narinfo.url = url.to_owned());
            let server = WebServer::serving(&root);
            let cache = if served { server.url() } else { format!("file://{}", root.display()) };
            let error = bench.refuse(&cache, &path(SIMPLE)).await;
            assert!(error.contains(text), "{url}: {error}");
        }
    }
    // A server may send to another one, but not out of the network.
    let bench = Bench::new().await;
    let server = WebServer::serving(&data("cache/2.34-xz"));
    let redirect = Fault::Status(302, vec!["Location: file:///etc/passwd".into()]);
    server.fault("nar/", usize::MAX, redirect);
    let error = bench.refuse(&server.url(), &path(SIMPLE)).await;
    assert!(error.contains("redirects to 'file:///etc/passwd'"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn special_files_in_a_directory_are_refused() {
    let bench = Bench::new().await;
    let root = bench.directory().join("made");
    Making::new(&root, 0).add(&path(SIMPLE), &[], &nar(b"x"), |_| {});
    let file = root.join(format!("nar/{}.nar", path(SIMPLE).digest()));
    fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let error = bench.refuse(&format!("file://{}", root.display()), &path(SIMPLE)).await;
    assert!(error.contains("it is not a regular file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_do_not_go_off() {
    let bomb = {
        let (head, tail) = kiln_nar::file_framing(false, 64 << 20);
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(&head).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..64 {
            encoder.write_all(&zeros).unwrap();
        }
        encoder.write_all(&tail).unwrap();
        encoder.finish().unwrap()
    };
    assert!(bomb.len() < 64 << 10);
    let error = refused(&bomb, |narinfo, _| {
        narinfo.compression = Compression::Zstd;
        narinfo.info.nar_size = 120;
        resign(narinfo);
    })
    .await;
    assert!(error.contains("cannot fetch path"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_without_end_come_to_one() {
    for unstated in [false, true] {
        let bench = Bench::new().await;
        let root = bench.directory().join("made");
        Making::new(&root, 0).add(&path(SIMPLE), &[], &nar(b"x"), |narinfo| {
            if unstated {
                narinfo.file_size = None;
                narinfo.file_hash = None;
            }
        });
        let server = WebServer::serving(&root);
        server.fault("nar/", usize::MAX, Fault::Endless);
        let error = bench.refuse(&server.url(), &path(SIMPLE)).await;
        let text =
            if unstated { "there is more after the end of the archive" } else { "its file has more than" };
        assert!(error.contains(text), "{error}");
        assert_eq!(server.count("nar/"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_unknown_compression_is_told() {
    for (method, text) in [
        ("xz", "its xz file is damaged: "),
        ("zstd", "its zstd file is damaged: "),
        ("bzip2", "its bzip2 file is damaged: "),
        ("gzip", "its gzip file is damaged: "),
        ("br", "its br file is damaged: "),
        ("lzip", "its lzip file is damaged: "),
        ("foo", "compressed by the unknown method 'foo'"),
    ] {
        let error =
            refused(&nar(b"x"), |narinfo, _| narinfo.compression = Compression::from_name(method)).await;
        assert!(error.contains(text), "{method}: {error}");
    }
}
