//! Where a download goes to: a file, or a tree.

use crate::error::{BuiltinError, During as _};
use kiln_fs::{Component, Directory, RestoreOptions, Restorer, delete_tree};
use kiln_http::XZ_MEMORY;
use kiln_nar::Decoder;
use liblzma::stream::{Action, CONCATENATED, Status, Stream};
use std::fs::File;
use std::io::Write as _;

/// How much is decompressed at once.
const CHUNK: usize = 64 * 1024;

/// Where a download goes to.
pub(super) struct Destination<'a> {
    directory: &'a Directory,
    name: &'a Component,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// A file, once it has been made.
    File(Option<File>),
    /// A tree, and whether its archive is compressed by xz.
    Tree { is_xz: bool, unpacking: Option<Box<Unpacking<'a>>> },
}

impl<'a> Destination<'a> {
    /// The file `name` in `directory`.
    pub(super) fn file(directory: &'a Directory, name: &'a Component) -> Self {
        Self { directory, name, kind: Kind::File(None) }
    }

    /// The tree `name` in `directory`, from a Nix archive.
    pub(super) fn tree(directory: &'a Directory, name: &'a Component, is_xz: bool) -> Self {
        Self { directory, name, kind: Kind::Tree { is_xz, unpacking: None } }
    }

    /// Says that everything has come.
    pub(super) fn finish(&mut self) -> Result<(), BuiltinError> {
        match &mut self.kind {
            Kind::Tree { unpacking: Some(unpacking), .. } => unpacking.finish(),
            _ => Ok(()),
        }
    }

    /// Forgets what has come so far: it will come again from its start.
    pub(super) fn restart(&mut self) -> Result<(), BuiltinError> {
        match &mut self.kind {
            Kind::File(file) => {
                *file = None;
                self.directory.remove_file(self.name)?;
                *file = Some(self.directory.create_file(self.name, 0o666)?);
            }
            Kind::Tree { is_xz, unpacking } => {
                if unpacking.take().is_some() {
                    delete_tree(self.directory, self.name)?;
                }
                *unpacking = Some(Box::new(Unpacking::new(self.directory, self.name, *is_xz)?));
            }
        }
        Ok(())
    }

    /// Takes the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), BuiltinError> {
        match &mut self.kind {
            Kind::File(Some(file)) => {
                file.write_all(bytes).during("write to", &self.directory.path_of(self.name))
            }
            Kind::Tree { unpacking: Some(unpacking), .. } => unpacking.write(bytes),
            _ => Ok(()),
        }
    }
}

/// An archive that becomes a tree as it comes.
struct Unpacking<'a> {
    xz: Option<Xz>,
    archive: Archive<'a>,
}

struct Archive<'a> {
    decoder: Decoder,
    restorer: Restorer<'a>,
}

struct Xz {
    stream: Stream,
    chunk: Vec<u8>,
}

impl<'a> Unpacking<'a> {
    fn new(directory: &'a Directory, name: &Component, is_xz: bool) -> Result<Self, BuiltinError> {
        let restorer = Restorer::new(directory, name, RestoreOptions::default());
        let archive = Archive { decoder: Decoder::new(), restorer };
        Ok(Self { xz: if is_xz { Some(Xz::new()?) } else { None }, archive })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BuiltinError> {
        match &mut self.xz {
            Some(xz) => xz.write(bytes, Action::Run, &mut self.archive),
            None => self.archive.write(bytes),
        }
    }

    fn finish(&mut self) -> Result<(), BuiltinError> {
        if let Some(xz) = &mut self.xz {
            xz.write(b"", Action::Finish, &mut self.archive)?;
        }
        Ok(self.archive.decoder.finish()?)
    }
}

impl Archive<'_> {
    /// Takes the next bytes of the archive. What comes after it is nobody's.
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), BuiltinError> {
        while let Some(event) = self.decoder.next(&mut bytes)? {
            self.restorer.event(event)?;
        }
        Ok(())
    }
}

impl Xz {
    fn new() -> Result<Self, BuiltinError> {
        let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED).map_err(failed)?;
        Ok(Self { stream, chunk: vec![0; CHUNK] })
    }

    /// Takes the next compressed bytes; with [`Action::Finish`], there are no more.
    fn write(
        &mut self,
        mut bytes: &[u8],
        action: Action,
        archive: &mut Archive<'_>,
    ) -> Result<(), BuiltinError> {
        loop {
            let (before, produced) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.process(bytes, &mut self.chunk, action).map_err(failed)?;
            let taken = usize::try_from(self.stream.total_in() - before).unwrap_or(usize::MAX);
            let made = usize::try_from(self.stream.total_out() - produced).unwrap_or(usize::MAX);
            bytes = bytes.get(taken..).unwrap_or_default();
            archive.write(self.chunk.get(..made).unwrap_or_default())?;
            match status {
                Status::StreamEnd => return Ok(()),
                // There may be more in the decoder than fits into the chunk.
                _ if made == self.chunk.len() || !bytes.is_empty() => {}
                _ if matches!(action, Action::Finish) && taken + made == 0 => {
                    return Err(BuiltinError::Xz("it ends early".to_owned()));
                }
                _ if matches!(action, Action::Finish) => {}
                _ => return Ok(()),
            }
        }
    }
}

fn failed(error: liblzma::stream::Error) -> BuiltinError {
    BuiltinError::Xz(match error {
        liblzma::stream::Error::MemLimit => format!("it needs more than {} MiB of memory", XZ_MEMORY >> 20),
        error => error.to_string(),
    })
}
