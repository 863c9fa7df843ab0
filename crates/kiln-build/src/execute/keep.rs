//! Keeping what a failed builder has made, for whoever wants to know why it failed (D11, D19).

use std::path::PathBuf;

use kiln_fs::{Canonicaliser, Component, Directory, HardLinks, Ownership, copy_tree, rename_new};
use kiln_sandbox::{BuildDirectory, SandboxError};
use rustix::io::Errno;

use crate::plan::PlannedOutput;

/// What was kept.
#[derive(Debug)]
pub(super) struct Kept {
    /// The builder's directory.
    pub(super) directory: PathBuf,
    /// The directory with those outputs that there were.
    pub(super) outputs: Option<PathBuf>,
    /// Why an output that there was is not among them.
    pub(super) refused: Vec<kiln_fs::Error>,
}

/// Keeps the build directory, and beside it, in `outputs`, what there is of the outputs. They are made canonical first, so
/// that nothing of them is the build user's when others can reach them.
pub(super) fn keep(
    build: BuildDirectory,
    outputs: &[PlannedOutput],
    builder: Option<u32>,
) -> Result<Kept, SandboxError> {
    let outer = Directory::open(build.outer())?;
    let mut kept = Kept { directory: PathBuf::new(), outputs: None, refused: Vec::new() };
    for output in outputs {
        match keep_output(&outer, output, builder) {
            Ok(None) => {}
            Ok(Some(directory)) => kept.outputs = Some(directory),
            Err(error) => kept.refused.push(error),
        }
    }
    kept.directory = build.keep()?;
    Ok(kept)
}

/// Moves an output, if it is there, below `outer`; says into which directory.
fn keep_output(
    outer: &Directory,
    output: &PlannedOutput,
    builder: Option<u32>,
) -> Result<Option<PathBuf>, kiln_fs::Error> {
    let from = Directory::open(&output.directory)?;
    let name = Component::new(output.scratch.base_name())?;
    if from.status(&name)?.is_none() {
        return Ok(None);
    }
    let ownership = Ownership::of_this_process();
    let ownership = match builder {
        Some(uid) => ownership.built_by(uid..=uid),
        None => ownership,
    };
    // Links between outputs and the build directory are no harm here.
    Canonicaliser::new(ownership).hard_links(HardLinks::Accept).canonicalise(&from, &name)?;
    let outputs = Component::new("outputs")?;
    let to = match outer.create_directory(&outputs, 0o755) {
        Err(error) if error.already_exists() => outer.subdirectory(&outputs)?,
        created => created?,
    };
    match rename_new((&from, &name), (&to, &name)) {
        // Builds may be made on another file system than the store's.
        Err(error) if error.os_error() == Some(Errno::XDEV.raw_os_error()) => {
            copy_tree((&from, &name), (&to, &name), true)?;
        }
        moved => moved?,
    }
    Ok(Some(to.path().to_path_buf()))
}
