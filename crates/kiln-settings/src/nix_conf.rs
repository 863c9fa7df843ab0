//! The format of `nix.conf`.
//!
//! A file has lines `NAME = VALUE` with blanks around the `=`, `include FILE`, and `!include FILE` for one that may be
//! missing. `#` begins a comment wherever it stands. Blanks within a value count as one.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::settings_error::{Position, SettingsError};
use crate::value::words;

/// How many files may be included within each other.
const MAX_DEPTH: usize = 32;

/// How many bytes all files of one configuration may have together.
const MAX_BYTES: usize = 16 << 20;

/// What each file counts for besides its bytes, so that the number of files is bounded too.
const FILE_COST: usize = 1024;

/// Where files of a configuration come from.
pub trait Source {
    /// The contents of a file; `None` if there is none.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, SourceError>;
}

/// Why a file couldn't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SourceError(pub String);

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<F: Fn(&Path) -> Result<Option<Vec<u8>>, SourceError>> Source for F {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
        self(path)
    }
}

/// One line that sets something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) position: Position,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// A file that is being read, as far as it has been.
struct OpenFile {
    path: PathBuf,
    contents: Vec<u8>,
    offset: usize,
    line: u64,
}

/// What a line says.
enum Line<'a> {
    Nothing,
    Assignment { name: &'a str, value: String },
    Include { file: &'a str, optional: bool },
}

/// All assignments of a file and of what it includes, in order.
pub(crate) fn read_assignments(
    path: &Path,
    contents: Vec<u8>,
    source: &dyn Source,
) -> Result<Vec<Assignment>, SettingsError> {
    let mut assignments = Vec::new();
    let mut bytes = 0;
    let mut open = vec![open_file(path.to_owned(), contents, &mut bytes)?];
    while let Some(file) = open.last_mut() {
        let Some(line) = file.next_line() else {
            open.pop();
            continue;
        };
        let line = without_comment(&line).to_vec();
        let position = |column: usize| Position {
            file: file.path.clone(),
            line: file.line,
            column: u64::try_from(column).unwrap_or(u64::MAX).saturating_add(1),
        };
        let parsed = parse_line(&line).map_err(|(column, expected)| SettingsError::Line {
            position: position(column),
            line: shortened(&line),
            expected,
        })?;
        let position = position(indentation(&line));
        match parsed {
            Line::Nothing => {}
            Line::Assignment { name, value } => {
                assignments.push(Assignment { position, name: name.to_owned(), value });
            }
            Line::Include { file: included, optional } => {
                let included = file.path.parent().unwrap_or(Path::new("")).join(included);
                match read(&included, source)? {
                    Some(_) if open.len() >= MAX_DEPTH => {
                        return Err(SettingsError::IncludeTooDeep {
                            position,
                            file: included,
                            limit: MAX_DEPTH,
                        });
                    }
                    Some(contents) => open.push(open_file(included, contents, &mut bytes)?),
                    None if optional => {}
                    None => return Err(SettingsError::IncludeNotFound { position, file: included }),
                }
            }
        }
    }
    Ok(assignments)
}

/// A file's contents; `None` if there is none.
pub(crate) fn read(path: &Path, source: &dyn Source) -> Result<Option<Vec<u8>>, SettingsError> {
    source.read(path).map_err(|reason| SettingsError::Read { file: path.to_owned(), reason })
}

fn open_file(path: PathBuf, contents: Vec<u8>, bytes: &mut usize) -> Result<OpenFile, SettingsError> {
    *bytes = bytes.saturating_add(contents.len()).saturating_add(FILE_COST);
    if *bytes > MAX_BYTES {
        return Err(SettingsError::TooLarge { file: path, limit: MAX_BYTES });
    }
    Ok(OpenFile { path, contents, offset: 0, line: 0 })
}

impl OpenFile {
    /// The next line without its `\n`.
    fn next_line(&mut self) -> Option<Vec<u8>> {
        let rest = self.contents.get(self.offset..).filter(|rest| !rest.is_empty())?;
        let line = rest.split(|&byte| byte == b'\n').next().unwrap_or_default().to_vec();
        self.offset = self.offset.saturating_add(line.len()).saturating_add(1);
        self.line += 1;
        Some(line)
    }
}

fn without_comment(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == b'#').next().unwrap_or_default()
}

fn indentation(line: &[u8]) -> usize {
    line.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// What a line says, or the column (from 0) at which it goes wrong and what was expected there.
fn parse_line(line: &[u8]) -> Result<Line<'_>, (usize, &'static str)> {
    let line = std::str::from_utf8(line).map_err(|error| (error.valid_up_to(), "UTF-8"))?;
    let column = |word: &str| (word.as_ptr() as usize).saturating_sub(line.as_ptr() as usize);
    let mut words_of_line = words(line);
    let Some(first) = words_of_line.next() else { return Ok(Line::Nothing) };
    let Some(second) = words_of_line.next() else {
        return Err((line.trim_end().len(), "'NAME = VALUE' with blanks around the '=', or 'include FILE'"));
    };
    if first == "include" || first == "!include" {
        return match words_of_line.next() {
            None => Ok(Line::Include { file: second, optional: first == "!include" }),
            Some(third) => Err((column(third), "one file name without blanks")),
        };
    }
    if second != "=" {
        return Err((column(second), "'=' with blanks around it"));
    }
    Ok(Line::Assignment { name: first, value: words_of_line.collect::<Vec<&str>>().join(" ") })
}

/// A line for an error message.
fn shortened(line: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(line.get(..LONGEST).unwrap_or(line));
    let mark = if line.len() > LONGEST { "…" } else { "" };
    format!("{}{mark}", text.trim())
}
