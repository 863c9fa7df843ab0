//! Holds that each behaviour of a build engine is proved by a test that names it, and that `docs/behaviours.md`, which
//! is made here, says which.
//!
//! A test names what it proves by how its name begins: `s12_an_interrupt_ends_the_builder`, or
//! `s7_s8_limits_have_statuses_of_their_own`. What the names mean is said in [`list`], and nowhere else.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod list;
mod sources;
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use list::{GROUPS, NO_BEHAVIOURS, State};
use sources::Test;

const HOW_TO_WRITE: &str = "KILN_WRITE_DOCS=1 cargo test -p kiln-testing --test behaviours";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where tests and the list contradict each other.
fn complaints(tests: &[Test]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut listed = BTreeSet::new();
    for behaviour in GROUPS.iter().flat_map(|group| group.behaviours) {
        let id = behaviour.id;
        listed.insert(id.to_ascii_lowercase());
        let is_proved = tests.iter().any(|test| test.proves(id));
        if !is_proved {
            complaints.push(format!("{id} has no test whose name begins with '{}_'", id.to_lowercase()));
        }
    }
    for test in tests {
        for id in &test.ids {
            if !listed.contains(id) && !NO_BEHAVIOURS.iter().any(|(name, _)| name == id) {
                let Test { name, file, .. } = test;
                complaints.push(format!("{file}: '{name}' names a behaviour that there isn't: {id}"));
            }
        }
    }
    complaints
}

#[test]
fn the_list_is_in_order() {
    let letters: BTreeSet<char> = GROUPS.iter().map(|group| group.letter).collect();
    assert_eq!(letters.len(), GROUPS.len());
    for group in GROUPS {
        for (index, behaviour) in group.behaviours.iter().enumerate() {
            assert_eq!(behaviour.id, format!("{}{}", group.letter, index + 1));
            let texts = match behaviour.state {
                State::Whole => vec![behaviour.what],
                State::Part(text) => vec![behaviour.what, text],
            };
            for text in texts {
                assert!(!text.is_empty() && !text.ends_with('.') && !text.contains(['|', '\n']), "{text}");
            }
        }
    }
}

#[test]
fn tests_and_behaviours_belong_together() {
    let complaints = complaints(&sources::tests(&workspace()));
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn what_does_not_belong_together_is_found() {
    let test = |ids: &[&str]| Test {
        file: "x.rs".to_owned(),
        name: "x".to_owned(),
        ids: ids.iter().map(|id| id.to_ascii_lowercase()).collect(),
    };
    let behaviours = GROUPS.iter().flat_map(|group| group.behaviours);
    let mut tests: Vec<Test> = behaviours.map(|behaviour| test(&[behaviour.id])).collect();
    assert_eq!(complaints(&tests), [""; 0]);
    tests.extend([test(&["s1", "s99"]), test(&["x86"])]);
    tests.retain(|test| !test.proves("S14"));
    assert_eq!(
        complaints(&tests),
        [
            "S14 has no test whose name begins with 's14_'",
            "x.rs: 'x' names a behaviour that there isn't: s99",
        ]
    );
}

/// With `KILN_WRITE_DOCS=1`, the page is written instead.
#[test]
fn the_page_is_up_to_date() {
    let file = workspace().join("docs/behaviours.md");
    let page = table::page(&sources::tests(&workspace()));
    if std::env::var_os("KILN_WRITE_DOCS").is_some_and(|value| value == "1") {
        return std::fs::write(&file, page).expect("docs/behaviours.md can be written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let difference = found.lines().zip(page.lines()).position(|(found, made)| found != made);
    let line = difference.unwrap_or_else(|| found.lines().count().min(page.lines().count())) + 1;
    assert!(
        found == page,
        "docs/behaviours.md is out of date from line {line} on; to write it: {HOW_TO_WRITE}"
    );
}
