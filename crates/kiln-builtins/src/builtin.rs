//! Which builtin a name stands for, and what all of them are given.

use crate::attributes::Attributes;
use crate::error::BuiltinError;
use crate::log::Log;
use crate::{buildenv, fetchurl, unpack_channel};
use kiln_http::TransferSettings;
use std::collections::BTreeMap;
use std::io::Write;

/// What a builtin knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The derivation's variables, with the paths of the outputs among them, as a program would find them in its
    /// environment.
    pub environment: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Contents of the file that the setting `netrc-file` names. Only builds that may use the network should get it.
    pub netrc: Option<Vec<u8>>,
    /// Certificates of the authorities that servers are trusted by, as PEM; without it, those of the system.
    pub certificates: Option<Vec<u8>>,
    /// How files are transferred.
    pub transfers: TransferSettings,
    /// URLs of servers that have files by hash, which are asked first (`hashed-mirrors`).
    pub hashed_mirrors: Vec<String>,
}

/// The builtins there are, by what follows `builtin:`.
pub const NAMES: [&str; 3] = ["buildenv", "fetchurl", "unpack-channel"];

/// Runs the builtin `name` (without `builtin:`). What it has to say goes to `log`: lines of text, and records of the
/// `internal-json` format for the progress of transfers, as builders may write them.
///
/// The output is in place when this returns; after an error there may be parts of it.
///
/// # Errors
/// What the builder's log should tell in one line, after `error: `; the build has then failed.
pub fn run(name: &str, inputs: &Inputs, log: &mut dyn Write) -> Result<(), BuiltinError> {
    let attributes = Attributes::new(&inputs.environment);
    let mut log = Log::new(log);
    match name {
        "buildenv" => buildenv::run(attributes, &mut log),
        "fetchurl" => fetchurl::run(attributes, inputs, &mut log),
        "unpack-channel" => unpack_channel::run(attributes),
        _ => Err(BuiltinError::Unsupported(name.to_owned())),
    }
}
