//! Stores with anything in them, which both programs are asked the same about and change in the same ways.
//!
//! A store is a description first (`description.rs`). Where the programs differ, it is made smaller as long as they still do, and
//! what is left is shown, with what repeats it. `KILN_STORES` is how many stores there are; `KILN_STORES_SEED` is the number that
//! the first one follows from. A store's number is the same in all runs, but where paths follow from what is in the store, they
//! do so from where it is too, which is somewhere else each time.

mod description;
mod making;
mod smaller;
mod steps;
mod strategy;

use std::time::{Duration, Instant};

use kiln_testing::RandomNumbers;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use crate::both::Both;
use description::Description;
use smaller::Shrinking;

/// Stores, if nobody says how many, and as long as they take no longer than this.
const STORES: u64 = 30;
const ENOUGH: Duration = Duration::from_secs(45);

/// The longest time to make a store smaller, in milliseconds.
const PATIENCE: u32 = 180_000;

#[test]
#[expect(clippy::print_stderr, reason = "how much was compared depends on the machine")]
fn random_stores() {
    let Some(both) = Both::empty() else { return };
    let asked: Option<u64> = std::env::var("KILN_STORES").ok().map(|count| count.parse().unwrap());
    let first = RandomNumbers::seed_from_environment("KILN_STORES_SEED");
    let (begin, mut compared) = (Instant::now(), 0);
    while compared < asked.unwrap_or(STORES) && (asked.is_some() || begin.elapsed() < ENOUGH) {
        one(&both, first.wrapping_add(compared));
        compared += 1;
    }
    eprintln!("{compared} stores in {} seconds", begin.elapsed().as_secs());
}

/// Compares what both make of the store of this number, and makes it smaller if that differs.
fn one(both: &Both, seed: u64) {
    let config = Config {
        cases: 1,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_time: PATIENCE,
        // The greatest number means something else.
        max_shrink_iters: u32::MAX - 1,
        ..Config::default()
    };
    let compare = |description: Description| steps::compare(both, &description).map_err(TestCaseError::fail);
    match TestRunner::new(config).run(&Shrinking(strategy::descriptions()), compare) {
        Ok(()) => {}
        Err(TestError::Fail(difference, description)) => panic!(
            "KILN_STORES=1 KILN_STORES_SEED={seed} repeats this. A store\n{description:?}is not the same for both:\n\
             {difference}"
        ),
        Err(error) => panic!("{error}"),
    }
}
