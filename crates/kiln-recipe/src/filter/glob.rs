//! Patterns of paths: components with wildcards, and `**` between them.

/// Why a text cannot be a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// There is nothing to match.
    #[error("it is empty")]
    Empty,
    /// Two slashes without anything between them.
    #[error("there is nothing between two slashes")]
    EmptyComponent,
    /// A component `.` or `..`; the paths matched have none.
    #[error("paths below a source have no '.' and '..' in them")]
    DotComponent,
    /// A `[` without its `]`.
    #[error("a '[' has no ']' (for the character itself write '\\[')")]
    UnclosedSet,
    /// A range of characters whose end is before its start.
    #[error("a range of characters ends before it starts")]
    BackwardRange,
    /// A `\` with nothing after it.
    #[error("nothing follows the '\\' at the end")]
    TrailingBackslash,
}

/// A pattern of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    components: Vec<GlobComponent>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GlobComponent {
    /// `**`: any number of components; at the end of a pattern at least one.
    AnyDirectories,
    /// One component.
    Name(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Byte(u8),
    AnyByte,
    AnyText,
    Set { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Glob {
    pub(super) fn parse(pattern: &[u8]) -> Result<Self, InvalidPattern> {
        if pattern.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        let components = pattern.split(|byte| *byte == b'/').map(|component| match component {
            b"" => Err(InvalidPattern::EmptyComponent),
            b"." | b".." => Err(InvalidPattern::DotComponent),
            b"**" => Ok(GlobComponent::AnyDirectories),
            _ => Ok(GlobComponent::Name(tokens(component)?)),
        });
        let mut components: Vec<GlobComponent> = components.collect::<Result<_, _>>()?;
        components.dedup_by(|one, other| {
            matches!((one, other), (GlobComponent::AnyDirectories, GlobComponent::AnyDirectories))
        });
        Ok(Self { components })
    }

    pub(super) fn components(&self) -> &[GlobComponent] {
        &self.components
    }

    /// Whether the whole path matches. Costs at most the product of the lengths of pattern and path.
    pub(super) fn matches(&self, path: &[&[u8]]) -> bool {
        // A `**` at the end wants at least one component: as if `*` followed it.
        let some = [GlobComponent::Name(vec![Token::AnyText])];
        let tail: &[GlobComponent] =
            if self.components.last() == Some(&GlobComponent::AnyDirectories) { &some } else { &[] };
        let pattern: Vec<&GlobComponent> = self.components.iter().chain(tail).collect();
        wildcard_match(
            &pattern,
            path,
            |component| **component == GlobComponent::AnyDirectories,
            |component, name| match component {
                GlobComponent::AnyDirectories => false,
                GlobComponent::Name(tokens) => {
                    wildcard_match(tokens, name, |token| *token == Token::AnyText, Token::matches)
                }
            },
        )
    }
}

impl Token {
    fn matches(&self, byte: &u8) -> bool {
        match self {
            Self::Byte(wanted) => wanted == byte,
            Self::AnyByte => true,
            Self::AnyText => false,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(first, last)| (first..=last).contains(&byte)) != *negated
            }
        }
    }
}

/// Whether items match a pattern in which some elements (`is_any`) stand for any number of items and each other one for
/// exactly one item that it matches.
///
/// Only the last such element need be tried again with more items: those before it took as few as they could, and
/// what is left for the rest is then the most.
fn wildcard_match<P, I>(
    pattern: &[P],
    items: &[I],
    is_any: impl Fn(&P) -> bool,
    matches: impl Fn(&P, &I) -> bool,
) -> bool {
    let (mut at, mut item) = (0, 0);
    // After the last wildcard, and the first item that it does not stand for.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(current) = items.get(item) {
        match pattern.get(at) {
            Some(element) if is_any(element) => {
                at += 1;
                retry = Some((at, item));
            }
            Some(element) if matches(element, current) => {
                at += 1;
                item += 1;
            }
            _ => {
                let Some((after, start)) = retry else { return false };
                at = after;
                item = start + 1;
                retry = Some((after, item));
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(is_any)
}

fn tokens(component: &[u8]) -> Result<Vec<Token>, InvalidPattern> {
    let mut tokens = Vec::new();
    let mut rest = component;
    while let [byte, more @ ..] = rest {
        rest = more;
        tokens.push(match byte {
            b'*' => Token::AnyText,
            b'?' => Token::AnyByte,
            b'[' => set(&mut rest)?,
            b'\\' => Token::Byte(take(&mut rest).ok_or(InvalidPattern::TrailingBackslash)?),
            byte => Token::Byte(*byte),
        });
    }
    Ok(tokens)
}

/// The set after a `[`, through its `]`. A `]` at the beginning is one of its characters, as is a `-` at either end.
fn set(rest: &mut &[u8]) -> Result<Token, InvalidPattern> {
    let negated = matches!(rest, [b'!' | b'^', ..]);
    if negated {
        take(rest);
    }
    let mut ranges = Vec::new();
    loop {
        let first = match take(rest).ok_or(InvalidPattern::UnclosedSet)? {
            b']' if !ranges.is_empty() => return Ok(Token::Set { negated, ranges }),
            b'\\' => take(rest).ok_or(InvalidPattern::UnclosedSet)?,
            byte => byte,
        };
        let last = match rest {
            [b'-', b'\\', last, more @ ..] => {
                let last = *last;
                *rest = more;
                last
            }
            [b'-', last, more @ ..] if *last != b']' => {
                let last = *last;
                *rest = more;
                last
            }
            _ => first,
        };
        if last < first {
            return Err(InvalidPattern::BackwardRange);
        }
        ranges.push((first, last));
    }
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (byte, more) = rest.split_first()?;
    *rest = more;
    Some(*byte)
}
