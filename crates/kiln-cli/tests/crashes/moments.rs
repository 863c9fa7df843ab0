//! Random moments that can be had again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Moments within a time, by SplitMix64 from a seed. `KILN_CRASH_SEED` sets it; otherwise it is another each time, and told.
pub(crate) struct Moments {
    state: u64,
    within: Duration,
}

impl Moments {
    pub(crate) fn new(scenario: &str, within: Duration) -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("KILN_CRASH_SEED").map_or_else(|_| now(), |seed| seed.parse().unwrap());
        eprintln!("'{scenario}' crashes at the moments of KILN_CRASH_SEED={seed} within {within:?}");
        Self { state: seed, within }
    }

    pub(crate) fn next(&mut self) -> Duration {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        self.within.mul_f64(mixed as f64 / u64::MAX as f64)
    }
}
