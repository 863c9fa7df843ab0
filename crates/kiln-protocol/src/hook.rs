//! What a build hook is told at its standard input (build-hook specification): messages in the encodings of the worker
//! protocol, without versions and without replies among them.
//!
//! First come the settings, each announced by [`ANOTHER_SETTING`], and [`NO_MORE_SETTINGS`]. Then [`TRY`] and an [`Offer`], as often
//! as the engine likes; and after the hook has accepted, [`Work`].

use std::collections::BTreeSet;

use crate::describe::wire_struct;
use crate::version::{Dialect, Protocol};

/// The number before a setting.
pub const ANOTHER_SETTING: u64 = 1;

/// The number after the last setting.
pub const NO_MORE_SETTINGS: u64 = 0;

/// The word before an offer.
pub const TRY: &str = "try";

wire_struct! {
    /// A setting, by name, with its value as `nix.conf` has it.
    pub struct HookSetting {
        /// Its name.
        pub name: String,
        /// Its value.
        pub value: Vec<u8>,
    }
}

wire_struct! {
    /// Asks for a machine for a derivation.
    pub struct Offer {
        /// Whether the engine could build it now itself.
        pub willing: bool,
        /// The platform that it needs.
        pub system: Vec<u8>,
        /// The full path of the derivation.
        pub derivation: String,
        /// The features that it requires.
        pub features: BTreeSet<String>,
    }
}

wire_struct! {
    /// What a hook gets that has accepted.
    pub struct Work {
        /// The full paths of the closure of all inputs.
        pub inputs: BTreeSet<String>,
        /// The names of the outputs that are missing.
        pub outputs: BTreeSet<String>,
    }
}

/// In what all this is written. Paths are texts here: the store directory is of no importance.
#[must_use]
pub fn dialect() -> Dialect {
    Dialect::new(Protocol::Worker.newest(), Default::default())
}
