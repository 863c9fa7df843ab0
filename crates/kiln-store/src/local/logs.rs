//! Where build logs are kept, and reading them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bzip2::Compression;
use bzip2::write::BzEncoder;
use kiln_store_path::StorePath;

use crate::blocking::{blocking, waiting};
use crate::error::{During, Result};
use crate::local::LocalStore;
use crate::stream::{BlockingReader, ByteStream, into_blocking, while_feeding, written_by};

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
        Ok(Some(written_by(move |out| {
            let mut source: Box<dyn Read> =
                if compressed { Box::new(bzip2::read::MultiBzDecoder::new(file)) } else { Box::new(file) };
            io::copy(&mut source, out).map(drop)
        })))
    }

    /// Keeps a log, which comes uncompressed, as that of the last build of a derivation.
    ///
    /// # Errors
    /// The stream breaks off, or the file cannot be written; then what was there before stays.
    pub async fn add_log(&self, derivation: &StorePath, log: ByteStream) -> Result<()> {
        self.refuse_if_read_only()?;
        let path = self.log_path(derivation, true);
        let (feeder, reader) = into_blocking();
        while_feeding(feeder, log, waiting(move || write_log(&path, reader))).await
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

/// Writes a log under another name, and gives it its own when it is whole.
fn write_log(path: &Path, mut log: BlockingReader) -> Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).during("create directory", directory)?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut scratch = path.as_os_str().to_owned();
    scratch.push(format!(".tmp-{}-{number}", std::process::id()));
    let scratch = PathBuf::from(scratch);
    let mut write = || {
        let mut encoder = BzEncoder::new(File::create(&scratch)?, Compression::best());
        io::copy(&mut log, &mut encoder)?;
        encoder.finish()?;
        fs::rename(&scratch, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&scratch))).during("write", path)
}
