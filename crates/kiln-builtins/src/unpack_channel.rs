//! `builtin:unpack-channel`: unpacks the tarball `src`, in which there is one directory, and calls that `channelName`.

mod compression;

use crate::attributes::{Attributes, invalid, path};
use crate::error::{BuiltinError, During as _};
use crate::tar::{self, TarError};
use kiln_fs::{Component, rename_new};
use std::fs::File;

/// Makes the output.
pub(crate) fn run(attributes: Attributes<'_>) -> Result<(), BuiltinError> {
    let (directory, name) = attributes.out_place()?;
    let channel = attributes.get("channelName")?;
    let channel = Component::new(channel)
        .map_err(|_| invalid("channelName", channel, "it has to be the name of a file"))?;
    let archive = path(attributes.get("src")?);

    let file = File::open(&archive).during("open", &archive)?;
    let out = match directory.create_directory(&name, 0o777) {
        Err(error) if error.already_exists() => directory.subdirectory(&name)?,
        out => out?,
    };
    let failed = |source: TarError| BuiltinError::Tar { archive: archive.clone(), source };
    let reader = compression::decompressed(file).map_err(|error| failed(error.into()))?;
    let mut entries = tar::unpack(reader, &out).map_err(failed)?.into_iter();

    let entry = match (entries.next(), entries.next()) {
        (Some(entry), None) => entry,
        (first, _) => return Err(BuiltinError::NotOneEntry { empty: first.is_none(), archive }),
    };
    let entry = Component::new(entry).map_err(kiln_fs::Error::from)?;
    if entry != channel {
        rename_new((&out, &entry), (&out, &channel))?;
    }
    Ok(())
}
