//! Reading a derivation from its text.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use kiln_store_path::{InvalidName, InvalidStorePath, OutputName, StoreDir, StorePath, StorePathName};

use super::lexer::Lexer;
use super::writer::WriteError;
use super::{CLASSIC_HEADER, DYNAMIC_VERSION, VERSIONED_HEADER};
use crate::derivation::{Derivation, KindError};
use crate::input_outputs::{InputOutputs, MAX_DYNAMIC_DEPTH, TooDeep};
use crate::output::{DerivationOutput, OutputError, StatedPath, shown};
use crate::structured_attrs::StructuredAttrsError;

/// How much a text may deviate from what the writer would make of its meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// As real Nix reads files that are in its store already: unsorted and repeated elements, a missing comma between
    /// the elements of a list or one before the first, bytes after the end, hashes in any encoding, and any absolute path
    /// for a fixed output. The first of several outputs of one name wins, the last of several variables.
    #[default]
    Lenient,
    /// One text for each meaning: only what the writer makes. For texts that are about to enter the store.
    Strict,
}

/// A text that is no derivation.
#[derive(Debug, thiserror::Error)]
#[error("error parsing derivation '{derivation}' at byte {offset}: {kind}")]
pub struct ParseError {
    /// The name of the derivation.
    pub derivation: StorePathName,
    /// How many bytes had been read.
    pub offset: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// What can be wrong with the text of a derivation.
#[derive(Debug, thiserror::Error)]
pub enum ParseErrorKind {
    /// The text is not of the form.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// An output is described in a way that makes no sense.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The outputs do not make sense together.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// The name of an output is none.
    #[error("output {0}")]
    OutputName(#[from] InvalidName),
    /// An input is not an absolute path.
    #[error("bad path '{0}' in derivation")]
    BadPath(String),
    /// An input is no store path.
    #[error(transparent)]
    Path(#[from] InvalidStorePath),
    /// Outputs of outputs nest too deep.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
    /// The variable `__json` holds no structured attributes.
    #[error(transparent)]
    StructuredAttrs(#[from] StructuredAttrsError),
    /// The derivation cannot be written (strict reading only).
    #[error(transparent)]
    Unwritable(#[from] WriteError),
    /// The text differs from the one that the writer makes (strict reading only).
    #[error(
        "not in canonical form: fields must be sorted, without duplicates, superfluous escapes or bytes after the end"
    )]
    NotCanonical,
}

/// A text that is not of the form of a derivation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// Something else stands where these bytes must.
    #[error("expected string '{expected}'")]
    Expected {
        /// The bytes.
        expected: &'static str,
        /// Where they were expected.
        offset: usize,
    },
    /// The text ends within a string.
    #[error("unterminated string in derivation")]
    UnterminatedString {
        /// Where the string begins.
        offset: usize,
    },
    /// Neither of the two headers.
    #[error("derivation does not start with 'Derive' or 'DrvWithVersion'")]
    Header,
    /// A version of the format that is not known.
    #[error("Unknown derivation ATerm format version '{0}'")]
    UnknownVersion(String),
}

impl ParseErrorKind {
    /// Where the trouble begins, if that is known better than by how far the text was read.
    fn offset(&self) -> Option<usize> {
        match self {
            Self::Syntax(
                SyntaxError::Expected { offset, .. } | SyntaxError::UnterminatedString { offset },
            ) => Some(*offset),
            _ => None,
        }
    }
}

impl Derivation {
    /// Reads the text of a `.drv` file.
    ///
    /// # Errors
    /// See [`ParseErrorKind`].
    pub fn parse_aterm(
        text: &[u8],
        name: &StorePathName,
        store_dir: &StoreDir,
        strictness: Strictness,
    ) -> Result<Self, ParseError> {
        let mut parser = Parser { lexer: Lexer::new(text), name, store_dir, strictness };
        parser.derivation().and_then(|derivation| parser.check_form(text, derivation)).map_err(
            |(kind, offset)| {
                let offset = kind.offset().or(offset).unwrap_or_else(|| parser.lexer.offset());
                ParseError { derivation: name.clone(), offset, kind }
            },
        )
    }
}

/// An error and, if it is not where reading stopped, its position.
type Failure = (ParseErrorKind, Option<usize>);

struct Parser<'a> {
    lexer: Lexer<'a>,
    name: &'a StorePathName,
    store_dir: &'a StoreDir,
    strictness: Strictness,
}

/// Lets `?` turn every kind of error into one at the present position.
fn here(error: impl Into<ParseErrorKind>) -> Failure {
    (error.into(), None)
}

impl<'a> Parser<'a> {
    fn derivation(&mut self) -> Result<Derivation, Failure> {
        let is_versioned = self.header()?;
        self.expect("[")?;
        let outputs = self.outputs()?;
        self.expect(",[")?;
        let input_derivations = self.input_derivations(is_versioned)?;
        self.expect(",")?;
        let input_sources = self.input_sources()?;
        let system = self.next_string()?.into_owned();
        let builder = self.next_string()?.into_owned();
        self.expect(",[")?;
        let arguments = self.strings()?;
        self.expect(",[")?;
        let environment = self.environment()?;
        self.expect(")")?;
        let mut derivation = Derivation {
            name: self.name.clone(),
            outputs,
            input_derivations,
            input_sources,
            system,
            builder,
            arguments,
            environment: BTreeMap::new(),
            structured_attrs: None,
        };
        derivation.set_written_environment(environment).map_err(here)?;
        derivation.kind().map_err(here)?;
        Ok(derivation)
    }

    /// In strict reading, makes sure that `text` is what the writer makes of `derivation`.
    fn check_form(&self, text: &[u8], derivation: Derivation) -> Result<Derivation, Failure> {
        if self.strictness == Strictness::Strict {
            let canonical = derivation.to_aterm(self.store_dir).map_err(here)?;
            if canonical != text {
                let common = canonical.iter().zip(text).take_while(|(left, right)| left == right).count();
                return Err((ParseErrorKind::NotCanonical, Some(common)));
            }
        }
        Ok(derivation)
    }

    /// Whether the form is the versioned one.
    fn header(&mut self) -> Result<bool, Failure> {
        if self.lexer.accept(CLASSIC_HEADER) {
            return Ok(false);
        }
        if !self.lexer.accept(VERSIONED_HEADER) {
            return Err(here(SyntaxError::Header));
        }
        let version = self.string()?;
        if *version != *DYNAMIC_VERSION.as_bytes() {
            return Err(here(SyntaxError::UnknownVersion(shown(&version))));
        }
        self.expect(",")?;
        Ok(true)
    }

    fn outputs(&mut self) -> Result<BTreeMap<OutputName, DerivationOutput>, Failure> {
        let stated_path = match self.strictness {
            Strictness::Lenient => StatedPath::Ignored,
            Strictness::Strict => StatedPath::Checked,
        };
        let mut outputs = BTreeMap::new();
        while !self.lexer.end_of_list() {
            self.expect("(")?;
            let output = self.output_name()?;
            let fields = [self.next_string()?, self.next_string()?, self.next_string()?];
            self.expect(")")?;
            let fields = fields.each_ref().map(|field| &**field);
            let description =
                DerivationOutput::from_fields(self.store_dir, self.name, &output, fields, stated_path)
                    .map_err(here)?;
            outputs.entry(output).or_insert(description);
        }
        Ok(outputs)
    }

    fn input_derivations(
        &mut self,
        is_versioned: bool,
    ) -> Result<BTreeMap<StorePath, InputOutputs>, Failure> {
        let mut inputs = BTreeMap::new();
        while !self.lexer.end_of_list() {
            self.expect("(")?;
            let path = self.path()?;
            self.expect(",")?;
            let outputs = if is_versioned { self.input_tree()? } else { self.input_list()? };
            self.expect(")")?;
            inputs.insert(path, outputs);
        }
        Ok(inputs)
    }

    /// The classic form of an input: a list of outputs.
    fn input_list(&mut self) -> Result<InputOutputs, Failure> {
        self.expect("[")?;
        let mut outputs = InputOutputs::default();
        while !self.lexer.end_of_list() {
            outputs.insert(self.output_name()?);
        }
        Ok(outputs)
    }

    /// Either form of an input: a list, or a list and the outputs that are derivations, each again in either form.
    fn input_tree(&mut self) -> Result<InputOutputs, Failure> {
        // The nodes whose children are being read, each but the first with its name in the one before.
        let mut open: Vec<(Option<OutputName>, InputOutputs)> = Vec::new();
        let mut name = None;
        loop {
            let mut node = if self.lexer.accept("(") {
                if open.len() >= MAX_DYNAMIC_DEPTH {
                    return Err(here(TooDeep));
                }
                let node = self.input_list()?;
                self.expect(",[")?;
                open.push((name.take(), node));
                None
            } else {
                Some((name.take(), self.input_list()?))
            };
            // Close every node that ends here, then go on to the next child.
            loop {
                if let Some((name, finished)) = node.take() {
                    let Some((_, parent)) = open.last_mut() else { return Ok(finished) };
                    // Only the outermost node has no name, and it has no parent.
                    let name = name.unwrap_or_else(OutputName::out);
                    parent.insert_dynamic(name, finished).map_err(here)?;
                    self.expect(")")?;
                }
                if !self.lexer.end_of_list() {
                    self.expect("(")?;
                    name = Some(self.output_name()?);
                    self.expect(",")?;
                    break;
                }
                self.expect(")")?;
                node = open.pop();
            }
        }
    }

    fn input_sources(&mut self) -> Result<BTreeSet<StorePath>, Failure> {
        self.expect("[")?;
        let mut sources = BTreeSet::new();
        while !self.lexer.end_of_list() {
            sources.insert(self.path()?);
        }
        Ok(sources)
    }

    fn environment(&mut self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Failure> {
        let mut environment = BTreeMap::new();
        while !self.lexer.end_of_list() {
            self.expect("(")?;
            let name = self.string()?.into_owned();
            let value = self.next_string()?.into_owned();
            self.expect(")")?;
            environment.insert(name, value);
        }
        Ok(environment)
    }

    /// The rest of a list of strings.
    fn strings(&mut self) -> Result<Vec<Vec<u8>>, Failure> {
        let mut strings = Vec::new();
        while !self.lexer.end_of_list() {
            strings.push(self.string()?.into_owned());
        }
        Ok(strings)
    }

    fn output_name(&mut self) -> Result<OutputName, Failure> {
        OutputName::new(self.string()?).map_err(here)
    }

    fn path(&mut self) -> Result<StorePath, Failure> {
        let path = self.string()?;
        if !path.starts_with(b"/") {
            return Err(here(ParseErrorKind::BadPath(shown(&path))));
        }
        self.store_dir.parse(path).map_err(here)
    }

    fn next_string(&mut self) -> Result<Cow<'a, [u8]>, Failure> {
        self.expect(",")?;
        self.string()
    }

    fn string(&mut self) -> Result<Cow<'a, [u8]>, Failure> {
        self.lexer.string().map_err(here)
    }

    fn expect(&mut self, token: &'static str) -> Result<(), Failure> {
        self.lexer.expect(token).map_err(here)
    }
}
