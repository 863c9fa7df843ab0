//! The flags of a query.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use crate::failure::Failure;
use crate::nix_store::command_line::CommandLine;
use crate::nix_store::usage;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Outputs,
    Requisites,
    References,
    Referrers,
    ReferrersClosure,
    Deriver,
    ValidDerivers,
    /// The value of this variable.
    Binding(Vec<u8>),
    Hash,
    Size,
    Tree,
    Graph,
    GraphMl,
    Resolve,
    Roots,
}

/// What is asked, about what.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) arguments: Vec<OsString>,
    /// Derivations stand for their outputs.
    pub(super) use_output: bool,
    /// Everything is made valid first.
    pub(super) force_realise: bool,
    /// Closures of derivations hold their valid outputs.
    pub(super) include_outputs: bool,
}

impl Asked {
    /// Reads the flags; without a question, it is that for outputs.
    pub(super) fn read(line: &CommandLine) -> Result<Self, Failure> {
        let mut arguments = line.arguments.clone();
        let mut question = None;
        let (mut use_output, mut force_realise, mut include_outputs) = (false, false, false);
        for flag in line.flags() {
            let asked = match flag.name.as_str() {
                "--use-output" | "-u" => {
                    use_output = true;
                    continue;
                }
                "--force-realise" | "--force-realize" | "-f" => {
                    force_realise = true;
                    continue;
                }
                "--include-outputs" => {
                    include_outputs = true;
                    continue;
                }
                "--binding" | "-b" => {
                    if arguments.is_empty() {
                        return Err(usage("expected binding name"));
                    }
                    Question::Binding(arguments.remove(0).into_vec())
                }
                name => simple(name).ok_or_else(|| usage(format!("unknown flag '{name}'")))?,
            };
            let conflict = usage(format!("query type '{}' conflicts with earlier flag", flag.name));
            match question.replace(asked) {
                Some(earlier) if question.as_ref() != Some(&earlier) => return Err(conflict),
                _ => {}
            }
        }
        let question = question.unwrap_or(Question::Outputs);
        Ok(Self { question, arguments, use_output, force_realise, include_outputs })
    }
}

/// The question that a flag without an argument asks.
fn simple(flag: &str) -> Option<Question> {
    Some(match flag {
        "--outputs" => Question::Outputs,
        "--requisites" | "-R" => Question::Requisites,
        "--references" => Question::References,
        "--referrers" | "--referers" => Question::Referrers,
        "--referrers-closure" | "--referers-closure" => Question::ReferrersClosure,
        "--deriver" | "-d" => Question::Deriver,
        "--valid-derivers" => Question::ValidDerivers,
        "--hash" => Question::Hash,
        "--size" => Question::Size,
        "--tree" => Question::Tree,
        "--graph" => Question::Graph,
        "--graphml" => Question::GraphMl,
        "--resolve" => Question::Resolve,
        "--roots" => Question::Roots,
        _ => return None,
    })
}
