//! From an archive to the file of a cache, in one pass: compressed, hashed on both sides of that, listed if wanted, and
//! compared with what is said of it.

use std::fs::File;
use std::io::{self, Read, Write};

use kiln_hash::{Sha256, Sha256Hasher};
use kiln_nar::{Decoder, ListingError, ListingWriter, NarHasher, Stage};
use kiln_narinfo::PathInfo;

use crate::compress::Encoder;
use crate::error::{Error, Result};
use crate::options::WriteOptions;

/// Bytes that are read at once.
const CHUNK: usize = 128 << 10;

/// What is known of a packed file.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Hash of the compressed file.
    pub(crate) hash: Sha256,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// The listing, if one was wanted, or why there is none.
    pub(crate) listing: Option<Result<String, ListingError>>,
}

/// Packs the archive of a path into a file. `shown` is the full path. Blocks.
///
/// # Errors
/// The archive does not come whole, or is not what `info` says.
pub(crate) fn pack(
    mut nar: impl Read,
    info: &PathInfo,
    shown: &str,
    options: &WriteOptions,
    file: &File,
) -> Result<Packed> {
    let failed = |error| Error::Pack { path: shown.to_owned(), error };
    let mut listing = options.writes_listings.then(Listing::default);
    let mut hasher = NarHasher::new();
    let mut encoder = Encoder::new(options, Output::new(file)).map_err(failed)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = match nar.read(&mut chunk) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        let piece = chunk.get(..length).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        if hasher.size() > info.nar_size {
            let got = format!("more than {}", info.nar_size);
            return Err(mismatch("size", shown, info.nar_size.to_string(), got));
        }
        encoder.write_all(piece).map_err(failed)?;
        if let Some(listing) = &mut listing {
            listing.update(piece).map_err(failed)?;
        }
    }
    let output = encoder.finish().map_err(failed)?;
    let (hash, size) = output.finish().map_err(failed)?;
    let found = hasher.finish();
    if found.size != info.nar_size {
        return Err(mismatch("size", shown, info.nar_size.to_string(), found.size.to_string()));
    }
    if found.hash != info.nar_hash {
        let shown_hash = |hash: Sha256| format!("sha256:{}", hash.nix32());
        return Err(mismatch("hash", shown, shown_hash(info.nar_hash), shown_hash(found.hash)));
    }
    Ok(Packed { hash, size, listing: listing.map(Listing::finish) })
}

fn mismatch(what: &'static str, path: &str, specified: String, got: String) -> Error {
    Error::Mismatch { what, path: path.to_owned(), specified, got }
}

/// The file, hashed as it is written. The first failure is remembered.
struct Output<'a> {
    file: &'a File,
    hasher: Sha256Hasher,
    size: u64,
    failure: Option<io::Error>,
}

impl<'a> Output<'a> {
    fn new(file: &'a File) -> Self {
        Self { file, hasher: Sha256Hasher::new(), size: 0, failure: None }
    }

    fn finish(self) -> io::Result<(Sha256, u64)> {
        match self.failure {
            Some(error) => Err(error),
            None => Ok((self.hasher.finish(), self.size)),
        }
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.file.write_all(bytes) {
            let told = io::Error::new(error.kind(), error.to_string());
            self.failure.get_or_insert(error);
            return Err(told);
        }
        self.hasher.update(bytes);
        self.size = self.size.saturating_add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The listing as far as the archive has come.
#[derive(Default)]
struct Listing {
    decoder: Decoder,
    writer: ListingWriter,
    /// Why there will be none.
    fault: Option<ListingError>,
}

impl Listing {
    fn update(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut input = piece;
        while let Some(event) = self.decoder.next(&mut input).map_err(io::Error::other)? {
            if self.fault.is_none()
                && let Err(fault) = self.writer.event(event)
            {
                self.fault = Some(fault);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<String, ListingError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => self.writer.finish(),
        }
    }
}
