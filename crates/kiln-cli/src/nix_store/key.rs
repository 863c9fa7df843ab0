//! `--generate-binary-cache-key`.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use kiln_narinfo::SecretKey;

use super::usage;
use super::work::Work;
use crate::commands::cache::random_seed;
use crate::failure::{Failure, While};

pub(super) fn generate(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.known_flags([])?;
    let [name, secret, public] = work.line.exactly("three arguments expected")?;
    let name = name.to_string_lossy();
    let key = SecretKey::generate(&name, random_seed()?)
        .ok_or_else(|| usage(format!("'{name}' cannot be the name of a key")))?;
    write(secret, &key.to_secret_text(), 0o600)?;
    write(public, &key.public_key().to_string(), 0o644)?;
    Ok(0)
}

/// Writes a file as Nix does, without a line feed; a new one with the permissions `mode`.
fn write(path: &OsStr, text: &str, mode: u32) -> Result<(), Failure> {
    let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    open()
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .doing(|| format!("writing '{}'", path.display()))
}
