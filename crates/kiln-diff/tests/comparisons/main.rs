//! Comparisons of contents and trees, as the crate's users make them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may fail")]

mod archives;
mod damage;
mod golden;
mod hostile;
mod making;
mod mirror;
mod programs;
mod scratch;
mod texts;
mod tools;
mod trees;

use kiln_diff::{ContentDifference, Contents, Limits, Pair, compare_contents};

/// Compares two byte strings that differ.
fn compared(name: &str, a: &[u8], b: &[u8]) -> ContentDifference {
    compared_within(name, a, b, &Limits::default())
}

fn compared_within(name: &str, a: &[u8], b: &[u8], limits: &Limits) -> ContentDifference {
    let compare = |a: &[u8], b: &[u8]| {
        let contents = Pair::new(&a as &dyn Contents, &b as &dyn Contents);
        compare_contents(name.as_bytes(), contents, limits).unwrap().expect("a difference")
    };
    let difference = compare(a, b);
    assert_eq!(mirror::content(&difference), compare(b, a), "the other way around");
    difference
}

/// What is told to people of each finding.
fn findings(name: &str, a: &[u8], b: &[u8]) -> Vec<String> {
    compared(name, a, b).findings.iter().map(ToString::to_string).collect()
}
