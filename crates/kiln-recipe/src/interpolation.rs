//! Strings that refer to things: `"-I${libgreet.dev}/include"`.
//!
//! | written | stands for |
//! |---|---|
//! | `${NAME}` | the path of the default output of derivation NAME |
//! | `${NAME.OUTPUT}` | the path of that output |
//! | `${source.NAME}` | the store path of source NAME |
//! | `${placeholder.OUTPUT}` | the path of the derivation's own output |
//! | `$${` | the two characters `${` |
//!
//! Any other `$` stands for itself. More exactly, of the dollar signs directly before a `{` each two stand for one, and
//! one that is left over makes it an interpolation; so every text can be written.

use std::fmt;

use crate::source_text::{Span, shown};

/// The prefix that makes a reference one to a source.
pub(crate) const SOURCE: &str = "source";
/// The prefix that makes a reference one to the derivation's own output.
pub(crate) const PLACEHOLDER: &str = "placeholder";

/// What a string or a value refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reference {
    /// A source of the recipe.
    Source(String),
    /// An output of a derivation of the recipe; without a name the first of its outputs.
    Output { derivation: String, output: Option<String> },
    /// The derivation's own output.
    Placeholder(String),
}

/// A reference and where it is, counted from the start of the string's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interpolation {
    pub(crate) reference: Reference,
    pub(crate) at: Span,
}

/// A part of a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    Interpolation(Interpolation),
}

/// A string with references, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) segments: Vec<Segment>,
}

/// Why a text between `${` and `}` is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// The text ends before the `}`.
    #[error("'${{' without a '}}' after it")]
    Unterminated,
    /// There is nothing between the braces, or nothing before or after the dot.
    #[error("nothing is named between '${{' and '}}'")]
    Empty,
    /// The name has characters that no name in a recipe has.
    #[error("'{0}' cannot be a reference: it must be NAME, NAME.OUTPUT, source.NAME or placeholder.OUTPUT")]
    Malformed(String),
}

impl Template {
    /// A text without any reference.
    pub(crate) fn literal(text: String) -> Self {
        Self { segments: if text.is_empty() { Vec::new() } else { vec![Segment::Literal(text)] } }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// The first text between braces that is no reference, and where in the string it is.
    pub(crate) fn parse(text: &str) -> Result<Self, (InvalidReference, Span)> {
        let mut segments = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let plain = rest.find('$').unwrap_or(rest.len());
            literal.push_str(rest.get(..plain).unwrap_or_default());
            let rest = rest.get(plain..).unwrap_or_default();
            at += plain;
            let dollars = rest.bytes().take_while(|byte| *byte == b'$').count();
            let opens = rest.as_bytes().get(dollars) == Some(&b'{');
            let kept = if opens { dollars / 2 } else { dollars };
            literal.extend(std::iter::repeat_n('$', kept));
            at += dollars;
            if !opens || dollars % 2 == 0 {
                continue;
            }
            let start = at - 1;
            let inside = text.get(at + 1..).unwrap_or_default();
            let length = inside.find('}').ok_or((InvalidReference::Unterminated, start..at + 1))?;
            at += 1 + length + 1;
            let inside = inside.get(..length).unwrap_or_default();
            let reference = Reference::parse(inside).map_err(|error| (error, start..at))?;
            if !literal.is_empty() {
                segments.push(Segment::Literal(std::mem::take(&mut literal)));
            }
            segments.push(Segment::Interpolation(Interpolation { reference, at: start..at }));
        }
        if !literal.is_empty() {
            segments.push(Segment::Literal(literal));
        }
        Ok(Self { segments })
    }

    /// The references in the string, in order.
    pub(crate) fn interpolations(&self) -> impl Iterator<Item = &Interpolation> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Interpolation(interpolation) => Some(interpolation),
            Segment::Literal(_) => None,
        })
    }
}

impl Reference {
    /// Reads what stands between the braces, or the text of `{ output = "…" }`.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidReference> {
        let malformed = || InvalidReference::Malformed(shown(text));
        let (name, rest) = match text.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (text, None),
        };
        if name.is_empty() || rest.is_some_and(str::is_empty) {
            return Err(InvalidReference::Empty);
        }
        if !is_name(name) || !rest.is_none_or(is_output_text) {
            return Err(malformed());
        }
        match (name, rest) {
            (SOURCE, Some(source)) if is_name(source) => Ok(Self::Source(source.to_owned())),
            (PLACEHOLDER, Some(output)) => Ok(Self::Placeholder(output.to_owned())),
            (SOURCE | PLACEHOLDER, _) => Err(malformed()),
            _ => Ok(Self::Output { derivation: name.to_owned(), output: rest.map(str::to_owned) }),
        }
    }
}

/// The longest name of a source or a derivation.
const LONGEST_NAME: usize = 128;

/// Whether a text can name a source or a derivation: up to 128 letters, digits, `_` and `-`, at first a letter or `_`.
pub(crate) fn is_name(text: &str) -> bool {
    let mut characters = text.bytes();
    text.len() <= LONGEST_NAME
        && characters.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && characters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Whether a text has only the characters of store path names.
fn is_output_text(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_' | b'?' | b'='))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(name) => write!(f, "{SOURCE}.{name}"),
            Self::Output { derivation, output: None } => f.write_str(derivation),
            Self::Output { derivation, output: Some(output) } => write!(f, "{derivation}.{output}"),
            Self::Placeholder(output) => write!(f, "{PLACEHOLDER}.{output}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes a string so that it is read back: the inverse of [`Template::parse`].
    fn print(template: &Template) -> String {
        let mut text = String::new();
        for (index, segment) in template.segments.iter().enumerate() {
            match segment {
                Segment::Interpolation(interpolation) => {
                    text.push_str(&format!("${{{}}}", interpolation.reference))
                }
                Segment::Literal(literal) => {
                    let reference_follows = index + 1 < template.segments.len();
                    let mut characters = literal.chars().peekable();
                    let mut dollars = 0;
                    while let Some(character) = characters.next() {
                        dollars = if character == '$' { dollars + 1 } else { 0 };
                        text.push(character);
                        let opens = match characters.peek() {
                            Some(next) => *next == '{',
                            None => reference_follows,
                        };
                        if opens {
                            text.extend(std::iter::repeat_n('$', dollars));
                        }
                    }
                }
            }
        }
        text
    }

    /// The template without the places.
    fn shape(template: &Template) -> Vec<Result<Reference, String>> {
        template
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => Err(text.clone()),
                Segment::Interpolation(interpolation) => Ok(interpolation.reference.clone()),
            })
            .collect()
    }

    fn output(derivation: &str, output: Option<&str>) -> Reference {
        Reference::Output { derivation: derivation.into(), output: output.map(str::to_owned) }
    }

    #[test]
    fn references_and_escapes() {
        for (text, segments) in [
            ("", vec![]),
            ("plain $HOME $(x) $ $$", vec![Err("plain $HOME $(x) $ $$".to_owned())]),
            ("${a}", vec![Ok(output("a", None))]),
            ("${a-b.dev}/x", vec![Ok(output("a-b", Some("dev"))), Err("/x".into())]),
            (
                "é${source.s}${placeholder.out}",
                vec![
                    Err("é".into()),
                    Ok(Reference::Source("s".into())),
                    Ok(Reference::Placeholder("out".into())),
                ],
            ),
            ("$${a}", vec![Err("${a}".into())]),
            ("$$${a}", vec![Err("$".into()), Ok(output("a", None))]),
            ("$$$${a}", vec![Err("$${a}".into())]),
            ("{a} } $${", vec![Err("{a} } ${".into())]),
            ("${a.b.c}", vec![Ok(output("a", Some("b.c")))]),
        ] {
            assert_eq!(shape(&Template::parse(text).unwrap()), segments, "{text}");
        }
    }

    #[test]
    fn places_are_those_of_the_text() {
        let template = Template::parse("é$$${a} ${b.c}").unwrap();
        let places: Vec<Span> = template.interpolations().map(|found| found.at.clone()).collect();
        assert_eq!(places, [4..8, 9..15]);
    }

    #[test]
    fn refuses_what_is_no_reference() {
        use InvalidReference::{Empty, Malformed, Unterminated};
        let malformed = |text: &str| Malformed(text.to_owned());
        for (text, error, span) in [
            ("a${", Unterminated, 1..3),
            ("${a", Unterminated, 0..2),
            ("${}", Empty, 0..3),
            ("x${.a}", Empty, 1..6),
            ("${a.}", Empty, 0..5),
            ("${a b}", malformed("a b"), 0..6),
            ("${ a }", malformed(" a "), 0..6),
            ("${1a}", malformed("1a"), 0..5),
            ("${a:-x}", malformed("a:-x"), 0..7),
            ("${#a}", malformed("#a"), 0..5),
            ("${source}", malformed("source"), 0..9),
            ("${placeholder}", malformed("placeholder"), 0..14),
            ("${source.a.b}", malformed("source.a.b"), 0..13),
            ("${é}", malformed("é"), 0..5),
        ] {
            assert_eq!(Template::parse(text), Err((error, span)), "{text}");
        }
    }

    fn reference() -> impl Strategy<Value = Reference> {
        let name = "[a-zA-Z_][a-zA-Z0-9_-]{0,8}"
            .prop_filter("reserved", |name| name != SOURCE && name != PLACEHOLDER);
        prop_oneof![
            name.clone().prop_map(Reference::Source),
            "[a-z0-9.+_?=-]{1,6}".prop_map(Reference::Placeholder),
            (name, proptest::option::of("[a-z0-9.+_?=-]{1,6}"))
                .prop_map(|(derivation, output)| Reference::Output { derivation, output }),
        ]
    }

    proptest! {
        #[test]
        fn reads_what_is_printed(parts in proptest::collection::vec(prop_oneof![
            "[${}a.é]{1,6}".prop_map(Err),
            reference().prop_map(Ok),
        ], 0..8)) {
            // Literals that touch are one literal once read.
            let mut expected: Vec<Result<Reference, String>> = Vec::new();
            for part in parts {
                match (expected.last_mut(), part) {
                    (Some(Err(text)), Err(more)) => text.push_str(&more),
                    (_, part) => expected.push(part),
                }
            }
            let segments = expected.iter().cloned().map(|part| match part {
                Ok(reference) => Segment::Interpolation(Interpolation { reference, at: 0..0 }),
                Err(text) => Segment::Literal(text),
            });
            let text = print(&Template { segments: segments.collect() });
            prop_assert_eq!(shape(&Template::parse(&text).unwrap()), expected, "{}", text);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "([${}a.]|.){0,40}") {
            match Template::parse(&text) {
                Ok(template) => for found in template.interpolations() {
                    let written = format!("${{{}}}", found.reference);
                    prop_assert_eq!(text.get(found.at.clone()), Some(written.as_str()));
                },
                Err((_, span)) => {
                    let refused = text.get(span).unwrap_or_default();
                    prop_assert!(refused.starts_with("${"), "{}", refused);
                }
            }
        }
    }
}
