//! Losses of power: a store on a disk that records all writes and flushes is worked on, and then looked at as the disk would
//! have been left at many moments, without some or all of what was not flushed yet.
//!
//! With `fsync-store-paths` or `sync-before-registering` everything that is valid is whole then, by the judgement of real Nix, what was acknowledged is valid,
//! and work goes on. Without them, the same recorder finds damage, as it must to prove anything.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod stage;

use kiln_testing::RandomNumbers;

use stage::Stage;

/// How many losses of power there are, unless `KILN_POWER_CUTS` says.
const CUTS: usize = 12;

fn cuts() -> usize {
    std::env::var("KILN_POWER_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap())
}

#[test]
fn what_is_valid_survives_when_files_are_synced() {
    survives("fsync-store-paths", cuts());
}

#[test]
fn what_is_valid_survives_when_the_file_system_is_synced() {
    survives("sync-before-registering", cuts() / 3);
}

/// Whatever the power is taken from at so many moments is whole if the work was done with a setting.
fn survives(setting: &str, cuts: usize) {
    let Some(stage) = Stage::set() else { return };
    let recorded = stage.record(Some(setting));
    assert!(recorded.acknowledged.len() >= 4, "{:?}", recorded.acknowledged);
    let mut numbers = RandomNumbers::from_environment("KILN_POWER_CUT_SEED");
    // Where much waits to be flushed, much can be lost.
    let mut flushes = recorded.disk.before_flushes();
    flushes.retain(|(moment, waiting)| *waiting > 0 && *moment <= recorded.end);
    flushes.sort_by_key(|(_, waiting)| std::cmp::Reverse(*waiting));
    for cut in 0..cuts {
        let moment = match cut % 3 {
            0 => flushes[cut / 3 % flushes.len()].0,
            1 => flushes[numbers.below(flushes.len())].0,
            _ => numbers.below(recorded.end + 1),
        };
        // Of what was not flushed, all, most, half, some or nothing is lost.
        let lost = [100, 90, 50, 10, 0][numbers.below(5)];
        let disk = recorded.disk.cut(moment, || numbers.below(100) >= lost);
        let acknowledged = recorded.acknowledged.iter().filter(|(when, _)| *when <= moment);
        let acknowledged: Vec<&str> = acknowledged.map(|(_, path)| path.as_str()).collect();
        let damage = stage.damage(disk, &acknowledged);
        let of = recorded.disk.len();
        assert!(damage.is_empty(), "{lost} % lost at {moment} of {of}: {damage:#?}");
    }
    // What the end of the program has brought to the disk is no condition.
    let disk = recorded.disk.cut(recorded.end, || false);
    let all: Vec<&str> = recorded.acknowledged.iter().map(|(_, path)| path.as_str()).collect();
    assert_eq!(stage.damage(disk, &all), [""; 0]);
}

/// Files that nobody insists on are empty after a loss of power, when the database, which is brought to the disk as the store is
/// closed, says that they are valid. Nix does the same; this is what `fsync-store-paths` is for.
#[test]
fn damage_is_found_when_files_are_not_synced() {
    let Some(stage) = Stage::set() else { return };
    let recorded = stage.record(None);
    let mut moments: Vec<usize> =
        recorded.disk.before_flushes().into_iter().map(|(moment, _)| moment + 1).collect();
    moments.retain(|moment| *moment <= recorded.end);
    moments.push(recorded.end);
    // The later, the more was made.
    let damaged = moments.iter().rev().take(8).any(|moment| {
        let damage = stage.damage(recorded.disk.cut(*moment, || false), &[]);
        damage.iter().any(|line| line.contains("was modified"))
    });
    assert!(damaged, "nothing was damaged at {moments:?}");
}
