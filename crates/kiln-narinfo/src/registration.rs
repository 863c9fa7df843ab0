//! The registration text: `--dump-db`, `--load-db`, `--register-validity`, `exportReferencesGraph` (local-store
//! specification, section 9).
//!
//! Per path, one line each: the full path; NAR hash in base 16 and NAR size in the form with hashes; the deriver or
//! nothing; the number of references; the references. [`write()`] makes the text, [`Reader`] takes it in pieces of any
//! size.

use std::collections::BTreeSet;

use kiln_hash::{Algorithm, Hash, ParseHashError, Sha256};
use kiln_store_path::{InvalidStorePath, StoreDir, StorePath};

use crate::path_info::PathInfo;

/// The longest line: no full path is nearly as long.
const MAX_LINE_LENGTH: usize = 8192;

/// Whether the text has hashes and sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `--dump-db`, `--load-db`, `--register-validity --hash-given`.
    WithHashes,
    /// `--register-validity`, `exportReferencesGraph`.
    WithoutHashes,
}

/// One path's part of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path.
    pub path: StorePath,
    /// Hash and size of its NAR, in the form with hashes.
    pub nar: Option<(Sha256, u64)>,
    /// The derivation that it is an output of, if stated.
    pub deriver: Option<StorePath>,
    /// The paths that it refers to.
    pub references: BTreeSet<StorePath>,
}

impl Entry {
    /// The entry for a path; `with_deriver` is false for `exportReferencesGraph`.
    pub fn of(info: &PathInfo, form: Form, with_deriver: bool) -> Self {
        Self {
            path: info.path.clone(),
            nar: (form == Form::WithHashes).then_some((info.nar_hash, info.nar_size)),
            deriver: info.deriver.clone().filter(|_| with_deriver),
            references: info.references.clone(),
        }
    }
}

/// Appends an entry to a text.
pub fn write(store_dir: &StoreDir, entry: &Entry, text: &mut String) {
    let mut line = |content: &str| {
        text.push_str(content);
        text.push('\n');
    };
    line(&store_dir.print(&entry.path));
    if let Some((hash, size)) = &entry.nar {
        line(&hash.base16());
        line(&size.to_string());
    }
    line(&entry.deriver.as_ref().map(|deriver| store_dir.print(deriver)).unwrap_or_default());
    line(&entry.references.len().to_string());
    for reference in &entry.references {
        line(&store_dir.print(reference));
    }
}

/// A registration text that does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("registration text, line {line}: {fault}")]
pub struct ReadError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The text ends within an entry.
    #[error("missing input")]
    MissingInput,
    /// A size or a number of references does not read.
    #[error("number expected")]
    Number,
    /// A path does not read.
    #[error("{0}")]
    Path(#[from] InvalidStorePath),
    /// A hash does not read.
    #[error("{0}")]
    Hash(#[from] ParseHashError),
    /// No line is this long.
    #[error("line is longer than {MAX_LINE_LENGTH} bytes")]
    TooLong,
}

/// What the next line is.
enum Expect {
    Path,
    Hash(StorePath),
    Size(StorePath, Sha256),
    Deriver(StorePath, Option<(Sha256, u64)>),
    Count(Entry),
    Reference(Entry, u64),
    /// An error was reported; the rest cannot be told apart any more.
    Nothing,
}

/// Reads a registration text piece by piece.
pub struct Reader {
    store_dir: StoreDir,
    form: Form,
    expect: Expect,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    line: u64,
}

impl Reader {
    /// A reader at the start of a text.
    pub fn new(store_dir: StoreDir, form: Form) -> Self {
        Self { store_dir, form, expect: Expect::Path, partial: Vec::new(), line: 0 }
    }

    /// Takes in the next piece of the text and appends the entries that it completes.
    ///
    /// # Errors
    /// A line that does not read; nothing more can be read then.
    pub fn push(&mut self, mut bytes: &[u8], entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (piece, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
            self.keep(piece)?;
            let line = std::mem::take(&mut self.partial);
            self.line += 1;
            if let Some(entry) = self.read_line(&line).map_err(|fault| self.error(fault))? {
                entries.push(entry);
            }
            self.partial = line;
            self.partial.clear();
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.keep(bytes)
    }

    /// Says that the text has ended.
    ///
    /// # Errors
    /// It ended within an entry, or within a line.
    pub fn finish(mut self) -> Result<(), ReadError> {
        if matches!(self.expect, Expect::Path) && self.partial.is_empty() {
            return Ok(());
        }
        self.line += 1;
        Err(self.error(Fault::MissingInput))
    }

    fn keep(&mut self, piece: &[u8]) -> Result<(), ReadError> {
        if self.partial.len().saturating_add(piece.len()) > MAX_LINE_LENGTH {
            self.line += 1;
            self.expect = Expect::Nothing;
            return Err(self.error(Fault::TooLong));
        }
        self.partial.extend_from_slice(piece);
        Ok(())
    }

    fn error(&self, fault: Fault) -> ReadError {
        ReadError { line: self.line, fault }
    }

    fn read_line(&mut self, line: &[u8]) -> Result<Option<Entry>, Fault> {
        let expect = std::mem::replace(&mut self.expect, Expect::Nothing);
        self.expect = match expect {
            Expect::Path => {
                let path = self.store_dir.parse(line)?;
                match self.form {
                    Form::WithHashes => Expect::Hash(path),
                    Form::WithoutHashes => Expect::Deriver(path, None),
                }
            }
            Expect::Hash(path) => {
                let text = std::str::from_utf8(line).unwrap_or("?");
                let hash = Hash::parse_any(text, Some(Algorithm::Sha256))?;
                // The algorithm was given, so that the hash is of it.
                Expect::Size(path, hash.as_sha256().unwrap_or(Sha256::UNKNOWN))
            }
            Expect::Size(path, hash) => Expect::Deriver(path, Some((hash, number(line)?))),
            Expect::Deriver(path, nar) => {
                let deriver = (!line.is_empty()).then(|| self.store_dir.parse(line)).transpose()?;
                Expect::Count(Entry { path, nar, deriver, references: BTreeSet::new() })
            }
            Expect::Count(entry) => match number(line)? {
                0 => return self.complete(entry),
                count => Expect::Reference(entry, count),
            },
            Expect::Reference(mut entry, count) => {
                entry.references.insert(self.store_dir.parse(line)?);
                match count - 1 {
                    0 => return self.complete(entry),
                    left => Expect::Reference(entry, left),
                }
            }
            Expect::Nothing => return Err(Fault::MissingInput),
        };
        Ok(None)
    }

    fn complete(&mut self, entry: Entry) -> Result<Option<Entry>, Fault> {
        self.expect = Expect::Path;
        Ok(Some(entry))
    }
}

fn number(line: &[u8]) -> Result<u64, Fault> {
    std::str::from_utf8(line)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or(Fault::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DUMP: &str = include_str!("../tests/data/db/dump-db.dep2-closure.txt");
    const GRAPH: &str = include_str!("../tests/data/db/export-graph.txt");

    fn read(text: &[u8], form: Form) -> Result<Vec<Entry>, ReadError> {
        let mut reader = Reader::new(StoreDir::default(), form);
        let mut entries = Vec::new();
        reader.push(text, &mut entries)?;
        reader.finish()?;
        Ok(entries)
    }

    #[test]
    fn texts_of_nix_read_back() {
        for (text, form, count) in [(DUMP, Form::WithHashes, 6), (GRAPH, Form::WithoutHashes, 4)] {
            let entries = read(text.as_bytes(), form).unwrap();
            assert_eq!(entries.len(), count);
            let mut again = String::new();
            for entry in &entries {
                write(&StoreDir::default(), entry, &mut again);
            }
            assert_eq!(again, text);
        }
    }

    #[test]
    fn a_text_that_ends_early_is_refused_or_a_whole_number_of_entries() {
        let whole = read(DUMP.as_bytes(), Form::WithHashes).unwrap();
        let mut accepted = 0;
        for end in 0..DUMP.len() {
            match read(&DUMP.as_bytes()[..end], Form::WithHashes) {
                Ok(entries) => {
                    assert_eq!(entries, whole[..entries.len()]);
                    accepted += 1;
                }
                Err(error) => assert_eq!(error.fault, Fault::MissingInput),
            }
        }
        assert_eq!(accepted, 6, "only the ends of entries (and the empty text) are ends");
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let path = "/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";
        for (text, form, line) in [
            ("x\n".to_owned(), Form::WithoutHashes, 1),
            (format!("{path}\nxyz\n"), Form::WithHashes, 2),
            (format!("{path}\n\n-1\n"), Form::WithoutHashes, 3),
            (format!("{path}\n\n+1\n"), Form::WithoutHashes, 3),
            (format!("{path}\n\n\n"), Form::WithoutHashes, 3),
            (format!("{path}\n\n1\n/tmp/x\n"), Form::WithoutHashes, 4),
            (format!("{path}\n\n18446744073709551616\n"), Form::WithoutHashes, 3),
            (format!("{path}\n\n18446744073709551615\n"), Form::WithoutHashes, 4),
            (format!("{path}\n\n0\n{}", "a".repeat(9000)), Form::WithoutHashes, 4),
        ] {
            assert_eq!(read(text.as_bytes(), form).unwrap_err().line, line, "{text}");
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_read_like_the_whole(sizes in proptest::collection::vec(1_usize..90, 1..60)) {
            let mut reader = Reader::new(StoreDir::default(), Form::WithHashes);
            let (mut entries, mut rest) = (Vec::new(), DUMP.as_bytes());
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at(rest.len().min(*size));
                reader.push(piece, &mut entries).unwrap();
                rest = after;
            }
            reader.finish().unwrap();
            prop_assert_eq!(entries, read(DUMP.as_bytes(), Form::WithHashes).unwrap());
        }

        #[test]
        fn damage_is_refused_or_read(position in 0..DUMP.len(), byte in any::<u8>()) {
            let mut text = DUMP.as_bytes().to_vec();
            text[position] = byte;
            let _ = read(&text, Form::WithHashes);
        }
    }
}
