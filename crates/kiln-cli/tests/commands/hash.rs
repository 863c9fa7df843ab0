use crate::peer;
use crate::scratch::{Outcome, Scratch};

const ABC_BASE16: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const ABC_NIX32: &str = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
const ABC_SRI: &str = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";

#[test]
fn files_are_hashed_in_every_notation() {
    let scratch = Scratch::new();
    scratch.write("abc", "abc");
    scratch.write("empty", "");
    assert_eq!(scratch.kiln("hash file abc").quiet_success(), format!("{ABC_SRI}\n"));
    assert_eq!(scratch.kiln("hash file abc --base16").quiet_success(), format!("{ABC_BASE16}\n"));
    assert_eq!(scratch.kiln("hash file --nix32 abc").quiet_success(), format!("{ABC_NIX32}\n"));
    assert_eq!(scratch.kiln("hash file --base64 abc").quiet_success(), format!("{}\n", &ABC_SRI[7..]));
    assert_eq!(
        scratch.kiln("hash file --type md5 abc empty --base16").quiet_success(),
        "900150983cd24fb0d6963f7d28e17f72\nd41d8cd98f00b204e9800998ecf8427e\n"
    );
    assert_eq!(scratch.kiln_reading("hash file -", b"abc").quiet_success(), format!("{ABC_SRI}\n"));
}

#[test]
fn hashes_change_their_notation() {
    let scratch = Scratch::new();
    for text in [ABC_SRI.to_owned(), format!("sha256:{ABC_BASE16}"), format!("sha256:{ABC_NIX32}")] {
        let convert =
            |notation: &str| scratch.kiln(&format!("hash convert {notation} {text}")).quiet_success();
        assert_eq!(convert(""), format!("{ABC_SRI}\n"));
        assert_eq!(convert("--sri"), format!("{ABC_SRI}\n"));
        assert_eq!(convert("--base16"), format!("{ABC_BASE16}\n"));
        assert_eq!(convert("--base32"), format!("{ABC_NIX32}\n"));
    }
    let bare = scratch.kiln(&format!("hash convert --type sha256 {ABC_NIX32} {ABC_BASE16}"));
    assert_eq!(bare.quiet_success(), format!("{ABC_SRI}\n{ABC_SRI}\n"));
    let bare = scratch.kiln(&format!("hash convert {ABC_NIX32}"));
    assert!(bare.failure(1).contains("does not include a type"));
    let wrong = scratch.kiln(&format!("hash convert --type md5 {ABC_SRI}"));
    assert!(wrong.failure(1).contains("should have type 'md5'"));
    let both = scratch.kiln(&format!("hash convert --sri --base16 {ABC_SRI}"));
    assert!(both.failure(1).contains("cannot be used with"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let scratch = Scratch::new();
    assert!(scratch.kiln("hash file nowhere").failure(1).contains("opening 'nowhere'"));
    assert!(scratch.kiln("hash file .").failure(1).contains("reading '.'"));
}

#[test]
fn links_are_hashed_as_links_unless_they_are_followed() {
    let scratch = Scratch::new();
    scratch.write("tree/file", "abc");
    std::os::unix::fs::symlink("tree", scratch.path("link")).unwrap();
    let hash = |path: &str| scratch.kiln(&format!("hash path {path}")).quiet_success();
    assert_ne!(hash("link"), hash("tree"));
    assert_eq!(hash("link/."), hash("tree"));
    assert_eq!(hash("tree/."), hash("tree"));
    // A file is not its archive.
    assert_ne!(hash("tree/file"), format!("{ABC_SRI}\n"));
    assert!(scratch.kiln("hash path nowhere").failure(1).contains("'nowhere'"));
    assert!(scratch.kiln("hash path /").failure(1).contains("'/' is not a file"));
}

#[test]
fn hashes_are_those_of_real_nix() {
    let Some(nix) = peer::find("nix") else { return };
    let scratch = Scratch::new();
    scratch.write("file", vec![7; 300_000]);
    scratch.write("tree/sub/a b", "x");
    scratch.write("tree/sub.d", "y");
    std::os::unix::fs::symlink("sub", scratch.path("tree/link")).unwrap();
    for algorithm in ["md5", "sha1", "sha256", "sha512"] {
        for notation in ["--sri", "--base16", "--base32", "--base64"] {
            for (mode, path) in [("file", "file"), ("path", "file"), ("path", "tree")] {
                let arguments = ["hash", mode, path, "--type", algorithm, notation];
                let nix = Outcome::of(peer::command(&scratch, &nix).args(arguments).output().unwrap());
                assert_eq!(
                    scratch.kiln(&arguments.join(" ")).quiet_success(),
                    nix.success(),
                    "{arguments:?}"
                );
            }
        }
    }
}
