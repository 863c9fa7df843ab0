//! The engine as a program that embeds it sees it: what no command asks for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use kiln_build::Engine;
use kiln_derivation::{BasicDerivation, Derivation, Strictness};
use kiln_events::{BuildStatus, EventSender};
use kiln_sandbox::Launcher;
use kiln_settings::{Configuration, Machine, Origin, StoreUrl};
use kiln_store::{LocalStore, StoreConfig};
use kiln_store_path::{StoreDir, StorePath};
use kiln_testing::{Kiln, Recipe, SANDBOX_PATHS};

fn kiln() -> Kiln {
    Kiln::new(env!("CARGO_BIN_EXE_kiln"))
}

/// A derivation as a client sends it, and its path. It is in the store of the program, not in that of the engine.
fn derivation(kiln: &Kiln, recipe: &str) -> (StorePath, BasicDerivation) {
    let store_dir = StoreDir::default();
    let printed = kiln.instantiate(recipe);
    let path = store_dir.parse(&printed).unwrap();
    let text = std::fs::read(kiln.real(&printed)).unwrap();
    let name = Derivation::name_of_path(&path).unwrap();
    let derivation = Derivation::parse_aterm(&text, &name, &store_dir, Strictness::Strict).unwrap();
    (path, BasicDerivation::new(derivation).unwrap())
}

/// An engine on an empty store beside the program's, with these settings.
async fn engine(kiln: &Kiln, derivation: &Derivation, settings: &[(&str, &str)]) -> (Engine, LocalStore) {
    let system = String::from_utf8(derivation.system.clone()).unwrap();
    let mut configuration = Configuration::new(&Machine::plain(&system));
    let usual = [("sandbox", "true"), ("sandbox-paths", SANDBOX_PATHS), ("build-users-group", "")];
    for (name, value) in usual.iter().chain(settings) {
        configuration.set(name, value, Origin::Client).unwrap();
    }
    let root = kiln.directory().join("engine");
    let StoreUrl::Local(url) = StoreUrl::parse(root.to_str().unwrap()).unwrap() else { panic!() };
    let config = StoreConfig::from_url(&url, &|_| None).unwrap();
    let store = LocalStore::open(config, std::sync::Arc::new(|_| {})).await.unwrap();
    let launcher = Launcher::start_program(kiln.program()).unwrap();
    let settings = configuration.into_settings();
    let engine = Engine::with_launcher(launcher, store.clone(), &settings, [], EventSender::null()).unwrap();
    (engine, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_derivation_given_by_value_is_built() {
    let kiln = kiln();
    let (path, given) = derivation(&kiln, &Recipe::script("echo by value > $out"));
    let (engine, store) = engine(&kiln, &given, &[]).await;
    let result = engine.build_derivation(&path, given.clone()).await;
    assert_eq!(result.status, BuildStatus::Built, "{}", result.error_message.to_str_lossy());
    let output = given.known_output_paths().next().unwrap().1.clone();
    assert_eq!(result.built_outputs["out"], StoreDir::default().print(&output));
    let info = store.path_info(&output).await.unwrap().unwrap();
    assert_eq!(info.deriver.as_ref(), Some(&path));
    assert!(!store.is_valid(&path).await.unwrap(), "the derivation itself is not in the store");
    let again = engine.build_derivation(&path, given).await;
    assert_eq!(again.status, BuildStatus::AlreadyValid);
    engine.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_failed_build_is_a_result() {
    let kiln = kiln();
    let (path, given) = derivation(&kiln, &Recipe::script("echo why it failed; exit 3"));
    let (engine, _store) = engine(&kiln, &given, &[]).await;
    let result = engine.build_derivation(&path, given).await;
    assert_eq!(result.status, BuildStatus::PermanentFailure);
    let message = result.error_message.to_str_lossy().into_owned();
    assert!(message.contains("failed with exit code 3"), "{message}");
    assert_eq!(result.log_tail.last().unwrap().to_str_lossy(), "why it failed");
    engine.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_inputs_that_are_missing_are_not_looked_for() {
    let kiln = kiln();
    kiln.write("source", "text");
    let recipe = Recipe::script("cat $source > $out").with("env.source = { path = \"./source\" }");
    let (path, given) = derivation(&kiln, &recipe);
    let (engine, _store) = engine(&kiln, &given, &[]).await;
    let result = engine.build_derivation(&path, given).await;
    assert_eq!(result.status, BuildStatus::MiscFailure);
    let message = result.error_message.to_str_lossy().into_owned();
    let expected = format!("some dependencies of '{}' are missing", StoreDir::default().print(&path));
    assert!(message.contains(&expected), "{message}");
    engine.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s11_where_nothing_may_run_no_build_is_started() {
    let kiln = kiln();
    let (path, given) = derivation(&kiln, &Recipe::script("echo > $out"));
    let (engine, _store) = engine(&kiln, &given, &[("max-jobs", "0")]).await;
    let result = engine.build_derivation(&path, given).await;
    assert_eq!(result.status, BuildStatus::MiscFailure);
    let message = result.error_message.to_str_lossy().into_owned();
    assert!(
        message.contains("unable to start any build; either increase '--max-jobs' or enable remote builds"),
        "{message}"
    );
    engine.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s12_a_request_that_is_given_up_leaves_nothing() {
    let kiln = kiln();
    let (path, given) = derivation(&kiln, &Recipe::script("echo > $out; sleep 1000"));
    let (engine, store) = engine(&kiln, &given, &[]).await;
    let build = engine.build_derivation(&path, given.clone());
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(500), build).await;
    assert!(given_up.is_err(), "the builder sleeps");
    engine.idle().await;
    let left: Vec<_> = std::fs::read_dir(store.directory().path()).unwrap().collect();
    // `.links` is the store's.
    assert!(left.iter().all(|entry| entry.as_ref().unwrap().file_name() == ".links"), "{left:?}");
    let output = given.known_output_paths().next().unwrap().1.clone();
    assert!(!store.is_valid(&output).await.unwrap());
}
