//! The engine as a program that embeds it sees it: what no command asks for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use kiln_build::{BuildMode, BuildRequest, Engine, UserId};
use kiln_derivation::{BasicDerivation, Derivation, Strictness};
use kiln_events::{Activity, ActivityId, ActivityResult, BuildStatus, CollectingSink, Event, EventSender};
use kiln_sandbox::Launcher;
use kiln_settings::{Configuration, Machine, Origin, Settings, StoreUrl};
use kiln_store::{LocalStore, StoreConfig};
use kiln_store_path::{DerivedPath, OutputsSpec, SingleDerivedPath, StoreDir, StorePath};
use kiln_testing::{Fault, Kiln, Recipe, SANDBOX_PATHS, WebServer};

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
    let settings = with_settings(&system, settings);
    let root = kiln.directory().join("engine");
    let StoreUrl::Local(url) = StoreUrl::parse(root.to_str().unwrap()).unwrap() else { panic!() };
    let config = StoreConfig::from_url(&url, &|_| None).unwrap();
    let store = LocalStore::open(config, std::sync::Arc::new(|_| {})).await.unwrap();
    let launcher = Launcher::start_program(kiln.program()).unwrap();
    let engine = Engine::with_launcher(launcher, store.clone(), &settings, [], EventSender::null()).unwrap();
    (engine, store)
}

fn with_settings(system: &str, settings: &[(&str, &str)]) -> Settings {
    let mut configuration = Configuration::new(&Machine::plain(system));
    let usual = [
        ("sandbox", "true"),
        ("sandbox-paths", SANDBOX_PATHS),
        ("build-users-group", ""),
        ("substituters", ""),
    ];
    for (name, value) in usual.iter().chain(settings) {
        configuration.set(name, value, Origin::Client).unwrap();
    }
    configuration.into_settings()
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
    let output = given.known_output_paths().next().unwrap().1.clone();
    let made = store.directory().path().join(format!("{path}.chroot/store/{output}"));
    let started = async {
        while !made.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        result = engine.build_derivation(&path, given) => panic!("the builder sleeps: {result:?}"),
        () = started => {}
    }
    engine.idle().await;
    let left: Vec<_> = std::fs::read_dir(store.directory().path()).unwrap().collect();
    // `.links` is the store's.
    assert!(left.iter().all(|entry| entry.as_ref().unwrap().file_name() == ".links"), "{left:?}");
    assert!(!store.is_valid(&output).await.unwrap());
}

/// A client of the engine, and what it was told.
fn client(engine: &Engine, owner: &EventSender, settings: &Settings) -> (Engine, Arc<CollectingSink>) {
    let sink = Arc::new(CollectingSink::new());
    (engine.client(settings, owner.with_sink(sink.clone()), UserId(0)).unwrap(), sink)
}

/// The builds that a client was told of, and the lines of their logs.
fn builds_and_lines(sink: &CollectingSink) -> (Vec<ActivityId>, Vec<String>) {
    let (mut builds, mut lines) = (Vec::new(), Vec::new());
    for event in sink.events() {
        match event {
            Event::Start { id, activity: Activity::Build { .. }, .. } => builds.push(id),
            Event::Result { result: ActivityResult::BuildLogLine(line), .. } => {
                lines.push(line.to_str_lossy().into_owned());
            }
            _ => {}
        }
    }
    (builds, lines)
}

/// A build that takes a while after its first line, as a request of the engine's own store.
async fn slow_build(kiln: &Kiln, store: &LocalStore) -> (String, BuildRequest) {
    let (path, given) = derivation(kiln, &Recipe::script("echo begun; sleep 1; echo ended; echo > $out"));
    let text = std::fs::read(kiln.real(&StoreDir::default().print(&path))).unwrap();
    let added = store.add_text(&path.to_name(), text, std::collections::BTreeSet::new()).await.unwrap();
    assert_eq!(added.path, path);
    let derivation = SingleDerivedPath { path, outputs: Vec::new() };
    let target = DerivedPath::Built { derivation, outputs: OutputsSpec::All };
    let system = String::from_utf8(given.system.clone()).unwrap();
    (system, BuildRequest { targets: vec![target], mode: BuildMode::Normal, keep_going: false })
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_what_two_clients_want_is_built_once_and_told_to_both() {
    let kiln = kiln();
    let (_, given) = derivation(&kiln, &Recipe::script("echo > $out"));
    let owner = EventSender::null();
    let (engine, store) = engine(&kiln, &given, &[]).await;
    let (system, request) = slow_build(&kiln, &store).await;
    let settings = with_settings(&system, &[]);
    let (first, first_sink) = client(&engine, &owner, &settings);
    let (second, second_sink) = client(&engine, &owner, &settings);
    let running = tokio::spawn({
        let request = request.clone();
        async move { first.build(request).await }
    });
    while builds_and_lines(&first_sink).1.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let second = second.build(request).await;
    assert!(second.is_success() && running.await.unwrap().is_success());
    let (builds, lines) = builds_and_lines(&first_sink);
    assert_eq!(lines, ["begun", "ended"]);
    assert_eq!(builds.len(), 1);
    assert_eq!(
        builds_and_lines(&second_sink),
        (builds, vec!["ended".to_owned()]),
        "it came after the first line"
    );
    engine.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s12_a_client_that_goes_cancels_only_what_nobody_else_wants() {
    let kiln = kiln();
    let (_, given) = derivation(&kiln, &Recipe::script("echo > $out"));
    let owner = EventSender::null();
    let (engine, store) = engine(&kiln, &given, &[]).await;
    let (system, request) = slow_build(&kiln, &store).await;
    let settings = with_settings(&system, &[]);
    let (first, first_sink) = client(&engine, &owner, &settings);
    let (second, second_sink) = client(&engine, &owner, &settings);
    let gone = tokio::spawn({
        let request = request.clone();
        async move { first.build(request).await }
    });
    while builds_and_lines(&first_sink).1.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let staying = tokio::spawn(async move { second.build(request).await });
    while builds_and_lines(&second_sink).0.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    gone.abort();
    assert!(staying.await.unwrap().is_success());
    assert_eq!(builds_and_lines(&second_sink).1, ["ended"]);
    assert_eq!(builds_and_lines(&first_sink).1, ["begun"], "it is told nothing any more");
    engine.idle().await;
}

/// A path that refers to another one and to the first link of a chain, in a cache at a server; with the other one, and the
/// last link.
fn closure_at_server(kiln: &Kiln, links: usize) -> (WebServer, StorePath, StorePath, StorePath) {
    let chain = (0..links).fold(Recipe::default(), |recipe, link| {
        let below = if link + 1 < links { format!("${{link{}}}", link + 1) } else { String::new() };
        recipe.derivation(&format!("link{link}"), &format!("echo link {below} > $out"))
    });
    let recipe = chain.derivation("other", "echo other > $out");
    kiln.write("kiln.toml", recipe.derivation("top", "echo ${other} ${link0} > $out").text());
    let path = |name: &str| kiln.run(["build", "--no-link", &format!(":{name}")]).line().to_owned();
    let [top, other, last] =
        ["top".to_owned(), "other".to_owned(), format!("link{}", links - 1)].map(|name| path(&name));
    let cache = kiln.directory().join("cache");
    let copied = kiln.run(["copy", "--to", &format!("file://{}", cache.display()), &top]);
    assert_eq!(copied.code, Some(0), "{}", copied.stderr);
    let parse = |path: &str| StoreDir::default().parse(path).unwrap();
    (WebServer::serving(&cache), parse(&top), parse(&other), parse(&last))
}

/// Has a path made valid, which must not wait for ever.
async fn assert_fetched(engine: &Engine, store: &LocalStore, path: StorePath) {
    let targets = vec![DerivedPath::Opaque(path.clone())];
    let request = BuildRequest { targets, mode: BuildMode::Normal, keep_going: false };
    let fetching = tokio::time::timeout(Duration::from_secs(120), engine.build(request));
    let results = fetching.await.expect("nobody goes on");
    assert!(store.is_valid(&path).await.unwrap(), "{results:?}");
    engine.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_a_goal_asks_for_a_whole_closure_whoever_is_slow_to_answer() {
    let kiln = kiln();
    let (_, given) = derivation(&kiln, &Recipe::script("echo > $out"));
    let (server, top, other, last) = closure_at_server(&kiln, 6);
    // Without the last link having been asked for there is no answer.
    server.fault(&format!("{}.narinfo", other.digest()), usize::MAX, Fault::After(last.digest().to_owned()));
    let settings = [("substituters", &*server.url()), ("require-sigs", "false")];
    let (engine, store) = engine(&kiln, &given, &settings).await;
    assert_fetched(&engine, &store, top).await;
}

/// Where the archive of a path is in the cache.
fn archive(kiln: &Kiln, path: &StorePath) -> String {
    let narinfo = kiln.directory().join(format!("cache/{}.narinfo", path.digest()));
    let narinfo = std::fs::read_to_string(narinfo).unwrap();
    narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap().to_owned()
}

/// Whoever waits for a server to answer needs no slot. Each of these archives comes only when the other has been asked for.
#[tokio::test(flavor = "multi_thread")]
async fn g7_small_paths_wait_for_their_server_without_a_slot() {
    let kiln = kiln();
    let (_, given) = derivation(&kiln, &Recipe::script("echo > $out"));
    let (server, top, other, first) = closure_at_server(&kiln, 1);
    let (one, another) = (archive(&kiln, &other), archive(&kiln, &first));
    server.fault(&one, usize::MAX, Fault::After(another.clone()));
    server.fault(&another, usize::MAX, Fault::After(one));
    let settings = [
        ("substituters", &*server.url()),
        ("require-sigs", "false"),
        ("max-substitution-jobs", "1"),
        ("download-attempts", "1"),
    ];
    let (engine, store) = engine(&kiln, &given, &settings).await;
    assert_fetched(&engine, &store, top).await;
}

/// One connection and one slot for a small and a large path, the large one asked for later: nobody may have the one and wait for
/// the other.
#[tokio::test(flavor = "multi_thread")]
async fn g7_small_and_large_paths_do_not_wait_for_each_other() {
    let kiln = kiln();
    let (_, given) = derivation(&kiln, &Recipe::script("echo > $out"));
    let large = "x=0123456789abcdef; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13; do x=$x$x; done; echo $x > $out";
    let build = |name: &str| kiln.run(["build", "--no-link", &format!(":{name}")]).line().to_owned();
    let larges = (0..8).fold(Recipe::default(), |recipe, n| recipe.derivation(&format!("large{n}"), large));
    let recipe = larges.derivation("small", "echo small > $out");
    kiln.write("kiln.toml", recipe.text());
    let small = build("small");
    let later = (0..8).find(|n| build(&format!("large{n}")) < small).unwrap();
    let script = format!("echo ${{small}} ${{large{later}}} > $out");
    kiln.write("kiln.toml", recipe.derivation("top", &script).text());
    let top = build("top");
    let cache = kiln.directory().join("cache");
    let place = format!("file://{}?compression=none", cache.display());
    let copied = kiln.run(["copy", "--to", &place, &top]);
    assert_eq!(copied.code, Some(0), "{}", copied.stderr);
    let server = WebServer::serving(&cache);
    // Meanwhile the large one gets as far as it can.
    let small = StoreDir::default().parse(&small).unwrap();
    server.fault(&archive(&kiln, &small), usize::MAX, Fault::Delay(Duration::from_millis(500)));
    let settings = [
        ("substituters", &*server.url()),
        ("require-sigs", "false"),
        ("max-substitution-jobs", "1"),
        ("http-connections", "1"),
    ];
    let (engine, store) = engine(&kiln, &given, &settings).await;
    assert_fetched(&engine, &store, StoreDir::default().parse(&top).unwrap()).await;
}
