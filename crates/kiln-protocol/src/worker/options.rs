//! What a client sets for its connection.

use std::collections::BTreeMap;

use kiln_events::Verbosity;

use crate::describe::wire_struct;
use crate::version::Versions;

wire_struct! {
    /// Operation 19: twelve numbers that have their place, and everything else by name.
    ///
    /// Numbers are kept as they came; what is out of range is for the settings to judge.
    pub struct SetOptions {
        /// `keep-failed`.
        pub keep_failed: bool,
        /// `keep-going`.
        pub keep_going: bool,
        /// `fallback`.
        pub try_fallback: bool,
        /// Up to which level messages are wanted: 0 to 7, and more from clients that were asked for more.
        pub verbosity: u64,
        /// `max-jobs`.
        pub max_build_jobs: u64,
        /// `max-silent-time`, in seconds; 0 for none.
        pub max_silent_time: u64,
        /// Always 1, ignored.
        pub use_build_hook: u64,
        /// 0 if what builders print shall be shown.
        pub build_verbosity: u64,
        /// Always 0, ignored.
        pub log_type: u64,
        /// Always 0, ignored.
        pub print_build_trace: u64,
        /// `cores`; 0 for all of them.
        pub build_cores: u64,
        /// `substitute`.
        pub use_substitutes: bool,
        /// Settings by name: those of the command line, of the user's own nix.conf and of NIX_CONFIG.
        pub overrides: BTreeMap<String, Vec<u8>> [Versions::worker_since(12)],
    }
}

impl SetOptions {
    /// Up to which level messages are wanted.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        Verbosity::from_number(self.verbosity)
    }

    /// Whether what builders print shall be shown.
    #[must_use]
    pub const fn shows_build_output(&self) -> bool {
        self.build_verbosity == 0
    }
}

impl Default for SetOptions {
    /// What a client sends that was asked for nothing in particular.
    fn default() -> Self {
        Self {
            keep_failed: false,
            keep_going: false,
            try_fallback: false,
            verbosity: u64::from(Verbosity::default().number()),
            max_build_jobs: 1,
            max_silent_time: 0,
            use_build_hook: 1,
            build_verbosity: 0,
            log_type: 0,
            print_build_trace: 0,
            build_cores: 0,
            use_substitutes: true,
            overrides: BTreeMap::new(),
        }
    }
}
