//! Trees: each kind of difference, the order, the limits; and any trees, against a plain model.

use super::scratch::Scratch;
use kiln_diff::{Change, Error, Limits, NodeKind, Pair, Report, Side, compare_trees};
use kiln_fs::Component;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Each difference as its path and its kind in JSON.
fn kinds(report: &Report) -> Vec<(String, String)> {
    let json = serde_json::to_value(report).unwrap();
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let differences = json["differences"].as_array().unwrap();
    differences.iter().map(|difference| (text(&difference["path"]), text(&difference["kind"]))).collect()
}

#[test]
fn trees_that_are_the_same() {
    let scratch = Scratch::new();
    for tree in ["a", "b"] {
        scratch.file(format!("{tree}/file"), "contents");
        scratch.executable(&format!("{tree}/bin/tool"), "tool");
        scratch.link(&format!("{tree}/link"), "nowhere");
        scratch.directory(&format!("{tree}/empty"));
    }
    let report = scratch.compare();
    assert!(report.is_empty(), "{report}");
    assert_eq!(report.totals.compared, 6);
    assert_eq!(scratch.told(), "no differences (6 entries compared)\n");
}

/// Archives know no times, owners and other permissions.
#[test]
fn only_what_archives_tell() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let (a, _) = (scratch.file("a/x", "x"), scratch.file("b/x", "x"));
    std::fs::set_permissions(&a, std::fs::Permissions::from_mode(0o600)).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    std::fs::File::options().write(true).open(&a).unwrap().set_modified(long_ago).unwrap();
    assert!(scratch.compare().is_empty());
}

#[test]
fn roots_of_any_type() {
    let scratch = Scratch::new();
    scratch.file("a", "one");
    scratch.file("b", "two");
    assert_eq!(kinds(&scratch.compare()), [(String::new(), "contents".to_owned())]);
    assert!(scratch.told().starts_with("contents      .: 3 bytes in both; "), "{}", scratch.told());

    let scratch = Scratch::new();
    scratch.link("a", "x");
    scratch.file("b", "two");
    assert_eq!(
        scratch.compare().differences[0].change,
        Change::Type { nodes: Pair::new(NodeKind::Symlink, NodeKind::File) }
    );

    let scratch = Scratch::new();
    scratch.link("a", "x");
    scratch.link("b", "x");
    assert!(scratch.compare().is_empty());
}

#[test]
fn a_root_that_is_not_there() {
    let scratch = Scratch::new();
    scratch.file("a", "one");
    let (directory, a, b) = (scratch.open(), Component::new("a").unwrap(), Component::new("b").unwrap());
    let error = compare_trees((&directory, &a), (&directory, &b), &Limits::default()).unwrap_err();
    assert!(matches!(&error, Error::Missing(path) if path.ends_with("b")), "{error}");
    assert!(error.to_string().ends_with("/b' with anything: it does not exist"), "{error}");
}

#[test]
fn the_order_of_archives() {
    let scratch = Scratch::new();
    for name in ["a/d/x", "a/d.x", "a/d-x", "b/d0", "a/D", "b/e/f", "a/e/g"] {
        scratch.file(name, "");
    }
    let paths: Vec<String> = kinds(&scratch.compare()).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["D", "d", "d-x", "d.x", "d0", "e/f", "e/g"]);
}

#[test]
fn differences_beyond_the_limit_are_counted() {
    let scratch = Scratch::new();
    for number in 0..10 {
        scratch.file(format!("a/{number}"), "aa");
        scratch.file(format!("b/{number}"), "bb");
        scratch.file(format!("b/x{number}/y"), "");
    }
    let report = scratch.compare_within(&Limits { differences: 3, ..Limits::default() });
    assert_eq!(report.differences.len(), 3);
    assert_eq!((report.totals.differences, report.totals.contents, report.totals.only_in_b), (20, 10, 10));
    assert_eq!((report.totals.listed, report.omitted()), (3, 17));
    assert!(report.to_string().contains("\n17 more differences not shown\n"), "{report}");
    assert!(!report.is_empty());
}

#[test]
fn what_is_below_is_counted_within_limits() {
    let scratch = Scratch::new();
    scratch.directory("b");
    for path in ["a/d/1/x", "a/d/1/y", "a/d/2/z/z", "a/d/3"] {
        scratch.file(path, "");
    }
    let below = |limits: Limits| match scratch.compare_within(&limits).differences[0].change {
        Change::OnlyIn { side: Side::A, node: NodeKind::Directory, size: None, below, more } => (below, more),
        ref other => panic!("{other:?}"),
    };
    assert_eq!(below(Limits::default()), (7, false));
    assert_eq!(below(Limits { entries_below: 7, ..Limits::default() }), (7, false));
    assert_eq!(below(Limits { entries_below: 6, ..Limits::default() }), (6, true));
    assert_eq!(below(Limits { depth: 2, ..Limits::default() }), (6, true));
    // With the one above, of each directory on the way.
    assert_eq!(below(Limits { entries: 4, ..Limits::default() }), (3, true));
    assert_eq!(below(Limits { entries: 5, ..Limits::default() }), (4, true));
    assert_eq!(below(Limits { entries: 6, ..Limits::default() }), (7, false));
}

#[test]
fn depth_and_entries_are_limited() {
    let scratch = Scratch::new();
    for tree in ["a", "b"] {
        scratch.file(format!("{tree}/1/2/3/{tree}"), "");
        for number in 0..20 {
            scratch.file(format!("{tree}/many/{number}"), tree);
        }
    }
    let told = |limits: Limits| {
        let report = scratch.compare_within(&limits).to_string();
        report.lines().skip(2).filter(|line| line.starts_with("not")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(told(Limits::default()), Vec::<String>::new());
    assert_eq!(
        told(Limits { depth: 3, ..Limits::default() }),
        ["not compared  1/2/3: too many directories in each other"]
    );
    assert_eq!(told(Limits { entries: 43, ..Limits::default() }), ["not compared  many: too many entries"]);
    assert_eq!(told(Limits { entries: 44, ..Limits::default() }), Vec::<String>::new());
}

/// A node of a model of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(bool, Vec<u8>),
    Link(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Node>),
}

fn nodes() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (any::<bool>(), prop::collection::vec(0..3_u8, 0..3)).prop_map(|(bit, bytes)| Node::File(bit, bytes)),
        prop::sample::select(vec!["x", "y"]).prop_map(|target| Node::Link(target.into())),
    ];
    let names = prop::sample::select(vec![&b"a"[..], b"a.", b"b", b"\xff", b"B"]);
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let entries = prop::collection::btree_map(names.clone().prop_map(<[u8]>::to_vec), inner, 0..4);
        entries.prop_map(Node::Directory)
    })
}

fn make(scratch: &Scratch, path: &[u8], node: &Node) {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    match node {
        Node::File(executable, bytes) => {
            let mode = if *executable { 0o755 } else { 0o644 };
            std::fs::set_permissions(scratch.file(path, bytes), std::fs::Permissions::from_mode(mode))
                .unwrap();
        }
        Node::Link(target) => {
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), scratch.path(path)).unwrap();
        }
        Node::Directory(entries) => {
            std::fs::create_dir_all(scratch.path(path)).unwrap();
            entries.iter().for_each(|(name, node)| make(scratch, &[path, b"/", name].concat(), node));
        }
    }
}

/// What a comparison has to find, by the plainest way.
fn expected(path: &[u8], a: &Node, b: &Node, found: &mut Vec<(Vec<u8>, &'static str)>) {
    let mut add = |kind| found.push((path.to_vec(), kind));
    match (a, b) {
        (Node::File(bit_a, bytes_a), Node::File(bit_b, bytes_b)) => {
            if bit_a != bit_b {
                add("executable");
            }
            if bytes_a != bytes_b {
                add("contents");
            }
        }
        (Node::Link(a), Node::Link(b)) if a == b => {}
        (Node::Link(_), Node::Link(_)) => add("target"),
        (Node::Directory(a), Node::Directory(b)) => {
            let mut names: Vec<&Vec<u8>> = a.keys().chain(b.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let below = if path.is_empty() { name.clone() } else { [path, b"/", name].concat() };
                match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => expected(&below, a, b, found),
                    _ => found.push((below, "only-in")),
                }
            }
        }
        _ => add("type"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_trees(a in nodes(), b in nodes()) {
        let scratch = Scratch::new();
        make(&scratch, b"a", &a);
        make(&scratch, b"b", &b);
        let report = scratch.compare();
        let kind = |change: &Change| match change {
            Change::OnlyIn { .. } => "only-in",
            Change::Type { .. } => "type",
            Change::Executable { .. } => "executable",
            Change::Target { .. } => "target",
            Change::Contents(_) => "contents",
            Change::NotCompared { .. } => "not-compared",
        };
        let found: Vec<(Vec<u8>, &str)> =
            report.differences.iter().map(|found| (found.path.0.clone(), kind(&found.change))).collect();
        let mut wanted = Vec::new();
        expected(b"", &a, &b, &mut wanted);
        prop_assert_eq!(found, wanted);
        prop_assert_eq!(report.is_empty(), a == b);
        prop_assert_eq!(report.totals.differences as usize, report.differences.len());
    }

    #[test]
    fn any_tree_and_itself(tree in nodes()) {
        let scratch = Scratch::new();
        make(&scratch, b"a", &tree);
        make(&scratch, b"b", &tree);
        let report = scratch.compare();
        prop_assert!(report.is_empty(), "{}", report);
    }
}
