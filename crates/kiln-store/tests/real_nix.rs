//! One store, used by Kiln and by real Nix.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "support/scratch_store.rs"]
mod scratch_store;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kiln_hash::Algorithm;
use kiln_narinfo::registration::{Entry, Form, Reader};
use kiln_settings::LocalStoreUrl;
use kiln_store::{CheckSignatures, Follow, LocalStore, NewObject, StoreConfig, Verdict};
use kiln_store_path::{ContentAddressMethod, OutputName, StorePathName};
use scratch_store::{ScratchDirectory, ScratchStore, sample, stream};
use tokio::io::AsyncReadExt;

/// A scratch directory with a store that both use, by the same variables of the environment.
struct Shared {
    root: ScratchDirectory,
}

/// Where Nix is; without it there is nothing to test, which is said aloud and is a failure where it has to be there.
fn nix_is_missing() -> bool {
    let is_missing = Command::new("nix-store").arg("--version").output().is_err();
    if is_missing {
        assert!(
            std::env::var_os("CI").is_none_or(|value| value != "true"),
            "nix-store is not installed; with CI=true it has to be"
        );
        eprintln!("SKIPPED: nix-store is not installed, nothing was compared with real Nix");
    }
    is_missing
}

impl Shared {
    fn new() -> Self {
        let root = ScratchDirectory::new();
        fs::create_dir(root.path().join("conf")).unwrap();
        fs::write(
            root.path().join("conf/nix.conf"),
            "build-users-group =\nsandbox = false\nsubstituters =\n",
        )
        .unwrap();
        Self { root }
    }

    fn environment(&self) -> BTreeMap<&'static str, OsString> {
        let root = self.root.path().canonicalize().unwrap();
        let below = |name: &str| root.join(name).into_os_string();
        BTreeMap::from([
            ("NIX_STORE_DIR", below("store")),
            ("NIX_STATE_DIR", below("var")),
            ("NIX_LOG_DIR", below("log")),
            ("NIX_CONF_DIR", below("conf")),
            ("NIX_REMOTE", OsString::new()),
            ("HOME", below("home")),
        ])
    }

    fn command(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).envs(self.environment()).env_remove("XDG_CONFIG_HOME").stdin(Stdio::null());
        command
    }

    fn try_nix(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> Output {
        self.command(program, arguments).output().unwrap()
    }

    /// What a Nix program prints; it has to succeed.
    fn nix(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> String {
        let output = self.try_nix(program, arguments);
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a collection. It looks at every process of the machine, and Nix 2.8 gives up if one of them has a directory
    /// with a very long path open: then it is tried again, as such processes are other tests.
    fn collect(&self, arguments: &[impl AsRef<OsStr>]) -> String {
        for _ in 0..100 {
            let output = self.try_nix("nix-store", arguments);
            let errors = String::from_utf8_lossy(&output.stderr);
            if !errors.contains("File name too long") {
                assert!(output.status.success(), "{errors}");
                return String::from_utf8(output.stdout).unwrap();
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("Nix could not look at all processes of the machine for 20 seconds");
    }

    fn spawn(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> Child {
        self.command(program, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    async fn kiln(&self) -> LocalStore {
        let environment = self.environment();
        let lookup = |name: &str| environment.get(name).cloned();
        let mut config = StoreConfig::from_url(&LocalStoreUrl::default(), &lookup).unwrap();
        config.sync_metadata = false;
        LocalStore::open(config, Arc::new(|_| {})).await.unwrap()
    }

    fn verify(&self) {
        self.nix("nix-store", &["--verify", "--check-contents"]);
    }

    /// Two derivations, one of which needs the other, built by Nix; the path of the second.
    fn build(&self) -> String {
        let expression = self.root.path().join("a.nix");
        fs::write(
            &expression,
            r#"
            let mk = name: script: more: derivation ({
                  inherit name; system = builtins.currentSystem; builder = "/bin/sh";
                  args = [ "-c" script ]; PATH = "/bin:/usr/bin"; } // more);
                lower = mk "lower" "echo building $name; echo hello > $out; echo dev > $dev" { outputs = [ "out" "dev" ]; };
                text = builtins.toFile "text" "some text\n";
            in mk "upper" "mkdir $out; echo $lower $text $out > $out/refs" { inherit lower text; }
            "#,
        )
        .unwrap();
        let derivation = self.nix("nix-instantiate", &[&expression]).trim().to_owned();
        self.nix("nix-store", &["--realise", &derivation]);
        derivation
    }
}

async fn read_nar(store: &LocalStore, path: &kiln_store_path::StorePath) -> Vec<u8> {
    let mut nar = Vec::new();
    store.read_nar(path).await.unwrap().read_to_end(&mut nar).await.unwrap();
    nar
}

async fn add_text(store: &LocalStore, name: &str, text: &str) -> kiln_store_path::StorePath {
    let name = StorePathName::new(name).unwrap();
    store.add_text(&name, text.as_bytes().to_vec(), BTreeSet::new()).await.unwrap().path.clone()
}

#[tokio::test]
async fn nix_takes_a_store_that_kiln_made_for_its_own() {
    if nix_is_missing() {
        return;
    }
    let scratch = ScratchStore::new().await;
    let sample = sample("closure");
    for (info, nar) in &sample {
        scratch.store.add_nar(info.clone(), stream(nar.clone()), CheckSignatures::Yes).await.unwrap();
    }
    let shared = Shared::new();
    let root = scratch.root.path().canonicalize().unwrap();
    let nix = |arguments: &[&str]| {
        let arguments = [&["--store", root.to_str().unwrap()], arguments].concat();
        let output = shared
            .command("nix-store", &arguments)
            .env_remove("NIX_STORE_DIR")
            .env_remove("NIX_STATE_DIR")
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    nix(&["--verify", "--check-contents"]);
    for (info, nar) in &sample {
        let path = scratch.store.print(&info.path);
        let lines = |arguments: &[&str]| -> BTreeSet<String> {
            let text = nix(&[arguments, &[&path]].concat());
            String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
        };
        let full = |paths: &BTreeSet<kiln_store_path::StorePath>| -> BTreeSet<String> {
            paths.iter().map(|path| scratch.store.print(path)).collect()
        };
        let real = scratch.store.real_path(&info.path);
        assert_eq!(nix(&["--dump", real.to_str().unwrap()]), *nar);
        assert_eq!(lines(&["-q", "--references"]), full(&info.references));
        assert_eq!(lines(&["-q", "--referrers"]), full(&scratch.store.referrers(&info.path).await.unwrap()));
        let closure = scratch.store.closure(vec![info.path.clone()], Follow::REFERENCES).await.unwrap();
        assert_eq!(lines(&["-q", "--requisites"]), full(&closure));
        assert_eq!(lines(&["-q", "--hash"]), BTreeSet::from([format!("sha256:{}", info.nar_hash.nix32())]));
        assert_eq!(lines(&["-q", "--size"]), BTreeSet::from([info.nar_size.to_string()]));
        let deriver =
            info.deriver.as_ref().map_or("unknown-deriver".to_owned(), |path| scratch.store.print(path));
        assert_eq!(lines(&["-q", "--deriver"]), BTreeSet::from([deriver]));
        assert!(!lines(&["-q", "--tree"]).is_empty());
    }
}

#[tokio::test]
async fn kiln_takes_a_store_that_nix_made_for_its_own() {
    if nix_is_missing() {
        return;
    }
    let shared = Shared::new();
    let derivation = shared.build();
    let store = shared.kiln().await;

    let mut entries = Vec::new();
    let mut reader = Reader::new(store.store_dir().clone(), Form::WithHashes);
    reader.push(shared.nix("nix-store", &["--dump-db"]).as_bytes(), &mut entries).unwrap();
    reader.finish().unwrap();
    let all = store.all_paths().await.unwrap();
    assert_eq!(all, entries.iter().map(|entry| entry.path.clone()).collect());
    assert_eq!(all.len(), 6, "two derivations, three outputs, one text");
    for entry in &entries {
        let info = store.valid_path_info(&entry.path).await.unwrap();
        assert_eq!(Entry::of(&info, Form::WithHashes, true), *entry);
        assert_eq!(store.verify_contents(&entry.path).await.unwrap(), Verdict::Good);
        let dumped = shared.try_nix("nix-store", &["--dump", &store.print(&entry.path)]).stdout;
        assert_eq!(read_nar(&store, &entry.path).await, dumped);
        let is_source = info.content_address.is_some();
        assert_eq!(info.ultimate, !is_source, "Nix built {}", info.path);
    }

    let path = store.store_dir().parse(&derivation).unwrap();
    let parsed = store.read_derivation(&path).await.unwrap();
    let output = parsed.outputs[&OutputName::out()].path().unwrap().clone();
    assert!(store.valid_derivers(&output).await.unwrap().contains(&path));
    assert_eq!(store.derivation_outputs(&path).await.unwrap()[&OutputName::out()], output);
    // Registering it again checks its outputs against its inputs.
    let info = store.valid_path_info(&path).await.unwrap();
    store.register_valid_paths(vec![(*info).clone()]).await.unwrap();

    let lower = all.iter().find(|path| path.name() == "lower.drv").unwrap();
    let mut log = String::new();
    store.read_log(lower).await.unwrap().unwrap().read_to_string(&mut log).await.unwrap();
    assert_eq!(log, "building lower\n");
    drop(store);
    shared.verify();
}

#[tokio::test]
async fn both_add_the_same_at_the_same_path() {
    if nix_is_missing() {
        return;
    }
    let shared = Shared::new();
    let tree = shared.root.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("a"), "content").unwrap();
    std::os::unix::fs::symlink("a", tree.join("b")).unwrap();
    let file = shared.root.path().join("file");
    fs::write(&file, "content").unwrap();
    let store = shared.kiln().await;
    let (nar, flat) = (ContentAddressMethod::Nar, ContentAddressMethod::Flat);
    for (source, method, algorithm, arguments) in [
        (&tree, nar, Algorithm::Sha256, vec!["--add"]),
        (&file, nar, Algorithm::Sha256, vec!["--add"]),
        (&tree, nar, Algorithm::Sha1, vec!["--add-fixed", "--recursive", "sha1"]),
        (&file, flat, Algorithm::Sha512, vec!["--add-fixed", "sha512"]),
        (&file, flat, Algorithm::Md5, vec!["--add-fixed", "md5"]),
    ] {
        let name = StorePathName::new(source.file_name().unwrap().as_encoded_bytes()).unwrap();
        let object = NewObject { name, method, algorithm, references: BTreeSet::new() };
        let info = store.add_tree(object, source, None).await.unwrap();
        let arguments = [arguments, vec![source.to_str().unwrap()]].concat();
        assert_eq!(shared.nix("nix-store", &arguments).trim(), store.print(&info.path), "{arguments:?}");
    }
    shared.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_register_at_the_same_time() {
    if nix_is_missing() {
        return;
    }
    let shared = Arc::new(Shared::new());
    let store = shared.kiln().await;
    let nix = {
        let shared = shared.clone();
        tokio::task::spawn_blocking(move || {
            for batch in 0..10 {
                let files: Vec<PathBuf> = (0..10)
                    .map(|number| {
                        let file = shared.root.path().join(format!("nix-{batch}-{number}"));
                        fs::write(&file, format!("{batch} {number}")).unwrap();
                        file
                    })
                    .collect();
                let arguments: Vec<&OsStr> = [OsStr::new("--add")]
                    .into_iter()
                    .chain(files.iter().map(|file| file.as_os_str()))
                    .collect();
                shared.nix("nix-store", &arguments);
            }
        })
    };
    let mut added = Vec::new();
    while !nix.is_finished() || added.len() < 100 {
        let number = added.len();
        added.push(add_text(&store, &format!("kiln-{number}"), &number.to_string()).await);
    }
    nix.await.unwrap();
    let all = store.all_paths().await.unwrap();
    assert!(added.iter().all(|path| all.contains(path)));
    assert_eq!(all.len(), 100 + added.len());
    shared.verify();
}

#[tokio::test]
async fn each_waits_for_the_locks_of_the_other() {
    if nix_is_missing() {
        return;
    }
    let shared = Shared::new();
    let file = shared.root.path().join("file");
    fs::write(&file, "content").unwrap();
    let path = shared.nix("nix-store", &["--add", file.to_str().unwrap()]);
    shared.collect(&["--delete", path.trim()]);
    let store = shared.kiln().await;
    let path = store.store_dir().parse(path.trim()).unwrap();
    let mut lock = store.lock_paths(vec![path.clone()], |_| {}).await.unwrap();
    let mut nix = shared.spawn("nix-store", &["--add", file.to_str().unwrap()]);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(nix.try_wait().unwrap().is_none(), "Nix waits for the lock");
    lock.delete_on_release(true);
    drop(lock);
    assert!(nix.wait().unwrap().success());
    assert!(store.is_valid(&path).await.unwrap());
    let left = fs::read_dir(&store.config().locations.real_dir).unwrap().count();
    assert_eq!(left, 2, "the path and the pool of hard links");
}

#[tokio::test]
async fn collections_by_nix_respect_roots_of_kiln_and_are_noticed() {
    if nix_is_missing() {
        return;
    }
    let shared = Shared::new();
    let store = shared.kiln().await;
    let [rooted, temporary] =
        [add_text(&store, "rooted", "1").await, add_text(&store, "temporary", "2").await];
    let link = shared.root.path().canonicalize().unwrap().join("result");
    store.add_out_link(&link, &rooted).await.unwrap();
    let roots = shared.collect(&["--gc", "--print-roots"]);
    assert!(roots.contains(&format!("{} -> {}", link.display(), store.print(&rooted))), "{roots}");
    shared.collect(&["--gc"]);
    assert!(store.is_valid(&temporary).await.unwrap(), "this process has made it and may use it");
    let locations = store.config().locations.clone();
    drop(store);

    // A process that did not make it.
    let store = shared.kiln().await;
    assert!(store.is_valid(&temporary).await.unwrap());
    shared.collect(&["--gc"]);
    assert!(!store.is_valid(&temporary).await.unwrap(), "what was kept in memory is asked anew");
    assert!(store.is_valid(&rooted).await.unwrap());
    assert!(!Path::new(&locations.real_dir).join(temporary.base_name()).exists());
    shared.verify();
}

/// Derivations are at the same paths and registered with the same, whoever adds them.
#[tokio::test]
async fn nix_builds_what_kiln_has_added() {
    if nix_is_missing() {
        return;
    }
    let shared = Shared::new();
    let derivation = shared.build();
    let nix_store = shared.kiln().await;
    let path = nix_store.store_dir().parse(&derivation).unwrap();
    let closure = nix_store.closure(vec![path.clone()], Follow::REFERENCES).await.unwrap();
    let mut texts = Vec::new();
    for member in &closure {
        let info = nix_store.valid_path_info(member).await.unwrap();
        texts.push(((*info).clone(), fs::read(nix_store.real_path(member)).unwrap()));
    }
    drop(nix_store);
    shared.collect(&["--gc"]);
    let store = shared.kiln().await;
    assert!(store.all_paths().await.unwrap().is_empty());
    texts.sort_by_key(|(info, _)| info.references.len());
    for (info, text) in texts {
        let added = store.add_text(&info.path.to_name(), text, info.references.clone()).await.unwrap();
        assert_eq!((&added.path, added.nar_hash), (&info.path, info.nar_hash));
    }
    let built = shared.nix("nix-store", &["--realise", &derivation]);
    let output = store.store_dir().parse(built.trim()).unwrap();
    assert!(store.valid_path_info(&output).await.unwrap().ultimate);
    assert_eq!(store.valid_derivers(&output).await.unwrap(), BTreeSet::from([path]));
}
