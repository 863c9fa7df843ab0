//! Real Nix, where it is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scratch::Scratch;

/// A program of real Nix; `None`, said loudly, where it is not installed. With `CI=true` it must be.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = Path::new("/usr/bin").join(program);
    if path.exists() {
        return Some(path);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{program} must be installed where CI=true");
    eprintln!("SKIPPED: {} is not installed, nothing was compared with real Nix", path.display());
    None
}

/// A program of real Nix that works on the store of the directory. The older programs take no `nix-command`.
pub(crate) fn command(scratch: &Scratch, program: &Path) -> Command {
    let mut command = scratch.program(program);
    command.env("NIX_REMOTE", "");
    if program.ends_with("nix") {
        command.args(["--extra-experimental-features", "nix-command"]);
    }
    command
}
