//! The command line: one operation, its flags and arguments, and the options that all operations have.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use kiln_console::LogFormat;
use kiln_settings::{CommandLineFlag, command_line_flag};
use kiln_store::absolute_path;

use super::operation::Operation;
use super::usage;
use crate::command_line::GlobalOptions;
use crate::failure::Failure;

/// Levels from the usual one to that of `--debug`.
const DEBUG_STEPS: i32 = 3;

/// Levels from the usual one to that of errors.
const ERROR_STEPS: i32 = -3;

/// Flags of operations that take a value, whatever the operation.
const FLAGS_WITH_VALUE: [&str; 3] = ["--max-freed", "--max-links", "--max-atime"];

/// Settings that have a letter.
const LETTERS: [(&str, &str); 3] = [("-K", "--keep-failed"), ("-k", "--keep-going"), ("-j", "--max-jobs")];

/// A command line that makes sense.
pub(super) struct CommandLine {
    /// Settings, verbosity and the like.
    pub(super) global: GlobalOptions,
    /// What to do.
    pub(super) operation: &'static Operation,
    /// What belongs to the operation and begins with a dash.
    flags: Vec<Flag>,
    /// What belongs to it and doesn't.
    pub(super) arguments: Vec<OsString>,
    /// `--add-root`: the link to leave to what was realised, as an absolute path.
    pub(super) root: Option<PathBuf>,
    /// `--no-output`: not to print what was realised.
    pub(super) no_output: bool,
    /// Not to warn of results that nothing keeps.
    pub(super) no_root_warning: bool,
}

/// A flag of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) name: String,
    pub(super) value: Option<OsString>,
}

impl CommandLine {
    /// Reads the words after the program's name; `global` is what was said before.
    pub(super) fn parse(words: &[OsString], global: GlobalOptions) -> Result<Self, Failure> {
        let mut parser = Parser {
            rest: words.iter().cloned().collect(),
            global,
            operation: None,
            flags: Vec::new(),
            arguments: Vec::new(),
            root: None,
            no_output: false,
            no_root_warning: false,
        };
        parser.parse()?;
        let Some(operation) = parser.operation else { return Err(usage("no operation specified")) };
        let Parser { mut global, flags, arguments, root, no_output, no_root_warning, .. } = parser;
        if operation.tells_only_errors {
            global.verbosity_steps = global.verbosity_steps.min(ERROR_STEPS);
        }
        Ok(Self { global, operation, flags, arguments, root, no_output, no_root_warning })
    }

    /// The flags of an operation that has some.
    pub(super) fn flags(&self) -> impl Iterator<Item = &Flag> {
        self.flags.iter()
    }

    /// Which of these flags, the only ones that the operation has, were given.
    pub(super) fn known_flags<const N: usize>(&self, known: [&str; N]) -> Result<[bool; N], Failure> {
        match self.flags.iter().find(|flag| !known.contains(&flag.name.as_str())) {
            Some(flag) => Err(usage(format!("unknown flag '{}'", flag.name))),
            None => Ok(known.map(|name| self.flags.iter().any(|flag| flag.name == name))),
        }
    }

    /// Makes sure that there are no flags.
    pub(super) fn no_flags(&self, complaint: &str) -> Result<(), Failure> {
        if self.flags.is_empty() { Ok(()) } else { Err(usage(complaint)) }
    }

    /// Makes sure that there are no arguments.
    pub(super) fn no_arguments(&self) -> Result<(), Failure> {
        if self.arguments.is_empty() { Ok(()) } else { Err(usage("no arguments expected")) }
    }

    /// The arguments, of which there must be so many.
    pub(super) fn exactly<const N: usize>(&self, complaint: &str) -> Result<&[OsString; N], Failure> {
        self.arguments.as_slice().try_into().map_err(|_| usage(complaint))
    }
}

struct Parser {
    rest: VecDeque<OsString>,
    global: GlobalOptions,
    operation: Option<&'static Operation>,
    flags: Vec<Flag>,
    arguments: Vec<OsString>,
    root: Option<PathBuf>,
    no_output: bool,
    no_root_warning: bool,
}

impl Parser {
    fn parse(&mut self) -> Result<(), Failure> {
        let mut only_own = false;
        while let Some(word) = self.rest.pop_front() {
            // After this there are no more options that all operations have; their own there still are.
            if !only_own && word == "--" {
                only_own = true;
                continue;
            }
            let word = if only_own { word } else { self.split_letters(word) };
            match word.to_str().filter(|word| word.starts_with('-')) {
                Some(flag) if !only_own && self.common_option(flag)? => {}
                Some(flag) => self.own_option(flag)?,
                None if word.as_bytes().starts_with(b"-") => {
                    self.flags.push(Flag { name: word.to_string_lossy().into_owned(), value: None });
                }
                None => self.arguments.push(word),
            }
        }
        Ok(())
    }

    /// Takes the first of several letters after one dash (`-qR`, `-j4`) and puts the others back.
    fn split_letters(&mut self, word: OsString) -> OsString {
        let bytes = word.as_bytes();
        let [b'-', first, rest @ ..] = bytes else { return word };
        if !first.is_ascii_alphabetic() || rest.is_empty() {
            return word;
        }
        let letters = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let (letters, value) = rest.split_at_checked(letters).unwrap_or((rest, &[]));
        if !value.is_empty() {
            self.rest.push_front(OsStr::from_bytes(value).to_owned());
        }
        for letter in letters.iter().rev() {
            self.rest.push_front(OsStr::from_bytes(&[b'-', *letter]).to_owned());
        }
        OsStr::from_bytes(&[b'-', *first]).to_owned()
    }

    /// Options of all of Nix's programs; false if it is none.
    fn common_option(&mut self, flag: &str) -> Result<bool, Failure> {
        match flag {
            "--verbose" | "-v" => self.global.verbosity_steps += 1,
            "--quiet" => self.global.verbosity_steps -= 1,
            "--debug" => self.global.verbosity_steps = DEBUG_STEPS,
            "--no-build-output" | "-Q" => self.global.log_format = Some(LogFormat::Raw),
            "--log-format" => self.global.log_format = Some(self.text_value(flag, 1)?.parse()?),
            "--store" => self.global.store = Some(self.text_value(flag, 1)?),
            "--no-gc-warning" => self.no_root_warning = true,
            // It meant what the store's own settings say now.
            "--readonly-mode" => {}
            "--option" => {
                let setting = (self.text_value(flag, 2)?, self.text_value(flag, 2)?);
                self.global.settings.push(setting);
            }
            _ => return self.setting(flag),
        }
        Ok(true)
    }

    /// An option that stands for a setting; false if it is none.
    fn setting(&mut self, flag: &str) -> Result<bool, Failure> {
        let long = LETTERS.iter().find(|(letter, _)| *letter == flag).map_or(flag, |(_, long)| long);
        let setting = match command_line_flag(long) {
            None => return Ok(false),
            Some(CommandLineFlag::Fixed { name, value }) => (name.to_owned(), value.to_owned()),
            Some(CommandLineFlag::Takes { name }) => (name, self.text_value(flag, 1)?),
        };
        self.global.settings.push(setting);
        Ok(true)
    }

    /// What only this program knows.
    fn own_option(&mut self, flag: &str) -> Result<(), Failure> {
        if let Some(operation) = Operation::find(flag) {
            return match self.operation.replace(operation) {
                Some(other) if !other.is(operation) => Err(usage("only one operation may be specified")),
                _ => Ok(()),
            };
        }
        match flag {
            "--add-root" => self.root = Some(absolute_path(self.value(flag)?.as_ref())?),
            // All roots are indirect, unless they are among the store's own.
            "--indirect" => {}
            "--no-output" => self.no_output = true,
            _ => {
                let takes_value = FLAGS_WITH_VALUE.contains(&flag);
                let value = takes_value.then(|| self.value(flag)).transpose()?;
                self.flags.push(Flag { name: flag.to_owned(), value });
            }
        }
        Ok(())
    }

    fn value(&mut self, flag: &str) -> Result<OsString, Failure> {
        self.rest.pop_front().ok_or_else(|| usage(format!("'{flag}' requires an argument")))
    }

    /// The value, or one of the values, of an option of all programs.
    fn text_value(&mut self, flag: &str, number: usize) -> Result<String, Failure> {
        let missing = || usage(format!("flag '{flag}' requires {number} argument(s)"));
        let value = self.rest.pop_front().ok_or_else(missing)?;
        value.into_string().map_err(|value| usage(format!("'{}' is not UTF-8", value.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, Failure> {
        let words: Vec<OsString> =
            line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
        CommandLine::parse(&words, GlobalOptions::default())
    }

    fn complaint(line: &str) -> String {
        let Err(failure) = parse(line) else { panic!("'{line}' makes sense") };
        String::from_utf8(failure.report().unwrap().body()).unwrap()
    }

    #[test]
    fn letters_stand_together() {
        let line = parse("-qRu /p -j4 -kvv --option a 1 -Q --cores 2").unwrap();
        assert!(line.operation.is(Operation::find("--query").unwrap()));
        assert_eq!(line.known_flags(["-R", "-u", "-f"]).unwrap(), [true, true, false]);
        assert_eq!(line.arguments, ["/p"]);
        assert_eq!(line.global.verbosity_steps, 2);
        assert_eq!(line.global.log_format, Some(LogFormat::Raw));
        let settings: Vec<String> =
            line.global.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(settings, ["max-jobs=4", "keep-going=true", "a=1", "cores=2"]);
        let line = parse("-q -b-R x").unwrap();
        assert_eq!(line.arguments, ["x"]);
        assert_eq!(parse("-qR/p").unwrap().arguments, ["/p"]);
    }

    #[test]
    fn what_follows_two_dashes_is_the_operations() {
        let line = parse("-- -r -v --cores").unwrap();
        assert!(line.operation.is(Operation::find("-r").unwrap()));
        assert_eq!(line.known_flags(["-v", "--cores"]).unwrap(), [true, true]);
        assert_eq!(line.global.verbosity_steps, 0);
    }

    #[test]
    fn values_and_roots() {
        let line = parse("--gc --max-freed 1G --add-root /a/../b --indirect").unwrap();
        let flags: Vec<&Flag> = line.flags().collect();
        assert_eq!(flags, [&Flag { name: "--max-freed".into(), value: Some("1G".into()) }]);
        assert_eq!(line.root.as_deref(), Some("/b".as_ref()));
    }

    #[test]
    fn wrong_use_is_told_as_nix_tells_it() {
        for (line, told) in [
            ("", "no operation specified"),
            ("--foo", "no operation specified"),
            ("-q -r", "only one operation may be specified"),
            ("-r -j", "flag '-j' requires 1 argument(s)"),
            ("-r --option a", "flag '--option' requires 2 argument(s)"),
            ("-r --add-root", "'--add-root' requires an argument"),
            ("--gc --max-freed", "'--max-freed' requires an argument"),
        ] {
            assert_eq!(complaint(line), told, "{line}");
        }
        let failure = parse("-r --foo -x").unwrap().known_flags(["--check"]).unwrap_err();
        assert_eq!(failure.report().unwrap().body(), b"unknown flag '--foo'");
        assert!(parse("-q -q --query").is_ok());
    }
}
