//! Tests of the lookup cache.

use super::*;
use kiln_hash::Sha256;
use kiln_narinfo::Compression;
use proptest::prelude::*;
use rusqlite::StatementStatus;

const URL: &str = "https://host";

fn path(name: &str) -> StorePath {
    StorePath::from_base_name(format!("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-{name}")).unwrap()
}

fn narinfo(path: &StorePath) -> NarInfo {
    let store_dir = StoreDir::default();
    let text = format!(
        "StorePath: {}\nURL: nar/x.nar.xz\nCompression: xz\nFileHash: sha256:{}\nFileSize: 9\nNarHash: sha256:{}\n\
         NarSize: 120\nReferences: {path} fkcy6m3kx766j9lmy6dy4c5i4k2x23s6-multi\n\
         Deriver: 4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv\n\
         Sig: a:j8wTg0BlsGsDaquHtYJrZ14tzx2qp90AHGSUr5gqwWm6tDqvCWHGa7t90V+FPHnkmub4ZAg98ghfroZOlzrpDw==\n",
        store_dir.print(path),
        Sha256::of(b"file").nix32(),
        Sha256::of(b"nar").nix32(),
    );
    NarInfo::parse(&store_dir, "test", text.as_bytes()).unwrap()
}

const PROPERTIES: Properties = Properties { priority: -7, want_mass_query: true, date: None };

async fn opened(directory: &Path, time_to_live: TimeToLive) -> LookupCache {
    let cache = LookupCache::open(Some(directory.to_owned()), time_to_live).await.unwrap();
    cache.set_properties(URL, &StoreDir::default(), PROPERTIES).await;
    cache
}

#[tokio::test]
async fn what_was_said_is_known_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let (store_dir, here, gone) = (StoreDir::default(), path("here"), path("here.drv"));
    let other = StorePath::from_base_name("fkcy6m3kx766j9lmy6dy4c5i4k2x23s6-multi").unwrap();
    {
        let cache = opened(directory.path(), TimeToLive::default()).await;
        assert_eq!(cache.narinfo(URL, &store_dir, &here).await, None);
        cache.set_narinfo(URL, &store_dir, &here, Some(narinfo(&here))).await;
        cache.set_narinfo(URL, &store_dir, &other, None).await;
    }
    let cache = LookupCache::open(Some(directory.path().into()), TimeToLive::default()).await.unwrap();
    assert_eq!(cache.properties(URL, &store_dir).await, Some(PROPERTIES));
    let known = cache.narinfo(URL, &store_dir, &here).await;
    assert_eq!(known, Some(Known::Present(Box::new(narinfo(&here)))));
    assert_eq!(cache.narinfo(URL, &store_dir, &other).await, Some(Known::Absent));
    assert_eq!(cache.narinfo(URL, &store_dir, &gone).await, None, "it is known under another name");
    // Neither another cache nor another store directory has anything to do with it.
    assert_eq!(cache.narinfo("https://other", &store_dir, &here).await, None);
    let gnu = StoreDir::new("/gnu/store").unwrap();
    assert_eq!(cache.narinfo(URL, &gnu, &here).await, None);
    assert_eq!(cache.properties(URL, &gnu).await, None);
    assert!(directory.path().join(FILE).exists());
}

#[tokio::test]
async fn what_is_old_does_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let store_dir = StoreDir::default();
    let (here, gone) =
        (path("here"), StorePath::from_base_name("fkcy6m3kx766j9lmy6dy4c5i4k2x23s6-multi").unwrap());
    let none = Duration::ZERO;
    let no_negative = TimeToLive { negative: none, ..TimeToLive::default() };
    let cache = opened(directory.path(), no_negative).await;
    cache.set_narinfo(URL, &store_dir, &here, Some(narinfo(&here))).await;
    cache.set_narinfo(URL, &store_dir, &gone, None).await;
    assert_eq!(cache.narinfo(URL, &store_dir, &gone).await, None);
    assert!(cache.narinfo(URL, &store_dir, &here).await.is_some());
    let no_positive = TimeToLive { positive: none, properties: none, ..TimeToLive::default() };
    let cache = opened(directory.path(), no_positive).await;
    assert_eq!(cache.narinfo(URL, &store_dir, &here).await, None);
    assert_eq!(cache.narinfo(URL, &store_dir, &gone).await, Some(Known::Absent));
    assert_eq!(cache.properties(URL, &store_dir).await, None);
}

#[tokio::test]
async fn old_entries_are_deleted_once_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let store_dir = StoreDir::default();
    let (old, new) =
        (path("old"), StorePath::from_base_name("fkcy6m3kx766j9lmy6dy4c5i4k2x23s6-multi").unwrap());
    let cache = opened(directory.path(), TimeToLive::default()).await;
    for path in [&old, &new] {
        cache.set_narinfo(URL, &store_dir, path, None).await;
    }
    let age = |sql: &'static str| cache.with(move |connection, _| connection.execute_batch(sql));
    age("update NARs set timestamp = timestamp - 4000 where hashPart like 'mz9%'").await.unwrap();
    let count = || async {
        let cache = LookupCache::open(Some(directory.path().into()), TimeToLive::default()).await.unwrap();
        let count = |connection: &Connection, _| {
            connection.query_row("select count(*) from NARs", [], |row| row.get(0))
        };
        cache.with(count).await.unwrap()
    };
    let found: i64 = count().await;
    assert_eq!(found, 2, "the last time was just now");
    age("update LastPurge set value = value - 90000").await.unwrap();
    assert_eq!(count().await, 1);
}

#[tokio::test]
async fn a_damaged_file_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, vec![b'x'; 8192]).unwrap();
    let cache = opened(directory.path(), TimeToLive::default()).await;
    assert_eq!(cache.properties(URL, &StoreDir::default()).await, Some(PROPERTIES));
    assert!(std::fs::read(&file).unwrap().starts_with(b"SQLite format 3"));
}

#[tokio::test]
async fn without_a_place_it_is_in_memory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for directory in [None, Some(file.path().to_path_buf())] {
        let cache = LookupCache::open(directory, TimeToLive::default()).await.unwrap();
        cache.set_properties(URL, &StoreDir::default(), PROPERTIES).await;
        assert_eq!(cache.properties(URL, &StoreDir::default()).await, Some(PROPERTIES));
    }
}

#[tokio::test]
async fn nonsense_in_it_is_nothing() {
    let cache = LookupCache::open(None, TimeToLive::default()).await.unwrap();
    let (store_dir, here) = (StoreDir::default(), path("here"));
    cache.set_properties(URL, &store_dir, PROPERTIES).await;
    cache.set_narinfo(URL, &store_dir, &here, Some(narinfo(&here))).await;
    for nonsense in [
        "update NARs set narHash = 'x'",
        "update NARs set url = null",
        "update NARs set refs = x'ff'",
        "update NARs set present = 'maybe'",
        "drop table NARs",
    ] {
        cache.with(move |connection, _| connection.execute_batch(nonsense)).await.unwrap();
        assert_eq!(cache.narinfo(URL, &store_dir, &here).await, None, "{nonsense}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_narinfo_comes_back(
        url in "[!-~]{1,20}", size: u64, nar_size in 1_u64.., with_hash: bool, with_deriver: bool,
        compression in prop::sample::select(vec!["none", "xz", "bzip2", "foo"]),
    ) {
        let here = path("here");
        let mut expected = narinfo(&here);
        expected.url = url;
        expected.file_size = Some(size);
        expected.info.nar_size = nar_size;
        expected.compression = Compression::from_name(compression);
        expected.file_hash = expected.file_hash.filter(|_| with_hash);
        expected.info.deriver = expected.info.deriver.filter(|_| with_deriver);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let known = runtime.block_on(async {
            let store_dir = StoreDir::default();
            let cache = LookupCache::open(None, TimeToLive::default()).await.unwrap();
            cache.set_properties(URL, &store_dir, PROPERTIES).await;
            cache.set_narinfo(URL, &store_dir, &here, Some(expected.clone())).await;
            cache.narinfo(URL, &store_dir, &here).await
        });
        prop_assert_eq!(known, Some(Known::Present(Box::new(expected))));
    }
}

#[tokio::test]
async fn statements_are_compiled_once() {
    let directory = tempfile::tempdir().unwrap();
    let (store_dir, here) = (StoreDir::default(), path("here"));
    let cache = opened(directory.path(), TimeToLive::default()).await;
    for _ in 0..3 {
        assert_eq!(cache.narinfo(URL, &store_dir, &here).await, None);
    }
    let connection = cache.0.connection.lock().unwrap();
    let statement = connection.prepare_cached(NARINFO).unwrap();
    assert_eq!(statement.get_status(StatementStatus::Run), 3, "it is another statement");
    assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
}
