//! An error as it is told to a person: what failed, for what, why, and what to do next.

use crate::text::Text;

/// Who can do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// What was asked for is wrong: a bad argument, derivation, setting.
    UserInput,
    /// A builder failed, or what it made was refused.
    BuildFailure,
    /// The machine lacks or refuses something: a full disk, no namespaces, a permission.
    Environment,
    /// It may work when tried again: the network, a busy lock.
    Transient,
    /// Kiln is at fault.
    Internal,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file's name as it is shown.
    pub file: String,
    /// Line, counted from 1.
    pub line: u64,
    /// Column in bytes, counted from 1.
    pub column: u64,
}

/// One step of the way that led to an error, e.g. "while reading the settings in …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What was being done.
    pub message: Text,
    /// Where.
    pub position: Option<Position>,
}

/// An error or warning with structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReport {
    /// Who can do something about it.
    pub class: ErrorClass,
    /// What failed and why; may have several lines, without a last newline and without an `error:` prefix.
    pub message: Text,
    /// The next step, if there is one to name.
    pub hint: Option<String>,
    /// The derivation or store path that it is about, as a full path.
    pub subject: Option<String>,
    /// Where in a file the error is.
    pub position: Option<Position>,
    /// What was being done, outermost first.
    pub traces: Vec<Trace>,
}

impl ErrorReport {
    /// A report with class and message only.
    #[must_use]
    pub fn new(class: ErrorClass, message: impl Into<Text>) -> ErrorReport {
        ErrorReport {
            class,
            message: message.into(),
            hint: None,
            subject: None,
            position: None,
            traces: Vec::new(),
        }
    }

    /// The same with a next step.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> ErrorReport {
        self.hint = Some(hint.into());
        self
    }

    /// The same about a derivation or store path.
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> ErrorReport {
        self.subject = Some(subject.into());
        self
    }

    /// The same at a place in a file.
    #[must_use]
    pub fn with_position(mut self, position: Position) -> ErrorReport {
        self.position = Some(position);
        self
    }

    /// Message, place and hint, unindented and without a prefix (internal-json: `raw_msg`).
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut body = self.message.as_bytes().to_vec();
        if let Some(position) = &self.position {
            body.extend_from_slice(
                format!("\nat {}:{}:{}", position.file, position.line, position.column).as_bytes(),
            );
        }
        if let Some(hint) = &self.hint {
            body.extend_from_slice(b"\nhint: ");
            body.extend_from_slice(hint.as_bytes());
        }
        body
    }

    /// The report as Nix lays one out: the prefix (coloured),
    /// then the body with its further lines indented by seven blanks. With `show_traces`, the steps that led here come
    /// before it.
    #[must_use]
    pub fn render(&self, prefix: Prefix, show_traces: bool) -> Text {
        let mut rendered = Vec::new();
        rendered.extend_from_slice(prefix.escaped().as_bytes());
        let traces: &[Trace] = if show_traces { &self.traces } else { &[] };
        for trace in traces {
            rendered.extend_from_slice("\n… ".as_bytes());
            rendered.extend_from_slice(trace.message.as_bytes());
            if let Some(position) = &trace.position {
                let place = format!("\n  at {}:{}:{}", position.file, position.line, position.column);
                rendered.extend_from_slice(place.as_bytes());
            }
            rendered.push(b'\n');
        }
        if !traces.is_empty() {
            rendered.push(b'\n');
            rendered.extend_from_slice(prefix.escaped().as_bytes());
        }
        rendered.push(b' ');
        rendered.extend_from_slice(&self.body());
        indent_continuation(&rendered).into()
    }
}

/// What stands before a rendered report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// `error:` in red.
    Error,
    /// `warning:` in magenta.
    Warning,
}

impl Prefix {
    pub(crate) fn escaped(self) -> &'static str {
        match self {
            Prefix::Error => "\u{1b}[31;1merror:\u{1b}[0m",
            Prefix::Warning => "\u{1b}[35;1mwarning:\u{1b}[0m",
        }
    }
}

/// Indents every line but the first by seven blanks; empty lines stay empty.
fn indent_continuation(text: &[u8]) -> Vec<u8> {
    let mut indented = Vec::with_capacity(text.len());
    for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
        if number > 0 {
            indented.push(b'\n');
            if !line.is_empty() {
                indented.extend_from_slice(b"       ");
            }
        }
        indented.extend_from_slice(line);
    }
    indented
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `msg` of the error that Nix 2.34 prints for a failed builder.
    #[test]
    fn rendered_like_nix() {
        let report = ErrorReport::new(
            ErrorClass::BuildFailure,
            "Cannot build '/nix/store/x-a.drv'.\nReason: builder failed with exit code 3.\nOutput paths:\n  /nix/store/y-a",
        );
        assert_eq!(
            report.render(Prefix::Error, false).to_str_lossy(),
            "\u{1b}[31;1merror:\u{1b}[0m Cannot build '/nix/store/x-a.drv'.\n       Reason: builder failed with exit code 3.\
             \n       Output paths:\n         /nix/store/y-a"
        );
    }

    #[test]
    fn traces_come_first() {
        let mut report = ErrorReport::new(ErrorClass::UserInput, "foo 1").with_hint("don't");
        report.traces.push(Trace {
            message: "while calling 'throw'".into(),
            position: Some(Position { file: "«string»".into(), line: 1, column: 2 }),
        });
        assert_eq!(
            report.render(Prefix::Error, true).to_str_lossy(),
            "\u{1b}[31;1merror:\u{1b}[0m\n       … while calling 'throw'\n         at «string»:1:2\n\n       \
             \u{1b}[31;1merror:\u{1b}[0m foo 1\n       hint: don't"
        );
        assert_eq!(
            report.render(Prefix::Warning, false).to_str_lossy(),
            "\u{1b}[35;1mwarning:\u{1b}[0m foo 1\n       hint: don't"
        );
    }
}
