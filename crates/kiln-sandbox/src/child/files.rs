//! Files that the engine wants the builder to find in its build directory.

use std::fs::File;
use std::io::Write;

use kiln_fs::Component;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchmod, fchown, openat};
use rustix::io::Errno;

use super::at_path;
use crate::{Credentials, LaunchPlan, SetupError, SetupStage};

/// Creates them. The builder can't have been in the directory yet, and nothing that exists is touched.
pub(super) fn place(plan: &LaunchPlan) -> Result<(), SetupError> {
    if plan.files.is_empty() {
        return Ok(());
    }
    let source = &plan.build_directory.source;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let directory = openat(CWD, source.as_path(), flags, Mode::empty()).map_err(at_path(
        SetupStage::Files,
        "cannot open the build directory",
        source,
    ))?;
    for file in &plan.files {
        let failed = at_path(SetupStage::Files, "cannot create the file", &file.name);
        if Component::new(file.name.as_bytes()).is_err() {
            return Err(failed(Errno::INVAL));
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let descriptor =
            openat(&directory, file.name.as_path(), flags, Mode::from_raw_mode(0o600)).map_err(&failed)?;
        let mut created = File::from(descriptor);
        created
            .write_all(file.contents.as_bytes())
            .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        fchmod(&created, Mode::from_raw_mode(file.mode & 0o777)).map_err(&failed)?;
        if let Credentials::BuildUser { uid, gid, .. } = plan.credentials {
            fchown(&created, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(&failed)?;
        }
    }
    Ok(())
}
