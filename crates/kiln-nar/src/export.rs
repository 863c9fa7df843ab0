//! The stream of `nix-store --export` and `--import`: archives, each with what the store knows of it.
//!
//! ```text
//! stream = { u64(1) item } u64(0)
//! item   = nar  u64("NIXE")  str(path)  u64(n) n × str(reference)  str(deriver or "")  u64(0) | u64(1) str(signature)
//! ```
//!
//! Paths are full store paths. Items come in the order of their references, referenced ones first. There is no size and
//! no hash: an importer takes them itself, and has to trust whoever sends the stream. The signature is a thing of
//! the past that is never written and never looked at.

use crate::decode::{DecodeError, Decoder, Event};
use crate::grammar::{put_number, put_string};
use crate::string_reader::{StringProblem, StringReader};
use thiserror::Error;

/// What stands between an archive and what is known of it: "NIXE".
const ITEM_MAGIC: u64 = 0x4558_494e;

/// Longest path or signature that a reader takes, in bytes.
const MAX_STRING: usize = 4096;

/// Most bytes of references that a reader takes for one item.
const MAX_REFERENCES_SIZE: usize = 64 << 20;

/// What the stream says of an archive. Paths are full store paths, as bytes, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemInfo {
    /// The path whose contents the archive has.
    pub path: Vec<u8>,
    /// The paths that it refers to.
    pub references: Vec<Vec<u8>>,
    /// The derivation that built it.
    pub deriver: Option<Vec<u8>>,
}

/// Appends what comes before the archive of an item.
pub fn put_item_start(out: &mut Vec<u8>) {
    put_number(out, 1);
}

/// Appends what comes after the archive of an item.
pub fn put_item_end(out: &mut Vec<u8>, info: &ItemInfo) {
    put_number(out, ITEM_MAGIC);
    put_string(out, &info.path);
    put_number(out, info.references.len() as u64);
    for reference in &info.references {
        put_string(out, reference);
    }
    put_string(out, info.deriver.as_deref().unwrap_or_default());
    put_number(out, 0);
}

/// Appends what comes after the last item.
pub fn put_end(out: &mut Vec<u8>) {
    put_number(out, 0);
}

/// What a stream says, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportEvent {
    /// An item begins. Its archive follows: [`ExportReader::archive`].
    Item,
    /// The item ends.
    Info(ItemInfo),
    /// The stream ends.
    End,
}

/// Why a stream can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExportError {
    /// Where an item or the end should come, neither 1 nor 0.
    #[error("input doesn't look like something created by 'nix-store --export'")]
    NotAnExport,
    /// No "NIXE" after an archive.
    #[error("Nix archive cannot be imported; wrong format")]
    WrongFormat,
    /// The archive is damaged.
    #[error(transparent)]
    Archive(#[from] DecodeError),
    /// A path or signature is too long, or all references of an item together.
    #[error("{what} in export stream is too long: {length} bytes, the limit is {limit}")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Its length.
        length: u64,
        /// The most that is allowed.
        limit: usize,
    },
    /// The bytes that fill a string up to a multiple of eight aren't zero.
    #[error("non-zero padding after the {0} in export stream")]
    NonZeroPadding(&'static str),
    /// Neither 0 nor 1 where the stream says whether there is a signature.
    #[error("bad signature marker {0} in export stream, expected 0 or 1")]
    BadMarker(u64),
    /// The input ended too early.
    #[error("unexpected end of export stream, expected {0}")]
    UnexpectedEnd(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    ItemOrEnd,
    Archive,
    Magic,
    Path,
    ReferenceCount,
    References { missing: u64, size: usize },
    Deriver,
    SignatureMarker,
    Signature,
    Complete,
}

impl State {
    fn expected(self) -> &'static str {
        match self {
            Self::ItemOrEnd => "an item or the end",
            Self::Archive => "an archive",
            Self::Magic => "the mark after an archive",
            Self::Path => "store path",
            Self::ReferenceCount => "the number of references",
            Self::References { .. } => "reference",
            Self::Deriver => "deriver",
            Self::SignatureMarker => "the signature marker",
            Self::Signature => "signature",
            Self::Complete => "nothing more",
        }
    }
}

/// Reads an export stream in pieces of any size.
#[derive(Debug, Clone)]
pub struct ExportReader {
    state: State,
    strings: StringReader,
    decoder: Decoder,
    info: ItemInfo,
}

impl Default for ExportReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ExportReader {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::ItemOrEnd,
            strings: StringReader::default(),
            decoder: Decoder::new(),
            info: ItemInfo::default(),
        }
    }

    /// Takes bytes from the front of `input` up to the next event. What is left of the archive at hand is skipped. `None`: all
    /// of the input is taken and more is needed, or the stream has ended.
    ///
    /// # Errors
    /// If the input can't be the start of a stream. The reader is of no use then.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<ExportEvent>, ExportError> {
        while self.state == State::Archive {
            if self.archive(input)?.is_none() && self.in_archive() {
                return Ok(None);
            }
        }
        loop {
            match self.state {
                State::Archive | State::Complete => return Ok(None),
                State::Path | State::References { .. } | State::Deriver | State::Signature => {
                    let what = self.state.expected();
                    let string = match self.strings.string(input, MAX_STRING) {
                        Ok(Some(string)) => string.to_vec(),
                        Ok(None) => return Ok(None),
                        Err(problem) => return Err(string_error(problem, what)),
                    };
                    self.string(string)?;
                }
                _ => {
                    let Some(number) = self.strings.number(input) else { return Ok(None) };
                    if let Some(event) = self.number(number)? {
                        return Ok(Some(event));
                    }
                }
            }
            if let State::References { missing: 0, .. } = self.state {
                self.state = State::Deriver;
            } else if self.state == State::ItemOrEnd {
                return Ok(Some(ExportEvent::Info(std::mem::take(&mut self.info))));
            }
        }
    }

    /// The next event of the archive of the item that has begun. `None`: all of the input is taken and more is needed, or
    /// the archive has ended and [`next`](Self::next) comes next; [`in_archive`](Self::in_archive) tells which.
    ///
    /// What it takes from the front of `input` is exactly the archive, byte for byte.
    ///
    /// # Errors
    /// If the archive is damaged.
    pub fn archive<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Event<'s>>, ExportError> {
        if self.state != State::Archive {
            return Ok(None);
        }
        if self.decoder.is_complete() {
            self.state = State::Magic;
            return Ok(None);
        }
        Ok(self.decoder.next(input)?)
    }

    /// Whether an archive is being read and hasn't ended.
    #[must_use]
    pub fn in_archive(&self) -> bool {
        self.state == State::Archive && !self.decoder.is_complete()
    }

    /// Says that there is no more input.
    ///
    /// # Errors
    /// If the stream has not ended.
    pub fn finish(&self) -> Result<(), ExportError> {
        match self.state {
            State::Complete => Ok(()),
            State::Archive => Ok(self.decoder.finish()?),
            state => Err(ExportError::UnexpectedEnd(state.expected())),
        }
    }

    fn number(&mut self, number: u64) -> Result<Option<ExportEvent>, ExportError> {
        self.state = match (self.state, number) {
            (State::ItemOrEnd, 0) => {
                self.state = State::Complete;
                return Ok(Some(ExportEvent::End));
            }
            (State::ItemOrEnd, 1) => {
                self.decoder = Decoder::new();
                self.state = State::Archive;
                return Ok(Some(ExportEvent::Item));
            }
            (State::ItemOrEnd, _) => return Err(ExportError::NotAnExport),
            (State::Magic, ITEM_MAGIC) => State::Path,
            (State::Magic, _) => return Err(ExportError::WrongFormat),
            (State::ReferenceCount, missing) => State::References { missing, size: 0 },
            (State::SignatureMarker, 0) => State::ItemOrEnd,
            (State::SignatureMarker, 1) => State::Signature,
            (State::SignatureMarker, _) => return Err(ExportError::BadMarker(number)),
            (state, _) => state,
        };
        Ok(None)
    }

    fn string(&mut self, string: Vec<u8>) -> Result<(), ExportError> {
        self.state = match self.state {
            State::Path => {
                self.info.path = string;
                State::ReferenceCount
            }
            State::References { missing, size } => {
                let size = size + string.len() + size_of::<Vec<u8>>();
                if size > MAX_REFERENCES_SIZE {
                    let (length, limit) = (size as u64, MAX_REFERENCES_SIZE);
                    return Err(ExportError::TooLong { what: "list of references", length, limit });
                }
                self.info.references.push(string);
                State::References { missing: missing.saturating_sub(1), size }
            }
            State::Deriver => {
                self.info.deriver = (!string.is_empty()).then_some(string);
                State::SignatureMarker
            }
            State::Signature => State::ItemOrEnd,
            state => state,
        };
        Ok(())
    }
}

fn string_error(problem: StringProblem, what: &'static str) -> ExportError {
    match problem {
        StringProblem::TooLong(length) => ExportError::TooLong { what, length, limit: MAX_STRING },
        StringProblem::NonZeroPadding => ExportError::NonZeroPadding(what),
    }
}
