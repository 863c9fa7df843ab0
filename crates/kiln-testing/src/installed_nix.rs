//! The build hook of an installed Nix.
//!
//! Until version 2.8 it was `libexec/nix/build-remote`, Nix's program under another name; that is still installed by later
//! ones. From 2.9 on it is also the program itself with the argument `__build-remote`.

use std::path::{Path, PathBuf};

/// The value of the setting `build-hook` that means it; `None` if Nix is not installed.
#[must_use]
pub fn build_hook_of_nix() -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let mut programs = std::env::split_paths(&path).map(|directory: PathBuf| directory.join("nix"));
    let program = programs.find(|program| program.is_file())?;
    let below_prefix =
        program.canonicalize().ok()?.parent().and_then(Path::parent)?.join("libexec/nix/build-remote");
    Some(match below_prefix.is_file() {
        true => below_prefix.display().to_string(),
        false => format!("{} __build-remote", program.display()),
    })
}
