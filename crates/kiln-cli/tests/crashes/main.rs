//! The program is killed (the program only, by SIGKILL) while it builds, at every fail point and at random moments. Then
//! the store is consistent for real Nix, nothing is valid by halves, no process or mount is left, and the same command
//! succeeds and leaves nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say what to repeat"
)]

mod moments;
mod scenario;
mod stage;

use std::collections::BTreeSet;

use kiln_fs::FailPoint;

use moments::Moments;
use scenario::Scenario;
use stage::{Crash, Stage};

/// Most crashes at one point of a scenario: the first times that the program comes there.
const MOST_PASSES: u64 = 2;

/// Crashes of a scenario at random moments.
const MOMENTS: u32 = 40;

/// Crashes on top of each other, before the store is as it was again.
const IN_A_ROW: u32 = 4;

/// Crashes at each point that the scenario says it comes to.
fn at_every_point(scenario: &Scenario) {
    if !cfg!(debug_assertions) {
        return kiln_testing::missing("a program that was compiled with debug assertions");
    }
    let Some(stage) = Stage::set(scenario) else { return };
    for point in scenario.points {
        for pass in 1..=MOST_PASSES {
            let crash = Crash::At(*point, pass);
            stage.begin();
            if !stage.crash(&crash) {
                assert!(pass > 1, "'{}' does not come to {}", scenario.name, point.name());
                break;
            }
            stage.check_crash(&crash);
            stage.check_repetition(&crash);
        }
    }
    stage.collect();
}

/// Crashes at moments anywhere in the time that the scenario takes, some of them in a store where others crashed before.
fn at_random_moments(scenario: &Scenario) {
    let Some(stage) = Stage::set(scenario) else { return };
    let mut moments = Moments::new(scenario.name, stage.duration);
    for number in 0..MOMENTS {
        if number % IN_A_ROW == 0 {
            stage.begin();
        }
        let crash = Crash::After(moments.next());
        stage.crash(&crash);
        // What is left of the builders may still be about when the next one begins.
        if number % 2 == 0 {
            stage.check_crash(&crash);
        }
        if number % IN_A_ROW == IN_A_ROW - 1 {
            stage.check_repetition(&crash);
        }
    }
    stage.collect();
}

#[test]
fn o7_a_graph_survives_a_crash_at_each_point() {
    at_every_point(&scenario::GRAPH);
}

#[test]
fn o7_a_graph_survives_a_crash_at_any_moment() {
    at_random_moments(&scenario::GRAPH);
}

#[test]
fn o7_adding_survives_a_crash_at_each_point() {
    at_every_point(&scenario::ADDING);
}

#[test]
fn o7_rounds_survive_a_crash_at_each_point() {
    at_every_point(&scenario::ROUNDS);
}

#[test]
fn o7_rounds_survive_a_crash_at_any_moment() {
    at_random_moments(&scenario::ROUNDS);
}

#[test]
fn o7_what_content_names_survives_a_crash_at_each_point() {
    at_every_point(&scenario::CONTENT);
}

#[test]
fn o7_what_content_names_survives_a_crash_at_any_moment() {
    at_random_moments(&scenario::CONTENT);
}

#[test]
fn o7_a_check_survives_a_crash_at_each_point() {
    at_every_point(&scenario::CHECK);
}

#[test]
fn o7_a_check_survives_a_crash_at_any_moment() {
    at_random_moments(&scenario::CHECK);
}

#[test]
fn o7_a_repair_survives_a_crash_at_each_point() {
    at_every_point(&scenario::REPAIR);
}

#[test]
fn o7_a_repair_survives_a_crash_at_any_moment() {
    at_random_moments(&scenario::REPAIR);
}

#[test]
fn o7_a_mismatch_survives_a_crash_at_each_point() {
    at_every_point(&scenario::MISMATCH);
}

#[test]
fn o7_a_mismatch_survives_a_crash_at_any_moment() {
    at_random_moments(&scenario::MISMATCH);
}

#[test]
fn d3_fetching_survives_a_crash_at_each_point() {
    at_every_point(&scenario::FETCH);
}

#[test]
fn d3_fetching_survives_a_crash_at_any_moment() {
    at_random_moments(&scenario::FETCH);
}

#[test]
fn d15_a_repair_from_a_cache_survives_a_crash_at_each_point() {
    at_every_point(&scenario::REFETCH);
}

#[test]
fn d15_a_repair_from_a_cache_survives_a_crash_at_any_moment() {
    at_random_moments(&scenario::REFETCH);
}

#[test]
fn each_fail_point_is_in_a_scenario() {
    let tried: BTreeSet<&str> =
        scenario::ALL.iter().flat_map(|scenario| scenario.points).map(|point| point.name()).collect();
    let all: BTreeSet<&str> = FailPoint::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(tried, all);
}
