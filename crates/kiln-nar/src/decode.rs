//! The decoder: from bytes, in pieces of any size, to events.
//!
//! It is a state machine without recursion that accepts exactly the grammar of the format, in its strict reading (that
//! of Nix since 2.34.7): one tree, one text. What it holds is one string of at most [`MAX_TARGET`] bytes and the last
//! name of each open directory; contents of files go through as slices of the input.

use crate::grammar::{MAGIC, MAX_DEPTH, MAX_NAME, MAX_TAG, MAX_TARGET, NameError};
use crate::grammar::{OpenDirectories, is_valid_target, padding};
use crate::string_reader::{StringProblem, StringReader};
use thiserror::Error;

/// What an archive says, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A directory starts. Entries follow, then [`Event::EndDirectory`].
    Directory,
    /// An entry of the innermost directory. Exactly one node follows.
    Entry(&'a [u8]),
    /// A regular file starts. [`Event::Contents`] follow unless it is empty, then [`Event::EndRegular`].
    Regular {
        /// Whether it carries the executable marker.
        executable: bool,
        /// Length of its contents in bytes, as stated: nothing says yet that they will come.
        size: u64,
        /// Where its contents begin: bytes from the start of the archive.
        offset: u64,
    },
    /// The next part of the file's contents; never empty.
    Contents(&'a [u8]),
    /// The regular file ends; all its contents have come.
    EndRegular,
    /// A symbolic link with this target.
    Symlink(&'a [u8]),
    /// The innermost directory ends.
    EndDirectory,
}

/// Where an archive is damaged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bad archive at byte {offset}: {problem}")]
pub struct DecodeError {
    /// Offset, from the start of the archive, of the string (or the missing byte) at fault.
    pub offset: u64,
    /// What is wrong with it.
    pub problem: DecodeProblem,
}

/// What can be wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeProblem {
    /// The first string isn't the magic.
    #[error("input doesn't look like a Nix archive")]
    NotAnArchive,
    /// Another tag than the grammar asks for.
    #[error("expected tag {expected}, got '{}'", .found.escape_ascii())]
    UnexpectedTag {
        /// The tags that could come here.
        expected: &'static str,
        /// The tag that came.
        found: Vec<u8>,
    },
    /// A node that is neither `regular`, `directory` nor `symlink`.
    #[error("unknown file type '{}'", .0.escape_ascii())]
    UnknownType(Vec<u8>),
    /// A string is longer than its place allows.
    #[error("string is too long: {expected} has {length} bytes, the limit is {limit}")]
    StringTooLong {
        /// What the string should be.
        expected: &'static str,
        /// The length that it states.
        length: u64,
        /// The most that is allowed.
        limit: usize,
    },
    /// The bytes that fill a string up to a multiple of eight aren't zero.
    #[error("non-zero padding")]
    NonZeroPadding,
    /// A name that no entry may have, or one out of order.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An empty target, or one with a NUL.
    #[error("invalid symlink target '{}'", .0.escape_ascii())]
    InvalidTarget(Vec<u8>),
    /// More than [`MAX_DEPTH`] nodes on a path.
    #[error("directory nesting exceeds the maximum depth of {MAX_DEPTH}")]
    TooDeep,
    /// The input ended too early.
    #[error("unexpected end of input, expected {expected}")]
    UnexpectedEnd {
        /// What would have had to come.
        expected: &'static str,
    },
}

/// What must come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Magic,
    NodeOpen,
    TypeTag,
    TypeValue,
    ExecutableOrContents,
    ExecutableValue,
    ContentsTag {
        executable: bool,
    },
    ContentsSize {
        executable: bool,
    },
    Contents {
        size: u64,
        missing: u64,
    },
    Padding {
        size: u64,
    },
    RegularClose,
    TargetTag,
    Target,
    /// The link's event has been given; its parenthesis is still to come.
    SymlinkClose,
    EntryOrClose,
    EntryOpen,
    NameTag,
    Name,
    NodeTag,
    EntryClose,
    Complete,
}

impl State {
    /// What the state waits for, for messages; and the longest string that it may be.
    fn expected(self) -> (&'static str, usize) {
        match self {
            Self::Magic => ("the tag 'nix-archive-1'", MAX_TAG),
            Self::NodeOpen | Self::EntryOpen => ("'('", MAX_TAG),
            Self::TypeTag => ("'type'", MAX_TAG),
            Self::TypeValue => ("the type of a node", MAX_TAG),
            // The marker may be there too; this is how Nix says it.
            Self::ExecutableOrContents => ("'contents'", MAX_TAG),
            Self::ExecutableValue => ("the empty value of 'executable'", 0),
            Self::ContentsTag { .. } => ("'contents'", MAX_TAG),
            Self::ContentsSize { .. } => ("the size of a file's contents", 0),
            Self::Contents { .. } => ("contents of a file", 0),
            Self::Padding { .. } => ("padding after a file's contents", 0),
            Self::RegularClose | Self::SymlinkClose | Self::EntryClose => ("')'", MAX_TAG),
            Self::TargetTag => ("'target'", MAX_TAG),
            Self::Target => ("the target of a symlink", MAX_TARGET),
            Self::EntryOrClose => ("'entry' or ')'", MAX_TAG),
            Self::NameTag => ("'name'", MAX_TAG),
            Self::Name => ("the name of an entry", MAX_NAME),
            Self::NodeTag => ("'node'", MAX_TAG),
            Self::Complete => ("nothing more", 0),
        }
    }
}

/// What one step of the machine came to.
enum Step {
    /// The state has changed, nothing to report.
    Silent,
    /// An event without borrowed bytes.
    Event(Event<'static>),
    /// The name of an entry, which is the last name of the innermost directory.
    Name,
}

/// Reads one archive (format `nix-archive-1`).
///
/// ```
/// # use kiln_nar::{Decoder, Event};
/// # let archive = kiln_nar::file_framing(false, 0).0.into_iter().chain(kiln_nar::file_framing(false, 0).1).collect::<Vec<u8>>();
/// let mut decoder = Decoder::new();
/// let mut input = &archive[..];
/// while let Some(event) = decoder.next(&mut input)? {
///     println!("{event:?}");
/// }
/// // Here more input would be fetched, unless …
/// decoder.finish()?;
/// # Ok::<(), kiln_nar::DecodeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    directories: OpenDirectories,
    strings: StringReader,
    failed: Option<DecodeError>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the start of an archive.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Magic,
            directories: OpenDirectories::default(),
            strings: StringReader::default(),
            failed: None,
        }
    }

    /// Takes bytes from the front of `input` up to the next event and returns it.
    ///
    /// `None` means that the whole of `input` has been taken and more is needed, or that the archive
    /// [is complete](Self::is_complete): then nothing is taken, so that what follows the archive is left to the caller.
    ///
    /// # Errors
    /// As soon as the input can't be the start of an archive. The same error comes again for every further call.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Event<'s>>, DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let step = loop {
            match self.state {
                State::Complete => return Ok(None),
                State::Contents { size, missing } => return Ok(self.contents(input, size, missing)),
                State::Target => return self.target(input),
                _ => {}
            }
            match self.step(input) {
                Ok(None) => return Ok(None),
                Ok(Some(Step::Silent)) => {}
                Ok(Some(step)) => break step,
                Err(problem) => return Err(self.fail(problem)),
            }
        };
        Ok(match step {
            Step::Silent => None,
            Step::Event(event) => Some(event),
            Step::Name => Some(Event::Entry(self.directories.last_name())),
        })
    }

    /// How many bytes of the archive have been taken.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.strings.offset()
    }

    /// Whether the last parenthesis of the archive has been read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete && self.failed.is_none()
    }

    /// Says that there is no more input.
    ///
    /// # Errors
    /// If the archive isn't complete, or had an error before.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.is_complete() => Ok(()),
            None => Err(DecodeError {
                offset: self.offset(),
                problem: DecodeProblem::UnexpectedEnd { expected: self.state.expected().0 },
            }),
        }
    }

    fn fail(&mut self, problem: DecodeProblem) -> DecodeError {
        let error = DecodeError { offset: self.strings.string_offset(), problem };
        self.failed = Some(error.clone());
        error
    }

    /// Contents aren't a string to be read whole: they pass through. Something is missing of them in this state.
    fn contents<'i>(&mut self, input: &mut &'i [u8], size: u64, missing: u64) -> Option<Event<'i>> {
        let length = usize::try_from(missing).unwrap_or(usize::MAX).min(input.len());
        if length == 0 {
            return None;
        }
        let (contents, rest) = input.split_at(length);
        *input = rest;
        self.strings.skip(length);
        self.state = match missing - length as u64 {
            0 => State::Padding { size },
            missing => State::Contents { size, missing },
        };
        Some(Event::Contents(contents))
    }

    /// Targets are given out as they lie in the input or in the reader's buffer.
    fn target<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Event<'s>>, DecodeError> {
        let (expected, limit) = self.state.expected();
        let failed = &mut self.failed;
        let mut fail = |offset, problem| {
            let error = DecodeError { offset, problem };
            *failed = Some(error.clone());
            Err(error)
        };
        let offset = self.strings.next_string_offset();
        match self.strings.string(input, limit) {
            Ok(None) => Ok(None),
            Ok(Some(target)) if is_valid_target(target) => {
                self.state = State::SymlinkClose;
                Ok(Some(Event::Symlink(target)))
            }
            Ok(Some(target)) => fail(offset, DecodeProblem::InvalidTarget(target.to_vec())),
            Err(problem) => fail(offset, string_problem(problem, expected, limit)),
        }
    }

    /// Reads one string, size or padding, as the state says, and goes to the next state. `None`: needs more input.
    fn step(&mut self, input: &mut &[u8]) -> Result<Option<Step>, DecodeProblem> {
        let (expected, limit) = self.state.expected();
        match self.state {
            State::ContentsSize { executable } => {
                let Some(size) = self.strings.number(input) else { return Ok(None) };
                self.state =
                    if size == 0 { State::RegularClose } else { State::Contents { size, missing: size } };
                return Ok(Some(Step::Event(Event::Regular {
                    executable,
                    size,
                    offset: self.strings.offset(),
                })));
            }
            State::Padding { size } => {
                return match self.strings.padding(input, padding(size)) {
                    Ok(None) => Ok(None),
                    Ok(Some(())) => Ok(Some(self.go(State::RegularClose))),
                    Err(problem) => Err(string_problem(problem, expected, limit)),
                };
            }
            _ => {}
        }
        let string = match self.strings.string(input, limit) {
            Ok(Some(string)) => string,
            Ok(None) => return Ok(None),
            Err(_) if self.state == State::Magic => return Err(DecodeProblem::NotAnArchive),
            Err(problem) => return Err(string_problem(problem, expected, limit)),
        };
        let next = match (self.state, string) {
            (State::Magic, MAGIC) => State::NodeOpen,
            (State::Magic, _) => return Err(DecodeProblem::NotAnArchive),
            (State::NodeOpen, b"(") if self.directories.has_room() => State::TypeTag,
            (State::NodeOpen, b"(") => return Err(DecodeProblem::TooDeep),
            (State::TypeTag, b"type") => State::TypeValue,
            (State::TypeValue, b"regular") => State::ExecutableOrContents,
            (State::TypeValue, b"symlink") => State::TargetTag,
            (State::TypeValue, b"directory") => {
                self.directories.enter();
                self.state = State::EntryOrClose;
                return Ok(Some(Step::Event(Event::Directory)));
            }
            (State::TypeValue, found) => return Err(DecodeProblem::UnknownType(found.to_vec())),
            (State::ExecutableOrContents, b"executable") => State::ExecutableValue,
            (State::ExecutableOrContents, b"contents") => State::ContentsSize { executable: false },
            (State::ExecutableValue, _) => State::ContentsTag { executable: true },
            (State::ContentsTag { executable }, b"contents") => State::ContentsSize { executable },
            (State::RegularClose, b")") => {
                self.end_node();
                return Ok(Some(Step::Event(Event::EndRegular)));
            }
            (State::TargetTag, b"target") => State::Target,
            (State::SymlinkClose, b")") => {
                self.end_node();
                return Ok(Some(Step::Silent));
            }
            (State::EntryOrClose, b"entry") => State::EntryOpen,
            (State::EntryOrClose, b")") => {
                self.directories.leave();
                self.end_node();
                return Ok(Some(Step::Event(Event::EndDirectory)));
            }
            (State::EntryOpen, b"(") => State::NameTag,
            (State::NameTag, b"name") => State::Name,
            (State::Name, name) => {
                self.directories.accept(name)?;
                self.state = State::NodeTag;
                return Ok(Some(Step::Name));
            }
            (State::NodeTag, b"node") => State::NodeOpen,
            (State::EntryClose, b")") => State::EntryOrClose,
            (_, found) => return Err(DecodeProblem::UnexpectedTag { expected, found: found.to_vec() }),
        };
        Ok(Some(self.go(next)))
    }

    fn go(&mut self, state: State) -> Step {
        self.state = state;
        Step::Silent
    }

    fn end_node(&mut self) {
        self.state = if self.directories.is_empty() { State::Complete } else { State::EntryClose };
    }
}

fn string_problem(problem: StringProblem, expected: &'static str, limit: usize) -> DecodeProblem {
    match problem {
        StringProblem::TooLong(length) => DecodeProblem::StringTooLong { expected, length, limit },
        StringProblem::NonZeroPadding => DecodeProblem::NonZeroPadding,
    }
}
