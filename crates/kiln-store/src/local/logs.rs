//! Where build logs are kept, and reading them.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use kiln_store_path::StorePath;

use crate::blocking::{blocking, waiting};
use crate::error::{During, Result};
use crate::local::LocalStore;
use crate::stream::{ByteStream, from_blocking};

impl LocalStore {
    /// Where the log of a build of this derivation is written: `drvs/XX/REST`, with `.bz2` if it is compressed.
    pub fn log_path(&self, derivation: &StorePath, compressed: bool) -> PathBuf {
        let (start, rest) = derivation.base_name().split_at_checked(2).unwrap_or_default();
        let suffix = if compressed { ".bz2" } else { "" };
        self.config().locations.log_dir.join("drvs").join(start).join(format!("{rest}{suffix}"))
    }

    /// The log of the last build of a derivation, uncompressed; `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be opened. If it is damaged, the stream says so.
    pub async fn read_log(&self, derivation: &StorePath) -> Result<Option<ByteStream>> {
        let store = self.clone();
        let derivation = derivation.clone();
        let Some((file, compressed)) = blocking(move || store.open_log(&derivation)).await? else {
            return Ok(None);
        };
        let (mut writer, reader) = from_blocking();
        // The task ends by itself when the reader goes away.
        tokio::spawn(waiting(move || {
            let mut source: Box<dyn Read> =
                if compressed { Box::new(bzip2::read::MultiBzDecoder::new(file)) } else { Box::new(file) };
            let copied = io::copy(&mut source, &mut writer);
            writer.finish(copied.map(drop));
        }));
        Ok(Some(Box::pin(reader)))
    }

    /// Looks where Nix looks, old places too.
    fn open_log(&self, derivation: &StorePath) -> Result<Option<(File, bool)>> {
        let flat = self.config().locations.log_dir.join("drvs");
        let places = [
            (self.log_path(derivation, false), false),
            (self.log_path(derivation, true), true),
            (flat.join(derivation.base_name()), false),
            (flat.join(format!("{derivation}.bz2")), true),
        ];
        for (path, compressed) in places {
            match File::open(&path) {
                Ok(file) => return Ok(Some((file, compressed))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).during("open", &path),
            }
        }
        Ok(None)
    }
}
