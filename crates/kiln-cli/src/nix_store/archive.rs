//! `--dump` and `--restore`, which need no store.

use std::path::Path;

use super::work::Work;
use crate::commands::store::archive;
use crate::failure::Failure;

const ONE_ARGUMENT: &str = "only one argument allowed";

pub(super) fn dump(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.no_flags("unknown flag")?;
    let [path] = work.line.exactly(ONE_ARGUMENT)?;
    archive::dump_files(Path::new(path))?;
    Ok(0)
}

pub(super) fn restore(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.no_flags("unknown flag")?;
    let [path] = work.line.exactly(ONE_ARGUMENT)?;
    archive::restore_files(Path::new(path))?;
    Ok(0)
}
