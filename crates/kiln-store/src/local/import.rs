//! Taking in paths in the form of `nix-store --export`.
//!
//! What is known of a path comes after its archive there, so that the archive has to be kept until then: in a file of a
//! scratch directory, since it can be of any length.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

use kiln_fs::Component;
use kiln_hash::Sha256;
use kiln_nar::export::{ExportEvent, ExportReader, ItemInfo};
use kiln_narinfo::PathInfo;
use kiln_store_path::StorePath;

use crate::blocking::waiting;
use crate::error::{During, Error, Result};
use crate::local::LocalStore;
use crate::local::scratch::Scratch;
use crate::store::CheckSignatures;
use crate::stream::{ByteStream, into_blocking, while_feeding};

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

impl LocalStore {
    /// Adds the paths of an export stream, which a thread that may block reads, each as soon as it has come; returns all of
    /// them, also those that were valid already. What follows the end of the stream is not looked at.
    ///
    /// There are no signatures in the stream, so that `check` has to say that whoever sends it is trusted, or only
    /// stores that take anything take it.
    ///
    /// # Errors
    /// The stream is damaged or breaks off; a path refers to one that is not valid; a derivation is not what its path says.
    /// The paths that have come before stay valid.
    pub async fn import(
        &self,
        stream: impl Read + Send + 'static,
        check: CheckSignatures,
    ) -> Result<Vec<StorePath>> {
        self.refuse_if_read_only()?;
        let store = self.clone();
        waiting(move || store.import_blocking(stream, check)).await
    }

    /// Like [`import`](Self::import), for a stream that comes asynchronously and ends with the export stream. It is read on ahead of
    /// what is being added.
    ///
    /// # Errors
    /// See there.
    pub async fn import_stream(&self, stream: ByteStream, check: CheckSignatures) -> Result<Vec<StorePath>> {
        let (feeder, reader) = into_blocking();
        while_feeding(feeder, stream, self.import(reader, check)).await
    }

    fn import_blocking(&self, mut source: impl Read, check: CheckSignatures) -> Result<Vec<StorePath>> {
        self.begin_work()?;
        let scratch = Scratch::create(self)?;
        let mut archive = Spool::create(&scratch)?;
        let mut reader = ExportReader::new();
        let mut imported = Vec::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = source.read(&mut chunk).map_err(Error::ImportSource)?;
            if length == 0 {
                reader.finish()?;
                return Ok(imported);
            }
            let mut input = chunk.get(..length).unwrap_or_default();
            while let Some(event) = next_event(&mut reader, &mut input, &mut archive)? {
                match event {
                    ExportEvent::Item => archive.clear()?,
                    ExportEvent::Info(item) => {
                        let info = self.info_of_item(&item)?;
                        imported.push(info.path.clone());
                        self.add_nar_blocking(info, archive.read_again()?, check)?;
                    }
                    ExportEvent::End => return Ok(imported),
                }
            }
        }
    }

    /// What a stream says of a path; hash and size are taken from the archive.
    fn info_of_item(&self, item: &ItemInfo) -> Result<PathInfo> {
        let parse = |path: &Vec<u8>| self.store_dir().parse(path);
        let mut info = PathInfo::new(parse(&item.path)?, Sha256::UNKNOWN, 0);
        info.references = item.references.iter().map(parse).collect::<std::result::Result<_, _>>()?;
        info.deriver = item.deriver.as_ref().map(parse).transpose()?;
        Ok(info)
    }
}

/// What comes next, once the archive at hand has gone to the spool; `None` if more input is needed.
fn next_event(
    reader: &mut ExportReader,
    input: &mut &[u8],
    archive: &mut Spool,
) -> Result<Option<ExportEvent>> {
    if reader.in_archive() {
        let before = *input;
        while reader.archive(input)?.is_some() {}
        archive.append(before.get(..before.len() - input.len()).unwrap_or_default())?;
    }
    Ok(reader.next(input)?)
}

/// The file that an archive is kept in.
struct Spool {
    path: PathBuf,
    writer: File,
    reader: File,
}

impl Spool {
    fn create(scratch: &Scratch) -> Result<Self> {
        let name = Component::new("archive").map_err(|error| Error::Files(error.into()))?;
        let directory = scratch.directory();
        let writer = directory.create_file(&name, 0o600)?;
        let reader = directory.open_beneath(name.as_path())?;
        Ok(Self { path: directory.path_of(&name), writer, reader })
    }

    fn clear(&mut self) -> Result<()> {
        self.writer.set_len(0).and_then(|()| self.writer.rewind()).during("write", &self.path)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).during("write", &self.path)
    }

    fn read_again(&mut self) -> Result<&File> {
        self.reader.rewind().during("read", &self.path)?;
        Ok(&self.reader)
    }
}
