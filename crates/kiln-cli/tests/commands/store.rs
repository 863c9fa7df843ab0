use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::peer;
use crate::scratch::{Outcome, Scratch};

fn scratch_with_tree() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("tree/sub/file", "contents");
    let script = scratch.write("tree/script", "#!/bin/sh\n");
    fs::set_permissions(script, fs::Permissions::from_mode(0o750)).unwrap();
    symlink("sub/file", scratch.path("tree/link")).unwrap();
    scratch
}

fn add(scratch: &Scratch, arguments: &str) -> String {
    scratch.kiln(&format!("store add {arguments}")).quiet_success().trim_end().to_owned()
}

/// A derivation that refers to a source; their paths.
fn derivation_and_source(scratch: &Scratch) -> (String, String) {
    scratch.write(
        "kiln.toml",
        "[source.tree]\npath = 'tree'\n[derivation.x]\nbuilder = '${source.tree}/script'\n",
    );
    let json = scratch.kiln("derivation show :x --json-version 2").quiet_success();
    let derivation = json.lines().nth(1).unwrap().trim().trim_end_matches(": {").trim_matches('"').to_owned();
    (derivation, add(scratch, "tree"))
}

#[test]
fn what_is_added_can_be_had_back() {
    let scratch = scratch_with_tree();
    let path = add(&scratch, "tree");
    assert_eq!(add(&scratch, "tree/."), path, "added again under its own name");
    assert!(path.ends_with("-tree") && Path::new(&path).join("sub/file").exists());
    assert!(add(&scratch, "--name other tree").ends_with("-other"));
    let archive = scratch.kiln(&format!("store dump {path}"));
    assert_eq!((archive.exit_code, archive.stderr.as_str()), (0, ""));
    assert_eq!(archive.stdout, scratch.kiln("store dump tree").stdout, "the archive of what was added");
    scratch.kiln_reading("store restore copy", &archive.stdout).quiet_success();
    assert_eq!(fs::read_to_string(scratch.path("copy/link")).unwrap(), "contents");
    assert_eq!(
        scratch.kiln("hash path copy").success(),
        scratch.kiln(&format!("hash path {path}")).success()
    );
}

#[test]
fn archives_are_restored_whole_or_not_at_all() {
    let scratch = scratch_with_tree();
    let archive = scratch.kiln("store dump tree").stdout;
    for length in [0, 1, archive.len() / 2, archive.len() - 1] {
        let outcome = scratch.kiln_reading("store restore copy", &archive[..length]);
        assert!(outcome.failure(1).contains("unpacking to 'copy'"), "{}", outcome.stderr);
        assert!(!scratch.path("copy").exists());
    }
    assert!(
        scratch.kiln_reading("store restore tree", &archive).failure(1).contains("'tree' exists already")
    );
    assert!(scratch.path("tree/sub/file").exists(), "what was there stays");
}

#[test]
fn info_in_both_forms() {
    let scratch = scratch_with_tree();
    let path = add(&scratch, "tree");
    symlink(&path, scratch.path("link")).unwrap();
    let text = scratch.kiln("store info link/sub").quiet_success();
    for line in ["  NAR hash        sha256-", "  Built here      no", "  Content address fixed:r:sha256:"] {
        assert!(text.starts_with(&path) && text.contains(line), "{text}");
    }
    let json = scratch.kiln(&format!("store info --json {path}")).quiet_success();
    let warned = scratch.kiln(&format!("store info --option nonsense 1 {path}"));
    assert_eq!(warned.stderr.matches("unknown setting 'nonsense'").count(), 1, "{}", warned.stderr);
    let hash = scratch.kiln(&format!("hash path {path}")).quiet_success();
    assert!(json.contains(&format!("\"narHash\": \"{}\"", hash.trim_end())), "{json}");
    let missing = path.replace("-tree", "-other");
    let outcome = scratch.kiln(&format!("store info {missing}"));
    assert!(outcome.failure(1).contains(&format!("path '{missing}' is not valid")));
    assert!(scratch.kiln("store info tree").failure(1).contains("'tree' is not a path in the store"));
}

#[test]
fn questions_are_answered() {
    let scratch = scratch_with_tree();
    let (derivation, source) = derivation_and_source(&scratch);
    let query = |arguments: &str| scratch.kiln(&format!("store query {arguments}")).quiet_success();
    let line = |path: &str| format!("{path}\n");
    assert_eq!(query(&format!("--references {derivation}")), line(&source));
    assert_eq!(query(&format!("--referrers {source}")), line(&derivation));
    assert_eq!(query(&format!("--deriver {source}")), "unknown-deriver\n");
    assert_eq!(query(&format!("--derivers {source}")), "");
    let output = query(&format!("--outputs {derivation}"));
    assert!(output.ends_with("-x\n") && output.lines().count() == 1, "{output}");
    let digest = &Path::new(&source).file_name().unwrap().to_str().unwrap()[..32];
    assert_eq!(query(&format!("--hash-part {digest}")), line(&source));
    let mut both = [line(&source), line(&derivation)];
    both.sort();
    assert_eq!(query("--all"), both.concat());
    let closure = |arguments: &str| scratch.kiln(&format!("store closure {arguments}")).quiet_success();
    assert_eq!(closure(&derivation), both.concat());
    assert_eq!(closure(&source), line(&source));
    assert_eq!(closure(&format!("--reverse {source}")), both.concat());
}

#[test]
fn a_query_asks_just_one_question() {
    let scratch = scratch_with_tree();
    let path = add(&scratch, "tree");
    for wrong in [
        path.as_str(),
        "--all --references",
        "--references",
        &format!("--all {path}"),
        &format!("--deriver --referrers {path}"),
    ] {
        let outcome = scratch.kiln(&format!("store query {wrong}"));
        assert!(outcome.failure(1).contains("Try 'kiln store query --help'"), "{wrong}: {}", outcome.stderr);
    }
    let outcome = scratch.kiln("store query --hash-part 00000000000000000000000000000000");
    assert!(outcome.failure(1).contains("no valid path has the digest"));
}

#[test]
fn changed_contents_are_found() {
    let scratch = scratch_with_tree();
    let (tree, single) = (add(&scratch, "tree"), add(&scratch, "--mode flat tree/sub/file"));
    assert_eq!(scratch.kiln("store verify --check-contents").quiet_success(), "");
    let file = Path::new(&tree).join("sub/file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, "Contents").unwrap();
    assert_eq!(scratch.kiln("store verify").quiet_success(), "", "it is there");
    let outcome = scratch.kiln("store verify --check-contents");
    assert_eq!((outcome.exit_code, String::from_utf8_lossy(&outcome.stdout).trim_end()), (1, tree.as_str()));
    assert!(outcome.stderr.contains(&format!("path '{tree}' was modified! expected hash 'sha256-")));
    assert_eq!(scratch.kiln(&format!("store verify {single}")).quiet_success(), "");
    fs::remove_file(&single).unwrap();
    let outcome = scratch.kiln(&format!("store verify {single}"));
    assert_eq!(outcome.exit_code, 1);
    assert!(outcome.stderr.contains("is missing on the disk"));
}

#[test]
fn a_directory_holds_a_store_of_its_own() {
    let scratch = scratch_with_tree();
    for store in ["--store ./own", "--store local?root=WORK/own&store=/nix/store"] {
        let store = store.replace("WORK", scratch.path("").to_str().unwrap().trim_end_matches('/'));
        // The variable of the scratch directory says otherwise, and the command line wins.
        let mut command = scratch.command(&format!("store add tree {store}"));
        let outcome = Outcome::of(command.env_remove("NIX_STORE_DIR").output().unwrap());
        let path = outcome.quiet_success();
        assert!(path.starts_with("/nix/store/"), "{path}");
        assert!(scratch.path("own").join(&path.trim_end()[1..]).join("script").exists());
    }
}

#[test]
fn stores_that_are_not_local_are_refused() {
    let scratch = scratch_with_tree();
    for (url, reason) in [
        ("daemon", "local stores"),
        ("https://cache.example.org", "local stores"),
        ("nonsense", "is no store"),
    ] {
        let outcome = scratch.kiln(&format!("store query --all --store {url}"));
        assert!(outcome.failure(1).contains(reason), "{url}: {}", outcome.stderr);
        let outcome =
            Outcome::of(scratch.command("store query --all").env("NIX_REMOTE", url).output().unwrap());
        assert!(outcome.failure(1).contains(reason), "{url}: {}", outcome.stderr);
    }
}

#[test]
fn paths_and_store_are_those_of_real_nix() {
    let Some(nix_store) = peer::find("nix-store") else { return };
    let scratch = scratch_with_tree();
    let nix = |arguments: &[&str]| {
        Outcome::of(peer::command(&scratch, &nix_store).args(arguments).output().unwrap()).success()
    };
    let tree = add(&scratch, "tree");
    assert_eq!(nix(&["--add", "tree"]).trim_end(), tree);
    assert_eq!(
        nix(&["--add-fixed", "sha256", "tree/sub/file"]).trim_end(),
        add(&scratch, "--mode flat tree/sub/file")
    );
    let (derivation, _) = derivation_and_source(&scratch);
    for (question, path) in [
        ("--references", &derivation),
        ("--referrers", &tree),
        ("--outputs", &derivation),
        ("--deriver", &tree),
    ] {
        let theirs = nix(&["--query", question, path]);
        assert_eq!(
            scratch.kiln(&format!("store query {question} {path}")).quiet_success(),
            theirs,
            "{question}"
        );
    }
    let mut requisites: Vec<String> =
        nix(&["--query", "--requisites", &derivation]).lines().map(str::to_owned).collect();
    requisites.sort();
    let ours = scratch.kiln(&format!("store closure {derivation}")).quiet_success();
    assert_eq!(ours.lines().collect::<Vec<_>>(), requisites);
    let archive = Outcome::of(peer::command(&scratch, &nix_store).args(["--dump", &tree]).output().unwrap());
    assert_eq!(scratch.kiln(&format!("store dump {tree}")).stdout, archive.stdout);
    nix(&["--verify", "--check-contents"]);
}
