//! narinfo files: what a binary cache says about a path (binary-cache specification, section 3).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kiln_hash::{Algorithm, Hash, ParseHashError, Sha256};
use kiln_store_path::{ContentAddress, InvalidStorePath, ParseContentAddressError, StoreDir, StorePath};

use crate::compression::Compression;
use crate::path_info::PathInfo;
use crate::signature::{ParseSignatureError, SignatureSet};

/// What stands for a deriver that is not known.
const UNKNOWN_DERIVER: &str = "unknown-deriver";

/// The largest narinfo that is read: room for some 300,000 references.
pub const MAX_NARINFO_LENGTH: usize = 16 << 20;

/// A path's metadata and where a binary cache keeps its NAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarInfo {
    /// The path's metadata; `ultimate` and `registration_time` are never set.
    pub info: PathInfo,
    /// Where the compressed NAR is, relative to the cache or absolute.
    pub url: String,
    /// How it is compressed.
    pub compression: Compression,
    /// Hash of the compressed file, if stated.
    pub file_hash: Option<Hash>,
    /// Bytes of the compressed file, if stated.
    pub file_size: Option<u64>,
}

/// A narinfo that does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("NAR info file '{file}' is corrupt: {reason}{}", at_line(*line))]
pub struct NarInfoError {
    /// Name of the file, as the caller gave it.
    pub file: String,
    /// What is wrong.
    pub reason: NarInfoFault,
    /// Line where it was noticed, from 1; `None` if it is about the file as a whole.
    pub line: Option<usize>,
}

fn at_line(line: Option<usize>) -> String {
    line.map(|line| format!(" at line {line}")).unwrap_or_default()
}

/// What is wrong with a narinfo.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoFault {
    /// More than [`MAX_NARINFO_LENGTH`] bytes.
    #[error("it is longer than {MAX_NARINFO_LENGTH} bytes")]
    TooLong,
    /// A line is not `NAME: VALUE`.
    #[error("expecting 'NAME: VALUE'")]
    Form,
    /// The last line has no line feed: the file may be cut off.
    #[error("expecting a line feed after the last line")]
    Unterminated,
    /// A value holds bytes that no value may have.
    #[error("{0} is not plain text")]
    Text(&'static str),
    /// A required field is missing.
    #[error("{0} missing")]
    Missing(&'static str),
    /// A field that may stand once stands twice.
    #[error("extra {0}")]
    Repeated(&'static str),
    /// Not a decimal number, or zero where that makes no sense.
    #[error("invalid {0}")]
    Number(&'static str),
    /// A hash does not read.
    #[error("{field}: {error}")]
    Hash {
        /// Name of the field.
        field: &'static str,
        /// What is wrong.
        error: ParseHashError,
    },
    /// The NAR hash is of another algorithm.
    #[error("NarHash is {0}, expected sha256")]
    NarHashAlgorithm(Algorithm),
    /// A store path does not read.
    #[error("{field}: {error}")]
    Path {
        /// Name of the field.
        field: &'static str,
        /// What is wrong.
        error: InvalidStorePath,
    },
    /// A signature does not read.
    #[error("{0}")]
    Signature(#[from] ParseSignatureError),
    /// The content address does not read.
    #[error("{0}")]
    ContentAddress(#[from] ParseContentAddressError),
    /// The file is about another path than the one asked for.
    #[error("it is about '{found}' instead of '{asked}'")]
    OtherPath {
        /// Base name of the path in the file.
        found: StorePath,
        /// Base name, or digest, that was asked for.
        asked: String,
    },
}

/// The fields as far as they were read.
#[derive(Default)]
struct Fields {
    path: Option<StorePath>,
    url: Option<String>,
    compression: Option<Compression>,
    file_hash: Option<Hash>,
    file_size: Option<u64>,
    nar_hash: Option<Sha256>,
    nar_size: Option<u64>,
    references: BTreeSet<StorePath>,
    deriver: Option<StorePath>,
    signatures: SignatureSet,
    content_address: Option<ContentAddress>,
}

impl NarInfo {
    /// Reads a narinfo; `file` is its name for messages.
    ///
    /// Where real Nix guesses, this refuses: a value must be set off by a colon and a space, and the NAR hash must be
    /// SHA-256. Of a repeated field the last one counts, as in Nix, except where Nix refuses the repetition too.
    ///
    /// # Errors
    /// See [`NarInfoFault`].
    pub fn parse(store_dir: &StoreDir, file: &str, text: &[u8]) -> Result<Self, NarInfoError> {
        let fault = |reason, line| NarInfoError { file: file.to_owned(), reason, line };
        if text.len() > MAX_NARINFO_LENGTH {
            return Err(fault(NarInfoFault::TooLong, None));
        }
        let mut fields = Fields::default();
        let mut rest = text;
        let mut number = 0;
        while !rest.is_empty() {
            number += 1;
            let end = rest
                .iter()
                .position(|byte| *byte == b'\n')
                .ok_or_else(|| fault(NarInfoFault::Unterminated, Some(number)))?;
            let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            fields.read_line(store_dir, line).map_err(|reason| fault(reason, Some(number)))?;
            rest = after.get(1..).unwrap_or_default();
        }
        fields.finish().map_err(|reason| fault(reason, None))
    }

    /// Checks that the narinfo is about the path that was asked for, by digest and name.
    ///
    /// # Errors
    /// It is about another path.
    pub fn check_is_about(&self, file: &str, asked: &StorePath) -> Result<(), NarInfoError> {
        self.check(file, self.info.path == *asked, asked.base_name())
    }

    /// Checks that the narinfo is about a path with the digest that was asked for; its name is not known beforehand.
    ///
    /// # Errors
    /// It is about a path with another digest.
    pub fn check_has_digest(&self, file: &str, digest: &str) -> Result<(), NarInfoError> {
        self.check(file, self.info.path.digest() == digest, digest)
    }

    fn check(&self, file: &str, is_right: bool, asked: &str) -> Result<(), NarInfoError> {
        if is_right {
            return Ok(());
        }
        let reason = NarInfoFault::OtherPath { found: self.info.path.clone(), asked: asked.to_owned() };
        Err(NarInfoError { file: file.to_owned(), reason, line: None })
    }

    /// Writes the file as Nix does.
    pub fn to_text(&self, store_dir: &StoreDir) -> String {
        let info = &self.info;
        let mut text = format!("StorePath: {}\n", store_dir.display(&info.path));
        let mut field = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {value}");
        };
        field("URL", &self.url);
        field("Compression", &self.compression);
        if let Some(hash) = &self.file_hash {
            field("FileHash", &hash.prefixed_nix32());
        }
        if let Some(size) = self.file_size {
            field("FileSize", &size);
        }
        field("NarHash", &format_args!("sha256:{}", info.nar_hash.nix32()));
        field("NarSize", &info.nar_size);
        field("References", &info.references.iter().map(StorePath::base_name).collect::<Vec<_>>().join(" "));
        if let Some(deriver) = &info.deriver {
            field("Deriver", deriver);
        }
        for signature in &info.signatures {
            field("Sig", signature);
        }
        if let Some(address) = &info.content_address {
            field("CA", address);
        }
        text
    }
}

impl Fields {
    /// Takes in one line without its line feed.
    fn read_line(&mut self, store_dir: &StoreDir, line: &[u8]) -> Result<(), NarInfoFault> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(NarInfoFault::Form)?;
        let (name, value) = line.split_at_checked(colon).ok_or(NarInfoFault::Form)?;
        // An empty value may have lost its space to an editor.
        let value = match value {
            b":" => &[][..],
            _ => value.strip_prefix(b": ").ok_or(NarInfoFault::Form)?,
        };
        match name {
            b"StorePath" => self.path = Some(full_path("StorePath", store_dir, value)?),
            b"URL" => self.url = Some(plain_text("URL", value)?.to_owned()),
            b"Compression" => {
                self.compression = Some(Compression::from_name(plain_text("Compression", value)?));
            }
            b"FileHash" => self.file_hash = Some(hash("FileHash", value)?),
            b"FileSize" => self.file_size = Some(number("FileSize", value)?),
            b"NarHash" => {
                let hash = hash("NarHash", value)?;
                let other = NarInfoFault::NarHashAlgorithm(hash.algorithm());
                self.nar_hash = Some(hash.as_sha256().ok_or(other)?);
            }
            b"NarSize" => self.nar_size = Some(number("NarSize", value)?),
            b"References" => {
                if !self.references.is_empty() {
                    return Err(NarInfoFault::Repeated("References"));
                }
                self.references = value
                    .split(|byte| *byte == b' ')
                    .filter(|word| !word.is_empty())
                    .map(|word| base_name("References", word))
                    .collect::<Result<_, _>>()?;
            }
            b"Deriver" => {
                self.deriver =
                    (value != UNKNOWN_DERIVER.as_bytes()).then(|| base_name("Deriver", value)).transpose()?;
            }
            b"Sig" => {
                self.signatures.insert(plain_text("Sig", value)?.parse()?);
            }
            b"CA" if value.is_empty() => {}
            b"CA" if self.content_address.is_some() => return Err(NarInfoFault::Repeated("CA")),
            b"CA" => self.content_address = Some(plain_text("CA", value)?.parse()?),
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<NarInfo, NarInfoFault> {
        let info = PathInfo {
            path: self.path.ok_or(NarInfoFault::Missing("StorePath"))?,
            nar_hash: self.nar_hash.ok_or(NarInfoFault::Missing("NarHash"))?,
            nar_size: self
                .nar_size
                .filter(|size| *size > 0)
                .ok_or(NarInfoFault::Missing("NarSize (other than zero)"))?,
            references: self.references,
            deriver: self.deriver,
            registration_time: 0,
            ultimate: false,
            signatures: self.signatures,
            content_address: self.content_address,
        };
        Ok(NarInfo {
            info,
            url: self.url.filter(|url| !url.is_empty()).ok_or(NarInfoFault::Missing("URL"))?,
            compression: self.compression.unwrap_or(Compression::Bzip2),
            file_hash: self.file_hash,
            file_size: self.file_size,
        })
    }
}

fn plain_text<'a>(field: &'static str, value: &'a [u8]) -> Result<&'a str, NarInfoFault> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.chars().any(char::is_control))
        .ok_or(NarInfoFault::Text(field))
}

fn number(field: &'static str, value: &[u8]) -> Result<u64, NarInfoFault> {
    // Parsing alone would take a plus sign.
    plain_text(field, value)?
        .parse()
        .ok()
        .filter(|_| value.iter().all(u8::is_ascii_digit))
        .ok_or(NarInfoFault::Number(field))
}

fn hash(field: &'static str, value: &[u8]) -> Result<Hash, NarInfoFault> {
    Hash::parse_prefixed(plain_text(field, value)?).map_err(|error| NarInfoFault::Hash { field, error })
}

fn full_path(field: &'static str, store_dir: &StoreDir, value: &[u8]) -> Result<StorePath, NarInfoFault> {
    store_dir.parse(value).map_err(|error| NarInfoFault::Path { field, error })
}

fn base_name(field: &'static str, value: &[u8]) -> Result<StorePath, NarInfoFault> {
    StorePath::from_base_name(value).map_err(|error| NarInfoFault::Path { field, error })
}
