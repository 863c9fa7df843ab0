//! Random numbers that can be had again.

use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers by SplitMix64; the same seed gives the same ones.
#[derive(Clone, Debug)]
pub struct RandomNumbers(u64);

impl RandomNumbers {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Those of the seed in a variable of the environment, or others each time; which ones is told.
    ///
    /// # Panics
    /// If the variable is not a number.
    pub fn from_environment(variable: &str) -> Self {
        Self(Self::seed_from_environment(variable))
    }

    /// The seed in a variable of the environment, or another each time; which one is told.
    ///
    /// # Panics
    /// If the variable is not a number.
    #[expect(clippy::print_stderr, reason = "who wants to repeat a test has to know")]
    pub fn seed_from_environment(variable: &str) -> u64 {
        let seed = match std::env::var(variable) {
            Ok(seed) => seed.parse().unwrap_or_else(|error| panic!("{variable}: {error}")),
            Err(_) => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::from(now.subsec_nanos()))
            }
        };
        eprintln!("random numbers of {variable}={seed}");
        seed
    }

    /// The next one.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next one below a limit, which is not 0.
    ///
    /// # Panics
    /// If it is.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % limit as u64).unwrap_or(0)
    }
}
